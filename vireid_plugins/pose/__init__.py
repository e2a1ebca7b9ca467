"""Find key points in images with an estimator of poses, and write them to a file.

``fill`` writes the file, and ``compare`` says how near two files are.
"""

from .compare import Agreement, agreement_table, compare
from .estimator import Estimator, open_estimator
from .fill import Filled, check_words, fill

__all__ = [
    "Agreement",
    "Estimator",
    "Filled",
    "agreement_table",
    "check_words",
    "compare",
    "fill",
    "open_estimator",
]
