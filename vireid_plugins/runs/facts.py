"""Read the facts in a checkpoint: what it says about itself, with checked types."""

import operator
from typing import Any, Dict, Mapping, Optional

from ..errors import CheckpointError
from ..readers.shape import expect, field, found
from .names import FACTS

_REMEDY = "The file was changed, or damaged; use an intact copy of the checkpoint."
_MOST_CLASSES = 10_000_000


def facts_in(content: Mapping[str, Any], path: str) -> Optional[Dict[str, Any]]:
    """Return what a checkpoint says about itself; None if another program wrote it.

    Args:
        content: what the checkpoint holds.
        path: path of the checkpoint, for messages.

    Raises:
        CheckpointError: a fact that every checkpoint has is missing, or is no such number.
        FileContentError: a fact is of another type.
    """
    if FACTS not in content:
        return None
    where = f"{path}: {FACTS}"
    facts = dict(expect(content[FACTS], dict, where, _REMEDY))
    field(facts, "config", str, where, _REMEDY)
    field(facts, "num_classes", object, where, _REMEDY)
    for name, smallest in (("num_classes", 1), ("iters_per_epoch", 1), ("seed", 0)):
        if name in facts:
            facts[name] = _whole_number(facts[name], f"{where}: {name}", smallest)
    if facts["num_classes"] > _MOST_CLASSES:
        raise CheckpointError(
            f"{where}: num_classes is {facts['num_classes']}; expected at most {_MOST_CLASSES} "
            f"identities. {_REMEDY}"
        )
    for name in ("version", "fingerprint"):
        expect(facts.get(name, ""), str, f"{where}: {name}", _REMEDY)
    for name in ("train_datasets", "rendered"):
        for one in expect(facts.get(name, []), list, f"{where}: {name}", _REMEDY):
            expect(one, str, f"{where}: {name}", _REMEDY)
    return facts


def epochs_done(content: Mapping[str, Any], path: str) -> int:
    """Return how many epochs the weights of a checkpoint were trained for.

    It is 0 in a checkpoint of a run that was stopped in its first epoch.

    Raises:
        CheckpointError: the checkpoint does not say so by a number.
    """
    if "epoch" not in content:
        raise CheckpointError(
            f"{path} has no 'epoch': it is unknown how long its weights were trained. {_REMEDY}"
        )
    smallest = -1 if "resume" in content else 0
    return _whole_number(content["epoch"], f"{path}: epoch", smallest) + 1


def best_metric(content: Mapping[str, Any], path: str, default: float) -> float:
    """Return the best result of the run that wrote a checkpoint, in percent; or ``default``.

    Raises:
        CheckpointError: it is not a number.
    """
    value = content.get("best_metric", default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise CheckpointError(
            f"{path}: best_metric: expected a number, found {found(value)}. {_REMEDY}"
        )
    return float(value)


def _whole_number(value: Any, where: str, smallest: int) -> int:
    """Return a number that may also be a tensor, as some programs store it."""
    try:
        number = operator.index(value)
    except (TypeError, ValueError):  # no whole number; a tensor of several
        number = smallest - 1
    if isinstance(value, bool) or number < smallest:
        raise CheckpointError(
            f"{where}: expected a whole number of at least {smallest}, found {found(value)}. "
            f"{_REMEDY}"
        )
    return number
