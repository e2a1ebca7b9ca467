"""Train and evaluate a list of configs with several seeds, and write one table of all of them.

    from vireid_plugins.comparison import compare

    compare(["agw/synthetic.yml", "mrda/synthetic.yml"], seeds=(0, 1, 2)).tables

A plan file says for each row what it is compared with, which seeds are run, and when to stop:
``PlanComparison("evidence/plan.yml").execute()``.

``runs`` says what will be run and what is done, ``jobs`` starts processes, and ``worker`` is what
one process does. ``summary`` has the statistics, ``table``, ``export`` and ``plot`` write the
outcome, and ``comparison`` puts all of them together.
"""

from .comparison import Compared, Comparison, compare
from .plan import PlanComparison

__all__ = ["Compared", "Comparison", "PlanComparison", "compare"]
