"""What a paper prints of a row's gain, and whether the runs here agree."""

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence

from ..errors import PlanError
from ..readers.shape import expect, field
from ..registry import suggest
from .columns import COMPARED
from .noise import MeanDifference

METRIC_NAMES = {"rank-1": "Rank-1", "mAP": "mAP", "mINP": "mINP"}
_DIRECTIONS = {"up": 1, "down": -1, "same": 0}
AS_PRINTED, OPPOSITE, UNDECIDED = "as printed", "opposite", "within noise"
CHANGED = "a change"  # where the paper prints none


@dataclass(frozen=True)
class Claim:
    """The printed gain of a row over one of the rows that it is compared with."""

    over: str  # name of that row
    values: Mapping[str, float]  # percentage points by metric; empty: only a direction is printed
    direction: int  # 1, 0 or -1, where no value is printed
    source: str  # dataset, protocol, table

    @property
    def metrics(self) -> Sequence[str]:
        """Return the metrics that are judged: those with a value, or rank-1 and mAP."""
        return [name for name in METRIC_NAMES.values() if name in self.values] or COMPARED

    def sign(self, metric: str) -> Optional[int]:
        """Return the printed direction of a metric: 1, 0, -1; None if nothing is claimed of it."""
        if not self.values:
            return self.direction
        value = self.values.get(metric)
        return None if value is None else (value > 0) - (value < 0)

    def agreement(self, metric: str, found: Optional[MeanDifference]) -> str:
        """Return whether a difference has the printed direction; empty if that is not known."""
        sign = self.sign(metric)
        if sign is None or found is None or found.beyond_noise is None:
            return ""
        if not found.beyond_noise:
            return AS_PRINTED if sign == 0 else UNDECIDED
        if sign == 0:
            return CHANGED
        return AS_PRINTED if found.delta * sign > 0 else OPPOSITE

    @property
    def words(self) -> str:
        """Return the claim for a cell of a table: ``rank-1 +6.3, mAP +5.0 (source)``."""
        names = {metric: name for name, metric in METRIC_NAMES.items()}
        told = ", ".join(f"{names[metric]} {value:+g}" for metric, value in self.values.items())
        plain = {1: "higher", -1: "lower", 0: "no change"}[self.direction]
        return f"{told or plain} ({self.source})" if self.source else told or plain


def read_claim(values: Mapping[str, Any], against: Sequence[str], where: str) -> Claim:
    """Return a claim of a plan: points by metric, or ``direction: up``, ``down`` or ``same``.

    Args:
        values: what the plan says.
        against: the rows that the row is compared with; ``over`` is one of them, or the first.
        where: the place in the plan, for messages.

    Raises:
        PlanError: a name is unknown, there is neither a value nor a direction, or both, or the row
            is not compared with ``over``.
        FileContentError: a value is of a wrong kind.
    """
    known = (*METRIC_NAMES, "direction", "source", "over")
    points: Dict[str, float] = {}
    for name in values:
        if name not in known:
            raise PlanError(f"{where}: {name!r} is no name of a claim. {suggest(name, known)}")
        if name in METRIC_NAMES:
            points[METRIC_NAMES[name]] = field(values, name, float, where)
    source = expect(values.get("source", ""), str, f"{where}: source")
    word = values.get("direction", "")
    if bool(points) == bool(word):
        raise PlanError(
            f"{where}: give the printed gains (rank-1, mAP, mINP) or direction: up, down or same."
        )
    if word and word not in _DIRECTIONS:
        raise PlanError(f"{where}: direction is {word!r}; expected up, down or same.")
    if not against:
        raise PlanError(f"{where} is a gain over another row; name that row in against.")
    over = str(values.get("over", against[0]))
    if over not in against:
        raise PlanError(
            f"{where}: over: expected one of the rows in against ({', '.join(against)}), "
            f"found {over!r}."
        )
    return Claim(over, points, _DIRECTIONS.get(word, 0), source)
