"""The values that FastReID's keys of ``MODEL`` may have; ``host_keys.py`` has the others.

Names of registered things, such as ``MODEL.BACKBONE.NAME``, are looked up before training
(``engine/early_checks.py``).
"""

from typing import Any, Sequence

from .keys import (
    SWITCH,
    Rule,
    above,
    any_number,
    at_least,
    between,
    declare,
    each,
    exactly,
    host_key,
    one_of,
    text,
    whole,
)


def _of_pixels(low: float) -> Rule:
    """Return the rule of a statistic of pixels by channel; pixels are 0..255, and never 0..1."""
    scale = each(between(low, 255), count=3)

    def hint(value: Any) -> str:
        if not each(between(0, 1), count=3).allows(value):
            return ""
        return f"Pixels are 0 to 255 here, not 0 to 1: write {times_255(value)}."

    return Rule(scale.words, scale.allows, hint)


def times_255(value: Sequence[float]) -> str:
    """Return a list of statistics of pixels from 0 to 1 as that of pixels from 0 to 255."""
    return f"[{', '.join(f'{255 * one:g}' for one in value)}]"


_NAME = text("a name")
_NAMES = each(_NAME)

declare(
    "MODEL",
    host_key("META_ARCHITECTURE", _NAME, "the method: how parts are connected and trained"),
    host_key("PIXEL_MEAN", _of_pixels(0), "mean pixel by channel, 0..255"),
    host_key("PIXEL_STD", _of_pixels(1), "standard deviation by channel, 0..255"),
)
declare(
    "MODEL",
    host_key("DEVICE", text("a device"), "device of the model, such as cuda, cuda:1 or cpu"),
    host_key(
        "FREEZE_LAYERS", _NAMES, "patterns of the parameters that stand still for FREEZE_ITERS"
    ),
    host_key("WEIGHTS", text("a path"), "checkpoint that a run starts from; empty: none"),
    host_key("QUEUE_SIZE", whole(at_least(1)), "features in the queue of FastReID's MoCo"),
    features=False,
)
declare(
    "MODEL.BACKBONE",
    host_key("DEPTH", _NAME, "size of the network, such as 18x or 50x"),
    host_key("NAME", _NAME, "network that makes the feature map"),
    host_key("NORM", _NAME, "normalization layers"),
    host_key("WITH_IBN", SWITCH, "instance and batch normalization (IBN-a)"),
    host_key("WITH_NL", SWITCH, "non-local blocks"),
    host_key("WITH_SE", SWITCH, "squeeze-and-excitation blocks"),
    host_key(
        "LAST_STRIDE",
        whole(between(1, 2)),
        "stride of the last stage; 1: a map of twice the height",
    ),
    host_key("SIE_COE", any_number("a weight of either sign"), "weight of the camera embedding"),
    host_key(
        "STRIDE_SIZE",
        each(whole(at_least(1)), count=2),
        "step between a transformer's patches, pixels",
    ),
)
declare(
    "MODEL.BACKBONE",
    host_key("PRETRAIN", SWITCH, "start from weights of ImageNet"),
    host_key("PRETRAIN_PATH", text("a path"), "their file, or weights:NAME; empty: download them"),
    host_key("ATT_DROP_RATE", at_least(0, below=1), "dropout of a transformer's attention"),
    host_key("DROP_PATH_RATIO", at_least(0, below=1), "share of a transformer's blocks left out"),
    host_key("DROP_RATIO", at_least(0, below=1), "dropout of a transformer"),
    host_key(
        "FEAT_DIM",
        whole(at_least(1)),
        "channels of the feature map; taken from the backbone itself",
    ),
    features=False,
)
declare(
    "MODEL.HEADS",
    host_key("CLS_LAYER", _NAME, "classifier: Linear, or one with a margin"),
    host_key("NAME", _NAME, "head that makes features of the map"),
    host_key("NORM", _NAME, "normalization layer of the neck"),
    host_key("POOL_LAYER", _NAME, "pooling of the map"),
    host_key("WITH_BNNECK", SWITCH, "normalize features before the classifier"),
    host_key(
        "EMBEDDING_DIM", whole(at_least(0)), "size of the embedding; 0: the pooled feature itself"
    ),
)
declare(
    "MODEL.HEADS",
    host_key("MARGIN", at_least(0), "margin of the classifier, where CLS_LAYER has one"),
    host_key(
        "NUM_CLASSES", whole(at_least(0)), "identities of the classifier; 0: taken from the data"
    ),
    host_key("SCALE", above(0), "scale of the logits, where CLS_LAYER has one"),
    host_key("NECK_FEAT", one_of("before", "after"), "metric losses' feature: before or after BN"),
    features=False,
)
declare("MODEL.LOSSES", host_key("NAME", _NAMES, "losses that are summed"))
declare(
    "MODEL.LOSSES.CE",
    host_key("ALPHA", between(0, 1), "factor on the probability of the label (adaptive smoothing)"),
    host_key(
        "EPSILON",
        at_least(0, below=1) | exactly(-1),
        "probability spread over the other identities; -1: adaptive smoothing",
    ),
    host_key("SCALE", at_least(0), "weight in the sum of losses"),
)
for _name in ("CIRCLE", "COSFACE"):
    declare(
        f"MODEL.LOSSES.{_name}",
        host_key("MARGIN", between(0, 1), "margin of the cosine similarities"),
        host_key("GAMMA", above(0), "scale of the similarities"),
        host_key("SCALE", at_least(0), "weight in the sum of losses"),
    )
declare(
    "MODEL.LOSSES.FL",
    host_key("ALPHA", above(0), "factor on the focal loss"),
    host_key("GAMMA", at_least(0), "focusing exponent"),
    host_key("SCALE", at_least(0), "weight in the sum of losses"),
)
declare(
    "MODEL.LOSSES.TRI",
    host_key("HARD_MINING", SWITCH, "use the hardest pairs instead of weighted ones"),
    host_key("NORM_FEAT", SWITCH, "compare features of length 1"),
    host_key("MARGIN", at_least(0), "Euclidean distance; 0: soft margin"),
    host_key("SCALE", at_least(0), "weight in the sum of losses"),
)
