"""Compute the learning rate from the iteration alone.

FastReID chains two schedulers, one of which waits for the other, so its milestones come too late.
Here milestones are epochs counted from 0, the warm-up is an additional factor, and a resumed run
needs only its iteration.
"""

import logging
import math
from bisect import bisect_right
from typing import Any, Callable, Dict, List

from torch.optim import Optimizer

from ..errors import UserError
from ..keys import Key, at_least, between, declare, each, exactly

logger = logging.getLogger(__name__)

SCHEDULES = ("MultiStepLR", "CosineAnnealingLR", "CosineLRScheduler")
WARMUP_METHODS = ("constant", "linear", "exp", "epoch")

declare(
    "SOLVER",
    Key("WARMUP_EPOCHS", -1, at_least(0) | exactly(-1), "epochs of warm-up; -1: use WARMUP_ITERS"),
    Key(
        "STEP_FACTORS", (), each(between(0, 1000)), "factors on BASE_LR from STEPS on; empty: GAMMA"
    ),
)


class EpochSchedule:
    """Set the rate of every parameter group: its decayed base rate times the warm-up factor.

    Args:
        optimizer: the base rate of each group is its ``initial_lr`` or, if absent, its ``lr``.
        decay: returns the rate, without warm-up, for a base rate and an epoch from 0.
        warmup: returns a factor in (0, 1] for an iteration from 0.
        iters_per_epoch: iterations in an epoch.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        decay: Callable[[float, int], float],
        warmup: Callable[[int], float],
        iters_per_epoch: int,
    ) -> None:
        self.optimizer = optimizer
        self.decay = decay
        self.warmup = warmup
        self.iters_per_epoch = iters_per_epoch
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.set(0)

    def rates(self, iteration: int) -> List[float]:
        """Return the rate of each parameter group during ``iteration`` (from 0)."""
        epoch, factor = iteration // self.iters_per_epoch, self.warmup(iteration)
        return [self.decay(g["initial_lr"], epoch) * factor for g in self.optimizer.param_groups]

    def set(self, iteration: int) -> None:
        """Set the optimizer's rates to those of ``iteration`` (from 0)."""
        self.iteration = iteration
        for group, rate in zip(self.optimizer.param_groups, self.rates(iteration)):
            group["lr"] = rate

    def state_dict(self) -> Dict[str, int]:
        """Return the iteration; everything else follows from the config."""
        return {"iteration": self.iteration}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Continue at a stored iteration; a checkpoint of FastReID's schedulers stores epochs."""
        if "iteration" in state:
            self.set(state["iteration"])
        else:
            self.set(int(state.get("last_epoch", 0)) * self.iters_per_epoch)


def build_lr_scheduler(
    cfg: Any, optimizer: Optimizer, iters_per_epoch: int
) -> Dict[str, EpochSchedule]:
    """Return the schedule of ``SOLVER.*`` under FastReID's name, ``{"lr_sched": schedule}``.

    Raises:
        UserError: ``SOLVER.SCHED`` or ``SOLVER.WARMUP_METHOD`` is unknown, an epoch has no
            iteration, or ``STEP_FACTORS`` do not fit ``STEPS``.
    """
    if iters_per_epoch < 1:
        raise UserError(
            f"An epoch has {iters_per_epoch} iterations: SOLVER.IMS_PER_BATCH "
            f"({cfg.SOLVER.IMS_PER_BATCH}) is larger than the training set."
        )
    solver = cfg.SOLVER
    warmup_iters = solver.WARMUP_ITERS
    if solver.get("WARMUP_EPOCHS", -1) >= 0:
        warmup_iters = solver.WARMUP_EPOCHS * iters_per_epoch
    schedule = EpochSchedule(
        optimizer,
        _build_decay(solver, math.ceil(warmup_iters / iters_per_epoch)),
        _build_warmup(solver, warmup_iters, iters_per_epoch),
        iters_per_epoch,
    )
    return {"lr_sched": schedule}


def _build_decay(solver: Any, warmup_epochs: int) -> Callable[[float, int], float]:
    if solver.SCHED == "MultiStepLR":
        steps = sorted(solver.STEPS)
        factors = [1.0, *_step_factors(solver)]
        return lambda base, epoch: base * factors[bisect_right(steps, epoch)]
    if solver.SCHED == "CosineAnnealingLR":
        start = max(warmup_epochs, solver.DELAY_EPOCHS)
        length, floor = max(solver.MAX_EPOCH - start, 1), solver.ETA_MIN_LR

        def cosine(base: float, epoch: int) -> float:
            progress = min(max(epoch - start, 0) / length, 1.0)
            return floor + (base - floor) * (1 + math.cos(math.pi * progress)) / 2

        return cosine
    if solver.SCHED == "CosineLRScheduler":
        return _timm_cosine(solver)
    raise UserError(
        f"SOLVER.SCHED is {solver.SCHED!r}; expected one of {', '.join(map(repr, SCHEDULES))}."
    )


def _timm_cosine(solver: Any) -> Callable[[float, int], float]:
    """Return the rates of timm's ``CosineLRScheduler`` whose epochs are counted from 1.

    So the public code of TransReID and PMT calls it. During the warm-up, each epoch t = 1, 2, ...
    has the rate r + t (base - r) / WARMUP_EPOCHS, with r = WARMUP_FACTOR * BASE_LR for all groups.
    The cosine runs from epoch 0 to MAX_EPOCH, whose rate is ETA_MIN_LR, also for all groups.

    Raises:
        UserError: a key asks for what this schedule does not have.
    """
    if solver.WARMUP_EPOCHS < 0 or solver.WARMUP_METHOD != "linear" or solver.DELAY_EPOCHS:
        raise UserError(
            "SOLVER.SCHED 'CosineLRScheduler' has a linear warm-up of whole epochs inside its "
            f"cosine; WARMUP_EPOCHS is {solver.WARMUP_EPOCHS}, WARMUP_METHOD "
            f"{solver.WARMUP_METHOD!r}, DELAY_EPOCHS {solver.DELAY_EPOCHS}. Set SOLVER."
            "WARMUP_EPOCHS to 0 or more, SOLVER.WARMUP_METHOD linear and SOLVER.DELAY_EPOCHS 0."
        )
    first, floor = solver.WARMUP_FACTOR * solver.BASE_LR, solver.ETA_MIN_LR
    warmup, length = solver.WARMUP_EPOCHS, solver.MAX_EPOCH

    def rate(base: float, epoch: int) -> float:
        time = epoch + 1
        if time < warmup:
            return first + time * (base - first) / warmup
        if time >= length:
            return floor
        return floor + (base - floor) * (1 + math.cos(math.pi * time / length)) / 2

    return rate


def _step_factors(solver: Any) -> List[float]:
    """Return the factor on the base rate after each of ``STEPS``."""
    factors = list(solver.get("STEP_FACTORS", ()))
    if not factors:
        return [solver.GAMMA**passed for passed in range(1, len(solver.STEPS) + 1)]
    if len(factors) != len(solver.STEPS) or min(factors) < 0:
        raise UserError(
            f"SOLVER.STEP_FACTORS is {factors} and SOLVER.STEPS is {list(solver.STEPS)}; expected "
            "a factor of 0 or more for each step, in the order of the epochs, or none at all "
            "(then SOLVER.GAMMA at each step)."
        )
    return factors


def _build_warmup(solver: Any, iters: int, iters_per_epoch: int) -> Callable[[int], float]:
    method, start = solver.WARMUP_METHOD, solver.WARMUP_FACTOR
    if method not in WARMUP_METHODS:
        raise UserError(f"SOLVER.WARMUP_METHOD is {method!r}; expected one of {WARMUP_METHODS}.")
    if solver.SCHED == "CosineLRScheduler":  # it has its own
        return lambda iteration: 1.0
    if start == 0 and iters > 0 and method in ("constant", "exp"):
        raise UserError(
            f"SOLVER.WARMUP_FACTOR is 0, so with WARMUP_METHOD {method!r} nothing trains during "
            "the warm-up; set it above 0, or WARMUP_METHOD 'linear'."
        )

    def factor(iteration: int) -> float:
        if iteration >= iters:
            return 1.0
        progress = iteration / iters
        if method == "constant":
            return start
        if method == "linear":
            return start + (1 - start) * progress
        if method == "exp":
            return start ** (1 - progress)
        return (iteration // iters_per_epoch + 1) * iters_per_epoch / iters

    return factor
