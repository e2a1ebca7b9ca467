"""The stages of CrossViT: two patch embeddings, then blocks that work on two branches.

B images; branch i has h_i x w_i patches and sequences (B, 1 + h_i * w_i, D_i), class token first.
"""

from typing import Any, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checkpointing import recomputed
from .positions import Grid


class BranchEmbedding(nn.Module):
    """Project the patches of every branch: images (B, 3, H, W) to maps (B, h_i, w_i, D_i).

    A branch sees the image at the nearest size that its patches fill: an image of 288 x 144 as it
    is, with patches of 12 as with patches of 16. One of 256 x 128 becomes 252 x 132 for patches of
    12 (bicubic, as CrossViT resizes).

    Args:
        embeddings: CrossViT's patch embeddings, whose projections are taken over.
        scales: size of each branch's image, in parts of the image's.
    """

    def __init__(self, embeddings: Sequence[Any], scales: Sequence[float]) -> None:
        super().__init__()
        self.projections = nn.ModuleList(one.proj for one in embeddings)
        self.patch_sizes = [int(one.patch_size[0]) for one in embeddings]
        self.scales = [float(scale) for scale in scales]

    def grids(self, image_size: Sequence[int]) -> Tuple[Grid, ...]:
        """Return the numbers of patches (h_i, w_i) of each branch, for images (H, W)."""
        return tuple(
            (_nearest(image_size[0] * scale, patch), _nearest(image_size[1] * scale, patch))
            for patch, scale in zip(self.patch_sizes, self.scales)
        )

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Return the patch tokens of each branch, (B, h_i, w_i, D_i)."""
        height, width = int(images.shape[-2]), int(images.shape[-1])
        maps = []
        grids = self.grids((height, width))
        for projection, patch, (rows, columns) in zip(self.projections, self.patch_sizes, grids):
            size = (rows * patch, columns * patch)
            seen = images if size == (height, width) else _resized(images, size)
            maps.append(projection(seen).permute(0, 2, 3, 1))
        return tuple(maps)


def _nearest(pixels: float, patch: int) -> int:
    """Return the number of patches, at least one, whose size is nearest to ``pixels``."""
    return max(1, int(pixels / patch + 0.5))


def _resized(images: Tensor, size: Tuple[int, int]) -> Tensor:
    return F.interpolate(images, size=size, mode="bicubic", align_corners=False)


class CrossStage(nn.Module):
    """A block of CrossViT: encoders within each branch, then an exchange between the branches.

    It is timm's ``MultiScaleBlock``: Eq. (2), (3) in each branch, Eq. (5) to (8) between them.

    Args:
        block: the block.
        norms: CrossViT's last norms, one for each branch, behind its last block; else None.
    """

    checkpointed = False  # see TwoStreams.checkpoint_activations

    def __init__(self, block: nn.Module, norms: Optional[Sequence[nn.Module]] = None) -> None:
        super().__init__()
        self.block = block
        self.norms = nn.ModuleList(norms or [])

    def forward(self, *sequences: Tensor) -> Tuple[Tensor, ...]:
        """Return the sequences of all branches, (B, 1 + h_i * w_i, D_i) as they came."""
        if self.checkpointed:
            return recomputed(self._run, self, *sequences)
        return self._run(*sequences)

    def _run(self, *sequences: Tensor) -> Tuple[Tensor, ...]:
        outputs = self.block(list(sequences))
        if len(self.norms):
            outputs = [norm(one) for norm, one in zip(self.norms, outputs)]  # Eq. (4)
        return tuple(outputs)


def beside(tensors: Sequence[Tensor]) -> Tensor:
    """Put tensors (B, ...) side by side, (B, n): rows stay rows."""
    return torch.cat([one.flatten(1) for one in tensors], dim=1)


def unpacked(rows: Tensor, shapes: Sequence[Sequence[int]]) -> Tuple[Tensor, ...]:
    """Return what ``beside`` was given, whose rows had these shapes."""
    lengths = [int(torch.Size(shape).numel()) for shape in shapes]
    parts = rows.split(lengths, dim=1)
    return tuple(part.unflatten(1, tuple(shape)) for part, shape in zip(parts, shapes))
