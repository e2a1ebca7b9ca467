"""Cut a network that lists its feature maps into the five stages, and a stage into its blocks.

The network is any module with ``forward_features(images)`` and timm's ``feature_info``: a list that
names the modules whose outputs are feature maps, from the largest map to the smallest.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor, nn

from ....errors import UserError
from ..chains import Part, Watched
from .base import STAGES

#: what networks raise for images of a size that they do not take
_REFUSALS = (RuntimeError, AssertionError, ValueError, TypeError, IndexError)
_LAYERS = len(STAGES) - 1  # each of them ends with a feature map; the stem may


class UncutError(UserError):
    """A network that is no sequence of five stages; the message is the reason, a clause."""


class RefusedSizeError(UserError):
    """A network that does not take images of a size; the message is the reason, a clause."""


class Map(NamedTuple):
    """The shape of a map between two modules."""

    channels: int
    height: int
    width: int
    channels_last: bool  # it is (B, H, W, C), and not (B, C, H, W)


class CutBlock(NamedTuple):
    """Modules that run one after another, from a map to a map."""

    parts: List[Part]
    given: Map
    returned: Map


def cut(network: Any, size: Sequence[int]) -> Dict[str, List[CutBlock]]:
    """Return the stages of ``network``, which together do what its ``forward_features`` does.

    The last four feature maps are the outputs of layer1 to layer4; what comes before is the stem.
    What follows the last map (a convolution or a norm) belongs to layer4.

    Args:
        network: the network.
        size: (height, width) of the black image that it is watched on.

    Raises:
        UncutError: it cannot be cut.
        RefusedSizeError: it does not take such images.
    """
    infos = list(getattr(network, "feature_info", None) or ())
    _check_maps(infos)
    names = [info["module"] for info in infos if info["module"]]  # "": none, in TResNet
    mode, images = network.training, torch.zeros(1, 3, *size)
    try:
        watched = Watched(network.eval(), network.forward_features, images)
    except _REFUSALS as error:
        raise RefusedSizeError(first_sentence(error)) from error
    network.train(mode)
    reader = _MapReader(size, "NHWC" in str(getattr(network, "output_fmt", "")))
    parts = _parts(watched, ("", network), names)
    stages: Dict[str, List[CutBlock]] = {}
    begin, given = 0, Map(3, size[0], size[1], False)
    for stage, end in zip(STAGES, _ends(watched, network, parts, names)):
        groups = _groups(watched, parts[begin:end])
        stages[stage] = _blocks(watched, groups, given, reader)
        if not stages[stage]:
            raise UncutError(f"{stage} ends with a list of tokens or vectors, and not with a map")
        begin, given = end, stages[stage][-1].returned
    return stages


def first_sentence(error: Exception) -> str:
    """Return the first sentence of a message, or the type of an error without one."""
    return " ".join(str(error).split()).partition(". ")[0][:200].rstrip(".") or type(error).__name__


def _check_maps(infos: Sequence[Dict[str, Any]]) -> None:
    strides = [info["reduction"] for info in infos]
    if len(infos) < _LAYERS:
        raise UncutError(
            f"it has {len(infos)} feature maps, where stem, layer1, ..., layer4 need four or more"
        )
    first, second, third, fourth = strides[-_LAYERS:]
    if not first < second < third <= fourth:
        raise UncutError(
            f"its last four feature maps have the strides {strides[-_LAYERS:]}, where each stage "
            "must make the map smaller; a plain vision transformer keeps its size"
        )


def _parts(watched: Watched, part: Part, names: Sequence[str]) -> List[Part]:
    """Return the modules of a chain, opened until each feature map is the output of one."""
    name, module = part
    begin = f"{name}." if name else ""
    inside = [one for one in names if one.startswith(begin) and one != name]
    opened = watched.parts(module) if inside and name not in names else []
    if not opened:
        return [part]
    return [one for child in opened for one in _parts(watched, child, inside)]


def _ends(
    watched: Watched, network: nn.Module, parts: Sequence[Part], names: Sequence[str]
) -> List[int]:
    """Return for each stage the number of parts up to its end."""
    modules = dict(network.named_modules())
    outputs = [watched.output(module) for _, module in parts]
    ends = []
    for name in names:
        wanted = watched.output(modules[name]) if name in modules else None
        found = [i for i, output in enumerate(outputs, start=1) if output is wanted is not None]
        ends.append(found[-1] if found else 0)
    layers, before = ends[-_LAYERS:], ends[:-_LAYERS]
    if 0 in layers:
        name = names[-_LAYERS:][layers.index(0)]
        raise UncutError(f"its modules do not simply run one after another up to {name}")
    stem = before[-1] if before and before[-1] else layers[0] - 1
    if stem < 1:
        raise UncutError(f"nothing runs before {names[-_LAYERS]}, so that it has no stem")
    return [stem, *layers[:-1], len(parts)]


def _groups(watched: Watched, parts: Sequence[Part]) -> List[List[Part]]:
    """Open the parts of a stage and join each simple one to the block after it, or before."""
    groups: List[List[Part]] = []
    simple: List[Part] = []
    for part in [inner for outer in parts for inner in _opened(watched, outer, True)]:
        if _is_simple(part[1]):
            simple.append(part)
        else:
            groups.append([*simple, part])
            simple = []
    if not groups:
        return [simple]
    groups[-1] += simple
    return groups


def _opened(watched: Watched, part: Part, whole_stage: bool) -> List[Part]:
    """Return the blocks inside a part, or the part itself if it is one layer or no list of them."""
    module = part[1]
    opens = (whole_stage or isinstance(module, nn.Sequential)) and not _is_simple(module)
    inside = watched.parts(module) if opens else []
    return [one for child in inside for one in _opened(watched, child, False)] or [part]


def _is_simple(module: nn.Module) -> bool:
    """Return whether a module is one layer: at most one convolution or linear map."""
    return sum(parameter.dim() > 1 for parameter in module.parameters()) <= 1


def _blocks(
    watched: Watched, groups: Sequence[List[Part]], given: Map, reader: "_MapReader"
) -> List[CutBlock]:
    """Return the blocks of a stage; a group that does not end with a map joins the next one."""
    blocks: List[CutBlock] = []
    parts: List[Part] = []
    for group in groups:
        parts = [*parts, *group]
        returned = reader.read(watched.output(group[-1][1]))
        if returned is not None:
            blocks.append(CutBlock(parts, given, returned))
            given, parts = returned, []
    return [] if parts else blocks


class _MapReader:
    """Find the axis of the channels of a tensor: the other two have the ratio of the images."""

    def __init__(self, size: Sequence[int], last_first: bool) -> None:
        self.size = size
        self.last_first = last_first  # if both fit

    def read(self, tensor: Optional[Tensor]) -> Optional[Map]:
        """Return the shape of a map; None if ``tensor`` is none."""
        if tensor is None or tensor.dim() != 4:
            return None
        _, a, b, c = tensor.shape
        found = [Map(a, b, c, False), Map(c, a, b, True)]
        found = [one for one in found if self._fits(one)]
        return next(iter(found[::-1] if self.last_first else found), None)

    def _fits(self, one: Map) -> bool:
        height, width = self.size
        return abs(one.height - height * one.width / width) <= max(1, height / width)
