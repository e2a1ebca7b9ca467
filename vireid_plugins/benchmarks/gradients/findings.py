"""Say in words which loss terms do nothing, and which leave nothing to the others."""

import statistics
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence, Tuple

from .measure import Moment
from .training import Watched

#: a term with less than this share of the gradient is inactive
INACTIVE = 0.01
#: a term whose gradient is more than this many times the median of the others dominates
DOMINATING = 10.0

RULE = (
    "Gradient: length of the term's gradient, with its weight, on the backbone. Share: this length "
    "divided by the sum of the lengths of all terms. × others: this length divided by the median "
    f"length of the other terms that are not zero. Inactive: a share below {INACTIVE:.0%}. "
    f"Dominating: × others above {DOMINATING:g}. Both are judged by the median over the moments of "
    "a phase."
)


@dataclass(frozen=True)
class Summary:
    """One term in one phase: medians over the moments at which it was computed."""

    phase: str
    name: str
    key: str  # config key of its weight; empty: not known
    moments: Tuple[Moment, ...]

    def values(self) -> List[float]:
        """Return the term's value at each moment."""
        return [moment.terms[self.name].value for moment in self.moments]

    def gradients(self) -> List[float]:
        """Return its gradient's length at each moment at which it reaches the backbone."""
        return self._known(lambda moment: moment.terms[self.name].gradient)

    def shares(self) -> List[float]:
        """Return its share at each moment at which there is one."""
        return self._known(lambda moment: moment.share(self.name))

    def ratios(self) -> List[float]:
        """Return how many times the others it is, at each moment at which there are others."""
        return self._known(lambda moment: moment.ratio(self.name))

    def norms(self, part: str) -> List[float]:
        """Return its gradient's length in one part of the model."""
        return self._known(lambda moment: moment.terms[self.name].norms[part])

    def _known(self, read: Callable[[Moment], Optional[float]]) -> List[float]:
        return [value for moment in self.moments if (value := read(moment)) is not None]


def summaries(watched: Watched) -> List[Summary]:
    """Return a summary for each phase and each of its terms."""
    found = []
    for phase in dict.fromkeys(moment.phase for moment in watched.moments):
        own = [moment for moment in watched.moments if moment.phase == phase]
        for name in dict.fromkeys(name for moment in own for name in moment.terms):
            having = tuple(moment for moment in own if name in moment.terms)
            found.append(Summary(phase, name, watched.weight_keys.get(name, ""), having))
    return found


def verdict(summary: Summary) -> str:
    """Return one or two words about a term in a phase; empty: nothing is odd."""
    gradients, shares, ratios = summary.gradients(), summary.shares(), summary.ratios()
    if not gradients:
        return "not on the backbone"
    if not any(gradients):
        return "zero"
    if statistics.median(shares) < INACTIVE:
        return "inactive"
    if ratios and statistics.median(ratios) > DOMINATING:
        return "dominating"
    return ""


def findings(watched: Watched) -> List[str]:
    """Return sentences about terms that are inactive, dominate, start later, and so on."""
    found = [sentence for one in summaries(watched) for sentence in _about(one)]
    if not found:
        found.append("No term is inactive, and none dominates.")
    return [*found, *_about_phases(watched), *watched.notes]


def _about(one: Summary) -> List[str]:
    name, where = f"{one.name}{f' ({one.key})' if one.key else ''}", f"in phase {one.phase!r}"
    word = verdict(one)
    if word == "not on the backbone":
        return [f"{name} does not reach the backbone {where}: it trains {_trained(one)}."]
    if word == "zero":
        return [f"{name} gives the backbone no gradient {where}: {_why_zero(one)}"]
    found = []
    if word == "inactive":
        found.append(
            f"{name} is inactive {where}: it has {_percent(one.shares())} of the gradient on the "
            "backbone."
        )
    ratios = one.ratios()
    high = sum(ratio > DOMINATING for ratio in ratios)
    if word == "dominating":
        found.append(
            f"{name} dominates {where}: its gradient is {statistics.median(ratios):.3g} times the "
            f"median of the others (at most {max(ratios):.3g} times), and {_percent(one.shares())} "
            "of the sum."
        )
    elif high:
        at = next(m for m in one.moments if m.ratio(one.name) == max(ratios))
        found.append(
            f"{name} dominates at {high} of {len(ratios)} moments {where}: at most "
            f"{max(ratios):.3g} times the median of the others, at update {at.update}."
        )
    zeros = [moment.update for moment in one.moments if not moment.terms[one.name].gradient]
    if zeros:
        found.append(
            f"{name} has no gradient at {len(zeros)} of {len(one.moments)} moments {where} "
            f"(update{'s' * (len(zeros) > 1)} {', '.join(map(str, zeros))})."
        )
    return found


def _trained(one: Summary) -> str:
    parts = list(dict.fromkeys(p for moment in one.moments for p in moment.terms[one.name].trains))
    return f"only {', '.join(parts)}" if parts else "nothing"


def _why_zero(one: Summary) -> str:
    if any(one.values()):
        return "its value is not 0, but it does not change with the weights."
    return "its weight is 0, or no images of a batch give it a value."


def _percent(shares: Sequence[float]) -> str:
    return f"{100 * statistics.median(shares):.3g} %"


def _about_phases(watched: Watched) -> List[str]:
    found = []
    begun = {moment.phase for moment in watched.moments}
    first = watched.moments[0].terms
    later = dict.fromkeys(
        name for moment in watched.moments for name in moment.terms if name not in first
    )
    for name in later:
        start = next(moment for moment in watched.moments if name in moment.terms)
        found.append(
            f"{name} begins with phase {start.phase!r} (update {watched.phases[start.phase]})."
        )
    for phase, update in watched.phases.items():
        if phase not in begun:
            found.append(
                f"Phase {phase!r} begins at update {update} and was not reached: its terms were "
                "not measured. Raise --updates, or let it begin earlier by the config."
            )
    return found
