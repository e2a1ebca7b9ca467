"""A training step of a method that has several optimizers, see ``vireid_plugins/turns.py``.

Everything else holds as in a step with one optimizer (``step.py``): mixed precision, accumulation,
gradient clipping (each optimizer clips its own gradients), frozen layers, several processes.
"""

import contextlib
from typing import Any, Iterator, List, Sequence, Set, Tuple

import torch
from torch import nn

from ..errors import UserError
from ..solver import Optimizers
from ..turns import Turn
from .loss_report import LossReport
from .parallel import unwrap
from .step import StepTrainer


class TurnTrainer(StepTrainer):
    """Compute steps in which optimizers take turns.

    In a turn, gradients reach the parameters of its optimizers and no others. All batches of an
    update are in memory at once, because each turn sees all of them. Every optimizer steps once in
    a turn that names it; float16's scale is updated once, at the end of the step.
    """

    optimizer: Any  # Optimizers

    def run_step(self) -> None:
        """Load batches, and let each turn compute losses and gradients and update its weights.

        Raises:
            NonFiniteError: as :meth:`StepTrainer.run_step`.
            UserError: the method's turns do not fit its optimizers.
        """
        self.is_inside_step = False  # until the first batch has been read
        loaded = [self._load() for _ in range(self._next_group())]
        turns = turns_of(unwrap(self.model), self.optimizer, self.iter)
        reports: List[LossReport] = []
        for place, turn in enumerate(turns):
            optimizers = [self.optimizer.parts[name] for name in turn.optimizers]
            with gradients_of(self.model, optimizers):
                reports += self._take_turn(turn, optimizers, loaded, is_first=place == 0)
            for parameter in self.frozen:
                parameter.grad = None
            for optimizer in optimizers:
                self._step(optimizer)
        if self.grad_scaler is not None:
            self.grad_scaler.update()
        self._report(reports)
        self.is_inside_step = False

    def _take_turn(
        self, turn: Turn, optimizers: Sequence[Any], loaded: Sequence[Any], is_first: bool
    ) -> List[LossReport]:
        """Accumulate the gradients of a turn's losses over all batches of the update."""
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        found = []
        for place, (batch, data_time) in enumerate(loaded):
            seconds = data_time if is_first else 0.0
            with self._synchronized(place == len(loaded) - 1):
                arguments = (len(loaded), batch, seconds, not is_first)
                found.append(self._add_gradients(*arguments, turn=turn))
        return found

    def _step(self, optimizer: Any) -> None:
        if self.grad_scaler is None:
            optimizer.step()
        elif any(
            one.grad is not None for group in optimizer.param_groups for one in group["params"]
        ):
            self.grad_scaler.step(optimizer)  # it refuses an optimizer without a gradient


def build_stepper(model: nn.Module, loader: Any, optimizer: Any, *options: Any) -> StepTrainer:
    """Return what computes the steps of a model with one optimizer, or with several.

    Args:
        model: the model, wrapped for several processes.
        loader: see ``StepTrainer``.
        optimizer: of ``solver.build_optimizer``.
        options: the other arguments of ``StepTrainer``.
    """
    kind = TurnTrainer if isinstance(optimizer, Optimizers) else StepTrainer
    return kind(model, loader, optimizer, *options)


def turns_of(model: Any, optimizers: Optimizers, iteration: int) -> Tuple[Turn, ...]:
    """Return the turns of a step.

    Raises:
        UserError: there is none, or one names no optimizer or an unknown one.
    """
    turns: Tuple[Turn, ...] = tuple(model.turns_at(iteration))
    known = list(optimizers.parts)
    for turn in turns:
        if not turn.optimizers or not set(turn.optimizers) <= set(known):
            raise UserError(
                f"A turn of {type(model).__name__} at iteration {iteration} names the optimizers "
                f"{list(turn.optimizers)}; expected some of {known}."
            )
    if not turns:
        raise UserError(f"{type(model).__name__} has no turn at iteration {iteration}.")
    return turns


@contextlib.contextmanager
def gradients_of(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> Iterator[None]:
    """Let gradients reach the parameters of ``optimizers`` and no others, inside the block."""
    own: Set[int] = {
        id(one) for opt in optimizers for group in opt.param_groups for one in group["params"]
    }
    others = [one for one in model.parameters() if one.requires_grad and id(one) not in own]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)
