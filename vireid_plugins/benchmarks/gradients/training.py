"""Train as ``vireid train`` does, and look at the loss terms at chosen moments."""

import contextlib
import logging
import math
import tempfile
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from tqdm import tqdm

from fastreid.utils.events import EventStorage

from ...engine import VIReIDTrainer
from ...engine.early_checks import check_training
from ...engine.hooks import EvaluateAndSave, WriteEvents
from ...engine.setup import build_config
from ...engine.trial import try_model
from ...errors import NonFiniteError, UserError
from ...merge import check_pairs
from ...runs.log import close_log
from .measure import Moment, measure, trains_backbone, weights_of

# What the measurement needs, whatever the config says; KEY VALUE pairs of the user come after it.
_FIRST = ("SOLVER.AMP.ENABLED", "False", "RUNTIME.COMPILE", "False")
# What it leaves out: the training is watched, not kept.
_LAST = ("TEST.EVAL_PERIOD", "0", "SOLVER.CHECKPOINT_PERIOD", "0")


class Watched(NamedTuple):
    """A training that was watched."""

    moments: List[Moment]
    updates: int  # that were made
    whole: int  # that the whole training of the config has
    per_epoch: int
    seed: int
    phases: Dict[str, int]  # name of each phase of the whole training -> its first update, from 1
    weight_keys: Dict[str, str]  # term -> config key of its weight, as far as the model says it
    notes: List[str]


class WatchedTrainer(VIReIDTrainer):
    """The trainer without evaluation, checkpoints and files."""

    def build_hooks(self) -> List[Any]:
        """Return the hooks that change the weights."""
        left_out = (EvaluateAndSave, WriteEvents)
        return [hook for hook in super().build_hooks() if not isinstance(hook, left_out)]

    def start(self) -> None:
        """Load the weights that a new run begins with, and prepare the model for it."""
        self.load_start()

    def train_for(self, updates: int, advance: Callable[[], Any] = lambda: None) -> None:
        """Make the first ``updates`` of the training; ``advance`` is called after each of them."""
        with EventStorage(0) as self.storage:
            self.iter = self.start_iter = 0
            self.before_train()
            for epoch in range(-(-updates // self.iters_per_epoch)):
                self.epoch, self.steps_done = epoch, 0
                self.before_epoch()
                while self.steps_done < self.iters_per_epoch and self.iter < updates:
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    self.iter += 1
                    self.steps_done += 1
                    advance()
                self.after_epoch()
            self.after_train()


def watch(config: str, opts: Sequence[str], updates: Optional[int], moments: int) -> Watched:
    """Train what a config describes, and measure the terms at ``moments`` moments of each phase.

    Args:
        config: a path, or a file below ``configs/``.
        opts: KEY VALUE words.
        updates: how many updates to make; None: the whole training.
        moments: moments of each phase, spread evenly over its updates.

    Raises:
        UserError: a mistake in the config or the data, or a loss is not finite before the first
            moment is measured.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        check_pairs(opts, build_config("", ["MODEL.DEVICE", "cpu"]))  # before others join them
        cfg = build_config(config, [*_FIRST, *opts, *_LAST, "OUTPUT_DIR", folder])
        _check_precision(cfg)
        check_training(cfg, 1)
        try_model(cfg)
        trainer = WatchedTrainer(cfg)
        trainer.start()
        whole, steps = trainer.max_iter, trainer.iters_per_epoch
        count = whole if updates is None else min(updates, whole)
        chosen = choose_moments(phases_of(trainer, count), moments)
        found, troubles = _train(trainer, count, chosen)
        first: Dict[str, int] = {}
        for update, phase in enumerate(phases_of(trainer, whole), start=1):
            first.setdefault(phase, update)
        keys = dict(getattr(trainer.model, "weight_keys", {}))
        notes = [*_notes(cfg, updates, whole), *troubles]
        return Watched(found, trainer.iter, whole, steps, trainer.seed, first, keys, notes)


def _train(trainer: Any, count: int, chosen: Sequence[int]) -> Tuple[List[Moment], List[str]]:
    """Make ``count`` updates; return what was measured, and sentences on what went wrong."""
    found: List[Moment] = []
    notes = []
    bar = tqdm(total=count, desc="training", unit="update")
    with bar, _watching(trainer, chosen, found):
        try:
            trainer.train_for(count, bar.update)
        except NonFiniteError as error:
            if not any(map(_is_finite, found)):
                raise
            notes.append(f"The training stopped before update {trainer.iter + 1}: {error}")
    broken = [moment.update for moment in found if not _is_finite(moment)]
    lost = [str(update) for update in broken if update <= trainer.iter]
    if lost:
        notes.append(f"A gradient is infinite or NaN at update {', '.join(lost)}.")
    return list(filter(_is_finite, found)), notes


def phases_of(trainer: Any, updates: int) -> List[str]:
    """Return the phase of each of the first ``updates`` updates; a model without phases has one."""
    phase_of = getattr(trainer.model, "phase_of", lambda epoch: "train")
    epochs = [phase_of(epoch) for epoch in range(-(-updates // trainer.iters_per_epoch))]
    return [epochs[update // trainer.iters_per_epoch] for update in range(updates)]


def choose_moments(phases: Sequence[str], moments: int) -> List[int]:
    """Return ``moments`` updates (from 0) of each phase: its first, its last, and evenly between.

    Args:
        phases: the phase of each update.
        moments: 1 or more; a phase with fewer updates has all of them.
    """
    found = set()
    for phase in dict.fromkeys(phases):
        own = [update for update, name in enumerate(phases) if name == phase]
        last, gaps = len(own) - 1, max(1, moments - 1)
        found |= {own[round(place * last / gaps)] for place in range(moments)}
    return sorted(found)


@contextlib.contextmanager
def _watching(trainer: Any, chosen: Sequence[int], found: List[Moment]) -> Iterator[None]:
    """Append to ``found`` what is measured at the first batch of each update of ``chosen``."""
    left, weights = set(chosen), weights_of(trainer.model)

    def look(module: Any, inputs: Any, terms: Any) -> None:
        if not module.training:  # features, by which clusters are found
            return
        if not trains_backbone(weights):  # the turn of a discriminator
            return
        if trainer.iter in left:
            left.remove(trainer.iter)
            phase = getattr(module, "phase", "train")
            place = (trainer.iter + 1, trainer.epoch, phase)
            found.append(Moment(*place, *measure(terms, weights)))

    handle = trainer.model.register_forward_hook(look)
    try:
        yield
    finally:
        handle.remove()


def _is_finite(moment: Moment) -> bool:
    return math.isfinite(moment.objective)


def _check_precision(cfg: Any) -> None:
    if cfg.RUNTIME.COMPILE:
        raise UserError(
            "RUNTIME.COMPILE is True, and a compiled backbone computes only one gradient of a "
            "batch. Leave it out: only the speed changes."
        )
    if cfg.SOLVER.AMP.ENABLED and cfg.SOLVER.AMP.DTYPE == "float16":
        raise UserError(
            "SOLVER.AMP.ENABLED is True with float16, in which small gradients become zero. Leave "
            "it out to measure in float32, or set SOLVER.AMP.DTYPE bfloat16."
        )


def _notes(cfg: Any, updates: Optional[int], whole: int) -> List[str]:
    notes = []
    if updates is not None and updates > whole:
        notes.append(f"--updates is {updates}, but the whole training has {whole} updates.")
    if cfg.MODEL.FREEZE_LAYERS and cfg.SOLVER.FREEZE_ITERS > 0:
        notes.append(
            f"{', '.join(cfg.MODEL.FREEZE_LAYERS)} does not change in the first "
            f"{cfg.SOLVER.FREEZE_ITERS} updates (SOLVER.FREEZE_ITERS); its gradient is measured "
            "all the same."
        )
    return notes


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Show warnings of the training, and not what it does."""
    level, benchmark = logging.root.manager.disable, torch.backends.cudnn.benchmark
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(level)
        torch.backends.cudnn.benchmark = benchmark
        close_log()
