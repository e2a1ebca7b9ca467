"""The outcome of a plan in few columns, as a table for a README."""

from typing import List, Optional

from .columns import SHOWN
from .contrasts import Contrasts
from .noise import MeanDifference
from .summary import Row

_METRICS = ("Rank-1", "mAP")


def format_short(contrasts: Contrasts, protocol: str) -> str:
    """Return rank-1 and mAP of all rows that have results, in Markdown, and their differences.

    ``a ± s``: mean and deviation over seeds. A difference has half of its 95 % interval, and is
    bold if the interval leaves out 0.

    Args:
        contrasts: the rows, and what each is compared with.
        protocol: the protocol line that is shown.
    """
    names = [SHOWN.get(metric, metric) for metric in _METRICS]
    lines = [["row", "seeds", *names, "beside", *(f"Δ {name}, 95 %" for name in names)]]
    lines.append(["---"] * len(lines[0]))
    for row in contrasts.rows:
        if not row.results:
            continue
        own = [row.name, str(len(row.results)), *(_mean(row, protocol, one) for one in _METRICS)]
        others: List[Optional[Row]] = [other for other in contrasts.of(row) if other.results]
        for other in others or [None]:
            lines.append([*own, *_beside(contrasts, row, other, protocol)])
            own = [""] * len(own)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _mean(row: Row, protocol: str, metric: str) -> str:
    found = row.estimate(protocol, metric)
    if found is None:
        return "–"
    return f"{found.mean:.1f}" + ("" if found.std is None else f" ± {found.std:.1f}")


def _beside(contrasts: Contrasts, row: Row, other: Optional[Row], protocol: str) -> List[str]:
    if other is None:
        return ["", *("" for _ in _METRICS)]
    found = [contrasts.difference(row, other, protocol, metric) for metric in _METRICS]
    return [other.name, *map(_difference, found)]


def _difference(found: Optional[MeanDifference]) -> str:
    if found is None:
        return "–"
    text = f"{found.delta:+.1f}".replace("-", "−")
    if found.bound is None:
        return text
    text += f" ± {found.bound:.1f}"
    return f"**{text}**" if found.beyond_noise else text
