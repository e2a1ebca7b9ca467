"""Read, order, number and show labels, which may be integers or words."""

import re
import unicodedata
from typing import Any, Dict, Hashable, Iterable, List, Sequence, Tuple, Union

from vireid_plugins.errors import UserError

_DIGITS = re.compile(r"(\d+)")
_WHOLE = re.compile(r"([+-]?\d+)(?:\.0*)?")  # 7, 007, +7, -1, 7.0
_ROUNDED = re.compile(r"[+-]?\d+(?:\.\d*)?e[+-]?\d+", re.IGNORECASE)  # 2.02401E+19
_NO_VALUE = {"nan", "na", "n/a", "#n/a", "none", "null", "<na>", "nat"}
_LONGEST = 200
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"  # spaces of no width, from spreadsheets and web pages
_NUMBERS = range(-(2**63), 2**63)  # what an array of labels can hold


def label_of(word: str) -> Union[int, str]:
    """Return the label that a word of a list means: an integer, or else the word itself.

    ``7``, ``007``, ``+7``, ``7.0`` and ``7`` in full-width digits are the integer 7. Words are
    compared as Unicode's NFKC form, without spaces at their ends.

    Raises:
        UserError: the word is empty, means that there is no value (``nan``, ``None``), is a number
            that a spreadsheet has rounded (``2.02E+19``), or has more than 200 characters.
    """
    plain = unicodedata.normalize("NFKC", word).strip().strip(_INVISIBLE).strip()
    if not plain or plain.lower() in _NO_VALUE:
        raise UserError(
            f"{word!r} means that there is no value; write a number or a name, or remove the line."
        )
    if len(plain) > _LONGEST:
        raise UserError(f"a label has at most {_LONGEST} characters; got {len(plain)}.")
    if _ROUNDED.fullmatch(plain):
        raise UserError(
            f"{word!r} is a number that a spreadsheet has rounded, so different ones look the "
            "same; write all digits (format the column as text), or a name."
        )
    whole = _WHOLE.fullmatch(plain)
    return int(whole[1]) if whole else plain


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
    occur, so no two labels share a number. Integers of more than 64 bits, which no array holds, are
    numbered as words are. FastReID sorts words as text and puts camera ``c10`` before ``c2``.
    """
    ordered = sorted_labels(labels)
    numbers = {label: label for label in ordered if isinstance(label, int) and label in _NUMBERS}
    first = max(0, max(numbers, default=-1) + 1)
    words = [label for label in ordered if label not in numbers]
    if first + len(words) not in _NUMBERS:  # no room above the largest integer
        numbers, first, words = {}, 0, ordered
    numbers.update({label: first + i for i, label in enumerate(words)})
    return numbers


def first_few(values: Sequence[Any], most: int = 5) -> str:
    """Return the first ``most`` of many labels, for a message, and how many there are."""
    more = f", ... ({len(values)} in all)" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more
