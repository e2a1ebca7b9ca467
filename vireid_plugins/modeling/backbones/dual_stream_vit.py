"""A vision transformer with a stream for each modality.

*Paper*: A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021. Overlapping patches and
embeddings that tell where an image comes from: S. He et al., "TransReID", ICCV 2021. An embedding
of the modality: CMTR (T. Liang et al., "Cross-Modality Transformer with Modality Mining for
Visible-Infrared Person Re-Identification", IEEE TMM).
*Here*: ``DualStreamViT``. The blocks are timm's.

B images of (H, W) pixels, h x w = N patches, P tokens before them (class, distillation, registers),
T = P + N tokens of D channels.
"""

import logging
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from fastreid.config import configurable

from ...errors import UserError
from ...keys import Key, any_number, check_values, declare, one_of
from ...modality import check_modalities, of_modality
from .pretrained import LoadReport
from .streams import TwoStreams
from .vit import MODALITY_EMBEDDINGS, PatchEmbedding, Tokens, TokenSequence, TransformerStage
from .vit.loading import load_vit
from .vit.positions import Grid, infer_grid
from .vit.tokens import from_map, to_map

logger = logging.getLogger(__name__)

EMBEDDING = "embedding"
OUTPUTS = ("class", "patches")
_STD = 0.02  # of the initial modality embedding, as of position embeddings

declare(
    "MODEL.BACKBONE",
    Key(
        "MODALITY_EMBEDDING",
        "none",
        one_of(*MODALITY_EMBEDDINGS),
        "which tokens of a vision transformer get an embedding of their image's modality",
    ),
    Key(
        "MODALITY_SCALE",
        1.0,
        any_number("a weight of either sign"),
        "factor on the modality embedding",
    ),
    Key(
        "VIT_OUTPUT",
        "class",
        one_of(*OUTPUTS),
        "what a vision transformer gives to the head: its class token, or the map of its patches",
    ),
)


class DualStreamViT(TwoStreams):
    """A vision transformer in two streams: ``backbone(images, modalities) -> feature_map``.

    Its stages are the patch embedding and the blocks; the last block ends with the last norm. Class
    token, positions and modality embedding belong to no stream. Images may have any size: positions
    are resized to it.

    Args:
        network: a vision transformer of timm (``vit/timm_vit.py`` says which); its modules are
            taken over.
        image_size: (H, W) for which position embeddings are kept and trained.
        stride: step between patches, (down, across), pixels; None: the size of a patch. Smaller
            steps make patches overlap.
        unshared_stages: stages with separate weights: 1 is the patch embedding, 2 also the first
            block, and so on.
        frozen_stages: stages that never train, counted likewise. The first one takes class token
            and positions with it.
        modality_embedding: ``"none"``, or which tokens get it: ``"patches"`` or ``"all"``.
        modality_scale: factor on it.
        output: what ``forward`` returns: ``"class"`` token or map of ``"patches"``.

    Raises:
        UserError: a number or word is not allowed; or the network has no class token, and
            ``output`` is ``"class"``.
    """

    passes_tokens = True
    joins = (EMBEDDING,)

    @configurable
    def __init__(
        self,
        *,
        network: Any,
        image_size: Sequence[int],
        stride: Optional[Sequence[int]] = None,
        unshared_stages: int = 1,
        frozen_stages: int = 0,
        modality_embedding: str = "none",
        modality_scale: float = 1.0,
        output: str = "class",
    ) -> None:
        check_values(
            "MODEL.BACKBONE",
            MODALITY_EMBEDDING=modality_embedding,
            MODALITY_SCALE=modality_scale,
            VIT_OUTPUT=output,
        )
        patches = network.patch_embed
        patch, own_grid = patches.proj.kernel_size, tuple(patches.grid_size)
        step = check_stride(patch if stride is None else stride, patch, image_size)
        stages: Dict[str, nn.Module] = {EMBEDDING: PatchEmbedding(patches.proj, patches.norm, step)}
        for number, block in enumerate(network.blocks, start=1):
            last = number == len(network.blocks)
            stages[f"block{number}"] = TransformerStage(block, network.norm if last else None)
        super().__init__(stages, unshared_stages, frozen_stages, "its patches, (B, D, h, w)")
        self.patch_size: Tuple[int, int] = patch
        self.stride = step
        self.feat_dim = int(network.embed_dim)
        self.sequence = TokenSequence(network, own_grid)
        self.sequence.resize(self.grid_of(image_size))
        self.has_class_token = network.cls_token is not None
        self.output = output
        self._check_class_token()
        self.embeds_all = modality_embedding == "all"
        self.modality_scale = float(modality_scale)
        self.modality_embedding: Optional[nn.Parameter] = None
        if modality_embedding != "none":
            self.modality_embedding = nn.Parameter(torch.empty(2, self.feat_dim))
            nn.init.trunc_normal_(self.modality_embedding, std=_STD)
            self.new_parameters = ("modality_embedding",)
        if frozen_stages:
            self.sequence.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.BACKBONE`` and ``INPUT.SIZE_TRAIN``."""
        from .vit.timm_vit import build_vit

        node = cfg.MODEL.BACKBONE
        return {
            "network": build_vit(cfg),
            "image_size": cfg.INPUT.SIZE_TRAIN,
            "stride": node.STRIDE_SIZE,
            "unshared_stages": node.UNSHARED_STAGES,
            "frozen_stages": node.FROZEN_STAGES,
            "modality_embedding": node.MODALITY_EMBEDDING,
            "modality_scale": node.MODALITY_SCALE,
            "output": node.VIT_OUTPUT,
        }

    @property
    def num_prefix(self) -> int:
        """Return P, the number of tokens before those of the patches."""
        return self.sequence.num_prefix

    def forward(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Return the map of images (B, 3, H, W) with modalities (B,).

        It is the class token, (B, D, 1, 1), or those of the patches, (B, D, h, w); see ``output``.
        """
        if self.output == "patches":
            return self.tokens(images, modalities).maps
        sequence = self.forward_stages(images, modalities, self.stages)
        return sequence[:, 0, :, None, None]

    def tokens(self, images: Tensor, modalities: Tensor) -> Tokens:
        """Return all tokens of images (B, 3, H, W), behind the last norm."""
        sequence = self.forward_stages(images, modalities, self.stages)
        return self.split(sequence, images.shape[-2:])

    def split(self, sequence: Tensor, image_size: Sequence[int]) -> Tokens:
        """Take apart what ``forward_stages`` returns, (B, T, D), for images of a size (H, W)."""
        prefix = self.num_prefix
        return Tokens(sequence[:, :prefix], sequence[:, prefix:], self.grid_of(image_size))

    def grid_of(self, image_size: Sequence[int]) -> Grid:
        """Return the numbers of patches (h, w) of images (H, W)."""
        (height, width), patch, step = image_size, self.patch_size, self.stride
        return (
            (int(height) - patch[0]) // step[0] + 1,
            (int(width) - patch[1]) // step[1] + 1,
        )

    def after_stage(self, name: str, outputs: Tensor, modalities: Tensor) -> Tensor:
        """Put the other tokens before the patches behind the embedding; let maps be recorded."""
        if name == EMBEDDING:
            outputs = self.sequence(outputs, self._modality_of(modalities), self.embeds_all)
        if not self.taps[name].wanted:
            return outputs
        prefix, patches = outputs[:, : self.num_prefix], outputs[:, self.num_prefix :]
        grid = infer_grid(patches.shape[1], self.sequence.latest)
        if name == self.stages[-1] and self.output == "class":
            self.taps[name](to_map(patches.detach(), grid))  # the class token takes no more of them
            return outputs
        recorded = self.taps[name](to_map(patches, grid))  # part of the graph, for Grad-CAM
        return torch.cat([prefix, from_map(recorded)], dim=1)

    def load_ordinary(
        self, state: Mapping[str, Tensor], source: str = "the checkpoint"
    ) -> LoadReport:
        """Fill both streams from the checkpoint of an ordinary vision transformer.

        Args:
            state: the tensors by their names in timm, FastReID or another program; see
                ``vit/loading.py``. Positions of another grid are resized.
            source: what messages call the file.

        Raises:
            CheckpointError: the file belongs to another network.
        """
        return load_vit(self, state, source)

    def _modality_of(self, modalities: Tensor) -> Optional[Tensor]:
        if self.modality_embedding is None:
            return None
        if not torch.jit.is_tracing():  # an exported graph marks the rows of unknown ones itself
            check_modalities(modalities)
        return self.modality_scale * of_modality(self.modality_embedding, modalities)

    def _check_class_token(self) -> None:
        if self.output == "class" and not self.has_class_token:
            raise UserError(
                "MODEL.BACKBONE.VIT_OUTPUT is 'class', and this network has no class token. Set it "
                "to 'patches': the head then pools the map of the patches."
            )


def check_stride(
    stride: Sequence[int], patch: Sequence[int], image_size: Sequence[int]
) -> Tuple[int, int]:
    """Return the step between patches.

    Raises:
        UserError: it is larger than a patch, or images are smaller than one.
    """
    check_values("MODEL.BACKBONE", STRIDE_SIZE=list(stride))
    if any(one > size for one, size in zip(stride, patch)):
        raise UserError(
            f"MODEL.BACKBONE.STRIDE_SIZE is {list(stride)}, more than a patch of {list(patch)} "
            f"pixels, so that parts of the image would be seen by no patch. Set it to "
            f"{list(patch)}, or to less: then patches overlap."
        )
    if any(pixels < size for pixels, size in zip(image_size, patch)):
        raise UserError(
            f"Images of {list(image_size)} pixels (INPUT.SIZE_TRAIN, INPUT.SIZE_TEST) are smaller "
            f"than a patch of {list(patch)}. Set a larger size."
        )
    return int(stride[0]), int(stride[1])
