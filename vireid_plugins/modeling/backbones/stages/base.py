"""What a network must be for two streams: five consecutive stages, and the names of its tensors.

Every network is cut into the stages ``STAGES``, so that the keys ``UNSHARED_STAGES``,
``FROZEN_STAGES`` and ``NL_BLOCKS`` and the recorded maps mean the same for all of them. A stage
turns a map (B, C, H, W) into a map (B, C', H', W'); the input of the first one is the images.
"""

import functools
from typing import Any, Callable, Dict, FrozenSet, Iterable, Mapping, Sequence, Tuple, Type, Union

from torch import Tensor, nn

from ....errors import UnknownNameError, UserError
from ....registry import NETWORK_REGISTRY, registered_names, suggest
from ...checkpointing import recomputed
from ...layers import NonLocal
from ..pretrained import CONVOLUTIONS, Layers
from ..start import fetch_listed

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
#: keys of ``MODEL.BACKBONE`` that only some networks read, and the value that all accept
OPTIONS = {
    "NORM": "BN",
    "LAST_STRIDE": 1,
    "WITH_IBN": False,
    "WITH_SE": False,
    "STEM_POOL": "host",
}


def out_channels(part: nn.Module) -> int:
    """Return the output channels of the last convolution inside a part; 0: it has none."""
    convolutions = [m for m in part.modules() if isinstance(m, nn.Conv2d)]
    return convolutions[-1].out_channels if convolutions else 0


class Stage(nn.Module):
    """Parts of a network that run one after another.

    Args:
        parts: the parts by their names, which begin the names of their tensors.
        channels: channels of the stage's output.
        blocks: channels of the output of each part that is a block. Only a block can be followed
            by a non-local block. If there are blocks, activation checkpointing keeps the input of
            each part; otherwise it keeps the input of the stage.
    """

    checkpointed = False  # see DualStreamBackbone.checkpoint_activations

    def __init__(
        self, parts: Mapping[str, nn.Module], channels: int, blocks: Mapping[str, int]
    ) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.channels = channels
        self.blocks = dict(blocks)
        names = tuple(parts)
        self.segments = tuple((name,) for name in names) if blocks else (names,)
        self.non_local = nn.ModuleDict()

    def add_non_local(self, count: int, norm: str = "BN", legacy: bool = False) -> None:
        """Let a non-local block follow each of the last ``count`` blocks."""
        for name in list(self.blocks)[len(self.blocks) - count :]:
            self.non_local[name] = NonLocal(self.blocks[name], norm, legacy)

    def forward(self, feature_map: Tensor) -> Tensor:
        for names in self.segments:
            feature_map = self._segment(names, feature_map)
        return feature_map

    def without_pooling(self, feature_map: Tensor) -> Tensor:
        """Return the map before the max pooling that ends the stage; without one, its output.

        Only for a stage without blocks, as the stem is. ``pooling`` is what is left out.
        """
        parts = [name for name in self._modules if name != "non_local"]
        return self._segment(parts[:-1] if self._ends_in_pooling else parts, feature_map)

    def pooling(self, feature_map: Tensor) -> Tensor:
        """Return the map after the max pooling that ends the stage, if one does."""
        last: Any = [part for name, part in self._modules.items() if name != "non_local"][-1:]
        return last[0](feature_map) if self._ends_in_pooling else feature_map

    @property
    def _ends_in_pooling(self) -> bool:
        parts = [part for name, part in self._modules.items() if name != "non_local"]
        return bool(parts) and isinstance(parts[-1], nn.MaxPool2d)

    def _segment(self, names: Sequence[str], feature_map: Tensor) -> Tensor:
        segment = functools.partial(self._run, names)
        return recomputed(segment, self, feature_map) if self.checkpointed else segment(feature_map)

    def _run(self, names: Sequence[str], feature_map: Tensor) -> Tensor:
        for name in names:
            feature_map = self._modules[name](feature_map)  # type: ignore[misc]  # none is None
            if name in self.non_local:
                feature_map = self.non_local[name](feature_map)
        return feature_map


class Stages:
    """A network cut into ``STAGES``; a subclass is an adapter of one network.

    Args:
        network: the ordinary network.
        paths: for each of ``STAGES``, the names of its parts in the network, in the order in which
            they run, such as ``features.0``. A stage without parts passes its input on.
        block: types of the parts that are blocks; see ``Stage``.
        channels_of: a function that returns the channels of a part's output, 0 if the part does
            not change them.
    """

    #: the values of ``MODEL.BACKBONE.DEPTH``; empty: the network does not read it
    depths: Tuple[str, ...] = ()
    #: which of ``OPTIONS`` the network reads
    options: Tuple[str, ...] = ("NORM",)
    #: names of tensors of the network that follow the last stage
    outside: FrozenSet[str] = frozenset()
    #: how a file of weights is compared with the network
    layers: Layers = CONVOLUTIONS
    #: whether a name may follow the network's own, after a slash
    takes_variant = False

    def __init__(
        self,
        network: Any,
        paths: Mapping[str, Sequence[str]],
        block: Union[type, Tuple[type, ...]] = (),
        channels_of: Callable[[Any], int] = out_channels,
    ) -> None:
        self.stages: Dict[str, Stage] = {}
        self._places: Dict[str, str] = {}
        channels = 3
        for stage in STAGES:
            parts, blocks = {}, {}
            for path, name in zip(paths[stage], _part_names(paths[stage])):
                parts[name] = network.get_submodule(path)
                channels = channels_of(parts[name]) or channels
                if isinstance(parts[name], block) and stage != STAGES[0]:
                    blocks[name] = channels
                self._places[path] = f"{stage}.{name}"
            self.stages[stage] = Stage(parts, channels, blocks)

    @classmethod
    def from_config(cls, cfg: Any) -> "Stages":
        """Build and cut the network of ``cfg``, with random weights.

        ``cfg`` asks for no pretrained weights and no non-local blocks.
        """
        raise NotImplementedError

    @classmethod
    def fetch(cls, cfg: Any) -> Mapping[str, Tensor]:
        """Return pretrained weights when ``MODEL.BACKBONE.PRETRAIN_PATH`` is empty.

        Raises:
            CheckpointError: there are none, or the download failed.
        """
        return fetch_listed(cfg.MODEL.BACKBONE.NETWORK, cfg.MODEL.BACKBONE.DEPTH)

    def own_names(self, names: Iterable[str]) -> Dict[str, str]:
        """Return, for each name in a pretrained file, the name in the network that was cut.

        An adapter overrides it if the answer depends on the network's own modules.
        """
        return self.fastreid_names(names)

    @classmethod
    def fastreid_names(cls, names: Iterable[str]) -> Dict[str, str]:
        """Return FastReID's name of each tensor of a pretrained file.

        An adapter overrides it if such files are published under other names.
        """
        return {name: name for name in names}

    def place(self, name: str) -> str:
        """Return where a tensor of the network lies, as ``"<stage>.<rest>"``; empty: nowhere.

        ``"<stage>.non_local.<i>.<rest>"`` is the stage's non-local block number i, from 0.
        """
        words = name.split(".")
        for end in range(len(words) - 1, 0, -1):
            place = self._places.get(".".join(words[:end]))
            if place:
                return ".".join([place, *words[end:]])
        return ""


def register_network(name: str) -> Callable[[Type[Stages]], Type[Stages]]:
    """Return a decorator that registers an adapter as a value of ``MODEL.BACKBONE.NETWORK``."""

    def register(adapter: Type[Stages]) -> Type[Stages]:
        NETWORK_REGISTRY._do_register(name, adapter)
        return adapter

    return register


def find_network(cfg: Any) -> Type[Stages]:
    """Return the adapter that ``MODEL.BACKBONE.NETWORK`` names.

    Raises:
        UnknownNameError: there is no such network; the message has the nearest names.
        UserError: the network does not have the ``DEPTH``, or does not read another key that is
            set.
    """
    node = cfg.MODEL.BACKBONE
    name, slash, variant = node.NETWORK.partition("/")
    if name not in registered_names(NETWORK_REGISTRY):
        raise UnknownNameError(
            f"MODEL.BACKBONE.NETWORK is {node.NETWORK!r}, which is no network that can be cut into "
            f"stages. {suggest(name, registered_names(NETWORK_REGISTRY))} A network of timm is "
            "written timm/NAME, such as timm/convnext_tiny."
        )
    adapter: Any = NETWORK_REGISTRY.get(name)
    if slash and not adapter.takes_variant:
        raise UserError(
            f"MODEL.BACKBONE.NETWORK is {node.NETWORK!r}; expected {name!r} alone. "
            f"MODEL.BACKBONE.DEPTH chooses its size: {', '.join(adapter.depths)}."
        )
    if adapter.depths and node.DEPTH not in adapter.depths:
        raise UserError(
            f"MODEL.BACKBONE.DEPTH is {node.DEPTH!r}; expected one of {', '.join(adapter.depths)} "
            f"for MODEL.BACKBONE.NETWORK {name}."
        )
    _check_options(node, name, adapter)
    return adapter


def _check_options(node: Any, name: str, adapter: Type[Stages]) -> None:
    for key, usual in OPTIONS.items():
        if node[key] == usual or key in adapter.options:
            continue
        able = [n for n in registered_names(NETWORK_REGISTRY) if key in _options(n)]
        raise UserError(
            f"MODEL.BACKBONE.{key} is {node[key]!r}, which MODEL.BACKBONE.NETWORK {name} does not "
            f"read. Set it to {usual!r}, or use a network that reads it: {', '.join(able)}."
        )


def _options(name: str) -> Tuple[str, ...]:
    adapter: Any = NETWORK_REGISTRY.get(name)
    return adapter.options


def _part_names(paths: Sequence[str]) -> Sequence[str]:
    """Return the last words of the paths or, if two are equal, the whole paths without dots."""
    last = [path.rpartition(".")[2] for path in paths]
    return last if len(set(last)) == len(last) else [path.replace(".", "_") for path in paths]


def keep_size(part: nn.Module) -> None:
    """Set the stride of every convolution of a part from 2 to 1, for ``LAST_STRIDE 1``."""
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)


def numbered(name: str, bounds: Sequence[int]) -> Dict[str, Sequence[str]]:
    """Return the parts of each stage, for blocks that a network holds in one numbered list.

    Args:
        name: the list's name, such as ``features``.
        bounds: for each of ``STAGES`` the number of its first block, and the end of the last.
    """
    return {
        stage: [f"{name}.{number}" for number in range(start, end)]
        for stage, start, end in zip(STAGES, bounds, bounds[1:])
    }


def layers(network: Any, *names: str) -> Dict[str, Sequence[str]]:
    """Return the parts of layer1 to layer4, for a network that has a module for each of them."""
    return {
        stage: [f"{name}.{part}" for part, _ in network.get_submodule(name).named_children()]
        for stage, name in zip(STAGES[1:], names)
    }
