"""Plan the runs of a comparison, and find out how far each has come."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Optional, Sequence

from fastreid.config import CfgNode

from ..engine.encoder import ENCODER, has_encoder, take_encoder
from ..engine.setup import build_config, carried_config
from ..engine.start_paths import filled
from ..engine.start_split import WEIGHTS, check_start_splits, names_model
from ..engine.unread import unread_keys
from ..errors import PlanError, UserError
from ..keys import value_of
from ..merge import flat_values, plain_values
from ..removed_keys import REMOVED
from ..runs.names import COMPARED
from .entries import Entry
from .kept import Kept, parse_config, read_kept

GIVEN = "given"  # the entry of a worker's facts that holds ``PlannedRun.given``
DONE, RESUME, NEW = "done", "to resume", "to do"
# Keys that say where a run is made, and not what is run: keys and groups of keys.
_OF_THE_MACHINE = (
    "CUDNN_BENCHMARK",
    "DATALOADER.CACHE",
    "DATALOADER.NUM_WORKERS",
    "MODEL.DEVICE",
    "MODEL.NFORMER.ENCODER_TRAINED_ON",  # older results do not name what follows from ENCODER
    "OUTPUT_DIR",
    "RUNTIME",
)
_SHOWN = 6  # largest number of differing keys that a message names


@dataclass(frozen=True)
class DataPoint:
    """A folder of datasets, and the number that it has on the axis of a figure."""

    value: float
    folder: Path

    @property
    def name(self) -> str:
        """Return the folder of its runs below the output, such as ``at-0.25``."""
        return f"at-{self.value:g}"


@dataclass(frozen=True)
class PlannedRun:
    """One config with one seed and, if its dataset has trials that need a model each, one trial."""

    entry: Entry
    seed: int
    folder: Path
    trial: Optional[int] = None  # None: as the config has it
    point: Optional[DataPoint] = None  # None: the datasets are where FASTREID_DATASETS says

    @property
    def title(self) -> str:
        """Return the name of the run for people."""
        return f"{self.entry.name} {self.place}"

    @property
    def place(self) -> str:
        """Return which of the config's runs this is, such as ``trial 3 seed 0``."""
        point = "" if self.point is None else f"at {self.point.value:g} "
        return f"{point}{'' if self.trial is None else f'trial {self.trial} '}seed {self.seed}"

    @property
    def chosen_trial(self) -> Any:
        """Return the trial of the dataset that is run; None if it has none with own models."""
        trials = self.entry.trials
        if self.trial is not None or trials is None:
            return self.trial
        return value_of(self.entry.cfg, trials.key)

    @property
    def given(self) -> List[str]:
        """Return KEY and VALUE of the trial; none: the run has no trial of its own."""
        if self.trial is None or self.entry.trials is None:
            return []
        return [self.entry.trials.key, str(self.trial)]

    @property
    def cfg(self) -> CfgNode:
        """Return the config that is run."""
        cfg = self.entry.cfg.clone()
        cfg.defrost()
        cfg.SEED, cfg.OUTPUT_DIR = self.own_seed, self.folder.as_posix()
        cfg.merge_from_list(self.given)
        if has_encoder(cfg):  # it may be that of the seed or the trial, and have been trained since
            take_encoder(cfg, carried_config, self.given[0::2])
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
        return read_kept(self.folder, self.own_seed)

    @property
    def own_seed(self) -> int:
        """Return the value of ``SEED``."""
        return self.seed + self.entry.add_to_seed

    def starts(self) -> List[str]:
        """Return the paths of all checkpoints that the config names, absolute."""
        texts = flat_values(self.entry.cfg).values()
        named = [text for text in texts if isinstance(text, str) and text.endswith(".pth")]
        cfg = self.cfg if named else self.entry.cfg
        return [os.path.abspath(filled(cfg, text)) for text in named]

    def result(self) -> Optional[Dict[str, Any]]:
        """Return what ``result.json`` holds; None if the run is not complete."""
        return self.kept().result

    def error(self) -> str:
        """Return why the last attempt failed; empty if it did not fail."""
        return str(self.kept().progress.get("error", ""))


def plan_runs(
    entries: Sequence[Entry],
    seeds: Sequence[int],
    output: Path,
    trials: Optional[Sequence[int]] = None,
    also: Sequence[Path] = (),
    points: Sequence[DataPoint] = (),
) -> List[PlannedRun]:
    """Return the runs: all configs with the first seed, then all with the next.

    In this order, a comparison that is stopped early has already compared all configs. With
    trials, all configs are run on the first trial, then on the next, before the next seed begins;
    with several folders of datasets likewise.

    Args:
        entries: the configs.
        seeds: values of ``SEED``.
        output: folder of the runs.
        trials: numbers of the trials of the dataset, a run of its own for each; None: one run,
            with the trial that the config names.
        also: folders of runs that were made elsewhere; a run that is complete there, and not in
            ``output``, is taken from there.
        points: folders of datasets, all configs on each; empty: the one of the environment.

    Raises:
        PlanError: a finished or unfinished run has other settings.
    """
    numbers: List[Optional[int]] = list(trials or []) or [None]
    spots: List[Optional[DataPoint]] = list(points) or [None]
    runs = [
        _first_complete(entry, seed, number, point, [output, *also])
        for seed in seeds
        for point in spots
        for number in numbers
        for entry in entries
    ]
    for run in runs:
        _check_settings(run)
        if names_model(run.entry.cfg) and run.state != DONE:
            _check_beginning(run)
    return runs


def _first_complete(
    entry: Entry,
    seed: int,
    trial: Optional[int],
    point: Optional[DataPoint],
    folders: Sequence[Path],
) -> PlannedRun:
    """Return a run in the first of the folders where it is complete, or else in the first."""
    found = [
        PlannedRun(entry, seed, run_folder(folder, entry, seed, trial, point), trial, point)
        for folder in folders
    ]
    return next((run for run in found if run.state == DONE), found[0])


def check_also(given: Sequence[Path], folders: Sequence[Path], runs: Sequence[PlannedRun]) -> None:
    """Raise ``PlanError`` if one of ``folders`` holds none of the runs: it may be mistyped.

    Args:
        given: what the user named.
        folders: where its runs are.
        runs: of this comparison.
    """
    for path, folder in zip(given, folders):
        parts = [
            run_folder(folder, run.entry, run.seed, run.trial, run.point) / COMPARED for run in runs
        ]
        if not any(part.is_file() for part in parts):
            raise PlanError(
                f"--also {path}: no complete run of this comparison is there, such as "
                f"{parts[0].relative_to(folder)}. Name the folder that was the other machine's "
                "--output, or its runs.json."
            )


def run_folder(
    output: Path,
    entry: Entry,
    seed: int,
    trial: Optional[int] = None,
    point: Optional[DataPoint] = None,
) -> Path:
    """Return the folder of a run: ``agw/seed0``, ``agw/trial3/seed0`` or ``at-0.25/agw/seed0``."""
    before = [] if point is None else [point.name]
    after = [] if trial is None else [f"trial{trial}"]
    own = PurePosixPath(entry.run_folder).parts
    return output.joinpath(*before, *own, *after, f"seed{seed}")


def _check_settings(run: PlannedRun) -> None:
    kept = run.kept()
    if kept.result is not None:
        stored = parse_config(kept.result["config"], f"{COMPARED}: config")
    elif kept.resumable and kept.settings is not None:
        stored = kept.settings
    else:
        return
    keys = differing_settings(stored, plain_values(run.cfg))
    if keys:
        told = "; ".join(keys[:_SHOWN]) + ("; ..." if len(keys) > _SHOWN else "")
        raise PlanError(
            f"{run.title} was {'run' if kept.result else 'begun'} with other settings: {told}. "
            f"Give another --output, or move {run.folder} away to run it again."
        )


def _check_beginning(run: PlannedRun) -> None:
    """Raise ``PlanError`` if a model that a run begins with exists and cannot be taken."""
    try:
        cfg = run.cfg
        cfg.freeze()
        if run.state == NEW:
            check_start_splits(cfg)
    except UserError as error:
        key = ENCODER if has_encoder(run.entry.cfg) else WEIGHTS if WEIGHTS in str(error) else ""
        hint = f" {{trial}} in the path of {key} stands for the trial of the run."
        hint = hint if key and run.given else ""
        raise PlanError(f"{run.title}: {error}{hint}") from error


def of_machine(key: str) -> bool:
    """Return whether a key says where a run is made, and not what is run."""
    return any(key == one or key.startswith(f"{one}.") for one in _OF_THE_MACHINE)


@lru_cache(maxsize=1)
def _defaults() -> Dict[str, Any]:
    """Return the value of every key that no file sets."""
    return flat_values(plain_values(build_config("", ["MODEL.DEVICE", "cpu"])))


def differing_settings(stored: Dict[str, Any], wanted: Dict[str, Any]) -> List[str]:
    """Return ``KEY: was ..., is ...`` for every key whose value changed.

    Keys of the machine, such as ``OUTPUT_DIR`` and ``MODEL.DEVICE``, do not count, and neither
    do keys of other methods and losses than those of the run, a new key that has its default, or a
    removed one that had it.
    """
    defaults = _defaults()
    old, new = flat_values(stored), flat_values(wanted)
    told = []
    for key in sorted((set(old) | set(new)) - unread_keys(old, new)):
        was = old.get(key, defaults.get(key, "absent"))
        now = new.get(key, REMOVED[key].value if key in REMOVED else "absent")
        if not of_machine(key) and was != now:
            told.append(f"{key}: was {was}, is {now}")
    return told
