"""The dynamic attention module (DAM) of MRDA, Eq. (9) to (16); see ``meta_arch/mrda.py``.

Zhang et al., Laser & Optoelectronics Progress, 2024, doi 10.3788/LOP231742.

Shapes: B images, C x H x W a feature map, d = C // 8 inner channels, R stripes, k kept ones, m rows
of the highest stripe.
"""

import torch
from torch import Tensor, nn

from ...errors import UserError
from ..maps import Tap
from ..precision import at_least_float32, without_autocast
from .stripes import stripe_means, stripe_rows


class DynamicAttention(nn.Module):
    """DAM: attention of a few chosen horizontal stripes to all positions; mean of its output.

    The queries are the positions of the k chosen stripes. The other positions are never multiplied
    with the keys, so Eq. (14) takes k / R of the multiplications that it takes in full attention.

    Args:
        in_channels: C, at least 8.
        num_stripes: R.
        num_kept: k, 1..R.
        scaled: divide affinities by sqrt(d).
        zero_start: begin with V at zero, so that the module adds nothing until it has learned.

    Raises:
        UserError: a number is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        num_stripes: int = 6,
        num_kept: int = 3,
        scaled: bool = True,
        zero_start: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= num_kept <= num_stripes:
            raise UserError(
                f"DynamicAttention: num_kept must be 1 to num_stripes, {num_stripes}; "
                f"got {num_kept}."
            )
        if in_channels < 8:
            raise UserError(f"DynamicAttention: in_channels must be at least 8; got {in_channels}.")
        width = in_channels // 8
        self.num_stripes, self.num_kept = num_stripes, num_kept
        self.scale = width**-0.5 if scaled else 1.0
        self.query = nn.Conv2d(in_channels, width, 1)
        self.key = nn.Conv2d(in_channels, width, 1, bias=False)
        self.value = nn.Conv2d(in_channels, in_channels, 1)
        if zero_start:
            for parameter in self.value.parameters():
                nn.init.zeros_(parameter)
        self.scores_tap = Tap("stripe_scores", "how much all stripes attend to each, (B, R)")
        self.kept_tap = Tap("kept_stripes", "numbers of the k chosen stripes, best first, (B, k)")
        self.attention_tap = Tap("attention", "mean of alpha over the queries, (B, H, W), sum 1")

    def forward(self, feature_map: Tensor) -> Tensor:
        """Average the attended map of (B, C, H, W): (B, C), to be added to the pooled feature."""
        query, key = self.query(feature_map), self.key(feature_map)  # Eq. (9)
        with without_autocast(feature_map):  # un-scaled affinities may overflow float16
            query, key = at_least_float32(query), at_least_float32(key)
            kept = self.kept_tap(self.choose(query, key))
            attention = self.attend(query, key, kept)
            attention = self.attention_tap(attention.view(-1, *feature_map.shape[2:]))
            # In print: V = value(f), Eq. (9); f-bar = alpha V, Eq. (15); avg(f-bar), Eq. (16).
            # Both steps after alpha are linear and each row of alpha sums to 1, so this equals
            # the value of the map's mean under the mean of alpha.
            attended = torch.einsum("bchw,bhw->bc", at_least_float32(feature_map), attention)
        return self.value(attended.to(feature_map.dtype)[..., None, None])[..., 0, 0]

    def choose(self, query: Tensor, key: Tensor) -> Tensor:
        """Choose the kept stripes (B, k) from Q and K (B, d, H, W); among equal ones the upper."""
        query_mean = stripe_means(query, self.num_stripes)  # Eq. (10): (B, d, R)
        key_mean = stripe_means(key, self.num_stripes)
        affinity = query_mean.transpose(1, 2) @ key_mean  # Eq. (11): M_aff (B, R, R)
        scores = self.scores_tap(affinity.mean(dim=1))
        # Places by counting, not by a stable sort, which ONNX does not have.
        own, other = scores.unsqueeze(2), scores.unsqueeze(1)
        upper = torch.ones_like(affinity, dtype=torch.bool).tril(-1)
        places = ((other > own) | ((other == own) & upper)).sum(dim=2)  # (B, R), 0: the best
        return places.topk(self.num_kept, largest=False).indices  # Eq. (12): M_index

    def attend(self, query: Tensor, key: Tensor, kept: Tensor) -> Tensor:
        """Average alpha over the kept positions: Q, K (B, d, H, W), ``kept`` (B, k): (B, H*W)."""
        batch, width, height, columns = query.shape
        rows, valid = stripe_rows(height, self.num_stripes, query.device)  # (R, m)
        rows, valid = rows[kept].flatten(1), valid[kept].flatten(1)  # (B, k * m)
        places = rows[:, None, :, None].expand(-1, width, -1, columns)
        chosen = query.gather(2, places).flatten(2)  # Eq. (13): Q_index (B, d, k * m * W)
        affinity = self.scale * chosen.transpose(1, 2) @ key.flatten(2)
        alpha = affinity.softmax(dim=-1)  # Eq. (14): (B, k * m * W, H * W)
        weights = valid.to(alpha).repeat_interleave(columns, dim=1)
        weights = weights / weights.sum(dim=1, keepdim=True)
        return (weights.unsqueeze(1) @ alpha).squeeze(1)  # avg of Eq. (16), of alpha
