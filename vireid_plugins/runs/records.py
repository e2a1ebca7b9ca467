"""Check the types of what the record files of a run hold: ``run.json`` and ``results.json``."""

from pathlib import Path
from typing import Any, Dict, List

from ..errors import FileContentError
from ..readers.json_file import read_json
from ..readers.shape import Kind, expect, field, optional_field
from .folder import RecordedImages, Results

_REMEDY = "The file was changed or damaged; the next evaluation of the run writes it again."
_PROTOCOL_FACTS: Dict[str, Kind] = {
    "key": str,
    "direction": str,
    "gallery_rule": str,
    "trials": int,
    "queries": int,
    "queries_left_out": float,
    "gallery": float,
    "feature": str,
    "metric": str,
    "flip": bool,
    "reranking": str,
}
_LATER_PROTOCOL_FACTS: Dict[str, Kind] = {
    "cmc": str,
    "never_compared": str,
    "transductive": str,
}
_SESSION_FACTS: Dict[str, Kind] = {
    "task": str,
    "started": str,
    "finished": str,
    "command": str,
    "config_file": str,
    "commit": str,
    "environment": dict,
    "changed": dict,
}


def read_sessions(path: Path) -> List[Dict[str, Any]]:
    """Return the sessions in a ``run.json``.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    remedy = "The file was changed or damaged; move it away."
    found = field(read_json(path, remedy=remedy), "sessions", list, str(path), remedy)
    for number, session in enumerate(found, start=1):
        check_session(session, f"{path}: session {number}", remedy)
    return found


def check_session(session: Any, where: str, remedy: str = "") -> None:
    """Check the types of what the record of a session holds.

    Raises:
        FileContentError: the record is not a mapping, or an entry is of another type.
    """
    for name, kind in _SESSION_FACTS.items():
        optional_field(session, name, kind, where, None, remedy)
    for name, value in session.get("environment", {}).items():
        expect(value, str, f"{where}: environment: {name}", remedy)
    for name, values in session.get("changed", {}).items():
        place = f"{where}: changed: {name}"
        if len(expect(values, list, place, remedy)) != 2:
            raise FileContentError(f"{place}: expected two values, before and now. {remedy}")


def check_protocols(lines: List[Any], where: str, remedy: str = "") -> None:
    """Check the types of what a record of results says about each protocol.

    Raises:
        FileContentError: there is none, or an entry is absent or of another type.
    """
    if not lines:
        raise FileContentError(
            f"{where}: protocols: expected one or more, found none. {remedy}".rstrip()
        )
    for number, line in enumerate(lines, start=1):
        for name, kind in _PROTOCOL_FACTS.items():
            field(line, name, kind, f"{where}: protocol {number}", remedy)
        for name, kind in _LATER_PROTOCOL_FACTS.items():
            optional_field(line, name, kind, f"{where}: protocol {number}", None, remedy)


def read_results(path: Path) -> Results:
    """Return the results in a ``results.json``, or in the ``result.json`` of a comparison.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    found, where = read_json(path, remedy=_REMEDY), str(path)
    metrics = field(found, "metrics", dict, where, _REMEDY)
    metrics = {
        name: expect(value, float, f"{where}: metrics: {name}", _REMEDY)
        for name, value in metrics.items()
    }
    lines = field(found, "protocols", list, where, _REMEDY)
    check_protocols(lines, where, _REMEDY)
    notes = optional_field(found, "notes", list, where, [], _REMEDY)
    return Results(
        metrics=metrics,
        protocols=lines,
        weights=optional_field(found, "weights", str, where, "", _REMEDY),
        finished=optional_field(found, "finished", str, where, "", _REMEDY),
        source=path.name,
        notes=tuple(expect(note, str, f"{where}: notes", _REMEDY) for note in notes),
        test_sets=_test_sets(found, where),
    )


def _test_sets(found: Dict[str, Any], where: str) -> Dict[str, RecordedImages]:
    """Return the test sets of a record; older records have none."""
    known = optional_field(found, "test_sets", dict, where, {}, _REMEDY)
    return {
        name: RecordedImages(
            field(one, "images", int, f"{where}: test_sets: {name}", _REMEDY),
            field(one, "fingerprint", str, f"{where}: test_sets: {name}", _REMEDY),
        )
        for name, one in known.items()
    }
