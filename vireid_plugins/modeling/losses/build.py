"""Build the losses of ``MODEL.LOSSES`` and weigh them."""

from typing import Dict, Iterable, List, Mapping, Optional

from torch import Tensor, nn

from fastreid.config import CfgNode

from ...errors import UserError
from ...registry import LOSS_REGISTRY, lookup, registered_names
from .base import Loss

_KEY = "MODEL.LOSSES.NAME"


class LossTerms(nn.ModuleDict):
    """Losses by class name, each with its weight in the sum.

    Args:
        losses: the losses, by name.
        scales: the weight of each loss, by the same names.

    Attributes:
        scales: as given.
    """

    def __init__(self, losses: Mapping[str, Loss], scales: Mapping[str, float]) -> None:
        super().__init__(losses)
        self.scales = dict(scales)

    def loss(self, name: str) -> Loss:
        """Return the loss of this class name."""
        loss = self[name]
        assert isinstance(loss, Loss)
        return loss

    @property
    def weight_keys(self) -> Dict[str, str]:
        """Return the config key of each term's weight, by log name."""
        losses = map(self.loss, self.keys())
        return {loss.log_name: f"MODEL.LOSSES.{loss.config_node}.SCALE" for loss in losses}

    def after_step(self) -> None:
        """Let each loss act after an update of the weights, on every process."""
        for name in self.keys():
            self.loss(name).after_step()

    def forward(
        self, tensors: Mapping[str, Tensor], names: Optional[Iterable[str]] = None
    ) -> Dict[str, Tensor]:
        """Compute the weighted terms by log name.

        Args:
            tensors: what head and batch provide, by name; those that no loss takes are ignored.
            names: the losses to compute; None: all.

        Returns:
            ``{"loss_<name>": scalar}``; their sum is the objective.
        """
        terms = {}
        for name in list(self.keys()) if names is None else names:
            loss = self.loss(name)
            term = loss(*(tensors[key] for key in loss.inputs))
            terms[loss.log_name] = term * self.scales[name]
        return terms


def build_losses(cfg: CfgNode, provided: Iterable[str]) -> LossTerms:
    """Build the losses that ``MODEL.LOSSES.NAME`` lists.

    Args:
        cfg: the config.
        provided: names of the tensors that head and batch will provide, such as
            ``("features", "logits", "targets", "modalities", "index")``.

    Raises:
        UnknownNameError: a name is not registered; the message has the nearest ones.
        UserError: no loss is named, one is named twice, or one needs a tensor that is not
            provided.
    """
    names = list(cfg.MODEL.LOSSES.NAME)
    check_loss_names(names)
    losses = {}
    for name in names:
        losses[name] = lookup(LOSS_REGISTRY, name, _KEY).from_config(cfg)
        _check_inputs(name, losses[name], provided)
    return LossTerms(losses, {name: loss.node(cfg).SCALE for name, loss in losses.items()})


def check_loss_names(names: List[str]) -> None:
    """Raise ``UserError`` if ``MODEL.LOSSES.NAME`` names no loss, or one of them twice."""
    if not names:
        raise UserError(
            f"{_KEY} is empty; name at least one of: {', '.join(registered_names(LOSS_REGISTRY))}."
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"{_KEY} names {', '.join(twice)} more than once; name it once and set its SCALE."
        )


def _check_inputs(name: str, loss: Loss, provided: Iterable[str]) -> None:
    provided = sorted(provided)
    missing = [key for key in loss.inputs if key not in provided]
    if missing:
        raise UserError(
            f"{_KEY} names {name}, which needs {', '.join(loss.inputs)}; head and batch provide "
            f"{', '.join(provided) or 'nothing'}. Missing: {', '.join(missing)}. Choose a head "
            f"or method that provides it, or drop {name}. A method adds its own losses by itself."
        )
