"""IWPAM, the intra-modality weighted-part attention of DDAG, as a separate module.

Ye, Shen, Crandall, Shao, Luo, Dynamic Dual-Attentive Aggregation Learning for Visible-Infrared
Person Re-Identification, ECCV 2020, arXiv 2007.09314; public code mangye16/DDAG.

Shapes: B images, C channels, H x W positions, P parts (horizontal stripes).
"""

import torch
from torch import Tensor, nn

from ...errors import UserError


class IWPAM(nn.Module):
    """Compute one vector per image: a weighted sum of its parts, each in the context of all parts.

    x (C, P): average of each part; A = softmax of u(x)^T v(x) over its last axis; the result is
    ``sum_p softmax(g)_p (A z(x))_p``, with 1x1 convolutions u, v, z: C -> C and g in R^P.

    *Departs.* The module ends before DDAG's last step, BN(result + pooled feature): the caller
    adds the result to its pooled feature and applies its own BN, as this package puts IWPAM in
    the place of MRDA's dynamic attention. v has no bias: it adds the same to a whole row of
    u^T v, which the softmax takes away. The code's projection and normalization that it never
    calls are left out.

    Initial weights are those of the public code: PyTorch's, and g = 1/P (equal weights).

    Args:
        in_channels: C.
        num_parts: P. A map of height below P gives overlapping parts.

    Raises:
        UserError: ``in_channels`` is below 1, or ``num_parts`` below 2.
    """

    def __init__(self, in_channels: int, num_parts: int = 3) -> None:
        super().__init__()
        if in_channels < 1:
            raise UserError(f"IWPAM: in_channels must be at least 1; got {in_channels}.")
        if num_parts < 2:
            raise UserError(
                f"IWPAM: num_parts must be at least 2, so that parts can attend to one another; "
                f"got {num_parts}."
            )
        self.num_parts = num_parts
        self.u = nn.Conv1d(in_channels, in_channels, 1)
        self.v = nn.Conv1d(in_channels, in_channels, 1, bias=False)
        self.z = nn.Conv1d(in_channels, in_channels, 1)
        self.gate = nn.Parameter(torch.full((num_parts,), 1 / num_parts))

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return vectors (B, C) of ``feature_map`` (B, C, H, W), to be added to pooled features."""
        parts = self.parts(feature_map)
        values = self.z(parts)
        attention = _affinity(self.u(parts), self.v(parts)).softmax(dim=2).to(values.dtype)
        refined = values @ attention.transpose(1, 2)
        return refined @ self.gate.softmax(dim=0).to(values.dtype)

    def parts(self, feature_map: Tensor) -> Tensor:
        """Average each part of a map (B, C, H, W): (B, C, P).

        This is adaptive average pooling, which ONNX knows only where P divides H.
        """
        height = int(feature_map.shape[2])
        starts = [part * height // self.num_parts for part in range(self.num_parts)]
        ends = [-(-(part + 1) * height // self.num_parts) for part in range(self.num_parts)]
        means = [feature_map[:, :, a:b].mean(dim=(2, 3)) for a, b in zip(starts, ends)]
        return torch.stack(means, dim=2)


def _affinity(queries: Tensor, keys: Tensor) -> Tensor:
    """Return ``queries^T keys`` (B, P, P) of (B, C, P) tensors, in float32 or better.

    The sum over C is not scaled, so it can exceed the largest float16. Autocast would compute a
    matrix product in half precision again, but not elementwise products and their sum.
    """
    dtype = torch.promote_types(queries.dtype, torch.float32)
    return (queries.to(dtype).unsqueeze(3) * keys.to(dtype).unsqueeze(2)).sum(dim=1)
