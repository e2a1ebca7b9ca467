"""Give the tensors of AGW's and of HCT's public network the names of this package's.

``visible_module`` and ``thermal_module`` hold a whole ResNet each in AGW's code, of which only the
stem is used; in HCT's, only the stages that are separate. ``base_resnet`` holds the shared stages.
A tensor that the public network does not use is dropped.
"""

import re
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from ..errors import CheckpointError
from .networks import Shapes

_STREAMS = (("visible_module.visible.", "visible"), ("thermal_module.thermal.", "infrared"))
_BASE = "base_resnet.base."
_LAYERS = ("layer1", "layer2", "layer3", "layer4")
_STEM = ("conv1", "bn1")
#: blocks of the four layers, and convolutions of a block -> depth
_DEPTHS: Dict[Tuple[Tuple[int, ...], int], str] = {
    ((2, 2, 2, 2), 2): "18x",
    ((3, 4, 6, 3), 2): "34x",
    ((3, 4, 6, 3), 3): "50x",
    ((3, 4, 23, 3), 3): "101x",
}


class NameMap(NamedTuple):
    """How a file of the public code becomes a checkpoint of this package.

    Attributes:
        names: the name here of each tensor that is used, by its name in the file.
        dropped: names in the file of the tensors that the public network does not use.
        num_classes: identities of the classifier.
        opts: KEY VALUE pairs of the config that builds the network.
    """

    names: Dict[str, str]
    dropped: Tuple[str, ...]
    num_classes: int
    opts: Tuple[Any, ...]


def map_names(shapes: Shapes, where: str) -> NameMap:
    """Return the places of all tensors of a file of AGW's or HCT's public code.

    Args:
        shapes: the shape of each tensor by its name in the file, without ``module.``.
        where: the file, for messages.

    Raises:
        CheckpointError: tensors are missing, or have other shapes than the public code gives them.
    """
    first_shared = _first_shared(shapes)
    blocks = _blocks(shapes, first_shared, where)
    names = _backbone_names(shapes, first_shared, blocks)
    head = _stripe_head if "fc_list.0.weight" in shapes else _neck_head
    head_names, num_classes, head_opts = head(shapes, where)
    names.update(head_names)
    convolutions = 3 if f"{_prefix(1, first_shared)}0.conv3.weight" in shapes else 2
    depth = _DEPTHS.get((tuple(blocks), convolutions))
    if depth is None:
        raise CheckpointError(
            f"{where}: its layers have {blocks} blocks of {convolutions} convolutions; "
            "expected those of ResNet-18, 34, 50 or 101, which this package builds."
        )
    opts = (
        *("MODEL.BACKBONE.STEM_POOL", "padded"),
        *("MODEL.BACKBONE.DEPTH", depth, "MODEL.BACKBONE.UNSHARED_STAGES", first_shared),
        *("MODEL.BACKBONE.FEAT_DIM", 2048 if convolutions == 3 else 512),
        *_non_local_opts(shapes, where),
        *head_opts,
    )
    return NameMap(names, tuple(name for name in shapes if name not in names), num_classes, opts)


def _first_shared(shapes: Shapes) -> int:
    """Return how many of the five stages, from the image on, are separate for each modality."""
    if not any(name.startswith(_STREAMS[0][0]) for name in shapes):
        return 0
    shared = [any(name.startswith(f"{_BASE}{layer}.") for name in shapes) for layer in _LAYERS]
    return (shared.index(True) if True in shared else len(_LAYERS)) + 1


def _prefix(layer: int, first_shared: int) -> str:
    """Return how the names of a layer's tensors begin in the file: the visible, or shared, ones."""
    return f"{_STREAMS[0][0] if layer < first_shared else _BASE}layer{layer}."


def _blocks(shapes: Shapes, first_shared: int, where: str) -> List[int]:
    """Return how many blocks each of the four layers has."""
    counts = []
    for layer in range(1, len(_LAYERS) + 1):
        prefix = _prefix(layer, first_shared)
        found = {name[len(prefix) :].split(".")[0] for name in shapes if name.startswith(prefix)}
        if not found:
            raise CheckpointError(
                f"{where} is not complete: {prefix[:-1]} is missing. Use an intact copy of it."
            )
        counts.append(len(found))
    return counts


def _backbone_names(shapes: Shapes, first_shared: int, blocks: Sequence[int]) -> Dict[str, str]:
    stages = ["stem", *_LAYERS]
    names = {}
    for name in shapes:
        stream, rest = next(
            ((place, name[len(start) :]) for start, place in _STREAMS if name.startswith(start)),
            ("shared", name[len(_BASE) :] if name.startswith(_BASE) else ""),
        )
        head, _, inside = rest.partition(".")
        stage = "stem" if head in _STEM else head
        if stage in stages and (stages.index(stage) >= first_shared) == (stream == "shared"):
            place = rest if stage == "stem" else inside
            names[name] = f"backbone.{stream}.{stage}.{place}"
    for name in shapes:
        parts = re.fullmatch(r"NL_(\d)\.(\d+)\.(.+)", name)
        if parts is None:
            continue
        layer, counter = int(parts[1]), int(parts[2])
        block = blocks[layer - 1] - _non_local_count(shapes, layer) + counter
        rest = parts[3].replace("g.0.", "g.")
        for stream in ("visible", "infrared") if layer < first_shared else ("shared",):
            names[name] = f"backbone.{stream}.layer{layer}.non_local.{block}.{rest}"
    return names


def _non_local_count(shapes: Shapes, layer: int) -> int:
    pattern = re.compile(rf"NL_{layer}\.(\d+)\.")
    return len({found[1] for found in map(pattern.match, shapes) if found})


def _non_local_opts(shapes: Shapes, where: str) -> Tuple[Any, ...]:
    counts = [_non_local_count(shapes, layer) for layer in range(1, len(_LAYERS) + 1)]
    if not any(counts):
        return ("MODEL.BACKBONE.WITH_NL", False)
    legacy = set()
    for name, shape in shapes.items():
        if re.match(r"NL_\d\.\d+\.theta\.weight$", name):
            if shape[0] not in (1, shape[1] // 2):
                raise CheckpointError(
                    f"{where}: {name} has {shape[0]} inner channels; expected 1, as the public "
                    f"code has by a slip, or {shape[1] // 2}, half of its {shape[1]}."
                )
            legacy.add(shape[0] == 1)
    if len(legacy) != 1:
        raise CheckpointError(
            f"{where}: its non-local blocks have different inner widths. Expected one inner "
            "channel in all of them, or half of the channels in all of them."
        )
    return (
        *("MODEL.BACKBONE.WITH_NL", True, "MODEL.BACKBONE.NL_BLOCKS", counts),
        *("MODEL.BACKBONE.NL_LEGACY_WIDTH", legacy.pop()),
    )


#: the keys of AGW's head at their defaults, which other heads require
_KEYS_OF_BNNECK = (
    *("MODEL.HEADS.GEM_EPS", "activation", "MODEL.HEADS.CLASSIFIER_STD", 0.01),
    *("MODEL.HEADS.NECK_STD", 0.0),
)
_Head = Tuple[Dict[str, str], int, Tuple[Any, ...]]


def _neck_head(shapes: Shapes, where: str) -> _Head:
    names = {
        name: f"heads.bottleneck.0.{name.partition('.')[2]}"
        for name in shapes
        if name.startswith("bottleneck.")
    }
    if not shapes.get("classifier.weight", (0,))[0]:
        lack = "an empty" if "classifier.weight" in shapes else "no"
        raise CheckpointError(
            f"{where} has {lack} classifier.weight, which shows how many identities it was trained "
            "on. Use the checkpoint as the training wrote it."
        )
    names["classifier.weight"] = "heads.weight"
    # The public code's method 'base' has neither non-local blocks nor generalized-mean pooling; HCT
    # has that pooling without such blocks, and keeps no layers in its streams that it does not use.
    is_agw = {f"{_BASE}conv1.weight", f"{_STREAMS[0][0]}conv1.weight"} <= set(shapes)
    averages = is_agw and not any(name.startswith("NL_") for name in shapes)
    pooling = "GlobalAvgPool" if averages else "GeneralizedMeanPooling"
    opts = (
        *("MODEL.HEADS.NAME", "BNNeckHead", "MODEL.HEADS.WITH_BNNECK", True),
        *("MODEL.HEADS.POOL_LAYER", pooling, "MODEL.HEADS.GEM_EPS", "mean"),
    )
    return names, shapes["classifier.weight"][0], opts


def _stripe_head(shapes: Shapes, where: str) -> _Head:
    names: Dict[str, str] = {}
    stripes = {int(name.split(".")[1]) for name in shapes if name.startswith("fc_list.")}
    width = shapes["fc_list.0.weight"][1]
    for stripe in sorted(stripes):
        here, there = f"heads.stripes.embeddings.{stripe}", f"local_conv_list.{stripe}"
        for name in shapes:
            if name.startswith(f"{there}."):
                names[name] = f"{here}{name[len(there) :]}"
        for part in ("weight", "bias"):
            names[f"fc_list.{stripe}.{part}"] = f"heads.stripes.classifiers.{stripe}.{part}"
    missing = sorted(set(names) - set(shapes))
    if missing or stripes != set(range(len(stripes))):
        raise CheckpointError(
            f"{where} is not complete: of its {len(stripes)} stripes, tensors are missing"
            f"{', such as ' + missing[0] if missing else ''}. Use an intact copy of the file."
        )
    opts = (
        *("MODEL.HEADS.NAME", "HCTHead", "MODEL.HEADS.WITH_BNNECK", False),
        *("MODEL.HEADS.NUM_STRIPES", len(stripes), "MODEL.HEADS.STRIPE_DIM", width),
        *_KEYS_OF_BNNECK,
    )
    return names, shapes["fc_list.0.weight"][0], opts
