"""Read the files that a comparison keeps of a run, and rename the damaged ones.

A damaged file of one run never stops the other runs. It is renamed, never deleted, and the work
that it recorded is done again.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, TypeVar

from ..errors import FileContentError, UserError, one_line
from ..readers.json_file import read_json
from ..readers.shape import expect, field, optional_field
from ..readers.text import read_text
from ..readers.yaml_file import parse_dumped_yaml
from ..runs.names import COMPARED, LAST, PROGRESS, SETTINGS
from ..runs.records import check_protocols

Read = TypeVar("Read")

METRICS = ("Rank-1", "mAP", "mINP")  # metrics of the table; the CSV file has all
_NUMBER_OR_NONE = (float, type(None))
_RESULT: Dict[str, Any] = {
    "name": str,
    "seed": int,
    "runs_at_once": int,
    "weights": str,
    "metrics": dict,
    "protocols": list,
    "rendered": dict,
    "evaluation_seconds": float,
    "iterations": int,
    "images_per_batch": int,
    "train_seconds": _NUMBER_OR_NONE,
    "seconds_per_iteration": _NUMBER_OR_NONE,
    "train_fingerprint": str,
    "train_identities": int,
    "train_images": int,
    "parameters": int,
    "trainable_parameters": int,
    "flops_per_image": _NUMBER_OR_NONE,
    "peak_memory_mib": _NUMBER_OR_NONE,
    "device": str,
    "environment": dict,
    "commit": str,
    "sessions": int,
    "finished": str,
    "config": str,
}


class Damage(NamedTuple):
    """A file of a run that cannot be used."""

    path: Path
    reason: str  # one line, with the name of the file


@dataclass(frozen=True)
class Kept:
    """The content of the folder of one run of a comparison."""

    result: Optional[Dict[str, Any]]  # of a complete run
    settings: Optional[Dict[Any, Any]]  # what an unfinished run was begun with
    progress: Dict[str, Any]  # see ``Progress``
    resumable: bool  # whether an unfinished run has a checkpoint to continue from
    damaged: Tuple[Damage, ...]


def read_kept(folder: Path, seed: int) -> Kept:
    """Read what a comparison keeps of the run with ``seed`` in ``folder``.

    Files that cannot be used count as absent, and are listed.
    """
    damaged: List[Damage] = []

    def read(name: str, reader: Callable[[Path], Read]) -> Optional[Read]:
        path = folder / name
        if not path.is_file():
            return None
        try:
            return reader(path)
        except UserError as error:
            damaged.append(Damage(path, one_line(error)))
            return None

    result = read(COMPARED, lambda path: _read_result(path, seed))
    return Kept(
        result=result,
        settings=read(SETTINGS, _read_settings),
        progress=read(PROGRESS, read_progress) or {},
        # a complete run needs no checkpoint: who deletes it to free the disk damages nothing
        resumable=result is None and bool(read(LAST, _read_last)),
        damaged=tuple(damaged),
    )


def rename_damaged(path: Path) -> Path:
    """Rename a file to ``NAME.damaged-N`` with the first free N, and return its new path."""
    number = 1
    while path.with_name(f"{path.name}.damaged-{number}").exists():
        number += 1
    return path.rename(path.with_name(f"{path.name}.damaged-{number}"))


def _read_result(path: Path, seed: int) -> Dict[str, Any]:
    where = path.name
    found: Dict[str, Any] = read_json(path, dict, "")
    for name, kind in _RESULT.items():
        field(found, name, kind, where)
    if found["seed"] != seed:
        raise FileContentError(
            f"{where}: expected the result of seed {seed}, found {found['seed']}"
        )
    check_protocols(found["protocols"], where)
    for line in found["protocols"]:
        for metric in METRICS:
            for key in (f"{line['key']}/{metric}", f"{line['key']}/{metric}_std"):
                field(found["metrics"], key, float, f"{where}: metrics")
    for name, value in found["environment"].items():
        expect(value, str, f"{where}: environment, {name}")
    field(found["environment"], "threads", str, f"{where}: environment")
    field(found["environment"], "system", str, f"{where}: environment")
    for name, value in found["rendered"].items():
        expect(value, dict, f"{where}: rendered, {name}")
    parse_config(found["config"], f"{where}: config")
    return found


def _read_settings(path: Path) -> Any:
    return parse_config(read_text(path), path.name)


@lru_cache(maxsize=1000)  # a table is written after each run, and reads all results each time
def parse_config(text: str, where: str) -> Any:
    """Return the config in a result, which the caller must not change.

    Raises:
        FileContentError: it is not YAML.
    """
    return parse_dumped_yaml(text, where)


def read_progress(path: Path) -> Dict[str, Any]:
    """Return the content of ``progress.json``.

    Raises:
        UserError: it is damaged.
    """
    where = path.name
    found: Dict[str, Any] = read_json(path, dict, "")
    for seconds in optional_field(found, "epoch_seconds", list, where, []):
        expect(seconds, float, f"{where}: epoch_seconds")
    for commit in optional_field(found, "commits", list, where, []):
        expect(commit, str, f"{where}: commits")
    optional_field(found, "peak_memory_mib", _NUMBER_OR_NONE, where, None)
    optional_field(found, "sessions", int, where, 0)
    optional_field(found, "error", str, where, "")
    return found


def _read_last(path: Path) -> str:
    """Return the name of the checkpoint that a run continues from.

    Raises:
        UserError: the checkpoint is not there.
    """
    name = read_text(path).strip()
    if not name or Path(name).name != name or not (path.parent / name).is_file():
        raise FileContentError(f"{path.name} names {name!r}, and there is no such checkpoint")
    return name
