"""The synergy module of MSCLNet (Zhang et al., ECCV 2022), whose equations are numbered here.

B images, C x H x W a feature map, n pairs of a visible and an infrared image, R parts.
"""

from typing import NamedTuple, Tuple

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...keys import Key, at_least, check_values, declare, one_of
from .mogrifier_lstm import MogrifierLSTM
from .stripes import stripe_means

declare(
    "MODEL.MSCLNET",
    Key("PARTS", 6, at_least(1), "parts that a map is cut into (n of Eq. 6)"),
    Key("PARTITION", "stripes", one_of("stripes", "masks"), "how a map is cut into parts"),
    Key("ROUNDS", 5, at_least(0), "rounds of the Mogrifier LSTM's gating"),
    Key("RANK", 256, at_least(0), "rank of the matrices of this gating; 0: full matrices"),
    features=False,
)


class Synergy(NamedTuple):
    """The output of S for n pairs, and the parts that its own parts are compared with."""

    features: Tensor  # f^s (n, C)
    parts: Tensor  # b^s (n, R, C)
    visible_parts: Tensor  # b^v (n, R, C), of the map that is not normalized


class SynergyModule(nn.Module):
    """S of Eq. (2): a Mogrifier LSTM over the parts of both images of a pair.

    Args:
        in_channels: C.
        num_parts: R, at least 1.
        partition: ``"stripes"``, or ``"masks"``: R learned 1x1 convolutions with a sigmoid.
        rounds, rank: of :class:`MogrifierLSTM`, whose state is as wide as the map.

    Raises:
        UserError: an argument is out of range; in ``forward``: the map has fewer rows than
            stripes.
    """

    def __init__(
        self,
        in_channels: int,
        num_parts: int = 6,
        partition: str = "stripes",
        rounds: int = 5,
        rank: int = 256,
    ) -> None:
        super().__init__()
        check_values("MODEL.MSCLNET", PARTITION=partition, PARTS=num_parts)
        if rank >= in_channels:
            raise UserError(
                f"MODEL.MSCLNET.RANK is {rank}; expected less than the map's {in_channels} "
                "channels, or it saves nothing. 0: full matrices."
            )
        self.num_parts = num_parts
        self.norm = nn.InstanceNorm2d(in_channels, affine=True)  # gamma, beta of Eq. (1)
        self.masks = nn.Conv2d(in_channels, num_parts, 1) if partition == "masks" else None
        self.encoder = MogrifierLSTM(in_channels, in_channels, rounds, rank)

    def forward(self, feature_map: Tensor, visible: Tensor, infrared: Tensor) -> Synergy:
        """Run S on a map (B, C, H, W) and the rows of each pair's images, (n,) each."""
        normalized = self.norm(feature_map)  # Eq. (1)
        parts, plain_parts = self.cut(normalized, feature_map)
        # v_1, r_1, v_2, r_2, ...: (n, 2R, C)
        steps = torch.stack([parts[visible], parts[infrared]], dim=2).flatten(1, 2)
        synergy_parts = self.encoder(steps)[:, 1::2]  # after r_1, r_2, ...
        return Synergy(synergy_parts.mean(dim=1), synergy_parts, plain_parts[visible])

    def cut(self, normalized: Tensor, plain: Tensor) -> Tuple[Tensor, Tensor]:
        """Cut both maps (B, C, H, W) into the same parts: (B, R, C) each."""
        if self.masks is None:
            parts, plain_parts = (stripe_means(m, self.num_parts) for m in (normalized, plain))
            return parts.transpose(1, 2), plain_parts.transpose(1, 2)
        masks = self.masks(normalized).sigmoid().flatten(2)  # (B, R, H * W)
        size = masks.shape[2]
        # b^v is the goal of b^s; it must not train the masks.
        return (
            masks @ normalized.flatten(2).transpose(1, 2) / size,
            masks.detach() @ plain.flatten(2).transpose(1, 2) / size,
        )
