"""Keep the results of a comparison in one small file, and take them up from it elsewhere.

    {"common": {KEY: VALUE}, "runs": {"agw/seed0": {..., "config": {KEY: VALUE}, "without": [KEY]}}}

``common`` has the config keys of the first run. Of each run, ``config`` has the keys whose value
is another one, and ``without`` those that it lacks.
"""

import atexit
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Sequence

import yaml

from ..errors import FileContentError, PlanError
from ..files import write_json
from ..merge import flat_values
from ..readers.json_file import read_json
from ..readers.shape import expect, field
from ..runs.names import COMPARED
from .kept import parse_config
from .runs import run_folder
from .summary import Row

RESULTS = "runs.json"
_REMEDY = f"It is not a {RESULTS} that a comparison wrote; copy it again."
_OUTPUT = "OUTPUT_DIR"  # a folder of one machine


def format_results(rows: Sequence[Row]) -> str:
    """Return the results of all complete runs as JSON, with a line for each run."""
    common: Dict[str, Any] = {}
    lines: List[str] = []
    for row in rows:
        for run in [] if row.end else row.runs:  # a second row has the same runs
            result = run.result()
            if result is None:
                continue
            keys = flat_values(parse_config(result["config"], f"{COMPARED}: config"))
            keys.pop(_OUTPUT, None)
            common = common or keys
            name = run_folder(Path(), run.entry, run.seed, run.trial, run.point).as_posix()
            changed = {
                key: value
                for key, value in keys.items()
                if key not in common or common[key] != value
            }
            without = [key for key in common if key not in keys]
            packed = {**result, "config": changed, "without": without}
            lines.append(f"{json.dumps(name)}: {json.dumps(packed)}")
    runs = ",\n".join(lines)
    return f'{{"common": {json.dumps(common)},\n"runs": {{\n{runs}\n}}}}\n'


def folder_of_results(path: Path) -> Path:
    """Return a folder with the ``result.json`` of each run: ``path``, or what its file holds.

    The content of a file is unpacked into a folder that is deleted when this process ends.

    Raises:
        PlanError: there is nothing at ``path``.
        FileContentError: the file is damaged, or none of a comparison.
    """
    if path.is_dir():
        return path
    if not path.is_file():
        raise PlanError(
            f"--also {path}: there is no such folder or file. Name the --output of the same "
            f"comparison on another machine, or a copy of its {RESULTS}."
        )
    packed = read_json(path, dict, _REMEDY)
    common = field(packed, "common", dict, str(path), _REMEDY)
    folder = Path(tempfile.mkdtemp(prefix="vireid-compare-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, result in field(packed, "runs", dict, str(path), _REMEDY).items():
        where = f"{path}: {name}"
        expect(result, dict, where, _REMEDY)
        target = folder / name
        if folder.resolve() not in target.resolve().parents:
            raise FileContentError(f"{where}: a run's name may not lead out of its folder.")
        keys = {**common, **field(result, "config", dict, where, _REMEDY)}
        for key in field(result, "without", list, where, _REMEDY):
            keys.pop(key, None)
        target.mkdir(parents=True, exist_ok=True)
        write_json(target / COMPARED, {**result, "config": yaml.safe_dump(_nested(keys))})
    return folder


def _nested(flat: Dict[str, Any]) -> Dict[str, Any]:
    """Return the tree of values whose full names are the keys of ``flat``."""
    tree: Dict[str, Any] = {}
    for name, value in flat.items():
        *groups, last = name.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    return tree
