"""The results of a measurement as text."""

from typing import List, Sequence

from tabulate import tabulate

from .measure import Row

_HEADERS = (
    "model",
    "query",
    "seconds apart",
    "questions",
    "persons",
    "in a gallery",
    "chance",
    "Rank-1",
    "95 % interval",
    "above the first",
)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table; rates are in percent, ``±`` is over the seeds of a network."""
    lines = [_line(row, row.model == rows[0].model) for row in rows]
    return str(tabulate(lines, _HEADERS, tablefmt="github", disable_numparse=True))


def _line(row: Row, is_first: bool) -> List[str]:
    spread = _spread(row.seeds)
    over = row.over_first
    return [
        row.model,
        row.kind,
        f"{row.gap:g}",
        str(row.questions),
        str(row.persons),
        f"{row.gallery:.1f}",
        f"{row.chance:.1f}",
        f"{row.rate.rank1:.1f}{spread}",
        f"{row.rate.low:.1f} to {row.rate.high:.1f}",
        "" if is_first else f"{over.rank1:+.1f} ({over.low:+.1f} to {over.high:+.1f})",
    ]


def _spread(values: Sequence[float]) -> str:
    """Return the standard deviation over seeds in words; empty for one value."""
    if len(values) < 2:
        return ""
    mean = sum(values) / len(values)
    deviation = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    return f" ± {deviation:.1f}"
