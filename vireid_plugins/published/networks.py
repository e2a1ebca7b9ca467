"""The networks that are recognized, each by names and shapes of tensors in its public code.

Facts were read in the repositories that ``Network.source`` names. A name is compared without the
``module.`` of DDP.
"""

import re
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

Shapes = Mapping[str, Tuple[int, ...]]


@dataclass(frozen=True)
class Network:
    """A network that another program trains.

    Attributes:
        title: what messages call it.
        source: its public code, a repository of GitHub; empty: many programs have it.
        signs: patterns, each of which the name of some tensor matches from its beginning.
        lacks: patterns that no name matches from its beginning.
        only: a pattern that every name matches as a whole; empty: other names may occur.
        is_host: whether it is FastReID's or this package's, so that only its config is missing.
        use: what a user can do with the file, a sentence; empty: it can be converted.
        unsaid: a key of this package whose value a file of it does not tell, after words that the
            value is formatted in.
        opts_on: KEY VALUE pairs that its code has on one dataset alone, by the dataset's name here.
    """

    title: str
    source: str
    signs: Tuple[str, ...]
    lacks: Tuple[str, ...] = ()
    only: str = ""
    use: str = ""
    is_host: bool = False
    unsaid: Tuple[str, str] = ("{}", "MODEL.HEADS.POOL_LAYER")
    opts_on: Tuple[Tuple[str, Tuple[Any, ...]], ...] = ()

    @property
    def is_converted(self) -> bool:
        """Return whether ``vireid convert`` can write it for this package."""
        return not self.use

    def fits(self, shapes: Shapes) -> bool:
        """Return whether tensors are those of this network."""
        return (
            all(_is_there(sign, shapes) for sign in self.signs)
            and not any(_is_there(pattern, shapes) for pattern in self.lacks)
            and (not self.only or all(re.fullmatch(self.only, name) for name in shapes))
        )


def _is_there(pattern: str, shapes: Shapes) -> bool:
    return any(re.match(pattern, name) for name in shapes)


def _lacking(what: str) -> str:
    return f"This package does not have that network ({what}), so the file cannot be converted"


_RESNET = r"(conv1|bn1|layer[1-4])\..+"
_STREAMS = (
    rf"(visible_module\.visible|thermal_module\.thermal|base_resnet\.base)\.({_RESNET}|fc\..+)"
)
_NECK = r"bottleneck\.\w+|classifier\.weight"

TWO_STREAM = Network(
    "AGW's two-stream ResNet (AGW, CAJ, CAJ+, LLCM's AGW, or HCT without stripes)",
    "mangye16/Cross-Modal-Re-ID-baseline",
    (r"base_resnet\.base\.|visible_module\.visible\.", r"bottleneck\.weight$"),
    only=rf"{_STREAMS}|NL_[1-4]\.\d+\.(g\.0|W\.0|W\.1|theta|phi)\.\w+|{_NECK}",
)
HCT = Network(
    "HCT, the hetero-center triplet network with stripes",
    "hijune6/Hetero-center-triplet-loss-for-VT-Re-ID",
    (r"local_conv_list\.0\.0\.weight$", r"fc_list\.0\.weight$"),
    only=rf"{_STREAMS}|local_conv_list\.\d+\.[01]\.\w+|fc_list\.\d+\.(weight|bias)",
    unsaid=("the exponent {:g}", "MODEL.HEADS.GEM_EXPONENT"),
    opts_on=(("RegDB", ("MODEL.HEADS.GEM_EXPONENT", 10.0)),),
)
_VISION_TRANSFORMER = (r"base\.cls_token$", r"base\.patch_embed\.proj\.weight$")

#: the first network that fits a file is taken
NETWORKS: Tuple[Network, ...] = (
    TWO_STREAM,
    HCT,
    Network(
        "DEEN (CVPR 2023)",
        "ZYK100/LLCM",
        (r"DEE\.FC1", r"MFA1\."),
        use=_lacking("expansions of the embedding, DEE, and fusions of stages, MFA"),
    ),
    Network(
        "CM-NAS (ICCV 2021)",
        "JDAI-CV/CM-NAS",
        (r".*\.(thermal|visible|sharable)_bn\.weight$",),
        use=_lacking("batch norms that a search made separate or shared, layer by layer"),
    ),
    Network(
        "the baseline of CM-NAS (ICCV 2021)",
        "JDAI-CV/CM-NAS",
        (r"bnneck\.weight$", r"backbone\.layer1\.0\.conv1\.weight$"),
        use=_lacking("one stream for both modalities under names of its own"),
    ),
    Network(
        "SAAI (ICCV 2023)",
        "xiaoye-hhh/SAAI",
        (r"attn_pool\.part_tokens$",),
        use=_lacking("parts that are pooled by learned tokens, and two batch norms"),
    ),
    Network(
        "IDKL (CVPR 2024)",
        "1KK077/IDKL",
        (r"backbone\.shared_module_fr\.|bn_neck_sp\.",),
        use=_lacking("features specific to a modality, split off by instance norms"),
    ),
    Network(
        "MPANet (CVPR 2021), or a code derived from it",
        "DoubtedSteam/MPANet",
        (r"bn_neck\.weight$", r"spatial_attention\.|visible_classifier_?\.|backbone\.layer1\."),
        use=_lacking("parts that are pooled by learned masks, and modality alleviation blocks"),
    ),
    Network(
        "DDAG (ECCV 2020)",
        "mangye16/DDAG",
        (r"wpa\.", r"(attention_|out_att)"),
        use=_lacking("attention over parts and over a graph of the batch, classified together"),
    ),
    Network(
        "MMN (ACM MM 2021)",
        "ZYK100/MMN",
        (r"encode1\.", r"bottleneck[1-4]\.weight$"),
        use=_lacking("a third modality that is made between the two"),
    ),
    Network(
        "RLE (NeurIPS 2024)",
        "stone96123/RLE",
        (r"bottleneckg\.weight$", r"visible_module\.visible\."),
        use=_lacking("a global branch and three stripes, each with a batch norm"),
    ),
    Network(
        "a relative of AGW's two-stream ResNet with other parts",
        "",
        (r"visible_module\.visible\.", r"thermal_module\.thermal\.", r"base_resnet\.base\."),
        use=_lacking("its further tensors have no place in AGW's network"),
    ),
    Network(
        "PMT (AAAI 2023)",
        "hulu88/PMT",
        _VISION_TRANSFORMER,
        lacks=(r"base\.fc\.", r"base\.sie_embed", r"b1\.", r"bottleneck_1\."),
        use=_lacking("a vision transformer under names of its own"),
    ),
    Network(
        "TransReID (ICCV 2021)",
        "damo-cv/TransReID",
        _VISION_TRANSFORMER,
        use=_lacking("a vision transformer with side information under names of its own"),
    ),
    Network(
        "this package's dual-stream network",
        "",
        (r"backbone\.(visible|infrared|shared)\.",),
        use="Nothing has to be converted. As MODEL.WEIGHTS it needs the config of its training: "
        "leave --config-file out if the file carries it, or else name it by --config-file",
        is_host=True,
    ),
    Network(
        "FastReID's network",
        "JDAI-CV/fast-reid",
        (r"backbone\.", r"(heads|b1_head)\."),
        use="Its config is needed: vireid convert FILE --config-file CONFIG.yml --out model.pth "
        "writes a checkpoint that every command opens. Its backbone alone can start a training: "
        "MODEL.BACKBONE.PRETRAIN_PATH",
        is_host=True,
    ),
    Network(
        "a YOLO detector",
        "",
        (r"model\.\d+\.conv\.weight$", r"model\.\d+\.(cv\d|m)\."),
        use="A detector gives no features of persons. Use a checkpoint of re-identification",
    ),
    Network(
        "a vision transformer, as timm and DeiT publish it",
        "",
        (r"cls_token$", r"patch_embed\.proj\.weight$", r"blocks\.0\."),
        use="It has no neck and no classifier of identities. It can start a training with "
        "build_dual_stream_timm_backbone: MODEL.BACKBONE.PRETRAIN_PATH",
    ),
    Network(
        "an ordinary ResNet, as torchvision publishes it",
        "",
        (r"conv1\.weight$", r"layer1\.0\.conv1\.weight$", r"layer4\.0\."),
        use="It has one stream and no classifier of identities. It starts a training: "
        "MODEL.BACKBONE.PRETRAIN True MODEL.BACKBONE.PRETRAIN_PATH FILE",
    ),
)


def recognize(shapes: Shapes) -> Optional[Network]:
    """Return the network whose tensors have these names; None if no known one has.

    Args:
        shapes: the shape of each tensor by its name, without ``module.``.
    """
    return next((network for network in NETWORKS if network.fits(shapes)), None)
