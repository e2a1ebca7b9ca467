"""The networks of timm (PyTorch Image Models, Wightman 2019) that are a sequence of stages.

``MODEL.BACKBONE.NETWORK: timm/NAME``, where NAME is timm's own, such as ``timm/convnext_tiny`` or,
to choose among several pretrained weights, ``timm/convnext_tiny.fb_in1k``. A stage is what lies
between two of the feature maps that timm lists. Together the five stages do what the network's
``forward_features`` does. Blocks are found by watching the network on one black image.
"""

import functools
from collections import OrderedDict
from typing import Any, Dict, Iterable, List, Mapping, Sequence

from torch import Tensor, nn

from ....errors import UserError
from ..pretrained import CONVOLUTIONS_OF_TIMM
from .base import STAGES, Stage, Stages, register_network
from .cutting import CutBlock, RefusedSizeError, UncutError, cut
from .efficientnet_names import own_names
from .timm_library import RefusedError, asked_for, build_network, import_timm, network_name, remedy
from .timm_weights import compare_pixels, fetch

#: timm's options for ``MODEL.BACKBONE.LAST_STRIDE`` 2 and 1
_LAST_STRIDE: Sequence[Mapping[str, Any]] = ({}, {"output_stride": 16})


class MapBlock(nn.Sequential):
    """Modules that run one after another, from a map (B, C, H, W) to another.

    Args:
        block: the modules. Those whose maps are (B, H, W, C) get and return them so.
    """

    def __init__(self, block: CutBlock) -> None:
        super().__init__(OrderedDict((_flat(name), module) for name, module in block.parts))
        self.given_last = block.given.channels_last
        self.returned_last = block.returned.channels_last

    def forward(self, feature_map: Tensor) -> Tensor:
        given = feature_map.permute(0, 2, 3, 1) if self.given_last else feature_map
        returned = super().forward(given)
        return returned.permute(0, 3, 1, 2) if self.returned_last else returned


@register_network("timm")
class TimmNetwork(Stages):
    """A network of timm.

    Args:
        network: the network, which lists its feature maps.
        size: (height, width) of the images.

    Raises:
        UncutError: the network cannot be cut into stages.
        RefusedSizeError: it does not take images of the size.
    """

    options = ("NORM", "LAST_STRIDE")
    layers = CONVOLUTIONS_OF_TIMM
    takes_variant = True

    def __init__(self, network: Any, size: Sequence[int]) -> None:
        self.stages = {}
        self._places = {}
        self.sizes: Dict[str, List[int]] = {}
        for stage, blocks in cut(network, size).items():
            parts = {str(number): MapBlock(block) for number, block in enumerate(blocks)}
            channels = {str(i): block.returned.channels for i, block in enumerate(blocks)}
            last = blocks[-1].returned
            self.sizes[stage] = [last.height, last.width]
            self.stages[stage] = Stage(parts, last.channels, {} if stage == STAGES[0] else channels)
            for number, block in enumerate(blocks):
                for name, _ in block.parts:
                    self._places[name] = f"{stage}.{number}.{_flat(name)}"
        self.outside = frozenset(name for name in network.state_dict() if not self.place(name))

    @classmethod
    def from_config(cls, cfg: Any) -> Stages:
        node = cfg.MODEL.BACKBONE
        try:
            stages = cls._cut(build_network(cfg, **_LAST_STRIDE[node.LAST_STRIDE == 1]), cfg)
        except RefusedError:
            if node.LAST_STRIDE != 1:
                raise
            # does this key cause the error, or does the network fail without it too?
            stages = cls._cut(build_network(cfg), cfg)
        if node.LAST_STRIDE == 1 and stages.sizes["layer4"] != stages.sizes["layer3"]:
            raise UserError(
                f"MODEL.BACKBONE.LAST_STRIDE is 1, and {network_name(cfg)} has no such form: timm "
                "does not build it with output_stride=16. Set MODEL.BACKBONE.LAST_STRIDE 2: its "
                "last stage then halves the map."
            )
        if node.NORM == "syncBN":  # only now, since PyTorch 1 cannot run it on a CPU
            for stage in stages.stages.values():
                import_timm(cfg).layers.convert_sync_batchnorm(stage)
        return stages

    @classmethod
    def _cut(cls, network: Any, cfg: Any) -> "TimmNetwork":
        name, size = asked_for(cfg), list(cfg.INPUT.SIZE_TEST)
        try:
            return cls(network, size)
        except UncutError as error:
            raise UserError(f"{name} cannot be cut into stages: {error}. {remedy(cfg)}") from error
        except RefusedSizeError as error:
            raise UserError(
                f"{name} does not take images of INPUT.SIZE_TEST {size}: "
                f"{error}. Set another size, such as a multiple of 32 pixels, or use another "
                "network."
            ) from error

    @classmethod
    def fetch(cls, cfg: Any) -> Mapping[str, Tensor]:
        """Return the weights that timm downloads for the network, or has in its cache."""
        name = network_name(cfg)
        about = import_timm(cfg).models.get_pretrained_cfg(name)
        state = fetch(
            name, about, functools.partial(build_network, cfg)
        )  # no stride changes a shape
        compare_pixels(cfg, about)
        return state

    def own_names(self, names: Iterable[str]) -> Dict[str, str]:
        """Translate the names of EfficientNets that other packages publish; see the function."""
        return own_names(names, self._places)


def _flat(name: str) -> str:
    """Return the name of a module inside a network as a name without dots."""
    return name.replace(".", "_")
