"""Read and check the configs of a comparison before any of them runs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from fastreid.config import CfgNode

from ..data.datasets.trials import SeparateTrials, separate_trials
from ..engine import VIReIDTrainer
from ..engine.encoder import check_encoder, encoder_path
from ..engine.other_values import check_pixel_scale
from ..engine.setup import build_config
from ..errors import PlanError, is_foreseen, message_of
from ..evaluation import build_evaluator, build_protocols
from .config_files import shown_path, unique_names

# Keys that the comparison sets itself, and what to do instead.
_OWN_KEYS = {
    "SEED": "use --seeds",
    "OUTPUT_DIR": "use --output",
    "TEST.EVAL_PERIOD": "leave it out; the final model is evaluated, once",
}


@dataclass(frozen=True)
class Entry:
    """A row of the table: a config file."""

    name: str  # unique in the comparison
    path: Path
    cfg: CfgNode  # without seed and folder
    folder: str = ""  # below the output; empty: its name
    add_to_seed: int = 0  # SEED of its run of seed s is s plus this

    @property
    def run_folder(self) -> str:
        """Return the folder of its runs, below the output."""
        return self.folder or self.name

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


def build_entries(paths: Sequence[Path], opts: Sequence[str], base_file: str = "") -> List[Entry]:
    """Read and check every config before any of them runs.

    Args:
        paths: config files.
        opts: ``KEY VALUE`` pairs for all of them.
        base_file: a file that replaces the file that each config inherits from; empty: none.

    Raises:
        PlanError: a file or a pair is wrong, a model cannot be built, or the tests differ.
    """
    check_own_keys(opts[0::2], "--set")
    entries = [
        build_entry(name, path, opts, base_file) for name, path in zip(unique_names(paths), paths)
    ]
    check_same_tests(entries)
    return entries


def check_own_keys(keys: Sequence[str], where: str) -> None:
    """Raise ``PlanError`` if one of ``keys`` is set by the comparison itself."""
    for key in keys:
        if key in _OWN_KEYS:
            raise PlanError(f"{where} {key}: {_OWN_KEYS[key]}.")


def build_entry(
    name: str,
    path: Path,
    opts: Sequence[Any],
    base_file: str = "",
    folder: str = "",
    add_to_seed: int = 0,
) -> Entry:
    """Read and check one config.

    Raises:
        PlanError: a file or a pair is wrong, or a model cannot be built.
    """
    try:
        cfg = _checked_config(path, opts, base_file)
        return Entry(name, path, cfg, folder, add_to_seed)
    except Exception as error:
        if not is_foreseen(error):
            raise
        raise PlanError(f"{shown_path(path)}: {message_of(error)}") from error


def check_same_tests(entries: Sequence[Entry]) -> None:
    """Raise ``PlanError`` if the configs of one table are tested differently."""
    first = entries[0]
    for other in entries[1:]:
        if other.protocols != first.protocols:
            raise PlanError(
                "All configs of a table must be tested in the same way. "
                f"{first.shown_path} is tested by {_difference(first, other)}, and "
                f"{other.shown_path} by {_difference(other, first)}. Compare them separately, or "
                "give all of them the same test: --set DATASETS.TESTS ... TEST.PROTOCOL.* ..."
            )


def _difference(own: Entry, other: Entry) -> str:
    """Return the first protocol line that ``other`` does not have, and how many more there are."""
    lines = list(own.protocols.items())
    lines = [line for line in lines if line not in other.protocols.items()] or lines
    more = f" and {len(lines) - 1} more" if lines[1:] else ""
    return "{} ({})".format(*lines[0]) + more


def _checked_config(path: Path, opts: Sequence[Any], base_file: str) -> CfgNode:
    """Return the config, after building its evaluation and, with two classes, its model."""
    cfg = build_config(str(path), opts, base_file)
    cfg.TEST.EVAL_PERIOD = 0  # the worker evaluates the final model
    check_pixel_scale(cfg)
    if not encoder_path(cfg):  # one that is named may come from a run that is still to do
        check_encoder(cfg)
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
