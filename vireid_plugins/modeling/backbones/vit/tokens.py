"""The tokens of images, apart: those before the patches, and the patches with their grid."""

from typing import NamedTuple, Tuple

from torch import Tensor


class Tokens(NamedTuple):
    """What a vision transformer makes of B images: P tokens before N = h * w patch tokens of D."""

    prefix: Tensor  # (B, P, D); the first one is the class token, where the network has one
    patches: Tensor  # (B, N, D), row by row from the upper left
    grid: Tuple[int, int]  # (h, w), patches down and across

    @property
    def class_token(self) -> Tensor:
        """Return the first token before the patches, (B, D)."""
        return self.prefix[:, 0]

    @property
    def maps(self) -> Tensor:
        """Return the patch tokens as a map, (B, D, h, w)."""
        return to_map(self.patches, self.grid)


def to_map(patches: Tensor, grid: Tuple[int, int]) -> Tensor:
    """Put patch tokens (B, h * w, D) back into a map (B, D, h, w)."""
    return patches.transpose(1, 2).unflatten(2, grid)


def from_map(feature_map: Tensor) -> Tensor:
    """Return the patch tokens (B, h * w, D) of a map (B, D, h, w)."""
    return feature_map.flatten(2).transpose(1, 2)
