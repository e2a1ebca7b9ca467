"""Checkpoints in the exact format of public codes, with random weights drawn from tensors' names.

Names and shapes are those of ``embed_net`` in ``model.py`` of mangye16/Cross-Modal-Re-ID-baseline
(AGW, CAJ, CAJ+, and ZYK100/LLCM, whose file is the same), and in ``model_mine.py`` of
hijune6/Hetero-center-triplet-loss-for-VT-Re-ID (HCT).
"""

import functools
import zlib

import numpy as np
import torch
import torchvision

STREAMS = ("thermal_module.thermal", "visible_module.visible")
BASE = "base_resnet.base"
NORM = ("weight", "bias", "running_mean", "running_var")


@functools.cache
def resnet_shapes(depth):
    """Shapes by name, without fc; the public codes name a ResNet's tensors as torchvision does."""
    state = getattr(torchvision.models, f"resnet{depth}")(weights=None).state_dict()
    return {name: tuple(one.shape) for name, one in state.items() if not name.startswith("fc.")}


def norm_shapes(place, width):
    return {
        **{f"{place}.{part}": (width,) for part in NORM},
        f"{place}.num_batches_tracked": (),
    }


def neck_shapes(width, classes):
    return {**norm_shapes("bottleneck", width), "classifier.weight": (classes, width)}


def non_local_shapes(place, width, inner=1):
    shapes = {f"{place}.g.0": (inner, width), f"{place}.W.0": (width, inner)}
    shapes.update({f"{place}.{one}": (inner, width) for one in ("theta", "phi")})
    found = {f"{name}.weight": (*shape, 1, 1) for name, shape in shapes.items()}
    found.update({f"{name}.bias": shape[:1] for name, shape in shapes.items()})
    return {**found, **norm_shapes(f"{place}.W.1", width)}


def agw_shapes(classes, depth=50, non_local=(0, 2, 3, 0), inner=1):
    """The tensors of AGW: a whole ResNet in each stream and in the shared part."""
    places = (*STREAMS, BASE)
    shapes = {f"{p}.{name}": one for p in places for name, one in resnet_shapes(depth).items()}
    last = 2048 if depth >= 50 else 512
    for layer, count in enumerate(non_local, start=1):
        for number in range(count):
            width = last >> (4 - layer)
            shapes.update(non_local_shapes(f"NL_{layer}.{number}", width, inner))
    return {**shapes, **neck_shapes(last, classes)}


def hct_shapes(classes, depth=50, share_net=2, stripes=6, width=256):
    """The tensors of HCT: each stage stands only where it is used; no stripes: its --pcb off."""
    shapes = {}
    for name, shape in resnet_shapes(depth).items():
        stage = int(name[5]) if name.startswith("layer") else 0
        places = STREAMS if stage < share_net else (BASE,)
        shapes.update({f"{place}.{name}": shape for place in places})
    last = 2048 if depth >= 50 else 512
    if not stripes:
        return {**shapes, **neck_shapes(last, classes)}
    for number in range(stripes):
        shapes[f"local_conv_list.{number}.0.weight"] = (width, last, 1, 1)
        shapes[f"local_conv_list.{number}.0.bias"] = (width,)
        shapes.update(norm_shapes(f"local_conv_list.{number}.1", width))
        shapes[f"fc_list.{number}.weight"] = (classes, width)
        shapes[f"fc_list.{number}.bias"] = (classes,)
    return shapes


@functools.cache
def value_of(name, shape):
    """A tensor that is drawn from its name alone; its size keeps activations near 1."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        draw = 1 + 0.1 * np.abs(draw)
    elif len(shape) == 4:
        draw = draw * np.sqrt(2 / np.prod(shape[1:]))
    elif len(shape) == 2:
        draw = draw * 0.01
    elif name.endswith("weight"):
        draw = (0.3 if ".bn3." in name else 1) * (1 + 0.1 * draw)
    else:
        draw = 0.1 * draw
    if name.startswith("NL_") and "running" not in name:
        draw = 0.3 * draw
    return torch.from_numpy(np.asarray(draw, dtype=np.float32))


def filled(name, shape):
    """A tensor of one value, which takes no room in a file."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    value = 1e5 if name.endswith("running_var") else (1 + zlib.crc32(name.encode()) % 100) / 1000
    return torch.tensor(value).expand(shape)


def weights_of(shapes, draw=filled):
    return {name: draw(name, shape) for name, shape in shapes.items()}


def save(path, shapes, legacy=False, prefix="", draw=filled, **entries):
    """Write a file as the public ``train.py`` does, with its results in NumPy's types."""
    weights = weights_of(shapes, draw)
    content = {
        "net": {f"{prefix}{name}": value for name, value in weights.items()},
        "cmc": np.linspace(0.4, 1, 20, dtype=np.float32),
        "mAP": np.float64(0.47),
        "mINP": np.mean([0.3, 0.4]),
        "epoch": 40,
        **entries,
    }
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return str(path)
