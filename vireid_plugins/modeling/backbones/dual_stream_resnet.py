"""A ResNet whose first stages are separate for each modality and whose last stages are shared.

This is the common backbone of visible-infrared re-identification (Ye et al., AGW, TPAMI 2021,
separate stems). Blocks are FastReID's own. B images of (H, W) pixels; a stage's output is (B, C,
H', W').
"""

import copy
import functools
import logging
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.backbones import BACKBONE_REGISTRY, resnet

from ...errors import UserError
from ...keys import SWITCH, Key, at_least, between, check_values, declare, each
from ...modality import apply_per_modality
from ..checkpointing import recomputed
from ..layers import NonLocal
from ..maps import Tap
from .pretrained import LoadReport, fetch_pretrained, fill, read_weights

logger = logging.getLogger(__name__)

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
DEPTHS = ("18x", "34x", "50x", "101x")
_STAGE_COUNT = between(0, len(STAGES))


declare(
    "MODEL.BACKBONE",
    Key("UNSHARED_STAGES", 1, _STAGE_COUNT, "stages with weights per modality; 1: stem, 5: all"),
    Key("FROZEN_STAGES", 0, _STAGE_COUNT, "stages that never train; 1: stem, 5: all"),
    Key("NL_BLOCKS", [0, 2, 3, 0], each(at_least(0), count=4), "non-local blocks, layer1..layer4"),
    Key("NL_LEGACY_WIDTH", False, SWITCH, "one inner channel, as in AGW's code; False: C / 2"),
)


class ResNetStem(nn.Sequential):
    """Convolution, batch norm, ReLU, pooling."""

    checkpointed = False  # see DualStreamResNet.checkpoint_activations

    def forward(self, images: Tensor) -> Tensor:
        if self.checkpointed:
            return recomputed(super().forward, self, images)
        return super().forward(images)


class ResNetStage(nn.Sequential):
    """Residual blocks, the last few of which are followed by a non-local block."""

    checkpointed = False  # see DualStreamResNet.checkpoint_activations

    def __init__(self, blocks: nn.Sequential, num_non_local: int, norm: str, legacy: bool) -> None:
        super().__init__(*blocks)
        width = _width_of(blocks[-1])
        first = len(blocks) - num_non_local
        self.num_blocks = len(blocks)
        self.non_local = nn.ModuleDict(
            {str(i): NonLocal(width, norm, legacy) for i in range(first, len(blocks))}
        )

    def forward(self, feature_map: Tensor) -> Tensor:
        for name in map(str, range(self.num_blocks)):
            block = functools.partial(self._block, name)
            if self.checkpointed:
                feature_map = recomputed(block, self, feature_map)
            else:
                feature_map = block(feature_map)
        return feature_map

    def _block(self, name: str, feature_map: Tensor) -> Tensor:
        feature_map = self._modules[name](feature_map)
        if name in self.non_local:
            feature_map = self.non_local[name](feature_map)
        return feature_map


class DualStreamResNet(nn.Module):
    """A ResNet with a stream for each modality: ``backbone(images, modalities) -> feature_map``.

    Args:
        network: a ResNet of FastReID, without its own non-local blocks.
        unshared_stages: stages with separate weights, 0 (none) to 5 (all), from the image on.
        frozen_stages: stages that never train, 0 to 5, from the image on.
        non_local: for each of the four layers, how many of its last blocks are followed by a
            non-local block.
        norm: normalization of the non-local blocks.
        legacy_non_local: give the non-local blocks one inner channel, as in AGW's public code.

    Raises:
        UserError: a number is out of its range.
    """

    takes_modalities = True

    @configurable
    def __init__(
        self,
        *,
        network: Any,
        unshared_stages: int = 1,
        frozen_stages: int = 0,
        non_local: Sequence[int] = (0, 0, 0, 0),
        norm: str = "BN",
        legacy_non_local: bool = False,
    ) -> None:
        super().__init__()
        check_values("MODEL.BACKBONE", UNSHARED_STAGES=unshared_stages, FROZEN_STAGES=frozen_stages)
        if len(non_local) != len(STAGES) - 1:
            raise UserError(
                f"MODEL.BACKBONE.NL_BLOCKS is {list(non_local)}; expected a number of blocks for "
                f"each of {', '.join(STAGES[1:])}."
            )
        stages: List[nn.Module] = [_stem(network)]
        for name, count in zip(STAGES[1:], non_local):
            blocks = getattr(network, name)
            if not 0 <= count <= len(blocks):
                raise UserError(
                    f"MODEL.BACKBONE.NL_BLOCKS of {name} is {count}; expected 0 to {len(blocks)}, "
                    "the number of its blocks."
                )
            stages.append(ResNetStage(blocks, count, norm, legacy_non_local))
        self.unshared = STAGES[:unshared_stages]
        self.frozen = STAGES[:frozen_stages]
        named = dict(zip(STAGES, stages))
        self.visible = nn.ModuleDict({name: named[name] for name in self.unshared})
        self.infrared = copy.deepcopy(self.visible)
        self.shared = nn.ModuleDict({n: named[n] for n in STAGES if n not in self.unshared})
        self.taps = nn.ModuleDict(
            {name: Tap(name, f"output of {name}, (B, C, H, W)") for name in STAGES}
        )
        self.feat_dim = _width_of(network.layer4[-1])
        self._freeze()

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.BACKBONE.*``."""
        backbone = cfg.MODEL.BACKBONE
        if backbone.DEPTH not in DEPTHS:
            raise UserError(f"MODEL.BACKBONE.DEPTH is {backbone.DEPTH!r}; expected {DEPTHS}.")
        plain = cfg.clone()
        plain.defrost()
        plain.MODEL.BACKBONE.PRETRAIN = plain.MODEL.BACKBONE.WITH_NL = False
        return {
            "network": resnet.build_resnet_backbone(plain),
            "unshared_stages": backbone.UNSHARED_STAGES,
            "frozen_stages": backbone.FROZEN_STAGES,
            "non_local": backbone.NL_BLOCKS if backbone.WITH_NL else (0, 0, 0, 0),
            "norm": backbone.NORM,
            "legacy_non_local": backbone.NL_LEGACY_WIDTH,
        }

    def forward(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Return the map (B, C, H', W') of images (B, 3, H, W) with modalities (B,)."""
        return self.forward_stages(images, modalities, STAGES)

    def forward_stages(self, inputs: Tensor, modalities: Tensor, stages: Sequence[str]) -> Tensor:
        """Run only ``stages``, for a method that works on a map between two of them.

        Args:
            inputs: images, or the output of the stage before; (B, ...).
            modalities: (B,).
            stages: consecutive names of ``STAGES``, such as ``STAGES[:2]``; if there are none,
                ``inputs`` are returned.

        Returns:
            The last of these stages' output (B, C, H', W'), rows in batch order.

        Raises:
            UserError: ``stages`` are not consecutive stages.
        """
        stages = tuple(stages)
        if stages not in {STAGES[i : i + len(stages)] for i in range(len(STAGES))}:
            raise UserError(f"Expected consecutive stages of {STAGES}; got {stages}.")
        feature_map = inputs
        for names in self._segments([name for name in stages if name in self.unshared]):
            streams = [
                nn.Sequential(*(stream[name] for name in names))
                for stream in (self.visible, self.infrared)
            ]
            feature_map = self.taps[names[-1]](apply_per_modality(streams, feature_map, modalities))
        for name in stages:
            if name in self.shared:
                feature_map = self.taps[name](self.shared[name](feature_map))
        return feature_map

    def _segments(self, names: Sequence[str]) -> List[List[str]]:
        """Cut ``names`` into segments that end at a recorded map; each sorts the rows once."""
        segments: List[List[str]] = [[]]
        for name in names:
            segments[-1].append(name)
            if self.taps[name].wanted:
                segments.append([])
        return [segment for segment in segments if segment]

    def train(self, mode: bool = True) -> "DualStreamResNet":
        """Set the mode; frozen stages stay in evaluation mode, so their batch norm is constant."""
        super().train(mode)
        for stage in self._frozen_stages():
            stage.eval()
        return self

    def checkpoint_activations(self, on: bool = True) -> None:
        """Keep only the inputs of stem and blocks for the backward pass; compute the rest again."""
        for module in self.modules():
            if isinstance(module, (ResNetStem, ResNetStage)):
                module.checkpointed = on

    def load_ordinary(
        self, state: Mapping[str, Tensor], source: str = "the checkpoint"
    ) -> LoadReport:
        """Fill both streams from the checkpoint of an ordinary ResNet.

        Args:
            state: the tensors by their names in torchvision or in FastReID.
            source: what messages call the file.
        """
        return fill(self, {name: self._places(name) for name in state}, state, source)

    def _places(self, name: str) -> Tuple[str, ...]:
        """Return the names here of a tensor of an ordinary ResNet; an unshared stage has two."""
        head, _, rest = name.partition(".")
        if head in ("conv1", "bn1"):
            stage, rest = "stem", name
        elif head.startswith("NL_"):  # FastReID's names: NL_<layer>.<counter>.<rest>
            stage = f"layer{head[3:]}"
            rest = self._non_local_place(stage, rest)
        else:
            stage = head
        if stage not in STAGES:
            return ()
        streams = ("visible", "infrared") if stage in self.unshared else ("shared",)
        return tuple(f"{stream}.{stage}.{rest}" for stream in streams)

    def _non_local_place(self, stage: str, rest: str) -> str:
        counter, _, rest = rest.partition(".")
        streams = self.visible if stage in self.unshared else self.shared
        names = list(_stage(streams, stage).non_local) if stage in streams else []
        block = names[int(counter)] if int(counter) < len(names) else counter
        return f"non_local.{block}.{rest}"

    def _frozen_stages(self) -> List[nn.Module]:
        streams = (self.visible, self.infrared, self.shared)
        return [stream[name] for name in self.frozen for stream in streams if name in stream]

    def _freeze(self) -> None:
        for stage in self._frozen_stages():
            stage.requires_grad_(False)


def _stage(streams: nn.ModuleDict, name: str) -> ResNetStage:
    stage = streams[name]
    assert isinstance(stage, ResNetStage)  # the stem has no non-local blocks
    return stage


def _width_of(block: Any) -> int:
    """Return the channels of the output of a block of FastReID's ResNet."""
    return (block.conv3 if hasattr(block, "conv3") else block.conv2).out_channels


def _stem(network: nn.Module) -> ResNetStem:
    stem = ResNetStem()
    for name in ("conv1", "bn1", "relu", "maxpool"):
        stem.add_module(name, getattr(network, name))
    return stem


@BACKBONE_REGISTRY.register()
def build_dual_stream_resnet_backbone(cfg: Any) -> DualStreamResNet:
    """Build a ``DualStreamResNet`` from ``MODEL.BACKBONE.*``, which may ask for trained weights."""
    backbone = DualStreamResNet(cfg)
    node = cfg.MODEL.BACKBONE
    if node.PRETRAIN:
        if node.PRETRAIN_PATH:
            state = read_weights(node.PRETRAIN_PATH)
        else:
            prefix = ("se_" if node.WITH_SE else "") + ("ibn_" if node.WITH_IBN else "")
            state = fetch_pretrained(prefix + node.DEPTH, resnet.model_urls)
        backbone.load_ordinary(state, node.PRETRAIN_PATH or "the checkpoint")
    return backbone


build_dual_stream_resnet_backbone.takes_modalities = True  # the methods of FastReID name none
