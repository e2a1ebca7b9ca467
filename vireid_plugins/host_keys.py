"""The values that the keys of FastReID may have, beside those that this package declares itself.

FastReID checks none of them: a negative learning rate trains away from the optimum, a negative
number of workers ends in a traceback. Every key of FastReID's config stands here; a test
compares this list with FastReID's default config. Names of registered things, such as
``MODEL.BACKBONE.NAME``, are looked up before training (``engine/early_checks.py``).
"""

from typing import Any, Sequence

from .keys import (
    HOST_DEFAULT,
    SWITCH,
    Key,
    Rule,
    above,
    any_number,
    at_least,
    between,
    declare,
    each,
    exactly,
    one_of,
    text,
    whole,
)


def _host(name: str, rule: Rule, meaning: str) -> Key:
    return Key(name, HOST_DEFAULT, rule, meaning)


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


_PROBABILITY = between(0, 1)
_SIZE = each(whole(between(1, 4096)), count=2)
_NAME = text("a name")
_NAMES = each(text("a name"))
_FACTOR = between(0, 1000)
_DECAY = between(0, 1)
_COLOR = each(any_number("it may lie outside the scale of an image"), count=3)

declare(
    "DATALOADER",
    _host(
        "NUM_INSTANCE", whole(at_least(1)), "images per identity in each modality of a batch (K)"
    ),
    _host(
        "NUM_WORKERS",
        whole(between(0, 512)),
        "processes that load images; 0: the training process does",
    ),
    _host("SAMPLER_TRAIN", _NAME, "sampler that draws the training batches"),
    _host("SET_WEIGHT", each(whole(at_least(0))), "identities by camera in SetReWeightSampler"),
)
declare(
    "INPUT",
    _host("SIZE_TRAIN", _SIZE, "height and width of a training image, pixels"),
    _host("SIZE_TEST", _SIZE, "height and width of a test image, pixels"),
)
declare(
    "INPUT.AUGMIX",
    _host("ENABLED", SWITCH, "AugMix of FastReID's own loader; refused here"),
    _host("PROB", _PROBABILITY, "probability of AugMix"),
)
declare(
    "INPUT.AUTOAUG",
    _host("ENABLED", SWITCH, "AutoAugment of FastReID's own loader; refused here"),
    _host("PROB", _PROBABILITY, "probability of AutoAugment"),
)
declare(
    "INPUT.CJ",
    _host("ENABLED", SWITCH, "color jitter"),
    _host("PROB", _PROBABILITY, "probability of color jitter"),
    _host("BRIGHTNESS", between(0, 10), "largest relative change of the brightness"),
    _host("CONTRAST", between(0, 10), "largest relative change of the contrast"),
    _host("SATURATION", between(0, 10), "largest relative change of the saturation"),
    _host("HUE", between(0, 0.5), "largest shift of the hue, as a share of the circle"),
)
declare(
    "INPUT.CROP",
    _host("ENABLED", SWITCH, "random resized crop of FastReID; refused here"),
    _host("SIZE", _SIZE, "height and width of the crop, pixels"),
    _host("SCALE", each(above(0, at_most=1), count=2), "smallest and largest share of the area"),
    _host("RATIO", each(above(0), count=2), "smallest and largest aspect ratio"),
)
declare(
    "INPUT.FLIP",
    _host("ENABLED", SWITCH, "mirror images left and right at random"),
    _host("PROB", _PROBABILITY, "probability of mirroring left and right"),
)
declare(
    "INPUT.PADDING",
    _host("ENABLED", SWITCH, "pad each side, and crop the former size at a random place"),
    _host("SIZE", whole(between(0, 1024)), "pixels added on each side before the random crop"),
    _host("MODE", one_of("constant", "edge", "reflect", "symmetric"), "what fills the padding"),
)
declare(
    "INPUT.REA",
    _host("ENABLED", SWITCH, "random erasing"),
    _host("PROB", _PROBABILITY, "probability of random erasing"),
    _host("VALUE", _COLOR, "the color that fills the rectangle, by channel, 0..255"),
)
declare(
    "INPUT.RPT",
    _host("ENABLED", SWITCH, "random patches of FastReID's own loader; refused here"),
    _host("PROB", _PROBABILITY, "probability of random patches"),
)
declare("INPUT.AFFINE", _host("ENABLED", SWITCH, "affine warps of FastReID; refused here"))
declare(
    "KD",
    _host("MODEL_CONFIG", _NAMES, "configs of the teachers of FastReID's Distiller"),
    _host("MODEL_WEIGHTS", _NAMES, "weights of the teachers of FastReID's Distiller"),
)
declare(
    "KD.EMA",
    _host("ENABLED", SWITCH, "moving average of FastReID's Distiller; refused here"),
    _host("MOMENTUM", between(0, 1), "share of the old weights that is kept"),
)
declare(
    "",
    _host("CUDNN_BENCHMARK", SWITCH, "let cuDNN choose its fastest algorithms by trial"),
    _host("OUTPUT_DIR", text("a path"), "folder of all files of a run"),
)
declare(
    "DATASETS",
    _host("COMBINEALL", SWITCH, "train on the test images, too"),
    _host("NAMES", _NAMES, "training sets"),
    _host("TESTS", _NAMES, "test sets"),
)
declare(
    "MODEL",
    _host("DEVICE", text("a device"), "device of the model, such as cuda, cuda:1 or cpu"),
    _host("FREEZE_LAYERS", _NAMES, "patterns of the parameters that stand still for FREEZE_ITERS"),
    _host("META_ARCHITECTURE", _NAME, "the method: how parts are connected and trained"),
    _host("WEIGHTS", text("a path"), "checkpoint that a run starts from; empty: none"),
    _host("PIXEL_MEAN", _of_pixels(0), "mean pixel by channel, 0..255"),
    _host("PIXEL_STD", _of_pixels(1), "standard deviation by channel, 0..255"),
    _host("QUEUE_SIZE", whole(at_least(1)), "features in the queue of FastReID's MoCo"),
)
declare(
    "MODEL.BACKBONE",
    _host("DEPTH", _NAME, "size of the network, such as 18x or 50x"),
    _host("NAME", _NAME, "network that makes the feature map"),
    _host("NORM", _NAME, "normalization layers"),
    _host("PRETRAIN", SWITCH, "start from weights of ImageNet"),
    _host("PRETRAIN_PATH", text("a path"), "their file, or weights:NAME; empty: download them"),
    _host("WITH_IBN", SWITCH, "instance and batch normalization (IBN-a)"),
    _host("WITH_NL", SWITCH, "non-local blocks"),
    _host("WITH_SE", SWITCH, "squeeze-and-excitation blocks"),
    _host("ATT_DROP_RATE", at_least(0, below=1), "dropout of a transformer's attention"),
    _host("DROP_PATH_RATIO", at_least(0, below=1), "share of a transformer's blocks left out"),
    _host("DROP_RATIO", at_least(0, below=1), "dropout of a transformer"),
    _host(
        "FEAT_DIM",
        whole(at_least(1)),
        "channels of the feature map; taken from the backbone itself",
    ),
    _host(
        "LAST_STRIDE",
        whole(between(1, 2)),
        "stride of the last stage; 1: a map of twice the height",
    ),
    _host("SIE_COE", any_number("a weight of either sign"), "weight of the camera embedding"),
    _host(
        "STRIDE_SIZE",
        each(whole(at_least(1)), count=2),
        "step between a transformer's patches, pixels",
    ),
)
declare(
    "MODEL.HEADS",
    _host("CLS_LAYER", _NAME, "classifier: Linear, or one with a margin"),
    _host("NAME", _NAME, "head that makes features of the map"),
    _host("NORM", _NAME, "normalization layer of the neck"),
    _host("POOL_LAYER", _NAME, "pooling of the map"),
    _host("WITH_BNNECK", SWITCH, "normalize features before the classifier"),
    _host(
        "EMBEDDING_DIM", whole(at_least(0)), "size of the embedding; 0: the pooled feature itself"
    ),
    _host("MARGIN", at_least(0), "margin of the classifier, where CLS_LAYER has one"),
    _host(
        "NUM_CLASSES", whole(at_least(0)), "identities of the classifier; 0: taken from the data"
    ),
    _host("SCALE", above(0), "scale of the logits, where CLS_LAYER has one"),
    _host("NECK_FEAT", one_of("before", "after"), "metric losses' feature: before or after BN"),
)
declare("MODEL.LOSSES", _host("NAME", _NAMES, "losses that are summed"))
declare(
    "MODEL.LOSSES.CE",
    _host("ALPHA", between(0, 1), "factor on the probability of the label (adaptive smoothing)"),
    _host(
        "EPSILON",
        at_least(0, below=1) | exactly(-1),
        "probability spread over the other identities; -1: adaptive smoothing",
    ),
    _host("SCALE", at_least(0), "weight in the sum of losses"),
)
for _name in ("CIRCLE", "COSFACE"):
    declare(
        f"MODEL.LOSSES.{_name}",
        _host("MARGIN", between(0, 1), "margin of the cosine similarities"),
        _host("GAMMA", above(0), "scale of the similarities"),
        _host("SCALE", at_least(0), "weight in the sum of losses"),
    )
declare(
    "MODEL.LOSSES.FL",
    _host("ALPHA", above(0), "factor on the focal loss"),
    _host("GAMMA", at_least(0), "focusing exponent"),
    _host("SCALE", at_least(0), "weight in the sum of losses"),
)
declare(
    "MODEL.LOSSES.TRI",
    _host("HARD_MINING", SWITCH, "use the hardest pairs instead of weighted ones"),
    _host("NORM_FEAT", SWITCH, "compare features of length 1"),
    _host("MARGIN", at_least(0), "Euclidean distance; 0: soft margin"),
    _host("SCALE", at_least(0), "weight in the sum of losses"),
)
declare(
    "SOLVER",
    _host("BASE_LR", above(0, at_most=10), "learning rate after the warm-up"),
    _host("BIAS_LR_FACTOR", _FACTOR, "factor on BASE_LR for biases"),
    _host(
        "CHECKPOINT_PERIOD", whole(at_least(0)), "epochs between checkpoints; 0: only at the end"
    ),
    _host("DELAY_EPOCHS", whole(at_least(0)), "epochs at BASE_LR before CosineAnnealingLR begins"),
    _host("ETA_MIN_LR", between(0, 10), "learning rate that CosineAnnealingLR ends with"),
    _host(
        "FREEZE_ITERS", whole(at_least(0)), "iterations for which MODEL.FREEZE_LAYERS stand still"
    ),
    _host("GAMMA", above(0, at_most=1), "factor on the learning rate at each of STEPS"),
    _host("HEADS_LR_FACTOR", _FACTOR, "factor on BASE_LR for the head"),
    _host(
        "IMS_PER_BATCH", whole(at_least(1)), "images in a batch, of all processes together (2 P K)"
    ),
    _host("MAX_EPOCH", whole(at_least(1)), "epochs of the training"),
    _host("MOMENTUM", at_least(0, below=1), "momentum of SGD"),
    _host("NESTEROV", SWITCH, "Nesterov's momentum in SGD"),
    _host("OPT", _NAME, "optimizer of PyTorch"),
    _host("SCHED", _NAME, "how the learning rate falls"),
    _host(
        "STEPS", each(whole(at_least(0)), ascending=True), "epochs, from 0, at which the rate falls"
    ),
    _host("WARMUP_FACTOR", between(0, 1), "factor on BASE_LR at the start of the warm-up"),
    _host("WARMUP_ITERS", whole(at_least(0)), "iterations of warm-up, where WARMUP_EPOCHS is -1"),
    _host("WARMUP_METHOD", _NAME, "how the learning rate grows in the warm-up"),
    _host("WEIGHT_DECAY", _DECAY, "weight decay"),
    _host("WEIGHT_DECAY_BIAS", _DECAY, "weight decay of biases"),
    _host("WEIGHT_DECAY_NORM", _DECAY, "weight decay of normalization layers"),
)
declare("SOLVER.AMP", _host("ENABLED", SWITCH, "mixed precision"))
declare(
    "SOLVER.CLIP_GRADIENTS",
    _host("ENABLED", SWITCH, "clip gradients before each update"),
    _host("CLIP_TYPE", one_of("norm", "value"), "clip the norm of a gradient, or every entry"),
    _host("CLIP_VALUE", above(0), "largest norm of a gradient, or largest entry"),
    _host("NORM_TYPE", above(0), "exponent of the norm"),
)
declare(
    "TEST",
    _host("EVAL_PERIOD", whole(at_least(0)), "epochs between evaluations; 0: no evaluation"),
    _host("IMS_PER_BATCH", whole(at_least(1)), "images in a batch of an evaluation"),
    _host("METRIC", one_of("cosine", "euclidean"), "similarity or distance of two features"),
)
declare(
    "TEST.AQE",
    _host("ENABLED", SWITCH, "query expansion"),
    _host("ALPHA", at_least(0), "exponent of the similarities as weights of query expansion"),
    _host("QE_K", whole(at_least(1)), "neighbors that are averaged"),
    _host("QE_TIME", whole(at_least(1)), "rounds of query expansion"),
)
declare("TEST.FLIP", _host("ENABLED", SWITCH, "average the features of an image and its mirror"))
declare(
    "TEST.PRECISE_BN",
    _host("DATASET", _NAME, "dataset of the statistics of FastReID's PreciseBN"),
    _host("ENABLED", SWITCH, "FastReID's PreciseBN; refused here"),
    _host("NUM_ITER", whole(at_least(1)), "batches from which the statistics are computed"),
)
declare(
    "TEST.RERANK",
    _host("ENABLED", SWITCH, "re-ranking"),
    _host("K1", whole(at_least(1)), "neighbors that make a k-reciprocal set (k1)"),
    _host(
        "K2", whole(at_least(1)), "neighbors averaged by the local query expansion (k2); 1: none"
    ),
    _host("LAMBDA", between(0, 1), "weight of the original distance (lambda)"),
)
declare(
    "TEST.ROC", _host("ENABLED", SWITCH, "ROC curves of FastReID's own evaluator; refused here")
)
