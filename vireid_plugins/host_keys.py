"""The values that the keys of FastReID may have, beside those that this package declares itself.

FastReID checks none of them: a negative learning rate trains away from the optimum, a negative
number of workers ends in a traceback. Every key of FastReID's config stands here, or, if it is of
``MODEL``, in ``host_model_keys.py``; a test compares both with FastReID's default config.
"""

from .keys import (
    SWITCH,
    above,
    any_number,
    at_least,
    between,
    declare,
    each,
    host_key,
    one_of,
    text,
    whole,
)

_PROBABILITY = between(0, 1)
_SIZE = each(whole(between(1, 4096)), count=2)
_NAME = text("a name")
_NAMES = each(_NAME)
_FACTOR = between(0, 1000)
_DECAY = between(0, 1)
_COLOR = each(any_number("it may lie outside the scale of an image"), count=3)

declare(
    "DATALOADER",
    host_key(
        "NUM_INSTANCE", whole(at_least(1)), "images per identity in each modality of a batch (K)"
    ),
    host_key(
        "NUM_WORKERS",
        whole(between(0, 512)),
        "processes that load images; 0: the training process does",
    ),
    host_key("SAMPLER_TRAIN", _NAME, "sampler that draws the training batches"),
    host_key("SET_WEIGHT", each(whole(at_least(0))), "identities by camera in SetReWeightSampler"),
)
declare(
    "INPUT",
    host_key("SIZE_TEST", _SIZE, "height and width of a test image, pixels"),
    host_key("SIZE_TRAIN", _SIZE, "height and width of a training image, pixels", features=False),
)
declare(
    "INPUT.AUGMIX",
    host_key("ENABLED", SWITCH, "AugMix of FastReID's own loader; refused here"),
    host_key("PROB", _PROBABILITY, "probability of AugMix"),
    features=False,
)
declare(
    "INPUT.AUTOAUG",
    host_key("ENABLED", SWITCH, "AutoAugment of FastReID's own loader; refused here"),
    host_key("PROB", _PROBABILITY, "probability of AutoAugment"),
    features=False,
)
declare(
    "INPUT.CJ",
    host_key("ENABLED", SWITCH, "color jitter"),
    host_key("PROB", _PROBABILITY, "probability of color jitter"),
    host_key("BRIGHTNESS", between(0, 10), "largest relative change of the brightness"),
    host_key("CONTRAST", between(0, 10), "largest relative change of the contrast"),
    host_key("SATURATION", between(0, 10), "largest relative change of the saturation"),
    host_key("HUE", between(0, 0.5), "largest shift of the hue, as a share of the circle"),
    features=False,
)
declare(
    "INPUT.CROP",
    host_key("ENABLED", SWITCH, "random resized crop of FastReID; refused here"),
    host_key("SIZE", _SIZE, "height and width of the crop, pixels"),
    host_key("SCALE", each(above(0, at_most=1), count=2), "smallest and largest share of the area"),
    host_key("RATIO", each(above(0), count=2), "smallest and largest aspect ratio"),
    features=False,
)
declare(
    "INPUT.FLIP",
    host_key("ENABLED", SWITCH, "mirror images left and right at random"),
    host_key("PROB", _PROBABILITY, "probability of mirroring left and right"),
    features=False,
)
declare(
    "INPUT.PADDING",
    host_key("ENABLED", SWITCH, "pad each side, and crop the former size at a random place"),
    host_key("SIZE", whole(between(0, 1024)), "pixels added on each side before the random crop"),
    host_key("MODE", one_of("constant", "edge", "reflect", "symmetric"), "what fills the padding"),
    features=False,
)
declare(
    "INPUT.REA",
    host_key("ENABLED", SWITCH, "random erasing"),
    host_key("PROB", _PROBABILITY, "probability of random erasing"),
    host_key("VALUE", _COLOR, "the color that fills the rectangle, by channel, 0..255"),
    features=False,
)
declare(
    "INPUT.RPT",
    host_key("ENABLED", SWITCH, "random patches of FastReID's own loader; refused here"),
    host_key("PROB", _PROBABILITY, "probability of random patches"),
    features=False,
)
declare(
    "INPUT.AFFINE",
    host_key("ENABLED", SWITCH, "affine warps of FastReID; refused here"),
    features=False,
)
declare(
    "KD",
    host_key("MODEL_CONFIG", _NAMES, "configs of the teachers of FastReID's Distiller"),
    host_key("MODEL_WEIGHTS", _NAMES, "weights of the teachers of FastReID's Distiller"),
)
declare(
    "KD.EMA",
    host_key("ENABLED", SWITCH, "moving average of FastReID's Distiller; refused here"),
    host_key("MOMENTUM", between(0, 1), "share of the old weights that is kept"),
)
declare(
    "",
    host_key("CUDNN_BENCHMARK", SWITCH, "let cuDNN choose its fastest algorithms by trial"),
    host_key("OUTPUT_DIR", text("a path"), "folder of all files of a run"),
)
declare(
    "DATASETS",
    host_key("COMBINEALL", SWITCH, "train on the test images, too"),
    host_key("NAMES", _NAMES, "training sets"),
    host_key("TESTS", _NAMES, "test sets"),
)
declare(
    "SOLVER",
    host_key("BASE_LR", above(0, at_most=10), "learning rate after the warm-up"),
    host_key("BIAS_LR_FACTOR", _FACTOR, "factor on BASE_LR for biases"),
    host_key(
        "CHECKPOINT_PERIOD", whole(at_least(0)), "epochs between checkpoints; 0: only at the end"
    ),
    host_key(
        "DELAY_EPOCHS", whole(at_least(0)), "epochs at BASE_LR before CosineAnnealingLR begins"
    ),
    host_key("ETA_MIN_LR", between(0, 10), "learning rate that CosineAnnealingLR ends with"),
    host_key(
        "FREEZE_ITERS", whole(at_least(0)), "iterations for which MODEL.FREEZE_LAYERS stand still"
    ),
    host_key("GAMMA", above(0, at_most=1), "factor on the learning rate at each of STEPS"),
    host_key("HEADS_LR_FACTOR", _FACTOR, "factor on BASE_LR for all but the backbone"),
    host_key(
        "IMS_PER_BATCH", whole(at_least(1)), "images in a batch, of all processes together (2 P K)"
    ),
    host_key("MAX_EPOCH", whole(at_least(1)), "epochs of the training"),
    host_key("MOMENTUM", at_least(0, below=1), "momentum of SGD"),
    host_key("NESTEROV", SWITCH, "Nesterov's momentum in SGD"),
    host_key("OPT", _NAME, "optimizer of PyTorch"),
    host_key("SCHED", _NAME, "how the learning rate falls"),
    host_key(
        "STEPS", each(whole(at_least(0)), ascending=True), "epochs, from 0, at which the rate falls"
    ),
    host_key("WARMUP_FACTOR", between(0, 1), "factor on BASE_LR at the start of the warm-up"),
    host_key(
        "WARMUP_ITERS", whole(at_least(0)), "iterations of warm-up, where WARMUP_EPOCHS is -1"
    ),
    host_key("WARMUP_METHOD", _NAME, "how the learning rate grows in the warm-up"),
    host_key("WEIGHT_DECAY", _DECAY, "weight decay"),
    host_key("WEIGHT_DECAY_BIAS", _DECAY, "weight decay of biases"),
    host_key("WEIGHT_DECAY_NORM", _DECAY, "weight decay of normalization layers"),
)
declare("SOLVER.AMP", host_key("ENABLED", SWITCH, "mixed precision"))
declare(
    "SOLVER.CLIP_GRADIENTS",
    host_key("ENABLED", SWITCH, "clip gradients before each update"),
    host_key("CLIP_TYPE", one_of("norm", "value"), "clip the norm of a gradient, or every entry"),
    host_key("CLIP_VALUE", above(0), "largest norm of a gradient, or largest entry"),
    host_key("NORM_TYPE", above(0), "exponent of the norm"),
)
declare(
    "TEST",
    host_key("EVAL_PERIOD", whole(at_least(0)), "epochs between evaluations; 0: no evaluation"),
    host_key("IMS_PER_BATCH", whole(at_least(1)), "images in a batch of an evaluation"),
    host_key("METRIC", one_of("cosine", "euclidean"), "similarity or distance of two features"),
)
declare(
    "TEST.AQE",
    host_key("ENABLED", SWITCH, "query expansion"),
    host_key("ALPHA", at_least(0), "exponent of the similarities as weights of query expansion"),
    host_key("QE_K", whole(at_least(1)), "neighbors that are averaged"),
    host_key("QE_TIME", whole(at_least(1)), "rounds of query expansion"),
)
declare("TEST.FLIP", host_key("ENABLED", SWITCH, "average the features of an image and its mirror"))
declare(
    "TEST.PRECISE_BN",
    host_key("DATASET", _NAME, "not needed: the images are those of DATASETS.NAMES"),
    host_key(
        "ENABLED",
        SWITCH,
        "before each evaluation of a training, compute the statistics of batch norm again, on "
        "training images as the evaluation shows them to the network",
    ),
    host_key("NUM_ITER", whole(at_least(1)), "batches they are averaged over; at most an epoch's"),
)
declare(
    "TEST.RERANK",
    host_key("ENABLED", SWITCH, "re-ranking"),
    host_key("K1", whole(at_least(1)), "neighbors that make a k-reciprocal set (k1)"),
    host_key(
        "K2", whole(at_least(1)), "neighbors averaged by the local query expansion (k2); 1: none"
    ),
    host_key("LAMBDA", between(0, 1), "weight of the original distance (lambda)"),
)
declare(
    "TEST.ROC", host_key("ENABLED", SWITCH, "ROC curves of FastReID's own evaluator; refused here")
)
