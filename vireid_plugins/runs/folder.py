"""What a run left in its folder, read without its model."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch

from fastreid.config import CfgNode, get_cfg

from ..config import add_vireid_config
from ..errors import message_of
from ..evaluation.result import METRIC_NAMES
from ..merge import merge_text
from ..safe_load import load_weights_only
from .metrics_log import parse_line
from .names import BEST, COMPARED, CONFIG, FACTS, FINAL, LAST, LOG, METRICS, RESULTS, RUN

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


class ReportError(ValueError):
    """No report can be made; the message says why and what to change."""


@dataclass(frozen=True)
class Missing:
    """Something that the page would show, and why it does not."""

    what: str
    why: str
    of_method: bool = False  # a picture that other methods have


@dataclass(frozen=True)
class Results:
    """The numbers of one evaluation, in percent, and how they were made."""

    metrics: Dict[str, float]  # <dataset>/<mode or direction>/<single|multi>/<metric>
    protocols: List[Dict[str, Any]]  # lines in order; where only ``key`` is there: not recorded
    weights: str  # what was evaluated
    finished: str  # date and time; empty: not recorded
    source: str  # the file, or "this report"
    notes: Tuple[str, ...] = ()

    @property
    def explained(self) -> bool:
        """Whether it is recorded how each number was made."""
        return all("direction" in line for line in self.protocols)


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights, and what it says about itself."""

    path: Path
    epochs: Optional[int]  # done; None: it does not say
    facts: Dict[str, Any]

    @property
    def words(self) -> str:
        """Which it is, and what to think of it."""
        number = self.epochs
        after = "" if number is None else f", after {number} epoch{'s' * (number != 1)}"
        chosen = "; it was chosen on the test set" if self.path.stem == BEST else ""
        return f"{self.path.name}{after}{chosen}"


@dataclass
class Run:
    """A folder of a run."""

    folder: Path
    cfg: Optional[CfgNode] = None
    sessions: List[Dict[str, Any]] = field(default_factory=list)
    environment: Dict[str, str] = field(default_factory=dict)
    results: Optional[Results] = None
    checkpoint: Optional[Checkpoint] = None
    last_checkpoint: str = ""  # name in the file of that name
    iterations: int = 0  # seen by metrics.json
    damaged_lines: int = 0  # of metrics.json
    missing: List[Missing] = field(default_factory=list)

    @property
    def epochs(self) -> Optional[int]:
        """Done when the run's last checkpoint was written; None: not known."""
        own = self.folder / (self.last_checkpoint or FINAL)
        return self.checkpoint.epochs if self.checkpoint and self.checkpoint.path == own else None

    @property
    def finished(self) -> bool:
        """Whether the training came to its end."""
        if self.last_checkpoint and self.last_checkpoint != FINAL:
            return False
        if self.cfg is None or self.epochs is None:
            return self.last_checkpoint == FINAL or (self.folder / COMPARED).is_file()
        return self.epochs >= self.cfg.SOLVER.MAX_EPOCH

    @property
    def trained(self) -> bool:
        """Whether this folder is of a training, and not of evaluations alone."""
        tasks = {session.get("task") for session in self.sessions}
        return tasks != {"evaluate"}

    @property
    def seed(self) -> Optional[int]:
        """The one used; None: not recorded."""
        if self.checkpoint and "seed" in self.checkpoint.facts:
            return int(self.checkpoint.facts["seed"])
        return int(self.cfg.SEED) if self.cfg is not None and self.cfg.SEED >= 0 else None


def read_run(folder: Path, weights: str = "", with_model: bool = True) -> Run:
    """Read what is in ``folder``; what is absent or damaged is listed, not raised.

    Args:
        folder: a run's ``OUTPUT_DIR``.
        weights: a checkpoint; empty: the last one of the run.
        with_model: whether the checkpoint is read.

    Raises:
        ReportError: there is no such folder, nothing of a run is in it, or no such checkpoint.
    """
    if not folder.is_dir():
        raise ReportError(
            f"{folder} is no folder. Give the folder of a run: its OUTPUT_DIR, which holds "
            f"{CONFIG}, {METRICS} and {LOG}."
        )
    known = (CONFIG, METRICS, LOG, RUN, RESULTS, COMPARED, FINAL, LAST)
    if not any((folder / name).is_file() for name in known):
        raise ReportError(
            f"{folder} holds nothing of a run; expected one of {', '.join(known)}. Give the "
            "OUTPUT_DIR of a training."
        )
    run = Run(folder)
    run.sessions = _read_sessions(run)
    run.environment = _read_environment(run)
    lines = _read_metrics(run)
    run.results = _read_results(run, lines)
    run.checkpoint = _read_checkpoint(run, weights, with_model)
    run.cfg = _read_config(run)
    return run


def _read_config(run: Run) -> Optional[CfgNode]:
    """Of the run; of weights that were only evaluated here, the one that they carry."""
    path = run.folder / CONFIG
    try:
        if path.is_file():
            return _config(path.read_text(encoding="utf-8"), CONFIG)
        if run.checkpoint is not None and "config" in run.checkpoint.facts:
            return _config(run.checkpoint.facts["config"], run.checkpoint.path.name)
        run.missing.append(Missing("the config", f"{CONFIG} is not in the folder"))
    except Exception as error:  # of another version, or no YAML: all else can still be shown
        run.missing.append(Missing("the config", f"{path.name} cannot be read: {one_line(error)}"))
    return None


def _config(text: str, source: str) -> CfgNode:
    cfg = get_cfg()
    add_vireid_config(cfg)
    merge_text(cfg, text, source)
    return cfg


def one_line(error: BaseException) -> str:
    """The message of ``error`` on one line; of a long one the beginning and the end."""
    line = " ".join(message_of(error).split()) or type(error).__name__
    return line if len(line) <= 500 else f"{line[:150]} ... {line[-300:]}"


def _read_json(run: Run, name: str, what: str) -> Any:
    """The content of a file; None where it is absent, or damaged, which is listed."""
    path = run.folder / name
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        run.missing.append(Missing(what, f"{name} is no JSON: {one_line(error)}"))
        return None


def _read_sessions(run: Run) -> List[Dict[str, Any]]:
    """As the run recorded them; of one of a comparison that did not, what its result says."""
    found = _read_json(run, RUN, "how the run was started")
    sessions = found.get("sessions") if isinstance(found, dict) else None
    if not isinstance(sessions, list):
        result = _read_json(run, COMPARED, "how the run was started")
        sessions = [{**result, "task": "train"}] if isinstance(result, dict) else []
    return [one for one in sessions if isinstance(one, dict)]


def _read_environment(run: Run) -> Dict[str, str]:
    """Of the last training session; of a run that recorded none, as its log says."""
    for session in sorted(run.sessions, key=lambda one: one.get("task") == "train")[-1:]:
        if isinstance(session.get("environment"), dict):
            return session["environment"]
    path = run.folder / LOG
    found = []
    if path.is_file():
        found = _ENVIRONMENT.findall(path.read_text(encoding="utf-8", errors="replace"))
    if not found:
        run.missing.append(
            Missing("versions and machine", f"neither {RUN} nor {LOG} says on what it ran")
        )
        return {}
    pairs = (part.partition(" ") for part in found[-1].split(", "))
    return {name: value for name, _, value in pairs}


def _read_metrics(run: Run) -> List[Dict[str, Any]]:
    """Lines of ``metrics.json``; of a run that was cut off, all that are whole."""
    path = run.folder / METRICS
    if not path.is_file():
        return []
    lines = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in filter(None, (one.strip("\x00\r\n ") for one in file)):
            values = parse_line(line)
            run.damaged_lines += values is None
            lines += [] if values is None else [values]
    numbers = [one["iteration"] for one in lines if isinstance(one.get("iteration"), int)]
    run.iterations = max(numbers, default=-1) + 1
    return lines


def _read_results(run: Run, lines: List[Dict[str, Any]]) -> Optional[Results]:
    """Of the last evaluation: its record, else that of a comparison, else the numbers alone."""
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
    """Whether a file of that name is what a run of this package writes."""
    if not isinstance(found, dict) or not isinstance(found.get("metrics"), dict):
        return False
    lines = found.get("protocols")
    whole = isinstance(lines, list) and all(isinstance(one, dict) for one in lines)
    return whole and bool(lines) and all(name in one for one in lines for name in _PROTOCOL_FACTS)


def _read_checkpoint(run: Run, weights: str, with_model: bool) -> Optional[Checkpoint]:
    """The one that is named, else the last one that is there."""
    named = run.folder / LAST
    if named.is_file():
        run.last_checkpoint = named.read_text(encoding="utf-8", errors="replace").strip()
    if not with_model:
        run.missing.append(Missing("pictures of the model", "--no-model was given"))
        return None
    if weights and not Path(weights).is_file():
        raise ReportError(f"--weights names {weights!r}, which is no file.")
    evaluated = run.results.weights if run.results else ""  # of a run that trained nothing itself
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
        state = load_weights_only(str(path))
    except Exception as error:  # no checkpoint, or cut off: all else can still be shown
        why = f"{path.name} cannot be loaded: {one_line(error)}"
        run.missing.append(Missing("pictures of the model", why))
        return None
    state = state if isinstance(state, dict) else {}
    epoch = state.get("epoch")
    epoch = int(epoch) if isinstance(epoch, (int, torch.Tensor)) else None
    return Checkpoint(path, None if epoch is None else epoch + 1, state.get(FACTS) or {})
