"""State measured times as fractions of the limit that the machine sets.

A topic says for a time which work it had to do: multiply-adds, bytes, pixels. The limit is the
time of this work at the machine's rates (``rates.py``), one kind after the other. It counts only
the work that no way of doing it can leave out, so it is a floor, not a promise.
"""

import statistics
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from .measuring import MEASURES, markdown_table, seconds_text
from .rates import Rate

FLOOR = "measured floor"  # a resource: seconds of what has to be done anyway, from the same run
_SECOND = Rate(1.0, "seconds", 1.0, [1.0])


class Measure(NamedTuple):
    """Times of one way to do something."""

    name: str
    seconds: List[float]  # of each run
    work: Mapping[str, float] = {}  # resource -> amount; empty: not known
    replaced: Sequence[float] = ()  # seconds of what this replaces, from the same run
    case: str = ""  # empty: the name of the case in the topic's result


def take_measures(result: Dict[str, Any]) -> List[Measure]:
    """Remove the measures from a topic's result, and from its cases; return them."""
    found = list(result.pop(MEASURES, []))
    for case, value in result.items():
        if isinstance(value, dict):
            found += [m._replace(case=m.case or case) for m in value.pop(MEASURES, [])]
    return found


def resources_of(measures: Sequence[Measure]) -> List[str]:
    """Return the resources whose rates are needed."""
    return sorted({name for measure in measures for name in measure.work} - {FLOOR})


def limit_parts(work: Mapping[str, float], rates: Mapping[str, Rate]) -> Dict[str, float]:
    """Return the seconds of each kind of work at the machine's rates."""
    known = {FLOOR: _SECOND, **rates}
    return {name: amount / known[name].per_second for name, amount in work.items()}


def as_json(measure: Measure, rates: Mapping[str, Rate]) -> Dict[str, Any]:
    """Return a measure with its limit in seconds, the fraction of it, and the ratio.

    What is not known is None.
    """
    limit = sum(limit_parts(measure.work, rates).values()) or None
    middle = statistics.median(measure.seconds)
    return {
        "case": measure.case,
        "name": measure.name,
        "seconds": list(measure.seconds),
        "work": dict(measure.work),
        "limit": limit,
        "fraction of the limit": _divided(limit, middle),
        "times faster than what it replaces": _divided(_middle(measure.replaced), middle),
    }


def _middle(seconds: Sequence[float]) -> Optional[float]:
    return statistics.median(seconds) if seconds else None


def _divided(value: Optional[float], by: float) -> Optional[float]:
    return value / by if value is not None and by > 0 else None


def measures_table(measures: Sequence[Measure], rates: Mapping[str, Rate]) -> str:
    """Return a row for each measure: seconds, ratio, limit, and the fraction of the limit."""
    lines = [["case", "what", "measured", "times faster", "limit", "of the limit", "set by"]]
    for measure in measures:
        found = as_json(measure, rates)
        parts = limit_parts(measure.work, rates)
        faster = found["times faster than what it replaces"]
        lines.append(
            [
                measure.case,
                measure.name,
                seconds_text(measure.seconds),
                "" if faster is None else f"{faster:.3g}",
                "not known" if found["limit"] is None else f"{found['limit']:.3g} s",
                percent(found["fraction of the limit"], ""),
                max(parts, key=lambda name: parts[name]) if parts else "",
            ]
        )
    return markdown_table(lines)


def percent(fraction: Optional[float], unknown: str) -> str:
    """Return a fraction in percent, with two digits at least, or ``unknown`` for None."""
    if fraction is None:
        return unknown
    return f"{100 * fraction:.0f} %" if fraction >= 0.1 else f"{100 * fraction:.2g} %"
