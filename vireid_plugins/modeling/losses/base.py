"""What every loss of this package has in common.

Shapes: B rows in a batch, D feature size, N identities.
"""

import functools
import inspect
from typing import Any, Callable, ClassVar, Optional, Sequence, Tuple

from torch import Tensor, nn

from fastreid.config import CfgNode

from ...errors import UserError
from ...keys import check_values
from ...modality import check_modalities
from ..precision import at_least_float32, without_autocast
from .pairs import zero_of


class Loss(nn.Module):
    """A scalar function of named tensors, without logging or config, whatever the order of rows.

    A subclass takes explicit keyword arguments, declares the attributes below, is registered
    in ``LOSS_REGISTRY`` and decorates its ``forward`` with :func:`full_precision`.

    Attributes:
        inputs: names of the tensors that ``forward`` takes, in its order; head and batch
            provide them (``features``, ``logits``, ``targets``, ``modalities``, ``index``, ...).
        log_name: name of the term in the log; it contains ``loss``, which FastReID's printer needs.
        config_node: the node below ``MODEL.LOSSES`` that holds this loss's keys and its SCALE.
        only_pulls: whether the loss is smallest where all features are equal, so that it needs
            another one that keeps identities apart.
        keeps_classes: whether the loss has a row for each class, such as a center, which would
            belong to others when classes are numbered anew.
    """

    inputs: Tuple[str, ...] = ("features", "targets")
    log_name: ClassVar[str]
    config_node: ClassVar[str]
    only_pulls: ClassVar[bool] = False
    keeps_classes: ClassVar[bool] = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Loss":
        """Build the loss from its config node, whose keys name the constructor's arguments.

        ``MARGIN`` is the argument ``margin``, for example. ``SCALE`` is not an argument:
        ``LossTerms`` applies it.

        Raises:
            UserError: a key of the node is not an argument of the constructor.
        """
        arguments = {key.lower(): v for key, v in cls.node(cfg).items() if key != "SCALE"}
        known = inspect.signature(cls).parameters
        strange = [name for name in arguments if name not in known]
        if strange:
            raise UserError(
                f"MODEL.LOSSES.{cls.config_node}.{strange[0].upper()} is not an argument of "
                f"{cls.__name__}, which takes {', '.join(known) or 'none'}. Give the key and the "
                "argument the same name, or write a from_config for this class."
            )
        return cls(**arguments)

    @classmethod
    def node(cls, cfg: CfgNode) -> CfgNode:
        """Return the config node with this loss's keys."""
        return cfg.MODEL.LOSSES[cls.config_node]

    def after_step(self) -> None:
        """Act after each update of the weights, on every process."""

    def check(self, **arguments: Any) -> None:
        """Check arguments of the constructor against the declared keys of the same names.

        Raises:
            UserError: a value is not allowed.
        """
        keys = {name.upper(): value for name, value in arguments.items()}
        check_values(f"MODEL.LOSSES.{self.config_node}", type(self).__name__, **keys)


def full_precision(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Run a loss's ``forward(self, x, targets, ...)`` in float32 or better, outside autocast.

    float16 and bfloat16 become float32, and float64 stays: distances of features that are not
    normalized overflow float16, and autocast would compute matrix products in float16 again.

    A batch without rows gives a zero that keeps its graph.

    Raises (from the decorated function):
        UserError: ``x`` is not (B, ...) with at least two axes, or ``targets`` is not (B,).
    """

    @functools.wraps(forward)
    def wrapped(self: Loss, x: Tensor, targets: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if x.ndim < 2 or targets.shape != x.shape[:1]:
            raise UserError(
                f"{type(self).__name__} takes rows (B, ...) and targets (B,); got "
                f"{tuple(x.shape)} and {tuple(targets.shape)}."
            )
        x = at_least_float32(x)
        if len(x) == 0:
            return zero_of(x)
        with without_autocast(x):
            return forward(self, x, targets, *args, **kwargs)

    return wrapped


def require_choice(owner: str, argument: str, value: str, choices: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``choices``; otherwise raise ``UserError``, naming them."""
    if value not in choices:
        raise UserError(
            f"{owner}: {argument} must be one of {', '.join(map(repr, choices))}; got {value!r}."
        )
    return value


def require_rows(owner: str, name: str, values: Optional[Tensor], rows: int) -> Tensor:
    """Return ``values`` (B,) if they have ``rows`` rows; otherwise raise ``UserError``."""
    if values is None or values.shape != (rows,):
        came = "None" if values is None else str(tuple(values.shape))
        raise UserError(f"{owner} needs {name} (B,) with B = {rows}; got {came}.")
    return values


def require_modalities(owner: str, modalities: Optional[Tensor], rows: int) -> Tensor:
    """Return ``modalities`` (B,) if all are valid; otherwise raise ``UserError``."""
    modalities = require_rows(owner, "modalities", modalities, rows)
    check_modalities(modalities)
    return modalities
