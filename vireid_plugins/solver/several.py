"""Several optimizers, each of its own parameters, that are kept, scheduled and resumed as one.

A method says which there are (``turns.py``); in which order they step is ``engine/turns.py``.
"""

import functools
from typing import Any, Callable, Dict, List, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..turns import OptimizerPart


class Optimizers:
    """Optimizers by name, with the attributes of one: its groups are those of all of them.

    A learning-rate schedule multiplies the rate of every group by the same factor, whatever the
    optimizer it belongs to.

    Args:
        parts: the optimizers by name; no parameter is in two of them.
    """

    def __init__(self, parts: Mapping[str, torch.optim.Optimizer]) -> None:
        self.parts = dict(parts)

    @property
    def param_groups(self) -> List[Dict[str, Any]]:
        """Return the groups of all optimizers, in the order of these."""
        return [group for part in self.parts.values() for group in part.param_groups]

    @property
    def state(self) -> Dict[Tensor, Any]:
        """Return what all optimizers keep of each parameter; to read, not to change."""
        return {key: value for part in self.parts.values() for key, value in part.state.items()}

    def state_dict(self) -> Dict[str, Any]:
        """Return the state of each optimizer, by its name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the states of :meth:`state_dict`."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """Let all optimizers step at once, for a loop that knows no turns."""
        for part in self.parts.values():
            part.step()


def optimizers_of(optimizer: Any) -> List[torch.optim.Optimizer]:
    """Return the optimizers of PyTorch that ``optimizer`` consists of: itself, or its parts."""
    return list(optimizer.parts.values()) if isinstance(optimizer, Optimizers) else [optimizer]


def is_optimizer(known: Any) -> bool:
    """Return whether this is an optimizer, or several of them."""
    return isinstance(known, (torch.optim.Optimizer, Optimizers))


def with_keys(cfg: Any, part: OptimizerPart) -> Any:
    """Return a copy of ``cfg`` with the values that a part gives to keys of ``SOLVER``."""
    cfg = cfg.clone()
    cfg.defrost()
    for key, value in part.solver.items():
        cfg.SOLVER[key] = value
    return cfg


def build_several(
    cfg: Any,
    model: nn.Module,
    build: Callable[..., torch.optim.Optimizer],
) -> Optimizers:
    """Return the optimizers that ``model.optimizer_parts`` declares.

    Args:
        cfg: the config.
        model: the model.
        build: builds one optimizer from a config, a model, the ids of its parameters, and further
            arguments of its class.

    Raises:
        UserError: a parameter belongs to two parts or to none, a part has no parameter, or two
            parts have one name.
    """
    declared: Any = model.optimizer_parts
    parts: Sequence[OptimizerPart] = declared
    owners = part_of_each_parameter(model, parts)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for part in parts:
        own = {key for key, name in names.items() if owners.get(name) == part.name}
        found[part.name] = build(with_keys(cfg, part), model, own, dict(part.options))
    return Optimizers(found)


def part_of_each_parameter(model: nn.Module, parts: Sequence[OptimizerPart]) -> Dict[str, str]:
    """Return the name of the optimizer of each parameter that trains, by the parameter's name.

    Raises:
        UserError: see :func:`build_several`.
    """
    labels = [part.name for part in parts]
    owner = type(model).__name__
    if len(set(labels)) < len(labels):
        raise UserError(f"{owner} declares two optimizers of one name: {', '.join(labels)}.")
    found: Dict[str, str] = {}
    for name in (name for name, one in model.named_parameters() if one.requires_grad):
        own = [part.name for part in parts if part.begins and name.startswith(part.begins)]
        own = own or [part.name for part in parts if not part.begins]
        if len(own) != 1:
            raise UserError(
                f"{owner} gives its parameter {name!r} to {' and '.join(own) or 'no optimizer'}; "
                "expected exactly one. Each name in optimizer_parts lists the beginnings of the "
                "names of its parameters; at most one of them lists none, and takes the rest."
            )
        found[name] = own[0]
    idle = [label for label in labels if label not in found.values()]
    if idle:
        raise UserError(
            f"The optimizer(s) {', '.join(idle)} of {owner} have no parameter that trains."
        )
    return found


def never_zero(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return ``optimizer``, which sets gradients to None from now on.

    With a gradient of zero a frozen parameter would still move by momentum and weight decay.
    """
    changed: Any = optimizer
    changed.zero_grad = functools.partial(optimizer.zero_grad, set_to_none=True)
    return optimizer
