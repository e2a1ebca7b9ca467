"""Check the facts of an index: its images, its model, and how it is searched."""

from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

from ..errors import UserError
from ..modality import Modality
from ..readers.json_file import parse_json
from ..readers.shape import expect, field, optional_field
from .threshold import Calibration

_REMEDY = "The file is damaged, or something else wrote it: make a new index in another folder."
_KINDS: Dict[str, type] = {
    "generation": int,
    "rows": int,
    "dimensions": int,
    "fingerprint": str,
    "weights": str,
    "modality": str,
    "images": str,
    "kind": str,
    "complete": bool,
}


def checked_facts(
    path: Path, rows: Sequence[Tuple[Any, Any]], formats: Tuple[int, int]
) -> Dict[str, Any]:
    """Return the facts of a catalog by their names.

    Args:
        path: the catalog, for messages.
        rows: pairs of a name and a value in JSON.
        formats: the first and the last format that can be read.

    Raises:
        UserError: a fact is absent, no JSON, or of the wrong kind or size; or another version of
            this package wrote the catalog.
    """
    facts = {}
    for key, value in rows:
        where = f"{path}, {key}"
        facts[str(key)] = parse_json(expect(value, str, where, _REMEDY), where, object, _REMEDY)
    number = field(facts, "format", int, str(path), _REMEDY)
    first, last = formats
    if not first <= number <= last:
        raise UserError(
            f"{path} is of format {number}; this version of vireid_plugins reads {first} to {last}."
            " Use the version that wrote it, or make a new index in another folder."
        )
    for name, kind in _KINDS.items():
        field(facts, name, kind, str(path), _REMEDY)
    for name, least in (("generation", 0), ("rows", 0), ("dimensions", 1)):
        if facts[name] < least:
            raise UserError(
                f"{path}, {name}: expected a number of at least {least}, found {facts[name]}. "
                f"{_REMEDY}"
            )
    Modality.parse(facts["modality"])
    _check_thresholds(facts, path)
    ranges = optional_field(facts, "ranges", dict, str(path), {}, _REMEDY)
    for modality, words in ranges.items():
        Modality.parse(modality)
        expect(words, str, f"{path}, ranges, {modality}", _REMEDY)
    made_for = optional_field(facts, "made_for", dict, str(path), {}, _REMEDY)
    if made_for:
        field(made_for, "kind", str, f"{path}, made_for", _REMEDY)
        field(made_for, "images", int, f"{path}, made_for", _REMEDY)
    return facts


def _check_thresholds(facts: Dict[str, Any], path: Path) -> None:
    where = f"{path}, thresholds"
    for query, values in optional_field(facts, "thresholds", dict, str(path), {}, _REMEDY).items():
        for name, kind in Calibration.__annotations__.items():
            plain = kind if isinstance(kind, type) else list
            field(values, name, plain, f"{where}, {query}", _REMEDY)
        for number, row in enumerate(values["others"]):
            place = f"{where}, {query}, others, {number}"
            if len(expect(row, list, place, _REMEDY)) != 3:
                raise UserError(f"{place}: expected three numbers, found {len(row)}. {_REMEDY}")
            for value in row:
                expect(value, float, place, _REMEDY)
        unknown = sorted(set(values) - set(Calibration._fields))
        if unknown:
            raise UserError(f"{where}, {query}: {unknown[0]!r} is unknown. {_REMEDY}")
