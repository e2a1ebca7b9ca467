"""Ranks by counting: how many gallery images stand ahead of each positive.

An image stands ahead of another if its score is greater, or if it has the very same score and a
smaller gallery index. The rank of an image is one plus the number of images ahead of it among
those that its query sees. There are two forms, whose results are equal to the last bit:
``compiled.py``, for a CPU where numba is installed, and ``plain.py``, in PyTorch, for all else.

Shapes: R queries of one block, U columns of scores; Q of these queries, which have one view, V
images of the view, M members of a query's identity (padded), K nearest.
"""

import functools
import importlib
import logging
from typing import Callable, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from . import plain
from .views import View

# Members of an identity; with more of them, comparing each score with each costs more than a sort.
_MOST_COMPARED = 1024


class Places(NamedTuple):
    """Where the images of Q queries stand."""

    ranks: np.ndarray  # (Q, M) int64, ascending; ``NEVER`` behind the positives of a query
    first: np.ndarray  # (Q,) int64 rank of the first positive as the CMC counts it, or ``NEVER``
    nearest: np.ndarray  # (Q, K) int64 places in the view, -1 where a query sees fewer


def find_places(
    scores: Tensor, rows: np.ndarray, own: np.ndarray, view: View, by_identity: bool, top: int
) -> Places:
    """Return where the positives of some queries stand, and what stands nearest.

    Args:
        scores: (R, U) finite.
        rows: (Q,) int64, the queries' rows of the scores.
        own: (Q,) int64, their identities as ``view.starts`` numbers them.
        view: what they see.
        by_identity: whether ``first`` counts each identity once, at its best image.
        top: K.
    """
    find = plain.find_places
    if scores.device.type == "cpu" and view.most_members <= _MOST_COMPARED:
        find = compiled_form(scores.dtype) or find
    return Places(*find(scores, rows, own, view, by_identity, top))


def form_of(scores: Tensor) -> str:
    """Return in words which form ranks such scores: ``"compiled"`` or ``"PyTorch"``."""
    usual = scores.device.type == "cpu" and compiled_form(scores.dtype)
    return "compiled" if usual else "PyTorch"


@functools.cache
def compiled_form(dtype: torch.dtype) -> Optional[Callable]:
    """Return the compiled :func:`find_places`; None where numba is absent or does not work.

    numba is imported by the first call.
    """
    try:
        return importlib.import_module(".compiled", __package__).compiled_form(dtype)
    except ModuleNotFoundError as error:
        if error.name == "numba":
            return None
        reason: Exception = error
    except Exception as error:  # beside a NumPy that it does not know, numba may raise anything
        reason = error
    logging.getLogger(__name__).warning(
        f"numba is installed, but does not work; ranking is slower without it: {reason}"
    )
    return None
