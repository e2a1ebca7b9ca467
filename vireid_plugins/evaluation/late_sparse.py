"""``scipy.sparse``, imported at its first use: only re-ranking and Jaccard distances need it.

Where its names are types, ``from __future__ import annotations`` keeps them from being looked up.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import scipy.sparse as sparse
else:
    from ..late_imports import LateModule

    sparse = LateModule("scipy.sparse")

__all__ = ["sparse"]
