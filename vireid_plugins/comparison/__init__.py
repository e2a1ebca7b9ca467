"""Training and evaluating a list of configs with several seeds, and one table of all of them.

    from vireid_plugins.comparison import compare

    compare(["agw/synthetic.yml", "mrda/synthetic.yml"], seeds=(0, 1, 2)).tables

``runs`` says what is to be run and what is done, ``jobs`` starts processes, ``worker`` is what
one of them does, ``summary`` has the statistics, ``table``, ``export`` and ``plot`` write the
outcome, and ``comparison`` puts them together.
"""

from .comparison import Compared, Comparison, compare

__all__ = ["Compared", "Comparison", "compare"]
