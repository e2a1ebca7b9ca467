"""``scipy.sparse``, imported at its first use: only re-ranking and Jaccard distances need it.

A file that uses its names in type annotations needs ``from __future__ import annotations``;
otherwise the annotations would import SciPy.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import scipy.sparse as sparse
else:
    from ..late_imports import LateModule

    sparse = LateModule("scipy.sparse")

__all__ = ["sparse"]
