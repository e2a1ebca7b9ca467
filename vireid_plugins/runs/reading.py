"""Read the folder of a run without building its model. Damaged files are listed, not raised."""

import re
from pathlib import Path
from typing import Any, Dict, List, Optional

from fastreid.config import CfgNode, get_cfg

from ..config import add_vireid_config
from ..errors import MissingFileError, UserError, one_line
from ..evaluation.result import METRIC_NAMES
from ..merge import merge_text
from ..readers.checkpoint import read_checkpoint
from ..readers.json_file import read_json
from .facts import epochs_done, facts_in
from .folder import Checkpoint, Missing, Results, RunFolder
from .metrics_log import read_lines
from .names import COMPARED, CONFIG, FINAL, LAST, LOG, METRICS, RESULTS, RUN

_PROTOCOL_FACTS = (
    "key",
    "direction",
    "gallery_rule",
    "trials",
    "queries",
    "queries_left_out",
    "gallery",
    "feature",
    "metric",
    "flip",
    "reranking",
)
_ENVIRONMENT = re.compile(r"Environment: (.+)$", re.M)


def read_run_folder(folder: Path, weights: str = "", with_model: bool = True) -> RunFolder:
    """Read what is in ``folder``; what is absent or damaged is listed, not raised.

    Args:
        folder: a run's ``OUTPUT_DIR``.
        weights: a checkpoint; empty: the last checkpoint of the run.
        with_model: whether the checkpoint is read.

    Raises:
        MissingFileError: there is no such folder, or no such checkpoint.
        UserError: the folder holds no file that a run writes.
    """
    if not folder.is_dir():
        raise MissingFileError(
            f"{folder} is no folder. Give the folder of a run: its OUTPUT_DIR, which holds "
            f"{CONFIG}, {METRICS} and {LOG}."
        )
    known = (CONFIG, METRICS, LOG, RUN, RESULTS, COMPARED, FINAL, LAST)
    if not any((folder / name).is_file() for name in known):
        raise UserError(
            f"{folder} holds nothing of a run; expected one of {', '.join(known)}. Give the "
            "OUTPUT_DIR of a training."
        )
    run = RunFolder(folder)
    run.sessions = _read_sessions(run)
    run.environment = _read_environment(run)
    lines = _read_metrics(run)
    run.results = _read_results(run, lines)
    run.checkpoint = _read_checkpoint(run, weights, with_model)
    run.cfg = _read_config(run)
    return run


def _read_config(run: RunFolder) -> Optional[CfgNode]:
    """Return the config in the folder or, if it holds none, the one that the checkpoint carries."""
    path = run.folder / CONFIG
    try:
        if path.is_file():
            return _config(path.read_text(encoding="utf-8"), CONFIG)
        if run.checkpoint is not None and "config" in run.checkpoint.facts:
            return _config(run.checkpoint.facts["config"], run.checkpoint.path.name)
        run.missing.append(Missing("the config", f"{CONFIG} is not in the folder"))
    except Exception as error:  # of another version, or no YAML: the rest can still be shown
        run.missing.append(Missing("the config", f"{path.name} cannot be read: {one_line(error)}"))
    return None


def _config(text: str, source: str) -> CfgNode:
    cfg = get_cfg()
    add_vireid_config(cfg)
    merge_text(cfg, text, source)
    return cfg


def _read_json(run: RunFolder, name: str, what: str) -> Any:
    """Return the content of a file; None if it is absent or damaged. Damage is listed."""
    path = run.folder / name
    if not path.is_file():
        return None
    try:
        return read_json(path)
    except UserError as error:
        run.missing.append(Missing(what, one_line(error).replace(str(path), name)))
        return None


def _read_sessions(run: RunFolder) -> List[Dict[str, Any]]:
    """Return the recorded sessions or, without a record, one made from a comparison's result."""
    found = _read_json(run, RUN, "how the run was started")
    sessions = found.get("sessions") if isinstance(found, dict) else None
    if not isinstance(sessions, list):
        result = _read_json(run, COMPARED, "how the run was started")
        sessions = [{**result, "task": "train"}] if isinstance(result, dict) else []
    return [one for one in sessions if isinstance(one, dict)]


def _read_environment(run: RunFolder) -> Dict[str, str]:
    """Return the environment of the last training, from the record or else from the log."""
    for session in sorted(run.sessions, key=lambda one: one.get("task") == "train")[-1:]:
        if isinstance(session.get("environment"), dict):
            return session["environment"]
    path = run.folder / LOG
    found = []
    if path.is_file():
        found = _ENVIRONMENT.findall(path.read_text(encoding="utf-8", errors="replace"))
    if not found:
        run.missing.append(Missing("versions and machine", f"neither {RUN} nor {LOG} names them"))
        return {}
    pairs = (part.partition(" ") for part in found[-1].split(", "))
    return {name: value for name, _, value in pairs}


def _read_metrics(run: RunFolder) -> List[Dict[str, Any]]:
    """Return what the readable lines of ``metrics.json`` hold, and count its iterations."""
    path = run.folder / METRICS
    if not path.is_file():
        return []
    lines, damaged = read_lines(path)
    run.damaged_lines = len(damaged)
    numbers = [one["iteration"] for one in lines if isinstance(one.get("iteration"), int)]
    run.iterations = max(numbers, default=-1) + 1
    return lines


def _read_results(run: RunFolder, lines: List[Dict[str, Any]]) -> Optional[Results]:
    """Return the results of the last evaluation.

    They come from the run's own record, or else from that of a comparison, or else from
    ``metrics.json``, which has the numbers alone.
    """
    for name in (RESULTS, COMPARED):
        found = _read_json(run, name, "how the results were made")
        if _is_record(found):
            return Results(
                metrics=found["metrics"],
                protocols=found["protocols"],
                weights=str(found.get("weights", "")),
                finished=str(found.get("finished", "")),
                source=name,
                notes=tuple(map(str, found.get("notes", ()))),
            )
    for values in reversed(lines):
        keys = [key[: -len("/Rank-1")] for key in values if key.endswith("/Rank-1")]
        if keys:
            names = (f"{key}/{metric}" for key in keys for metric in METRIC_NAMES)
            kept = [one for name in names for one in (name, f"{name}_std") if one in values]
            iteration = values.get("iteration")
            after = "" if iteration is None else f"after {iteration + 1} iterations"
            return Results(
                metrics={key: values[key] for key in kept},
                protocols=[{"key": key} for key in keys],
                weights=str(values.get("weights", after)),
                finished="",
                source=METRICS,
            )
    return None


def _is_record(found: Any) -> bool:
    """Return whether the content of a file is what a run of this package writes."""
    if not isinstance(found, dict) or not isinstance(found.get("metrics"), dict):
        return False
    lines = found.get("protocols")
    if not isinstance(lines, list) or not lines or not all(isinstance(one, dict) for one in lines):
        return False
    return all(name in one for one in lines for name in _PROTOCOL_FACTS)


def _read_checkpoint(run: RunFolder, weights: str, with_model: bool) -> Optional[Checkpoint]:
    """Return the checkpoint that ``weights`` names, or else the last one that is there."""
    named = run.folder / LAST
    if named.is_file():
        run.last_checkpoint = named.read_text(encoding="utf-8", errors="replace").strip()
    if not with_model:
        run.missing.append(Missing("pictures of the model", "--no-model was given"))
        return None
    if weights and not Path(weights).is_file():
        raise MissingFileError(f"--weights names {weights!r}, which is no file.")
    evaluated = run.results.weights if run.results else ""  # if this run trained nothing
    places = [run.folder / name for name in (run.last_checkpoint, FINAL) if name]
    path = next(filter(Path.is_file, [Path(weights), *places, Path(evaluated)]), None)
    if path is None:
        why = (
            f"its checkpoint {run.last_checkpoint} is no longer in the folder"
            if run.last_checkpoint
            else "the run has written no checkpoint"
        )
        run.missing.append(Missing("pictures of the model", why))
        return None
    try:
        state = read_checkpoint(str(path), entries=["model"])
        epochs = epochs_done(state, str(path)) if "epoch" in state else None
        return Checkpoint(path, epochs, facts_in(state, str(path)) or {})
    except UserError as error:  # no checkpoint, or damaged: the rest can still be shown
        why = f"{path.name} cannot be loaded: {one_line(error)}"
        run.missing.append(Missing("pictures of the model", why))
        return None
