"""Center loss (Wen et al., ECCV 2016), with learnable centers.

Shapes: B rows, D feature size, N identities.
"""

from typing import Optional

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode
from fastreid.utils import comm

from ...errors import UserError
from ...keys import SWITCH, Key, at_least, declare
from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision

declare(
    "MODEL.LOSSES.CENTER",
    Key("LR", 0.5, at_least(0), "learning rate of the centers, whatever SCALE is"),
    Key("OWN_STEP", False, SWITCH, "plain SGD moves the centers, whatever SOLVER.OPT is"),
    Key("SCALE", 5e-4, at_least(0), "weight in the sum of losses"),
)


@LOSS_REGISTRY.register()
class CenterLoss(Loss):
    """Half the mean squared distance to the identity's center: ``1/2 mean_b |f_b - c_y(b)|^2``.

    The centers have a learning rate of their own, which the optimizer takes from
    ``param_group_overrides``: plain SGD, no weight decay, no momentum. The public code takes the
    step of the unweighted loss. Since the sum of losses multiplies the gradient by the loss's
    weight, :meth:`from_config` divides the rate by that weight. This is right for SGD only: with
    another optimizer a step does not grow with the gradient. With ``own_step`` the centers are no
    parameters, and :meth:`after_step` takes the step of the unweighted loss.

    Args:
        num_classes: N.
        feat_dim: D.
        lr: learning rate of the centers; None: the rate of the other parameters. The schedule
            scales it in the same way as theirs.
        own_step: move the centers by plain SGD with the rate ``lr``, which no schedule scales.

    Attributes:
        centres: (N, D), drawn from the standard normal distribution.

    Raises:
        UserError: ``num_classes`` or ``feat_dim`` is below 1, or ``own_step`` has no ``lr``.
    """

    centres: Tensor
    log_name = "loss_center"
    keeps_classes = True
    config_node = "CENTER"
    only_pulls = True

    def __init__(
        self,
        num_classes: int,
        feat_dim: int,
        lr: Optional[float] = None,
        own_step: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 1 or feat_dim < 1:
            raise UserError(
                "CenterLoss needs at least one identity (MODEL.HEADS.NUM_CLASSES) and one feature "
                "(MODEL.HEADS.EMBEDDING_DIM, or MODEL.BACKBONE.FEAT_DIM); got "
                f"num_classes={num_classes}, feat_dim={feat_dim}."
            )
        self._own_rate = lr if own_step else None
        self._gradient: Optional[Tensor] = None
        self._batches = 0
        if own_step:
            if lr is None:
                raise UserError("CenterLoss with own_step needs lr, the rate of the centers.")
            self.register_buffer("centres", torch.randn(num_classes, feat_dim))
            return
        self.centres = nn.Parameter(torch.randn(num_classes, feat_dim))
        self.param_group_overrides = {"weight_decay": 0.0, "momentum": 0.0, "nesterov": False}
        if lr is not None:
            self.param_group_overrides["lr"] = lr

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "CenterLoss":
        """Read ``MODEL.LOSSES.CENTER`` and the sizes of ``MODEL.HEADS``."""
        node = cls.node(cfg)
        return cls(
            num_classes=cfg.MODEL.HEADS.NUM_CLASSES,
            feat_dim=cfg.MODEL.HEADS.EMBEDDING_DIM or cfg.MODEL.BACKBONE.FEAT_DIM,
            lr=node.LR / node.SCALE if node.SCALE and not node.OWN_STEP else node.LR,
            own_step=node.OWN_STEP,
        )

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D) with ``targets`` (B,) in 0..N-1, a scalar."""
        difference = x - self.centres[targets]
        if self._own_rate is not None and torch.is_grad_enabled():
            self._note(difference.detach(), targets)
        return 0.5 * difference.square().sum(dim=1).mean()

    def _note(self, difference: Tensor, targets: Tensor) -> None:
        """Add the gradient of one batch, (c - f) / B at each row's center, to the noted one."""
        own = torch.zeros_like(self.centres)
        own.index_add_(0, targets, -difference.to(own) / len(difference))
        self._gradient = own if self._gradient is None else self._gradient + own
        self._batches += 1

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the centers against the mean gradient of the batches since the last step."""
        if self._own_rate is None or self._gradient is None:
            return
        gradient = self._gradient / self._batches
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(gradient)
            gradient /= comm.get_world_size()
        self.centres -= self._own_rate * gradient
        self._gradient, self._batches = None, 0
