"""The networks of timm (PyTorch Image Models, Wightman 2019) that are a sequence of stages.

``MODEL.BACKBONE.NETWORK: timm/NAME``, where NAME is timm's own, such as ``timm/convnext_tiny`` or,
to choose among several pretrained weights, ``timm/convnext_tiny.fb_in1k``. A stage is what lies
between two of the feature maps that timm lists. Together the five stages do what the network's
``forward_features`` does. Blocks are found by watching the network on one black image.
"""

import difflib
import functools
from collections import OrderedDict
from typing import Any, Dict, Iterable, List, Mapping, Sequence

from torch import Tensor, nn

from ....errors import MissingLibraryError, UnknownNameError, UserError
from .base import STAGES, Stage, Stages, register_network
from .cutting import CutBlock, RefusedSizeError, UncutError, cut, first_sentence
from .efficientnet_names import own_names
from .timm_weights import compare_pixels, fetch

#: what timm raises if a network has no such option, or cannot be built with it
_REFUSALS = (TypeError, AssertionError, NotImplementedError, RuntimeError, ValueError, KeyError)
#: timm's options for ``MODEL.BACKBONE.LAST_STRIDE`` 2 and 1
_LAST_STRIDE: Sequence[Mapping[str, Any]] = ({}, {"output_stride": 16})


class _RefusedError(UserError):
    """A network that timm cannot build with the options of the config."""


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
            stages = cls._cut(_build(cfg, **_LAST_STRIDE[node.LAST_STRIDE == 1]), cfg)
        except _RefusedError:
            if node.LAST_STRIDE != 1:
                raise
            # does this key cause the error, or does the network fail without it too?
            stages = cls._cut(_build(cfg), cfg)
        if node.LAST_STRIDE == 1 and stages.sizes["layer4"] != stages.sizes["layer3"]:
            raise UserError(
                f"MODEL.BACKBONE.LAST_STRIDE is 1, and {node.NETWORK} has no such form: timm does "
                "not build it with output_stride=16. Set MODEL.BACKBONE.LAST_STRIDE 2: its last "
                "stage then halves the map."
            )
        if node.NORM == "syncBN":  # only now, since PyTorch 1 cannot run it on a CPU
            for stage in stages.stages.values():
                _timm(cfg).layers.convert_sync_batchnorm(stage)
        return stages

    @classmethod
    def _cut(cls, network: Any, cfg: Any) -> "TimmNetwork":
        name, size = cfg.MODEL.BACKBONE.NETWORK, list(cfg.INPUT.SIZE_TEST)
        try:
            return cls(network, size)
        except UncutError as error:
            raise UserError(
                f"MODEL.BACKBONE.NETWORK {name} cannot be cut into stages: {error}. Use one that "
                "is a sequence of stages, such as a ConvNeXt, EfficientNet, MobileNet, RegNet, "
                "ResNet or Swin."
            ) from error
        except RefusedSizeError as error:
            raise UserError(
                f"MODEL.BACKBONE.NETWORK {name} does not take images of INPUT.SIZE_TEST {size}: "
                f"{error}. Set another size, such as a multiple of 32 pixels, or use another "
                "network."
            ) from error

    @classmethod
    def fetch(cls, cfg: Any) -> Mapping[str, Tensor]:
        """Return the weights that timm downloads for the network, or has in its cache."""
        name = _name(cfg)
        about = _timm(cfg).models.get_pretrained_cfg(name)
        state = fetch(name, about, functools.partial(_build, cfg))  # no stride changes a shape
        compare_pixels(cfg, about)
        return state

    def own_names(self, names: Iterable[str]) -> Dict[str, str]:
        """Translate the names of EfficientNets that other packages publish; see the function."""
        return own_names(names, self._places)


def _timm(cfg: Any) -> Any:
    try:
        import timm
    except ImportError as error:
        raise MissingLibraryError(
            f"MODEL.BACKBONE.NETWORK {cfg.MODEL.BACKBONE.NETWORK} needs timm, which cannot be "
            f"imported ({error}). {_remedy(error)}"
        ) from error
    return timm


def _remedy(error: ImportError) -> str:
    """Return what the user can do where timm, or a library that it imports, is not installed."""
    absent = (error.name or "timm").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and absent != "timm":
        return f"timm is installed, and {absent}, which it imports, is not: pip install {absent}."
    return (
        "Install it: pip install 'vireid_plugins[timm]', or in a checkout pip install -e '.[timm]'."
    )


def _name(cfg: Any) -> str:
    """Return timm's name of the network, with the tag of its weights if the user gave one.

    Raises:
        UnknownNameError: timm has no network, or no weights, of that name.
    """
    timm, asked = _timm(cfg), cfg.MODEL.BACKBONE.NETWORK
    name = asked.partition("/")[2]
    network, dot, _ = name.partition(".")
    if not timm.is_model(network):
        near = difflib.get_close_matches(network.strip().lower(), timm.list_models(), 3, 0.6)
        hint = (
            f"Did you mean {_or('timm/' + one for one in near)}?"
            if near
            else "Expected timm/NAME, such as timm/convnext_tiny; timm.list_models() has all names."
        )
        raise UnknownNameError(
            f"MODEL.BACKBONE.NETWORK is {asked!r}; timm {timm.__version__} has no network "
            f"{network!r}. {hint}"
        )
    known = timm.list_models(f"{network}.*", pretrained=True) if dot else []
    if dot and name not in known:
        raise UnknownNameError(
            f"MODEL.BACKBONE.NETWORK is {asked!r}; timm {timm.__version__} has no weights of that "
            f"name. Known: {_or('timm/' + one for one in [network, *known])}."
        )
    return name


def _build(cfg: Any, **options: Any) -> Any:
    """Return timm's network without its classifier.

    Raises:
        UserError: the network does not exist, or cannot be built with the keys of ``cfg``.
    """
    timm, name, node = _timm(cfg), _name(cfg), cfg.MODEL.BACKBONE
    size = list(cfg.INPUT.SIZE_TEST)
    if node.NORM not in ("BN", "syncBN"):
        raise UserError(
            f"MODEL.BACKBONE.NORM is {node.NORM!r}, and a network of timm has its own "
            "normalization. Set it to 'BN' (as it is) or 'syncBN' (its batch norm over all "
            "processes)."
        )
    about = timm.models.get_pretrained_cfg(name)
    if about is not None and getattr(about, "fixed_input_size", False):
        if size != list(cfg.INPUT.SIZE_TRAIN):
            raise UserError(
                f"MODEL.BACKBONE.NETWORK {node.NETWORK} is built for one size of images, and "
                f"INPUT.SIZE_TRAIN is {list(cfg.INPUT.SIZE_TRAIN)}, INPUT.SIZE_TEST {size}. Set "
                "both to the same."
            )
        options["img_size"] = tuple(size)
    try:
        return timm.create_model(name, num_classes=0, **options)
    except _REFUSALS as error:
        raise _RefusedError(
            f"timm cannot build {name} with {_settings(options)}: {first_sentence(error)}. Set "
            "another INPUT.SIZE_TRAIN and INPUT.SIZE_TEST (some networks take only square images), "
            "or use another network."
        ) from error


def _flat(name: str) -> str:
    """Return the name of a module inside a network as a name without dots."""
    return name.replace(".", "_")


def _settings(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items()) or "its usual options"


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)
