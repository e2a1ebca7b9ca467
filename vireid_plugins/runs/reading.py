"""Read the folder of a run without building its model. Damaged files are listed, not raised."""

import os
import re
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, TypeVar

from fastreid.config import CfgNode, get_cfg

from ..config import add_vireid_config
from ..errors import MissingFileError, UserError, one_line
from ..evaluation.result import METRIC_NAMES
from ..merge import merge_text
from ..readers.checkpoint import read_checkpoint
from ..readers.json_file import read_json
from ..readers.shape import is_number
from ..readers.text import read_bytes, read_text
from .earlier import unfinished_move
from .facts import epochs_done, facts_in
from .folder import Checkpoint, Missing, Results, RunFolder
from .last import last_checkpoint_name
from .metrics_log import read_lines
from .names import COMPARED, CONFIG, FINAL, LAST, LOG, METRICS, RESULTS, RUN
from .records import check_session, read_results, read_sessions

Found = TypeVar("Found")

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
            f"{folder} is not a folder. Give the folder of a run: its OUTPUT_DIR, which holds "
            f"{CONFIG}, {METRICS} and {LOG}."
        )
    known = (CONFIG, METRICS, LOG, RUN, RESULTS, COMPARED, FINAL, LAST)
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"{folder} cannot be read: its permissions do not allow it.")
    if not any(os.path.isfile(folder / name) for name in known):
        raise UserError(
            f"{folder} holds nothing of a run; expected one of {', '.join(known)}. Give the "
            "OUTPUT_DIR of a training."
        )
    run = RunFolder(folder)
    moving = unfinished_move(folder)
    if moving is not None:
        why = f"the move of an earlier run was interrupted; the files are in {moving.name}"
        run.missing.append(Missing("other files of this run", why))
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
            return _config(read_text(path), CONFIG)
        if run.checkpoint is not None and "config" in run.checkpoint.facts:
            return _config(run.checkpoint.facts["config"], run.checkpoint.path.name)
        run.missing.append(Missing("the config", f"{CONFIG} is not in the folder"))
    except UserError as error:  # of another version, or no YAML: the rest can still be shown
        run.missing.append(Missing("the config", f"{path.name} cannot be read: {one_line(error)}"))
    return None


def _config(text: str, source: str) -> CfgNode:
    cfg = get_cfg()
    add_vireid_config(cfg)
    merge_text(cfg, text, source)
    return cfg


def _attempt(run: RunFolder, what: str, action: Callable[[], Found]) -> Optional[Found]:
    """Return what ``action`` returns. If a file is damaged, list why and return None."""
    try:
        return action()
    except UserError as error:
        run.missing.append(Missing(what, one_line(error).replace(f"{run.folder}{os.sep}", "")))
        return None


def _read_sessions(run: RunFolder) -> List[Dict[str, Any]]:
    """Return the recorded sessions or, without a record, one made from a comparison's result."""
    what, path = "how the run was started", run.folder / RUN
    sessions = _attempt(run, what, lambda: read_sessions(path)) if path.is_file() else None
    if sessions is not None:
        return sessions
    path = run.folder / COMPARED
    found = _attempt(run, what, lambda: _compared_session(path)) if path.is_file() else None
    return [] if found is None else [found]


def _compared_session(path: Path) -> Dict[str, Any]:
    session = {**read_json(path), "task": "train"}
    check_session(session, str(path))
    return session


def _read_environment(run: RunFolder) -> Dict[str, str]:
    """Return the environment of the last training, from the record or else from the log."""
    for session in sorted(run.sessions, key=lambda one: one.get("task") == "train")[-1:]:
        if "environment" in session:
            return session["environment"]
    found = _ENVIRONMENT.findall(_log_text(run.folder / LOG))
    if not found:
        run.missing.append(Missing("versions and machine", f"neither {RUN} nor {LOG} names them"))
        return {}
    pairs = (part.partition(" ") for part in found[-1].split(", "))
    return {name: value for name, _, value in pairs}


def _log_text(path: Path) -> str:
    """Return the text of a log, in which lines of other programs may stand; empty if unreadable."""
    try:
        return read_bytes(path).decode("utf-8", "replace")
    except UserError:
        return ""


def _read_metrics(run: RunFolder) -> List[Dict[str, Any]]:
    """Return what the readable lines of ``metrics.json`` hold, and count its iterations."""
    path = run.folder / METRICS
    found = _attempt(run, "the measurements", lambda: read_lines(path)) if path.is_file() else None
    if found is None:
        return []
    lines, damaged = found
    run.damaged_lines = len(damaged)
    run.iterations = max((one["iteration"] for one in lines if "iteration" in one), default=-1) + 1
    return lines


def _read_results(run: RunFolder, lines: List[Dict[str, Any]]) -> Optional[Results]:
    """Return the results of the last evaluation.

    They come from the run's own record, or else from that of a comparison, or else from
    ``metrics.json``, which has the numbers alone.
    """
    for name in (RESULTS, COMPARED):
        path = run.folder / name
        if path.is_file():
            found = _attempt(run, "how the results were made", partial(read_results, path))
            if found is not None:
                return found
    own = [one for one in lines if "iteration" in one]  # the others are of evaluations alone
    for values in reversed(own if run.trained else lines):
        results = _results_in(values)
        if results is not None:
            return results
    return None


def _results_in(values: Dict[str, Any]) -> Optional[Results]:
    """Return the results in a line of ``metrics.json``; None if it holds none."""
    keys = [key[: -len("/Rank-1")] for key in values if key.endswith("/Rank-1")]
    names = (f"{key}/{metric}" for key in keys for metric in METRIC_NAMES)
    kept = [one for name in names for one in (name, f"{name}_std") if one in values]
    if not keys or not all(is_number(values[key]) for key in kept):
        return None
    iteration = values.get("iteration")
    after = "" if iteration is None else f"after {iteration + 1} iterations"
    return Results(
        metrics={key: values[key] for key in kept},
        protocols=[{"key": key} for key in keys],
        weights=str(values.get("weights", after)),
        finished="",
        source=METRICS,
    )


def _read_checkpoint(run: RunFolder, weights: str, with_model: bool) -> Optional[Checkpoint]:
    """Return the checkpoint that ``weights`` names, or else the last one that is there."""
    name = _attempt(run, "the last checkpoint", lambda: last_checkpoint_name(run.folder))
    run.last_checkpoint = name or ""
    if not with_model:
        run.missing.append(Missing("pictures of the model", "--no-model was given"))
        return None
    if weights and not os.path.isfile(weights):
        raise MissingFileError(f"--weights names {weights!r}, which is not a file.")
    places = [str(run.folder / name) for name in (run.last_checkpoint, FINAL) if name]
    if not run.trained and run.results is not None:  # the weights lie elsewhere
        places.append(run.results.weights)
    path = next(filter(os.path.isfile, [weights, *places]), None)
    if path is None:
        why = (
            f"its checkpoint {run.last_checkpoint} is no longer in the folder"
            if run.last_checkpoint
            else "the run has written no checkpoint"
        )
        run.missing.append(Missing("pictures of the model", why))
        return None
    try:
        state = read_checkpoint(path, entries=["model"])
        epochs = epochs_done(state, path) if "epoch" in state else None
        return Checkpoint(Path(path), epochs, facts_in(state, path) or {})
    except UserError as error:  # no checkpoint, or damaged: the rest can still be shown
        why = f"{Path(path).name} cannot be loaded: {one_line(error)}"
        run.missing.append(Missing("pictures of the model", why))
        return None
