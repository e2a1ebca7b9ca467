"""Plan a comparison: name its configs, and find out how far each run has come."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Optional, Sequence

import yaml

from fastreid.config import CfgNode

from ..engine import VIReIDTrainer
from ..engine.setup import build_config
from ..errors import PlanError, is_foreseen, message_of
from ..evaluation import build_evaluator, build_protocols
from ..merge import flat_values
from ..readers.yaml_file import parse_yaml
from ..runs.names import COMPARED
from .config_files import shown_path, unique_names
from .kept import Kept, read_kept

DONE, RESUME, NEW = "done", "to resume", "to do"
# Keys that the comparison sets itself, and what to do instead.
_OWN_KEYS = {
    "SEED": "use --seeds",
    "OUTPUT_DIR": "use --output",
    "TEST.EVAL_PERIOD": "leave it out; the final model is evaluated, once",
}
_SHOWN = 6  # largest number of differing keys that a message names


@dataclass(frozen=True)
class Entry:
    """A row of the table: a config file."""

    name: str  # unique in the comparison; it is also the folder below the output
    path: Path
    cfg: CfgNode  # without seed and folder

    @property
    def shown_path(self) -> str:
        """Return the file as seen from the checkout or the working folder, never absolute."""
        return shown_path(self.path)

    @property
    def protocols(self) -> Dict[str, str]:
        """Return the conditions of each protocol line, by its key."""
        return {
            f"{name}/{protocol.key}": protocol.conditions
            for name in self.cfg.DATASETS.TESTS
            for protocol in build_protocols(self.cfg, name)
        }


@dataclass(frozen=True)
class PlannedRun:
    """One config with one seed."""

    entry: Entry
    seed: int
    folder: Path

    @property
    def title(self) -> str:
        """Return the name of the run for people."""
        return f"{self.entry.name} seed {self.seed}"

    @property
    def cfg(self) -> CfgNode:
        """Return the config that is run."""
        cfg = self.entry.cfg.clone()
        cfg.defrost()
        cfg.SEED, cfg.OUTPUT_DIR = self.seed, self.folder.as_posix()
        return cfg

    @property
    def state(self) -> str:
        """Return ``"done"``, ``"to resume"`` or ``"to do"``."""
        kept = self.kept()
        if kept.result is not None:
            return DONE
        return RESUME if kept.resumable else NEW

    def kept(self) -> Kept:
        """Read the content of the folder."""
        return read_kept(self.folder, self.seed)

    def result(self) -> Optional[Dict[str, Any]]:
        """Return what ``result.json`` holds; None if the run is not complete."""
        return self.kept().result

    def error(self) -> str:
        """Return why the last attempt failed; empty if it did not fail."""
        return str(self.kept().progress.get("error", ""))


def build_entries(paths: Sequence[Path], opts: Sequence[str], base_file: str = "") -> List[Entry]:
    """Read and check every config before any of them runs.

    Args:
        paths: config files.
        opts: ``KEY VALUE`` pairs for all of them.
        base_file: a file that replaces the file that each config inherits from; empty: none.

    Raises:
        PlanError: a file or a pair is wrong, a model cannot be built, or the tests differ.
    """
    for key in opts[0::2]:
        if key in _OWN_KEYS:
            raise PlanError(f"--set {key}: {_OWN_KEYS[key]}.")
    entries = []
    for name, path in zip(unique_names(paths), paths):
        try:
            entries.append(Entry(name, path, _checked_config(path, opts, base_file)))
        except Exception as error:
            if not is_foreseen(error):
                raise
            raise PlanError(f"{shown_path(path)}: {message_of(error)}") from error
    first = entries[0]
    for other in entries[1:]:
        if other.protocols != first.protocols:
            raise PlanError(
                "All configs of a table must be tested in the same way. "
                f"{first.shown_path} is tested by {_listed(first.protocols)}, and "
                f"{other.shown_path} by {_listed(other.protocols)}. Compare them separately, or "
                "give all of them the same test: --set DATASETS.TESTS ... TEST.PROTOCOL.* ..."
            )
    return entries


def _listed(protocols: Dict[str, str]) -> str:
    return ", ".join(f"{key} ({conditions})" for key, conditions in protocols.items())


def _checked_config(path: Path, opts: Sequence[str], base_file: str) -> CfgNode:
    """Return the config, after building its evaluation and, with two classes, its model."""
    cfg = build_config(str(path), opts, base_file)
    cfg.TEST.EVAL_PERIOD = 0  # the worker evaluates the final model
    if not cfg.DATASETS.TESTS:
        raise PlanError("DATASETS.TESTS is empty: there is nothing to compare.")
    for name in cfg.DATASETS.TESTS:
        build_evaluator(cfg, name, dataset=None)
    trial = cfg.clone()
    trial.defrost()
    trial.MODEL.DEVICE, trial.MODEL.BACKBONE.PRETRAIN = "cpu", False
    trial.MODEL.HEADS.NUM_CLASSES = trial.MODEL.HEADS.NUM_CLASSES or 2
    trial.freeze()
    VIReIDTrainer.build_model(trial)
    return cfg


def plan_runs(entries: Sequence[Entry], seeds: Sequence[int], output: Path) -> List[PlannedRun]:
    """Return the runs: all configs with the first seed, then all with the next.

    In this order, a comparison that is stopped early has already compared all configs.

    Raises:
        PlanError: a finished or unfinished run has other settings.
    """
    runs = [
        PlannedRun(entry, seed, output.joinpath(*PurePosixPath(entry.name).parts, f"seed{seed}"))
        for seed in seeds
        for entry in entries
    ]
    for run in runs:
        _check_settings(run)
    return runs


def _check_settings(run: PlannedRun) -> None:
    kept = run.kept()
    if kept.result is not None:
        stored = parse_yaml(kept.result["config"], f"{run.folder / COMPARED}: config")
    elif kept.resumable and kept.settings is not None:
        stored = kept.settings
    else:
        return
    keys = differing_settings(stored, yaml.safe_load(run.cfg.dump()))
    if keys:
        told = "; ".join(keys[:_SHOWN]) + ("; ..." if len(keys) > _SHOWN else "")
        raise PlanError(
            f"{run.title} was {'run' if kept.result else 'begun'} with other settings: {told}. "
            f"Give another --output, or move {run.folder} away to run it again."
        )


def differing_settings(stored: Dict[str, Any], wanted: Dict[str, Any]) -> List[str]:
    """Return ``KEY: was ..., is ...`` for every key whose value changed.

    ``OUTPUT_DIR`` does not count, and neither does a new key that has its default.
    """
    defaults = flat_values(yaml.safe_load(build_config("", ["MODEL.DEVICE", "cpu"]).dump()))
    old, new = flat_values(stored), flat_values(wanted)
    told = []
    for key in sorted(set(old) | set(new)):
        was = old.get(key, defaults.get(key, "absent"))
        now = new.get(key, "absent")
        if key != "OUTPUT_DIR" and was != now:
            told.append(f"{key}: was {was}, is {now}")
    return told
