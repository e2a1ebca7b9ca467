"""How often each distance occurs, and the threshold at which both errors are equal.

Shapes: B bins.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Tuple

import numpy as np

from ..errors import UserError
from .arguments import array_of, whole_number


class EqualErrorPoint(NamedTuple):
    """The threshold at which pairs of one person and pairs of two are mistaken equally often."""

    threshold: float  # distance; pairs up to it count as one person
    rate: float  # of both errors, 0 to 1


@dataclass(frozen=True)
class PairHistogram:
    """How often each distance occurs among the pairs of one set.

    Attributes:
        edges: (B + 1,) limits of the bins, ascending, at equal steps.
        same: (B,) numbers of pairs of one identity.
        other: (B,) numbers of pairs of two identities.
        same_mean: mean distance of the pairs of one identity; NaN if there is none.
        other_mean: mean distance of the pairs of two identities; NaN if there is none.
        skipped: the number of pairs that the protocol never compares.
    """

    edges: np.ndarray
    same: np.ndarray
    other: np.ndarray
    same_mean: float
    other_mean: float
    skipped: int = 0

    @property
    def gap(self) -> float:
        """The mean distance of pairs of two identities minus that of pairs of one."""
        return self.other_mean - self.same_mean

    @property
    def auc(self) -> float:
        """The area under the ROC curve, 0 to 1; NaN if either kind has no pair.

        It is the share of cases in which a pair of one identity is nearer than a pair of two.
        """
        nearer = np.cumsum(self.same) - self.same / 2.0  # within one bin, half of them are nearer
        total = float(self.same.sum()) * float(self.other.sum())
        return float(nearer @ self.other / total) if total else float("nan")

    @property
    def equal_error(self) -> EqualErrorPoint:
        """The threshold at which both errors are equal, see :func:`equal_error_threshold`."""
        return equal_error_threshold(self.same, self.other, self.edges)

    def roc(self) -> Tuple[np.ndarray, np.ndarray]:
        """Return the rates of false and of true acceptance at each of the ``edges``, 0 to 1.

        Both are (B + 1,).
        """
        return _rate(self.other), _rate(self.same)

    def coarse(self, bins: int) -> "PairHistogram":
        """Return the same counts in fewer bins.

        Raises:
            UserError: ``bins`` is not a whole number, or does not divide B.
        """
        if len(self.same) % whole_number(bins, "bins"):
            raise UserError(f"{len(self.same)} bins cannot be joined into {bins}.")
        same, other = (counts.reshape(bins, -1).sum(1) for counts in (self.same, self.other))
        edges = self.edges[:: len(self.same) // bins]
        return PairHistogram(edges, same, other, self.same_mean, self.other_mean, self.skipped)


def _rate(counts: np.ndarray) -> np.ndarray:
    """Return the share of the pairs at or below each edge."""
    counts = np.asarray(counts)
    total = counts.sum()
    whole = np.concatenate([[0], np.cumsum(counts)])
    return whole / total if total else np.full(len(whole), np.nan)


def _counts(values: Any, name: str) -> np.ndarray:
    counts = array_of(values, name)
    numeric = counts.ndim == 1 and counts.dtype.kind in "fiu"
    if not numeric or not np.all((counts >= 0) & np.isfinite(counts)):
        raise UserError(f"{name} must be a list of numbers of pairs, each 0 or more.")
    return counts


def equal_error_threshold(
    same: np.ndarray, other: np.ndarray, edges: np.ndarray
) -> EqualErrorPoint:
    """Return the distance at which both errors are equally frequent.

    A pair counts as one person if its distance is below the threshold. The two errors are pairs of
    one person above it and pairs of two persons below it. Within a bin, distances are assumed to
    be spread evenly. Where both errors are zero over a range, the threshold is its middle.

    Args:
        same: (B,) numbers of pairs of one identity in each bin.
        other: (B,) numbers of pairs of two identities.
        edges: (B + 1,) limits of the bins.

    Returns:
        The threshold and the rate; NaN for both if either kind has no pair.

    Raises:
        UserError: the numbers of bins differ, a count is negative, or a limit is not finite.
    """
    same, other = _counts(same, "same"), _counts(other, "other")
    edges = array_of(edges, "edges")
    if same.shape != other.shape or edges.shape != (len(same) + 1,):
        raise UserError(
            f"same {same.shape}, other {other.shape} and edges {edges.shape} do not fit: B bins "
            "have B + 1 limits."
        )
    if edges.dtype.kind not in "fiu" or not np.all(np.diff(edges) > 0):  # NaN is never above 0
        raise UserError("edges must be numbers in ascending order.")
    if not np.any(same) or not np.any(other):
        return EqualErrorPoint(float("nan"), float("nan"))
    false_accepts, false_rejects = _rate(other), 1.0 - _rate(same)
    difference = false_accepts - false_rejects  # rises from -1 to 1
    last = int(np.flatnonzero(difference < 0)[-1])
    first = last + 1
    if difference[first] == 0:
        plateau = np.flatnonzero(difference == 0)
        middle = (edges[plateau[0]] + edges[plateau[-1]]) / 2
        return EqualErrorPoint(float(middle), float(false_accepts[first]))
    share = -difference[last] / (difference[first] - difference[last])
    threshold = edges[last] + share * (edges[first] - edges[last])
    rate = false_accepts[last] + share * (false_accepts[first] - false_accepts[last])
    return EqualErrorPoint(float(threshold), float(rate))
