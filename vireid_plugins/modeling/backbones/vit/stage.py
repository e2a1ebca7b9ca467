"""The stages of a vision transformer: the patch embedding, then one for each block."""

from typing import Any, Optional

from torch import Tensor, nn

from ...checkpointing import recomputed


class PatchEmbedding(nn.Module):
    """Project patches, which may overlap: images (B, 3, H, W) to (B, h, w, D).

    h = (H - p) // s + 1 for patches of p pixels and steps of s, and w likewise; what is left at the
    lower and the right border is not seen.

    Args:
        projection: the convolution of a patch embedding; its stride becomes ``stride``.
        norm: normalization of patch tokens, or None.
        stride: (down, across), pixels, each from 1 to the size of a patch.
    """

    def __init__(self, projection: nn.Conv2d, norm: Optional[nn.Module], stride: Any) -> None:
        super().__init__()
        projection.stride = tuple(stride)
        self.proj = projection
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class TransformerStage(nn.Module):
    """A block, tokens (B, T, D) to tokens; the last one ends with the network's last norm."""

    checkpointed = False  # see TwoStreams.checkpoint_activations

    def __init__(self, block: nn.Module, norm: Optional[nn.Module] = None) -> None:
        super().__init__()
        self.block = block
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, tokens: Tensor) -> Tensor:
        return recomputed(self._run, self, tokens) if self.checkpointed else self._run(tokens)

    def _run(self, tokens: Tensor) -> Tensor:
        return self.norm(self.block(tokens))
