"""Read what topics have written, and keep the results of the last versions."""

import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..errors import MissingFileError, UserError
from ..files import PACKAGE, write_json, writing
from ..readers.json_file import read_json
from ..readers.shape import expect, field, optional_field
from .given_rates import rates_in
from .measuring import MEASURES
from .rates import Rate

KEPT = PACKAGE.parent / "docs" / "performance"  # a checkout has it, a wheel does not
VERSIONS = 3  # whose results are kept

_REMEDY = "Measure anew with `vireid bench TOPIC`."
_FACTS = ("topic", "version", "commit", "finished", "command", "machine", "environment")
_WRITTEN = (*_FACTS, "options", "rates", MEASURES)  # what is kept of a result


class Timed(NamedTuple):
    """One measure of a result."""

    seconds: List[float]
    fraction: Optional[float]  # of the limit; None: not known


class Result(NamedTuple):
    """What one run of a topic has measured."""

    where: str  # the file it stands in
    topic: str
    version: str
    machine: Dict[str, Any]
    environment: Dict[str, Any]
    options: Dict[str, Any]
    rates: Dict[str, Rate]
    measures: Dict[Tuple[str, str], Timed]  # (case, name)
    content: Dict[str, Any]


def read_results(path: Path) -> List[Result]:
    """Return the results in a file of ``vireid bench``, a kept version, or a folder of the former.

    Files of a folder that state no measures, such as those of earlier versions, are left out.

    Raises:
        UserError: there is no result, or one is damaged.
    """
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        found = [one for file in files for one in _results_of(file, strict=False)]
    else:
        found = _results_of(path, strict=True)
    if not found:
        raise MissingFileError(f"{path} has no result with measures. {_REMEDY}")
    return found


def _results_of(path: Path, strict: bool) -> List[Result]:
    content = read_json(path, remedy=_REMEDY)
    if "results" in content:
        written = field(content, "results", list, str(path), _REMEDY)
    else:
        written = [content] if strict or MEASURES in content else []
    return [_result(one, str(path)) for one in written]


def _result(content: Any, where: str) -> Result:
    place = f"{where}: {field(content, 'topic', str, where, _REMEDY)}"
    rates: Dict[str, Rate] = {}
    for threads, of in field(content, "rates", dict, place, _REMEDY).items():
        rates.update(rates_in(of, f"{place}: rates: {threads}"))
    measures = {}
    for one in field(content, MEASURES, list, place, _REMEDY):
        names = tuple(field(one, name, str, place, _REMEDY) for name in ("case", "name"))
        values = field(one, "seconds", list, place, _REMEDY)
        seconds = [expect(value, float, f"{place}: seconds", _REMEDY) for value in values]
        if not seconds:
            raise UserError(f"{place}: {', '.join(names)} has no seconds. {_REMEDY}")
        kinds = (float, type(None))
        fraction = optional_field(one, "fraction of the limit", kinds, place, None, _REMEDY)
        measures[names[0], names[1]] = Timed(seconds, fraction)
    return Result(
        where,
        content["topic"],
        field(content, "version", str, place, _REMEDY),
        field(content, "machine", dict, place, _REMEDY),
        field(content, "environment", dict, place, _REMEDY),
        field(content, "options", dict, place, _REMEDY),
        rates,
        measures,
        content,
    )


def kept_versions(folder: Path = KEPT) -> List[Path]:
    """Return the files of the kept versions, the newest last."""
    return sorted(folder.glob("[0-9]*.json"), key=lambda path: version_key(path.stem))


def version_key(version: str) -> Tuple[int, ...]:
    """Return numbers by which versions are sorted: 0.10.0 comes after 0.9.0."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def keep(measured: Path, folder: Path = KEPT) -> Path:
    """Keep the results in ``measured`` as those of their version; return the file.

    They replace what was kept of this version. Of earlier versions only the last are left.

    Raises:
        UserError: they are of several versions or machines, or ``folder`` cannot be written to.
    """
    found = read_results(measured)
    for name, values in (
        ("versions", sorted({one.version for one in found})),
        ("machines", sorted({str(one.machine) for one in found})),
    ):
        if len(values) > 1:
            raise UserError(f"{measured} has results of several {name}: {'; '.join(values)}.")
    version = found[0].version
    target = folder / f"{version}.json"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    results = [{name: one.content[name] for name in _WRITTEN} for one in found]
    write_json(target, {"version": version, "results": results})
    for old in kept_versions(folder)[:-VERSIONS]:
        with writing(old):
            old.unlink()
    return target
