"""CrossViT with a stream for each modality.

*Paper*: C.-F. Chen, Q. Fan, R. Panda, "CrossViT: Cross-Attention Multi-Scale Vision Transformer
for Image Classification", ICCV 2021, arXiv 2103.14899. Public code: IBM/CrossViT.
*Idea*: two transformers see an image in small and in large patches. After each group of blocks, the
class token of each attends to the patches of the other and goes back.
*Here*: ``DualStreamCrossViT``. Patch embeddings, blocks and the exchange are timm's.

B images of (H, W) pixels; branch 0 is the fine one (patches of 12 pixels), branch 1 the coarse one
(16). Branch i has h_i x w_i patches and tokens of D_i channels; D is the sum of all D_i.
"""

from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.backbones import BACKBONE_REGISTRY

from ...errors import UserError
from ...keys import Key, above, check_values, declare, each
from ...modality import apply_per_modality
from ..maps import Tap
from .dual_stream_timm import check_pooling, check_timm_name, check_transformer_keys, network_of
from .pretrained import LoadReport
from .stages.timm_library import asked_for, create
from .start import read_start
from .streams import TwoStreams
from .vit import Tokens, TokenSequence
from .vit.crossvit_loading import load_crossvit
from .vit.crossvit_stage import BranchEmbedding, CrossStage, beside, unpacked
from .vit.positions import Grid, infer_grid
from .vit.timm_vit import fetch_vit, ordinary
from .vit.tokens import from_map, to_map

EMBEDDING = "embedding"
Sequences = Tuple[Tensor, ...]
_STEP = [16, 16]  # FastReID's default of STRIDE_SIZE, which is not read

declare(
    "MODEL.BACKBONE",
    Key(
        "BRANCH_SCALES",
        [1.0, 1.0],
        each(above(0, at_most=4), count=2),
        "size of the image that CrossViT's fine and coarse branch see, in parts of the image's "
        "(CrossViT's own: 1, 0.9333)",
    ),
)


class DualStreamCrossViT(TwoStreams):
    """CrossViT in two streams: ``backbone(images, modalities) -> feature_map``.

    Its stages are the two patch embeddings, then the blocks, each of which is encoders in both
    branches and an exchange between them. The last block ends with the last norms. Class tokens and
    positions belong to no stream. Images may have any size: a branch sees them at the nearest size
    that its patches fill, and positions are resized to it.

    Args:
        network: a CrossViT of timm; its modules are taken over.
        image_size: (H, W) for which position embeddings are kept and trained.
        branch_scales: size of the image in each branch, in parts of the image's.
        unshared_stages: stages with separate weights: 1 is the embeddings, 2 also the first block.
        frozen_stages: stages that never train, counted likewise. The first one takes class tokens
            and positions with it.

    Raises:
        UserError: a number is out of its range.
    """

    passes_tokens = True
    has_class_token = True

    @configurable
    def __init__(
        self,
        *,
        network: Any,
        image_size: Sequence[int],
        branch_scales: Sequence[float] = (1.0, 1.0),
        unshared_stages: int = 0,
        frozen_stages: int = 0,
    ) -> None:
        check_values("MODEL.BACKBONE", BRANCH_SCALES=list(branch_scales))
        embedding = BranchEmbedding(network.patch_embed, branch_scales)
        stages: Dict[str, nn.Module] = {EMBEDDING: embedding}
        for number, block in enumerate(network.blocks, start=1):
            last = number == len(network.blocks)
            stages[f"block{number}"] = CrossStage(block, list(network.norm) if last else None)
        super().__init__(
            stages, unshared_stages, frozen_stages, "the coarse patches, (B, D_1, h_1, w_1)"
        )
        self.fine_taps = nn.ModuleDict(
            {
                n: Tap(f"fine_{n}", f"output of {n}, the fine patches, (B, D_0, h_0, w_0)")
                for n in stages
            }
        )
        self.branch_dims: Tuple[int, ...] = tuple(int(one) for one in network.embed_dim)
        self.feat_dim = sum(self.branch_dims)
        sequences = [_sequence(network, branch) for branch in range(len(self.branch_dims))]
        for sequence, grid in zip(sequences, self.grids(image_size)):
            sequence.resize(grid)
        self.sequences: Any = nn.ModuleList(sequences)
        if frozen_stages:
            self.sequences.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.BACKBONE`` and ``INPUT.SIZE_TRAIN``.

        Raises:
            UserError: the network is no CrossViT, or timm is missing.
        """
        node = cfg.MODEL.BACKBONE
        return {
            "network": _network(cfg),
            "image_size": cfg.INPUT.SIZE_TRAIN,
            "branch_scales": node.BRANCH_SCALES,
            "unshared_stages": node.UNSHARED_STAGES,
            "frozen_stages": node.FROZEN_STAGES,
        }

    def forward(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Return both class tokens of images (B, 3, H, W), side by side: (B, D, 1, 1)."""
        before = self.forward_stages(images, modalities, self.stages[:-1])
        last = self._run(self.stages[-1], before, modalities)
        self._recorded(self.stages[-1], tuple(one.detach() for one in last))
        # No class token depends on the patches behind the last block, so they have no gradient.
        return torch.cat([one[:, 0] for one in last], dim=1)[..., None, None]

    def branches(self, images: Tensor, modalities: Tensor) -> Tuple[Tokens, ...]:
        """Return the tokens of each branch, fine and coarse, behind the last norms."""
        sequences = self.forward_stages(images, modalities, self.stages)
        grids = self.grids(images.shape[-2:])
        return tuple(Tokens(one[:, :1], one[:, 1:], g) for one, g in zip(sequences, grids))

    def grids(self, image_size: Sequence[int]) -> Tuple[Grid, ...]:
        """Return the numbers of patches (h_i, w_i) of each branch, for images (H, W)."""
        stream = getattr(self, self.streams_of(EMBEDDING)[0])
        return stream[EMBEDDING].grids(image_size)

    def forward_stages(
        self, inputs: Union[Tensor, Sequences], modalities: Tensor, stages: Sequence[str]
    ) -> Any:
        """Run only ``stages``, as ``TwoStreams.forward_stages``.

        Args:
            inputs: images (B, 3, H, W) if the first stage is ``"embedding"``; otherwise what the
                stage before returned.
            modalities: (B,).
            stages: consecutive names of ``self.stages``.

        Returns:
            The sequences of both branches, (B, 1 + h_i * w_i, D_i), rows in batch order.

        Raises:
            UserError: ``stages`` are not consecutive stages.
        """
        outputs: Any = inputs
        for name in self.consecutive(stages):
            given = (outputs,) if torch.is_tensor(outputs) else tuple(outputs)
            outputs = self._run(name, given, modalities)
            if name == EMBEDDING:  # Eq. (1): class token and positions
                outputs = tuple(
                    sequence(patches, None, False)
                    for sequence, patches in zip(self.sequences, outputs)
                )
            outputs = self._recorded(name, outputs)
        return outputs

    def _run(self, name: str, inputs: Sequences, modalities: Tensor) -> Sequences:
        """Run one stage on all rows, or each row in the stream of its modality."""
        if name in self.shared:
            return self.shared[name](*inputs)
        shapes = [one.shape[1:] for one in inputs]
        results: List[torch.Size] = []

        def packed(stage: nn.Module, rows: Tensor) -> Tensor:
            outputs = stage(*unpacked(rows, shapes))
            results[:] = [one.shape[1:] for one in outputs]
            return beside(outputs)

        streams = [
            lambda rows, stage=stream[name]: packed(stage, rows)
            for stream in (self.visible, self.infrared)
        ]
        return unpacked(apply_per_modality(streams, beside(inputs), modalities), results)

    def _recorded(self, name: str, sequences: Sequences) -> Sequences:
        """Let the maps of patches be recorded, as part of the graph, for Grad-CAM."""
        outputs = list(sequences)
        for branch, tap in enumerate((self.fine_taps[name], self.taps[name])):
            if tap.wanted:
                prefix, patches = outputs[branch][:, :1], outputs[branch][:, 1:]
                grid = infer_grid(patches.shape[1], self.sequences[branch].latest)
                outputs[branch] = torch.cat([prefix, from_map(tap(to_map(patches, grid)))], dim=1)
        return tuple(outputs)

    def load_ordinary(
        self, state: Mapping[str, Tensor], source: str = "the checkpoint"
    ) -> LoadReport:
        """Fill both streams from the checkpoint of an ordinary CrossViT: timm's, IBM's, or ours.

        Args:
            state: the tensors by their names. Positions of another grid are resized.
            source: what messages call the file.

        Raises:
            CheckpointError: the file belongs to another network.
        """
        return load_crossvit(self, state, source)


def _sequence(network: Any, branch: int) -> TokenSequence:
    """Return what puts a class token before the patches of a branch and adds positions."""
    positions = getattr(network, f"pos_embed_{branch}")
    patches = positions.shape[1] - 1
    parts = SimpleNamespace(
        cls_token=getattr(network, f"cls_token_{branch}"),
        pos_embed=positions,
        no_embed_class=False,
        pos_drop=network.pos_drop,
        norm_pre=nn.Identity(),
    )
    height, width = network.img_size_scaled[branch]
    size = network.patch_embed[branch].patch_size
    own = (height // size[0], width // size[1])
    return TokenSequence(parts, infer_grid(patches, own))


def _network(cfg: Any) -> nn.Module:
    """Return the CrossViT that ``MODEL.BACKBONE.TIMM_NAME`` names, untrained."""
    node, plain = cfg.MODEL.BACKBONE, ordinary(cfg)
    from timm.models.crossvit import CrossVit

    if not isinstance(plain, CrossVit):
        raise UserError(
            f"{asked_for(cfg)} is no CrossViT, and MODEL.BACKBONE.NAME build_crossvit_backbone "
            "builds nothing else. Use one such as crossvit_small_240 (timm.list_models('crossvit*')"
            " has all), or MODEL.BACKBONE.NAME build_dual_stream_timm_backbone."
        )
    return create(
        cfg,
        drop_path_rate=node.DROP_PATH_RATIO,
        proj_drop_rate=node.DROP_RATIO,
        pos_drop_rate=node.DROP_RATIO,
        attn_drop_rate=node.ATT_DROP_RATE,
    )


@BACKBONE_REGISTRY.register()
def build_crossvit_backbone(cfg: Any) -> DualStreamCrossViT:
    """Build a ``DualStreamCrossViT`` of timm's CrossViT ``MODEL.BACKBONE.TIMM_NAME``.

    Raises:
        UserError: timm is missing, or has no such CrossViT; or a key is wrong.
        CheckpointError: the trained weights are not at hand, or do not fit.
    """
    check_names(cfg)
    node = cfg.MODEL.BACKBONE
    check_transformer_keys(node)
    check_pooling(cfg)
    if list(node.STRIDE_SIZE) != _STEP:
        raise UserError(
            f"MODEL.BACKBONE.STRIDE_SIZE is {list(node.STRIDE_SIZE)}, which CrossViT does not "
            f"read: its patches of 12 and of 16 pixels do not overlap. Set it to {_STEP}."
        )
    backbone = DualStreamCrossViT(cfg)
    if node.PRETRAIN and node.PRETRAIN_PATH:
        backbone.load_ordinary(read_start(cfg), node.PRETRAIN_PATH)
    elif node.PRETRAIN:
        backbone.load_ordinary(fetch_vit(cfg), f"timm's weights of {node.TIMM_NAME}")
    return backbone


def check_names(cfg: Any) -> None:
    """Raise ``UserError`` if timm is missing, or no network of it is named."""
    if not cfg.MODEL.BACKBONE.TIMM_NAME:
        raise UserError(
            "MODEL.BACKBONE.TIMM_NAME is empty; build_crossvit_backbone needs the name of a "
            "CrossViT of timm, such as crossvit_small_240."
        )
    check_timm_name(cfg)


build_crossvit_backbone.takes_modalities = True  # the methods of FastReID name none
build_crossvit_backbone.network_of = network_of
build_crossvit_backbone.check_names = check_names
build_crossvit_backbone.own_keys = ("TIMM_NAME", "BRANCH_SCALES")
