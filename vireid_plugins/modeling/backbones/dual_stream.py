"""A network whose first stages are separate for each modality and whose last stages are shared.

This is the common backbone of visible-infrared re-identification (Ye et al., AGW, TPAMI 2021,
separate stems). The network is any one that ``stages`` can cut; its blocks are its own. B images
of (H, W) pixels; a stage's output is (B, C, H', W').
"""

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from torch import Tensor

from fastreid.config import configurable
from fastreid.modeling.backbones import BACKBONE_REGISTRY

from ...errors import UserError
from ...keys import SWITCH, Key, at_least, declare, each, one_of, text
from ...modality import apply_per_modality
from .pretrained import LoadReport, fill
from .stages import STAGES, Stage, Stages, find_network
from .start import read_start
from .streams import TwoStreams

#: what messages say to a user whose backbone has no stages
USE_STAGES = (
    "set MODEL.BACKBONE.NAME to build_dual_stream_resnet_backbone, or to "
    "build_dual_stream_backbone with the network in MODEL.BACKBONE.NETWORK (UNSHARED_STAGES 0: "
    "one network for both modalities)"
)

declare(
    "MODEL.BACKBONE",
    Key("NETWORK", "resnet", text("a network"), "network of build_dual_stream_backbone"),
    Key("UNSHARED_STAGES", 1, at_least(0), "stages with weights per modality; 1: the first one"),
    Key(
        "FROZEN_STAGES", 0, at_least(0), "stages that never train; 1: the first one", features=False
    ),
    Key("NL_BLOCKS", [0, 2, 3, 0], each(at_least(0), count=4), "non-local blocks, layer1..layer4"),
    Key("NL_LEGACY_WIDTH", False, SWITCH, "one inner channel, as in AGW's code; False: C / 2"),
    Key(
        "STEM_POOL",
        "host",
        one_of("host", "padded"),
        "pooling in a ResNet's stem: FastReID's, or torchvision's with a border of zeros",
    ),
)


class DualStreamBackbone(TwoStreams):
    """A network with a stream for each modality: ``backbone(images, modalities) -> feature_map``.

    Args:
        network: a network that is cut into stages.
        unshared_stages: stages with separate weights, 0 (none) to 5 (all), from the image on.
        frozen_stages: stages that never train, 0 to 5, from the image on.
        non_local: for each of the four layers, how many of its last blocks are followed by a
            non-local block.
        norm: normalization of the non-local blocks.
        legacy_non_local: give the non-local blocks one inner channel, as in AGW's public code.

    Raises:
        UserError: a number is out of its range.
    """

    @configurable
    def __init__(
        self,
        *,
        network: Stages,
        unshared_stages: int = 1,
        frozen_stages: int = 0,
        non_local: Sequence[int] = (0, 0, 0, 0),
        norm: str = "BN",
        legacy_non_local: bool = False,
    ) -> None:
        _add_non_local(network.stages, non_local, norm, legacy_non_local)
        super().__init__(network.stages, unshared_stages, frozen_stages)
        self.network = network
        self.feat_dim = network.stages[STAGES[-1]].channels

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.BACKBONE.*``."""
        backbone = cfg.MODEL.BACKBONE
        plain = cfg.clone()
        plain.defrost()
        plain.MODEL.BACKBONE.PRETRAIN = plain.MODEL.BACKBONE.WITH_NL = False
        return {
            "network": _build_network(plain),
            "unshared_stages": backbone.UNSHARED_STAGES,
            "frozen_stages": backbone.FROZEN_STAGES,
            "non_local": backbone.NL_BLOCKS if backbone.WITH_NL else (0, 0, 0, 0),
            "norm": backbone.NORM,
            "legacy_non_local": backbone.NL_LEGACY_WIDTH,
        }

    def forward(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Return the map (B, C, H', W') of images (B, 3, H, W) with modalities (B,)."""
        return self.forward_stages(images, modalities, STAGES)

    def all_maps(self, images: Tensor, modalities: Tensor) -> List[Tensor]:
        """Return the map before the stem's pooling, and those of the four layers, (B, C, H, W).

        A stem that does not end in a max pooling gives its output.
        """
        stem, *layers = STAGES
        stems: List[Any] = [getattr(self, name)[stem] for name in self.streams_of(stem)]
        functions = [one.without_pooling for one in stems]
        if len(stems) > 1:
            maps = [apply_per_modality(functions, images, modalities)]
        else:
            maps = [functions[0](images)]
        current = self.after_stage(stem, stems[0].pooling(maps[0]), modalities)
        for layer in layers:
            current = self.forward_stages(current, modalities, (layer,))
            maps.append(current)
        return maps

    def load_ordinary(
        self, state: Mapping[str, Tensor], source: str = "the checkpoint"
    ) -> LoadReport:
        """Fill both streams from the checkpoint of the ordinary network.

        Args:
            state: the tensors by their names in FastReID or in torchvision (see the adapter of the
                network, a file in ``stages``).
            source: what messages call the file.
        """
        own = self.network.own_names(state)
        places = {name: self._places(own[name]) for name in state}
        network = self.network
        return fill(self, places, state, source, network.outside, network.layers)

    def _places(self, name: str) -> Tuple[str, ...]:
        """Return the names here of a tensor of the network; an unshared stage has two."""
        stage, _, rest = self.network.place(name).partition(".")
        if stage not in STAGES:
            return ()
        if rest.startswith("non_local."):
            rest = self._non_local_place(stage, rest[len("non_local.") :])
            if not rest:
                return ()
        return tuple(f"{stream}.{stage}.{rest}" for stream in self.streams_of(stage))

    def _non_local_place(self, stage: str, rest: str) -> str:
        """Return the place of a non-local block's tensor in a stage; empty: no such block."""
        counter, _, rest = rest.partition(".")
        streams = self.visible if stage in self.unshared else self.shared
        names = list(streams[stage].non_local)  # type: ignore[arg-type]  # a ModuleDict
        if not counter.isdecimal() or int(counter) >= len(names):
            return ""
        return f"non_local.{names[int(counter)]}.{rest}"


def _build_network(cfg: Any) -> Stages:
    node, adapter = cfg.MODEL.BACKBONE, find_network(cfg)
    try:
        return adapter.from_config(cfg)
    except ValueError as error:
        if "num_groups" not in str(error):
            raise
        raise UserError(
            f"MODEL.BACKBONE.NORM {node.NORM} does not fit MODEL.BACKBONE.NETWORK {node.NETWORK}: "
            f"{error}. Use another normalization, or a network such as resnet."
        ) from error


def _add_non_local(
    stages: Mapping[str, Stage], counts: Sequence[int], norm: str, legacy: bool
) -> None:
    if len(counts) != len(STAGES) - 1:
        raise UserError(
            f"MODEL.BACKBONE.NL_BLOCKS is {list(counts)}; expected a number of blocks for "
            f"each of {', '.join(STAGES[1:])}."
        )
    for name, count in zip(STAGES[1:], counts):
        blocks = len(stages[name].blocks)
        if not 0 <= count <= blocks:
            raise UserError(
                f"MODEL.BACKBONE.NL_BLOCKS of {name} is {count}; expected 0 to {blocks}, "
                "the number of its blocks."
                if blocks
                else f"MODEL.BACKBONE.NL_BLOCKS of {name} is {count}; expected 0, because {name} "
                "of this network has no block that a non-local block could follow."
            )
        stages[name].add_non_local(count, norm, legacy)


def load_pretrained(backbone: DualStreamBackbone, cfg: Any) -> DualStreamBackbone:
    """Return ``backbone`` with the trained weights that ``MODEL.BACKBONE.PRETRAIN`` asks for.

    Raises:
        CheckpointError: the weights are not at hand, or do not fit.
    """
    node = cfg.MODEL.BACKBONE
    if node.PRETRAIN and node.PRETRAIN_PATH:
        backbone.load_ordinary(read_start(cfg), node.PRETRAIN_PATH)
    elif node.PRETRAIN:
        backbone.load_ordinary(type(backbone.network).fetch(cfg))
    return backbone


@BACKBONE_REGISTRY.register()
def build_dual_stream_backbone(cfg: Any) -> DualStreamBackbone:
    """Build a ``DualStreamBackbone`` from ``MODEL.BACKBONE.*``, which may ask for trained weights.

    Raises:
        UserError: a key is wrong; ``find_network`` lists what can be wrong with the network.
        CheckpointError: the trained weights are not at hand, or do not fit.
    """
    return load_pretrained(DualStreamBackbone(cfg), cfg)


build_dual_stream_backbone.takes_modalities = True  # the methods of FastReID name none
build_dual_stream_backbone.own_keys = ("NETWORK",)
build_dual_stream_backbone.network_of = lambda node: node.NETWORK  # it reads that key
build_dual_stream_backbone.check_names = find_network
