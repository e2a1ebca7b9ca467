"""Parts of a person that interact in a transformer (TPI of SPOT); see ``meta_arch/spot.py``.

Chen et al., "Structure-Aware Positional Transformer for Visible-Infrared Person Re-Identification",
TIP 2022.

Shapes: B images, p parts, C x H x W an appearance map F_I, C_S x H x W a structure map F_S, D
features of the transformer.
"""

import torch
from torch import Tensor, nn

from ...errors import UserError
from ..maps import Tap
from ..precision import at_least_float32, without_autocast
from .structure import check_same_size

NORMS = ("mask", "area")  # K^i of a part's feature: the sum of its map, or the number of positions
_LEAST = 1e-6  # of the sum of a part's map


class PartInteraction(nn.Module):
    """TPI: part features under part maps of F_S, then a transformer over the parts.

    Args:
        channels: C, of F_I.
        structure_channels: C_S.
        parts: p.
        layers: of the transformer; 0: the part features themselves.
        heads: of its attention; they divide D.
        width: D; 0: C, without a projection.
        hidden_ratio: hidden units of the transformer's feed-forward layers, over D.
        dropout: of the transformer.
        positions: add the sinusoidal positions.
        period: Q of the positions.
        norm: one of ``NORMS``.

    Raises:
        UserError: ``heads`` does not divide D.
    """

    def __init__(
        self,
        channels: int,
        structure_channels: int,
        *,
        parts: int = 6,
        layers: int = 1,
        heads: int = 8,
        width: int = 0,
        hidden_ratio: float = 1.0,
        dropout: float = 0.1,
        positions: bool = True,
        period: float = 10000.0,
        norm: str = "mask",
    ) -> None:
        super().__init__()
        own = width or channels
        if own % heads:
            raise UserError(
                f"MODEL.STRUCTURE.HEADS is {heads}, which does not divide {own}, the features of a "
                "part. Set HEADS to a divisor, or MODEL.STRUCTURE.WIDTH to a multiple."
            )
        self.norm = norm
        self.part_maps = nn.Conv2d(structure_channels, parts, 1)  # W_theta
        self.maps_tap = Tap(
            "part_maps", "M, how much of each position is in each part, (B, p, H, W)"
        )
        self.project_in = nn.Linear(channels, width) if width else nn.Identity()
        self.project_out = nn.Linear(width, channels) if width else nn.Identity()
        table = sinusoidal_positions(parts, own, period) if positions else torch.zeros(parts, own)
        self.register_buffer("positions", table, persistent=False)
        hidden = max(1, round(hidden_ratio * own))
        self.layers = nn.ModuleList(
            EncoderLayer(own, heads, hidden, dropout) for _ in range(layers)
        )

    def forward(self, appearance: Tensor, structure: Tensor) -> Tensor:
        r"""Return \bar F_P (B, p, C) of F_I (B, C, H, W) and F_S (B, C_S, H, W)."""
        check_same_size(appearance, structure)
        maps = self.maps_tap(self.part_maps(structure).sigmoid())  # M = W_theta(F_S)
        parts = self.project_in(part_features(appearance, maps, self.norm))
        found = parts + self.positions.to(parts.dtype)  # F_P + PE
        for layer in self.layers:
            found = layer(found)
        return self.project_out(found)


def part_features(appearance: Tensor, maps: Tensor, norm: str = "mask") -> Tensor:
    """Return f_i = (1 / K^i) sum_hw M^i F_I, (B, p, C), in float32 or better.

    Args:
        appearance: F_I (B, C, H, W).
        maps: M (B, p, H, W) in 0..1.
        norm: K^i; ``"mask"``: the sum of M^i, ``"area"``: the number of positions, H W.
    """
    with without_autocast(appearance):
        flat = at_least_float32(maps).flatten(2)
        sums = flat @ at_least_float32(appearance).flatten(2).transpose(1, 2)
        if norm == "area":
            return sums / flat.shape[2]
        return sums / (flat.sum(dim=2, keepdim=True) + _LEAST)


def sinusoidal_positions(count: int, width: int, period: float = 10000.0) -> Tensor:
    """Return PE (count, width): sin(pos / Q^(2k / D)) at 2k, and cos of the same at 2k + 1."""
    columns = torch.arange(width, dtype=torch.float64)
    exponents = 2 * torch.div(columns, 2, rounding_mode="floor") / width
    angles = torch.arange(count, dtype=torch.float64)[:, None] / period**exponents
    return torch.where(columns % 2 == 0, angles.sin(), angles.cos()).float()


class EncoderLayer(nn.Module):
    """A layer of Vaswani et al. (2017): attention and a feed-forward net, each added, then LN.

    In evaluation it computes what ``torch.nn.TransformerEncoderLayer`` does, in operations that
    ONNX has. In training that one also drops shares of the attention, which this one does not.

    Args:
        width: D.
        heads: h, which divides D.
        hidden: units of the feed-forward net.
        dropout: probability that an output of either part, or a hidden unit, is dropped in
            training.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.project_in, self.project_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm_attention, self.norm_output = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.project_in.weight)
        for part in (self.project_in, self.project_out):
            nn.init.zeros_(part.bias)

    def forward(self, rows: Tensor) -> Tensor:
        """Return (B, p, D) of (B, p, D)."""
        rows = self.norm_attention(rows + self.dropout(self.attend(rows)))
        hidden = self.dropout(self.expand(rows).relu())
        return self.norm_output(rows + self.dropout(self.contract(hidden)))

    def attend(self, rows: Tensor) -> Tensor:
        """Return what the rows (B, p, D) take from each other."""
        batch, count, width = rows.shape
        split = self.project_in(rows).view(batch, count, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # (B, h, p, D / h)
        with without_autocast(value):
            query, key = at_least_float32(query), at_least_float32(key)
            affinity = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
            taken = affinity.softmax(dim=-1) @ at_least_float32(value)
        return self.project_out(taken.transpose(1, 2).reshape(batch, count, width).to(rows.dtype))
