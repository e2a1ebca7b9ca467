"""Center loss (Wen et al., ECCV 2016), with learnable centers.

Shapes: B rows, D feature size, N identities.
"""

from typing import Optional

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode

from ...errors import UserError
from ...keys import Key, at_least, declare
from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision

declare(
    "MODEL.LOSSES.CENTER",
    Key("LR", 0.5, at_least(0), "learning rate of the centers, whatever SCALE is"),
    Key("SCALE", 5e-4, at_least(0), "weight in the sum of losses"),
)


@LOSS_REGISTRY.register()
class CenterLoss(Loss):
    """Half the mean squared distance to the identity's center: ``1/2 mean_b |f_b - c_y(b)|^2``.

    The centers have a learning rate of their own, which the optimizer takes from
    ``param_group_overrides``: plain SGD, no weight decay, no momentum. The public code takes the
    step of the unweighted loss. Since the sum of losses multiplies the gradient by the loss's
    weight, :meth:`from_config` divides the rate by that weight. This is right for SGD only: with
    another optimizer a step does not grow with the gradient.

    Args:
        num_classes: N.
        feat_dim: D.
        lr: learning rate of the centers; None: the rate of the other parameters. The schedule
            scales it in the same way as theirs.

    Attributes:
        centres: (N, D), drawn from the standard normal distribution.

    Raises:
        UserError: ``num_classes`` or ``feat_dim`` is below 1.
    """

    log_name = "loss_center"
    config_node = "CENTER"
    only_pulls = True

    def __init__(self, num_classes: int, feat_dim: int, lr: Optional[float] = None) -> None:
        super().__init__()
        if num_classes < 1 or feat_dim < 1:
            raise UserError(
                "CenterLoss needs at least one identity (MODEL.HEADS.NUM_CLASSES) and one feature "
                "(MODEL.HEADS.EMBEDDING_DIM, or MODEL.BACKBONE.FEAT_DIM); got "
                f"num_classes={num_classes}, feat_dim={feat_dim}."
            )
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
            lr=node.LR / node.SCALE if node.SCALE else node.LR,
        )

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D) with ``targets`` (B,) in 0..N-1, a scalar."""
        return 0.5 * (x - self.centres[targets]).square().sum(dim=1).mean()
