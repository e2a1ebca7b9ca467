"""Say what became slower from one result to another, beyond the spread of both.

A time is *slower* if its fastest new run took longer than the slowest old one. Seconds are compared
only between results of the same machine and options: another processor has another ratio of
products to memory, so even fractions of the limit differ between machines without a change in the
program. ``fractions`` shows them side by side and judges nothing.
"""

import statistics
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from ..errors import MissingFileError, UserError
from .measures import percent
from .measuring import OUT, markdown_table, seconds_text
from .results import KEPT, Result, kept_versions, read_results

SLOWER, FASTER, UNJUDGED = "slower", "faster", "one run: not judged"

_FREE = ("out", "folder", "repeats", "turns", "steps")  # options that do not change a time


class Comparison(NamedTuple):
    """What a comparison found."""

    text: str  # tables and notes
    slower: List[str]  # topic, case and name of each


def compare(old: str = "", new: str = "", fractions: bool = False) -> Comparison:
    """Compare two results, or all results of two versions or folders.

    Args:
        old: a file or folder; empty: the newest kept version.
        new: a file or folder; empty: ``logs/bench``.
        fractions: show fractions of the limit side by side; nothing is judged.

    Raises:
        UserError: nothing can be compared, or, without ``fractions``, the machines differ.
    """
    before = read_results(Path(old) if old else _newest())
    after = read_results(Path(new or OUT))
    pairs, notes = _pairs(before, after)
    if fractions:
        lines = [line for pair in pairs for line in _fraction_lines(*pair)]
        head = ["topic, case", "what", "old, of the limit", "new, of the limit"]
        hint = "Fractions of the limit differ between machines: nothing is judged.\n"
        return Comparison("\n".join([markdown_table([head, *lines]), *notes, hint]), [])
    _check_machines(pairs)
    rows = [row for pair in pairs for row in _rows(*pair)]
    slower = [f"{row.case}: {row.what}" for row in rows if row.verdict == SLOWER and not row.rate]
    if any(row.verdict == SLOWER and row.rate for row in rows):
        notes.append("The machine itself was slower. Measure both again, in turn.\n")
    head = ["topic, case", "what", "old", "new", "new / old", ""]
    lines = [[one.case, one.what, one.old, one.new, one.ratio, one.verdict] for one in rows]
    notes.append(f"Slower beyond the spread of both: {'; '.join(slower) or 'nothing'}.\n")
    return Comparison("\n".join([markdown_table([head, *lines]), *notes]), slower)


def _newest() -> Path:
    kept = kept_versions()
    if not kept:
        raise MissingFileError(f"No results are kept in {KEPT}. Name the old ones.")
    return kept[-1]


def _pairs(
    before: Sequence[Result], after: Sequence[Result]
) -> Tuple[List[Tuple[Result, Result]], List[str]]:
    """Return the results of the same topic and options, and a note on each of the others.

    Raises:
        UserError: there is no pair.
    """
    pairs, notes = [], []
    for new in after:
        same_topic = [old for old in before if old.topic == new.topic]
        fitting = [old for old in same_topic if not _different(old.options, new.options)]
        if fitting:
            pairs.append((fitting[-1], new))
            notes += _other_versions(fitting[-1], new)
        elif same_topic:
            differ = "; ".join(_different(same_topic[-1].options, new.options))
            notes.append(f"{new.topic} is not compared, because options differ: {differ}.\n")
        else:
            notes.append(f"{new.topic} is not compared: there is no old result.\n")
    if not pairs:
        raise UserError(f"Nothing can be compared. {' '.join(notes)}".strip())
    return pairs, list(dict.fromkeys(notes))


def _different(old: Dict[str, Any], new: Dict[str, Any]) -> List[str]:
    """Return each option that differs, with both values."""
    names = sorted((set(old) | set(new)) - set(_FREE))
    return [f"{n} {old.get(n)!r} and {new.get(n)!r}" for n in names if old.get(n) != new.get(n)]


def _other_versions(old: Result, new: Result) -> List[str]:
    differ = _different(old.environment, new.environment)
    return [f"Other versions, old and new: {'; '.join(differ)}.\n"] if differ else []


def _check_machines(pairs: Sequence[Tuple[Result, Result]]) -> None:
    for old, new in pairs:
        differ = _different(old.machine, new.machine)
        if differ:
            raise UserError(
                f"{new.topic}: {old.where} and {new.where} were measured on different machines "
                f"({'; '.join(differ)}), so their seconds say nothing about the program. Measure "
                "the old version here, too, or add --fractions to see both fractions of the limit."
            )


class Row(NamedTuple):
    """A line of the comparison."""

    case: str
    what: str
    old: str
    new: str
    ratio: str
    verdict: str
    rate: bool = False  # of the machine, not of this package


def _rows(old: Result, new: Result) -> List[Row]:
    """Return the rows of all measures that both have, and of the rates of the machine."""
    rows = []
    for (case, name), timed in new.measures.items():
        if (case, name) in old.measures:
            values = old.measures[case, name].seconds, timed.seconds
            rows.append(_row(f"{new.topic}, {case}", name, *values))
    for name, rate in new.rates.items():
        if name in old.rates and old.rates[name].amount == rate.amount:
            row = _row(new.topic, f"the machine: {name}", old.rates[name].seconds, rate.seconds)
            rows.append(row._replace(rate=True))
    return rows


def _row(case: str, what: str, old: List[float], new: List[float]) -> Row:
    ratio = statistics.median(new) / max(statistics.median(old), 1e-9)
    texts = seconds_text(old), seconds_text(new)
    return Row(case, what, *texts, f"{ratio:.2f}", verdict(old, new))


def verdict(old: Sequence[float], new: Sequence[float]) -> str:
    """Return whether times became slower or faster beyond the spread of both; else nothing."""
    if min(len(old), len(new)) < 2:
        return UNJUDGED
    if min(new) > max(old):
        return SLOWER
    return FASTER if max(new) < min(old) else ""


def _fraction_lines(old: Result, new: Result) -> List[List[str]]:
    return [
        [
            f"{new.topic}, {case}",
            name,
            *(percent(one.fraction, "not known") for one in (old.measures[case, name], timed)),
        ]
        for (case, name), timed in new.measures.items()
        if (case, name) in old.measures
    ]
