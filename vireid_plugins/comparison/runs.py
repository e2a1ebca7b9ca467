"""Plan a comparison: name its configs, and find out how far each run has come."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Optional, Sequence

import yaml

from fastreid.config import CfgNode

from ..data.datasets.trials import SeparateTrials, separate_trials
from ..engine import VIReIDTrainer
from ..engine.other_values import check_pixel_scale
from ..engine.setup import build_config
from ..errors import PlanError, is_foreseen, message_of
from ..evaluation import build_evaluator, build_protocols
from ..keys import value_of
from ..merge import flat_values
from ..runs.names import COMPARED
from .config_files import shown_path, unique_names
from .kept import Kept, parse_config, read_kept

DONE, RESUME, NEW = "done", "to resume", "to do"
# Keys that the comparison sets itself, and what to do instead.
_OWN_KEYS = {
    "SEED": "use --seeds",
    "OUTPUT_DIR": "use --output",
    "TEST.EVAL_PERIOD": "leave it out; the final model is evaluated, once",
}
# Keys that say where a run is made, and not what is run: keys and groups of keys.
_OF_THE_MACHINE = (
    "CUDNN_BENCHMARK",
    "DATALOADER.CACHE",
    "DATALOADER.NUM_WORKERS",
    "MODEL.DEVICE",
    "OUTPUT_DIR",
    "RUNTIME",
)
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

    @cached_property
    def trials(self) -> Optional[SeparateTrials]:
        """Return the trials of its training set that need a model each; None if there are none."""
        return separate_trials(self.cfg)

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
    """One config with one seed and, if its dataset has trials that need a model each, one trial."""

    entry: Entry
    seed: int
    folder: Path
    trial: Optional[int] = None  # None: as the config has it

    @property
    def title(self) -> str:
        """Return the name of the run for people."""
        return f"{self.entry.name} {self.place}"

    @property
    def place(self) -> str:
        """Return which of the config's runs this is, such as ``trial 3 seed 0``."""
        return f"{'' if self.trial is None else f'trial {self.trial} '}seed {self.seed}"

    @property
    def chosen_trial(self) -> Any:
        """Return the trial of the dataset that is run; None if it has none with own models."""
        trials = self.entry.trials
        if self.trial is not None or trials is None:
            return self.trial
        return value_of(self.entry.cfg, trials.key)

    @property
    def cfg(self) -> CfgNode:
        """Return the config that is run."""
        cfg = self.entry.cfg.clone()
        cfg.defrost()
        cfg.SEED, cfg.OUTPUT_DIR = self.seed, self.folder.as_posix()
        if self.trial is not None and self.entry.trials is not None:
            cfg.merge_from_list([self.entry.trials.key, self.trial])
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
                f"{first.shown_path} is tested by {_difference(first, other)}, and "
                f"{other.shown_path} by {_difference(other, first)}. Compare them separately, or "
                "give all of them the same test: --set DATASETS.TESTS ... TEST.PROTOCOL.* ..."
            )
    return entries


def _difference(own: Entry, other: Entry) -> str:
    """Return the first protocol line that ``other`` does not have, and how many more there are."""
    lines = list(own.protocols.items())
    lines = [line for line in lines if line not in other.protocols.items()] or lines
    more = f" and {len(lines) - 1} more" if lines[1:] else ""
    return "{} ({})".format(*lines[0]) + more


def _checked_config(path: Path, opts: Sequence[str], base_file: str) -> CfgNode:
    """Return the config, after building its evaluation and, with two classes, its model."""
    cfg = build_config(str(path), opts, base_file)
    cfg.TEST.EVAL_PERIOD = 0  # the worker evaluates the final model
    check_pixel_scale(cfg)
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


def plan_runs(
    entries: Sequence[Entry],
    seeds: Sequence[int],
    output: Path,
    trials: Optional[Sequence[int]] = None,
    also: Sequence[Path] = (),
) -> List[PlannedRun]:
    """Return the runs: all configs with the first seed, then all with the next.

    In this order, a comparison that is stopped early has already compared all configs. With
    trials, all configs are run on the first trial, then on the next, before the next seed begins.

    Args:
        entries: the configs.
        seeds: values of ``SEED``.
        output: folder of the runs.
        trials: numbers of the trials of the dataset, a run of its own for each; None: one run,
            with the trial that the config names.
        also: folders of runs that were made elsewhere; a run that is complete there, and not in
            ``output``, is taken from there.

    Raises:
        PlanError: a finished or unfinished run has other settings, or a folder of ``also`` holds
            none of the runs.
    """
    numbers: List[Optional[int]] = list(trials or []) or [None]
    runs = [
        _first_complete(entry, seed, number, [output, *also])
        for seed in seeds
        for number in numbers
        for entry in entries
    ]
    for run in runs:
        _check_settings(run)
    for folder in also:
        _check_use(folder, runs)
    return runs


def _first_complete(
    entry: Entry, seed: int, trial: Optional[int], folders: Sequence[Path]
) -> PlannedRun:
    """Return a run in the first of the folders where it is complete, or else in the first."""
    found = [
        PlannedRun(entry, seed, run_folder(folder, entry.name, seed, trial), trial)
        for folder in folders
    ]
    return next((run for run in found if run.state == DONE), found[0])


def _check_use(folder: Path, runs: Sequence[PlannedRun]) -> None:
    """Raise ``PlanError`` if ``folder`` holds none of the runs: its name may be mistyped."""
    parts = [run_folder(folder, run.entry.name, run.seed, run.trial) / COMPARED for run in runs]
    if not any(part.is_file() for part in parts):
        raise PlanError(
            f"--also {folder}: no complete run of this comparison is there, such as {parts[0]}. "
            "Name the folder that was the other machine's --output."
        )


def run_folder(output: Path, name: str, seed: int, trial: Optional[int]) -> Path:
    """Return the folder of a run: ``agw/seed0``, or ``agw/trial3/seed0``."""
    parts = [] if trial is None else [f"trial{trial}"]
    return output.joinpath(*PurePosixPath(name).parts, *parts, f"seed{seed}")


def _check_settings(run: PlannedRun) -> None:
    kept = run.kept()
    if kept.result is not None:
        stored = parse_config(kept.result["config"], f"{COMPARED}: config")
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


@lru_cache(maxsize=1)
def _defaults() -> Dict[str, Any]:
    """Return the value of every key that no file sets."""
    return flat_values(yaml.safe_load(build_config("", ["MODEL.DEVICE", "cpu"]).dump()))


def differing_settings(stored: Dict[str, Any], wanted: Dict[str, Any]) -> List[str]:
    """Return ``KEY: was ..., is ...`` for every key whose value changed.

    Keys of the machine, such as ``OUTPUT_DIR`` and ``MODEL.DEVICE``, do not count, and neither
    does a new key that has its default.
    """
    defaults = _defaults()
    old, new = flat_values(stored), flat_values(wanted)
    told = []
    for key in sorted(set(old) | set(new)):
        was = old.get(key, defaults.get(key, "absent"))
        now = new.get(key, "absent")
        of_machine = any(key == one or key.startswith(f"{one}.") for one in _OF_THE_MACHINE)
        if not of_machine and was != now:
            told.append(f"{key}: was {was}, is {now}")
    return told
