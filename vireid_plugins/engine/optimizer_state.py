"""Check that the state of an optimizer in a checkpoint fits the optimizer that continues it."""

from typing import Any, Dict, List

from torch import Tensor

from ..errors import CheckpointError
from ..readers.shape import is_number
from ..readers.weights import check_finite
from ..solver import Optimizers

# settings of a group without which an optimizer of PyTorch makes no step
_SETTINGS = ("lr", "momentum", "dampening", "betas", "eps", "weight_decay")
START_ANEW = (
    "It belongs to another model or optimizer, or another program wrote it. To start from its "
    "weights, name it by MODEL.WEIGHTS, choose another OUTPUT_DIR, and leave --resume out."
)


def check_optimizer_state(held: Any, optimizer: Any, path: str) -> None:
    """Raise ``CheckpointError`` unless ``optimizer`` can continue from ``held``.

    PyTorch itself compares only the sizes of the groups; other differences stop the first step.

    Args:
        held: what the checkpoint holds as the optimizer's state.
        optimizer: the optimizer of this run, or its several.
        path: path of the checkpoint, for the message.
    """
    several = isinstance(optimizer, Optimizers)
    problem = _problem_of_several(held, optimizer) if several else _problem(held, optimizer)
    if problem:
        raise CheckpointError(f"{path} cannot be resumed: {problem}. {START_ANEW}")
    check_finite(held, f"{path}: optimizer")


def check_has_state(optimizer: Any, path: str) -> None:
    """Raise ``CheckpointError`` if an optimizer that needs a state (such as momentum) has none.

    Args:
        optimizer: the optimizer, with the state of a checkpoint after a step.
        path: path of the checkpoint, for the message.
    """
    keeps = any(group.get("momentum") or "betas" in group for group in optimizer.param_groups)
    if keeps and not optimizer.state:
        raise CheckpointError(
            f"{path} cannot be resumed: the state of its optimizer is empty. {START_ANEW}"
        )


def _problem_of_several(held: Any, optimizers: Optimizers) -> str:
    """Return what does not fit, as part of a sentence; empty if everything fits."""
    names = list(optimizers.parts)
    if not isinstance(held, dict) or set(held) != set(names):
        came = ", ".join(map(str, held)) if isinstance(held, dict) else type(held).__name__
        return f"it holds no states of the optimizers {', '.join(names)}, but of: {came}"
    problems = ((name, _problem(held[name], part)) for name, part in optimizers.parts.items())
    return next((f"{problem} (optimizer {name!r})" for name, problem in problems if problem), "")


def _problem(held: Any, optimizer: Any) -> str:
    """Return what does not fit, as part of a sentence; empty if everything fits."""
    if not isinstance(held, dict):
        return f"its optimizer state is of the type {type(held).__name__} instead of dict"
    groups, state = held.get("param_groups"), held.get("state")
    if not isinstance(groups, list) or not isinstance(state, dict):
        return "its optimizer state lacks 'param_groups' or 'state'"
    own = optimizer.state_dict()["param_groups"]
    if len(groups) != len(own):
        return f"its optimizer has {len(groups)} groups, and that of this run has {len(own)}"
    problems = (_problem_of_group(*one) for one in zip(range(len(own)), groups, own))
    return next(filter(None, problems), "") or _problem_of_state(groups, state, optimizer)


def _problem_of_group(place: int, group: Any, own: Dict[str, Any]) -> str:
    where = f"group {place} of its optimizer"
    if not isinstance(group, dict) or not isinstance(group.get("params"), list):
        return f"{where} lists no parameters"
    held, expected = len(group["params"]), len(own["params"])
    if held != expected:
        return f"{where} has {held} parameters instead of {expected}"
    for name in _SETTINGS:
        if name in own and not _are_numbers(group.get(name)):
            return f"{where} has no {name}, or it is not a number"
    return ""


def _are_numbers(value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return all(is_number(one) or isinstance(one, Tensor) and one.numel() == 1 for one in values)


def _problem_of_state(groups: List[Dict[str, Any]], state: Dict[Any, Any], optimizer: Any) -> str:
    numbers = [number for group in groups for number in group["params"]]
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    for number, parameter in zip(numbers, parameters):
        values = state.get(number, {}) if isinstance(number, int) else None
        if not isinstance(values, dict):
            return f"its optimizer's state of parameter {number!r} is not a dict"
        for name, value in values.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                return (
                    f"{name} of parameter {number} in its optimizer has the shape "
                    f"{list(value.shape)}, and the parameter has {list(parameter.shape)}"
                )
    return ""
