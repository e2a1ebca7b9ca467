"""Judge the difference of two means by the scatter of all rows of a table.

With three seeds, the deviation of one row is hardly known: it has two degrees of freedom, and one
row in ten shows less than a third of its true deviation. All rows of a table train alike, so their
deviations are pooled: s² is the sum over all rows of the squared distances to the row's mean,
divided by the degrees of freedom, the sum of n - 1. Two means of n_a and n_b seeds differ *beyond
the noise* if their distance is above t · s · sqrt(1/n_a + 1/n_b), where t is the two-sided 95 %
point of Student's distribution with these degrees of freedom.

Rows are not paired by seed. A seed gives all rows the same order of identities, so paired
differences can scatter less (in the table of eight methods, the seeds' share of the scatter of mAP
is significant; in MRDA's table there is none). But methods draw other random numbers and change
the batch, and rows may have other seeds. Where seeds do have something in common, the bound here is
too wide and never too narrow.
"""

import math
import statistics
from dataclasses import dataclass
from typing import Iterable, List, Mapping, Optional, Sequence, Tuple

from scipy.special import fdtrc, stdtrit

from .estimate import AnyEstimate, Estimate, TrialEstimate

CONFIDENCE = 0.95  # two-sided


@dataclass(frozen=True)
class Noise:
    """The scatter over seeds of one metric, pooled over all rows of a table."""

    std: float
    degrees: int  # of freedom

    def bound(self, first: int, second: int) -> float:
        """Return how far two means of so many seeds must lie apart to be beyond the noise."""
        return student(self.degrees) * self.std * math.sqrt(1 / first + 1 / second)


def student(degrees: int) -> float:
    """Return the two-sided 95 % point of Student's distribution."""
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def pooled(estimates: Iterable[Optional[AnyEstimate]]) -> Optional[Noise]:
    """Return the deviation over seeds, pooled over rows.

    Args:
        estimates: one metric of all rows; None and rows over trials count for nothing.

    Returns:
        None if no row has two seeds.
    """
    squares, degrees = 0.0, 0
    for one in estimates:
        if isinstance(one, Estimate) and len(one.values) > 1:
            squares += sum((value - one.mean) ** 2 for value in one.values)
            degrees += len(one.values) - 1
    return Noise(math.sqrt(squares / degrees), degrees) if degrees else None


@dataclass(frozen=True)
class Outlier:
    """A row that scatters more over seeds than the other rows of its table do."""

    index: int  # of the row
    std: float  # its own
    others: Noise  # pooled over the other rows


def scatters_more(estimates: Sequence[Optional[AnyEstimate]]) -> Optional[Outlier]:
    """Return the row whose scatter contradicts that all rows scatter alike.

    The variance of a row, divided by that pooled over all others, has the F distribution if they
    scatter alike. The largest of k such quotients counts if its probability is below 5 % / k.

    Args:
        estimates: one metric of all rows; None and rows over trials count for nothing.

    Returns:
        The row with the smallest probability; None if no row contradicts.
    """
    candidates: List[Tuple[float, Outlier]] = []
    for index, one in enumerate(estimates):
        own = pooled([one])
        others = pooled([*estimates[:index], *estimates[index + 1 :]])
        if own is None or others is None or not others.std:
            continue
        quotient = (own.std / others.std) ** 2
        probability = float(fdtrc(own.degrees, others.degrees, quotient))
        candidates.append((probability, Outlier(index, own.std, others)))
    probability, outlier = min(candidates, key=lambda pair: pair[0], default=(1.0, None))
    return outlier if probability * len(candidates) < 1 - CONFIDENCE else None


@dataclass(frozen=True)
class MeanDifference:
    """The mean of a row minus the mean of another, in percentage points."""

    delta: float
    bound: Optional[float]  # half of the 95 % interval; None if nothing is known of the scatter
    degrees: int = 0  # of freedom
    unit: str = "seed"  # what the scatter is over

    @property
    def standard_error(self) -> Optional[float]:
        """Return the standard error of ``delta``."""
        return None if self.bound is None else self.bound / student(self.degrees)

    @property
    def interval(self) -> Optional[Tuple[float, float]]:
        """Return the ends of the 95 % interval."""
        return None if self.bound is None else (self.delta - self.bound, self.delta + self.bound)

    @property
    def beyond_noise(self) -> Optional[bool]:
        """Return whether ``|delta|`` is above the bound; None if the bound is unknown."""
        return None if self.bound is None else abs(self.delta) > self.bound

    @property
    def verdict(self) -> str:
        """Return what the difference means, in words."""
        words = {
            None: f"one {self.unit}: not judged",
            True: "beyond noise",
            False: "within noise",
        }
        return words[self.beyond_noise]


def difference(
    own: AnyEstimate, other: AnyEstimate, noise: Optional[Noise] = None
) -> Optional[MeanDifference]:
    """Return the difference of two means, with its bound.

    Over trials, rows are compared trial by trial, since a hard split is hard for both: with d the
    differences of the n trials that both have, the bound is t · s_d / sqrt(n), with n - 1 degrees
    of freedom.

    Args:
        own: a row.
        other: the row that it is compared with.
        noise: the scatter over seeds, pooled over the rows of the table.

    Returns:
        None if they are over trials and have none in common.
    """
    if isinstance(own, TrialEstimate) and isinstance(other, TrialEstimate):
        return _paired(own.by_trial, other.by_trial)
    assert isinstance(own, Estimate) and isinstance(other, Estimate), "all run the same trials"
    delta = own.mean - other.mean
    if noise is None:
        return MeanDifference(delta, None)
    return MeanDifference(delta, noise.bound(len(own.values), len(other.values)), noise.degrees)


def _paired(own: Mapping[int, float], other: Mapping[int, float]) -> Optional[MeanDifference]:
    pairs = [own[trial] - other[trial] for trial in own if trial in other]
    if not pairs:
        return None
    delta, degrees = statistics.fmean(pairs), len(pairs) - 1
    if not degrees:
        return MeanDifference(delta, None, unit="trial")
    bound = student(degrees) * statistics.stdev(pairs) / math.sqrt(len(pairs))
    return MeanDifference(delta, bound, degrees, "trial")
