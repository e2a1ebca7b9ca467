"""One page about a run.

from vireid_plugins.reporting import write_report

write_report("logs/demo").page
"""

from .report import WrittenReport, write_report

__all__ = ["WrittenReport", "write_report"]
