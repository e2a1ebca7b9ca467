"""Make the sequence of tokens of an image: class token, positions, modality embedding.

B images, N = h * w patches, P tokens before them, D channels.
"""

import logging
from typing import Any, Dict, List, Optional

import torch
from torch import Tensor, nn

from .positions import Grid, infer_grid, resize_positions

logger = logging.getLogger(__name__)

#: which tokens get the embedding of their image's modality
MODALITY_EMBEDDINGS = ("none", "patches", "all")
#: names of the tokens before the patches in networks of timm, in their order
PREFIX = ("cls_token", "dist_token", "reg_token")


class TokenSequence(nn.Module):
    """Put the tokens of a network before the patches, and add positions and modality.

    It belongs to no stream: both modalities share it. The names of its parameters are timm's.

    Args:
        network: a vision transformer of timm, whose parameters are taken over.
        grid: (h, w) of its position embeddings from now on.
    """

    pos_embed: Optional[nn.Parameter]

    def __init__(self, network: Any, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        #: (h, w) of the images of the last call, which later stages cannot tell from N alone
        self.latest = grid
        self.names = [n for n in PREFIX if getattr(network, n, None) is not None]
        for name in self.names:
            self.register_parameter(name, getattr(network, name))
        self.num_prefix = sum(getattr(self, name).shape[1] for name in self.names)
        #: whether the tokens before the patches have positions
        self.places_prefix = not network.no_embed_class
        self.register_parameter("pos_embed", network.pos_embed)
        self.pos_drop = network.pos_drop
        self.norm_pre = network.norm_pre

    @property
    def placed(self) -> int:
        """Return how many tokens before the patches have position embeddings."""
        return self.num_prefix if self.places_prefix else 0

    def forward(self, patches: Tensor, modality: Optional[Tensor], on_all: bool) -> Tensor:
        """Return the tokens (B, P + N, D).

        Args:
            patches: (B, h, w, D), for any h and w.
            modality: embedding of each image's modality, (B, D), or None.
            on_all: add it to all tokens; otherwise to those of the patches.
        """
        grid = self.latest = int(patches.shape[1]), int(patches.shape[2])
        tokens = patches.flatten(1, 2)
        positions = self.positions(grid)
        prefix: List[Tensor] = [getattr(self, name) for name in self.names]
        if positions is not None:
            tokens = tokens + positions[:, self.placed :]
            if prefix and self.places_prefix:
                prefix = [torch.cat(prefix, dim=1) + positions[:, : self.placed]]
        if modality is not None and not on_all:  # LP(patches) + e^pos + e^m
            tokens = tokens + modality.unsqueeze(1)
        rows = [one.expand(tokens.shape[0], -1, -1) for one in prefix]
        tokens = torch.cat([*rows, tokens], dim=1)
        if modality is not None and on_all:
            tokens = tokens + modality.unsqueeze(1)
        return self.norm_pre(self.pos_drop(tokens))

    def positions(self, grid: Grid) -> Optional[Tensor]:
        """Return the position embeddings of a grid, (1, placed + h * w, D), or None."""
        if self.pos_embed is None or grid == self.grid:
            return self.pos_embed
        resized = resize_positions(self.pos_embed, self.grid, grid, self.placed)
        if torch.jit.is_tracing():  # a constant of the graph: ONNX has no such interpolation
            return torch.from_numpy(resized.detach().cpu().numpy()).to(resized.device)
        return resized

    def adapt_sizes(self, tensors: Dict[str, Tensor]) -> None:
        """Resize the positions of a checkpoint that was trained with images of another size."""
        held, own = tensors.get("pos_embed"), self.pos_embed
        if held is None or own is None or held.dim() != 3 or held.shape[2] != own.shape[2]:
            return
        count = held.shape[1] - self.placed
        if held.shape != own.shape and count > 0:
            grid = infer_grid(count, self.grid, square=False)
            logger.info("Position embeddings: resized from %d x %d to %d x %d.", *grid, *self.grid)
            tensors["pos_embed"] = resize_positions(held, grid, self.grid, self.placed)

    def resize(self, grid: Grid) -> None:
        """Keep position embeddings for another grid from now on."""
        if self.pos_embed is not None and grid != self.grid:
            with torch.no_grad():
                resized = resize_positions(self.pos_embed, self.grid, grid, self.placed)
            self.pos_embed = nn.Parameter(resized.clone(), self.pos_embed.requires_grad)
        self.grid = self.latest = grid
