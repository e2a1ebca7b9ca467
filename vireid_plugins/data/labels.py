"""Order, number and show labels, which may be integers or words."""

import re
from typing import Any, Dict, Hashable, Iterable, List, Sequence, Tuple

_DIGITS = re.compile(r"(\d+)")


def natural_key(label: Any) -> Tuple:
    """Return a sort key that orders digits by their value: 2 before 10, ``"c2"`` before ``"c10"``.

    Integers come before words, so a mixture can be sorted too.
    """
    if isinstance(label, int):
        return (0, label)
    parts = _DIGITS.split(str(label))
    return (1, tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts), label)


def sorted_labels(labels: Iterable[Hashable]) -> List[Any]:
    """Return the distinct ``labels`` in natural order."""
    return sorted(set(labels), key=natural_key)


def number_labels(labels: Iterable[Hashable]) -> Dict[Any, int]:
    """Map every distinct label to an integer and leave integers as they are.

    Words are numbered in natural order, from 0, or from one above the largest integer where both
    occur, so no two labels share a number. FastReID sorts words as text and puts camera ``c10``
    before ``c2``.
    """
    ordered = sorted_labels(labels)
    numbers = {label: label for label in ordered if isinstance(label, int)}
    first = max(numbers, default=-1) + 1
    words = [label for label in ordered if not isinstance(label, int)]
    numbers.update({label: first + i for i, label in enumerate(words)})
    return numbers


def first_few(values: Sequence[Any], most: int = 5) -> str:
    """Return the first ``most`` of many labels, for a message, and how many there are."""
    more = f", ... ({len(values)} in all)" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more
