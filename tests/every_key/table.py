"""Every key: under which config, set to which other value, it must change what which observer sees.

A new key gets a line here. ``{own}`` stands for the folder of the test's own files.
"""

from typing import Any, Dict, NamedTuple

from .narrow import NAME


class With(NamedTuple):
    """Another value of a key, with words that both configs have besides those of the group."""

    value: Any
    words: str


class Group(NamedTuple):
    """Keys that one observer sees under one config."""

    observer: str  # in facts.py
    config: str  # below configs/
    words: str  # KEY VALUE words besides those of tests/engine/small.py
    others: Dict[str, Any]  # another value of each key, or a ``With``


NARROW = f"MODEL.BACKBONE.NAME {NAME} MODEL.BACKBONE.LAST_STRIDE 1 "
TALL = NARROW + "INPUT.SIZE_TRAIN [96,32] INPUT.SIZE_TEST [96,32] "
SYSU = NARROW + "DATASETS.NAMES ('SYSUMM01',) DATASETS.TESTS ('SYSUMM01',) "
REGDB = NARROW + "DATASETS.NAMES ('RegDB',) DATASETS.TESTS ('RegDB',) "
CSV = NARROW + (
    "DATASETS.NAMES ('CSVDataset',) DATASETS.TESTS ('CSVDataset',) SOLVER.IMS_PER_BATCH 8 "
)


def loss(name: str, node: str, more: str = "", config: str = "baseline", **others: Any) -> Group:
    """Return the keys of a loss that is trained alone."""
    words = f"{NARROW}MODEL.LOSSES.NAME ('{name}',) {more}"
    found = {f"MODEL.LOSSES.{node}.{key}": value for key, value in others.items()}
    return Group("model", f"{config}/synthetic.yml", words, found)


def augmentation(node: str, view: str = "[1]", more: str = "", **others: Any) -> Group:
    """Return the keys of a node of INPUT that is switched on."""
    words = f"{NARROW}INPUT.{node}.ENABLED True INPUT.NUM_VIEWS.VISIBLE 2 "
    words += "INPUT.NUM_VIEWS.INFRARED 2 INPUT.PADDING.ENABLED False INPUT.FLIP.ENABLED False "
    words += f"INPUT.{node}.ENABLED True " + more
    found = {f"INPUT.{node}.{key}": value for key, value in others.items()}
    found.update({f"INPUT.{node}.ENABLED": False, f"INPUT.{node}.VIEWS": view})
    return Group("transforms", "baseline/synthetic.yml", words, found)


NON_LOCAL = "MODEL.BACKBONE.WITH_NL True MODEL.BACKBONE.NL_BLOCKS [0,0,1,0]"
MODELS = [
    Group(
        "structure",
        "baseline/synthetic.yml",
        "",
        {
            "MODEL.BACKBONE.DEPTH": "34x",
            "MODEL.BACKBONE.WITH_IBN": True,
            "MODEL.BACKBONE.WITH_SE": True,
            "MODEL.BACKBONE.WITH_NL": With(True, "MODEL.BACKBONE.NL_BLOCKS [0,0,1,0]"),
            "MODEL.BACKBONE.NORM": "GN",
            "MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS": True,
            "MODEL.BACKBONE.PRETRAIN": With(True, "MODEL.BACKBONE.PRETRAIN_PATH {own}/none.pth"),
            "MODEL.BACKBONE.PRETRAIN_PATH": With(
                "{own}/other.pth",
                "MODEL.BACKBONE.PRETRAIN True MODEL.BACKBONE.PRETRAIN_PATH {own}/none.pth",
            ),
            "MODEL.BACKBONE.NL_BLOCKS": With([0, 1, 0, 0], NON_LOCAL),
            "MODEL.BACKBONE.NL_LEGACY_WIDTH": With(True, NON_LOCAL),
        },
    ),
    Group(
        "model",
        "baseline/synthetic.yml",
        NARROW,
        {
            "MODEL.BACKBONE.UNSHARED_STAGES": 3,
            "MODEL.BACKBONE.FROZEN_STAGES": 2,
            "MODEL.BACKBONE.LAST_STRIDE": 2,
            "MODEL.BACKBONE.NAME": "build_resnet_backbone",
            "MODEL.META_ARCHITECTURE": "MAUM",
            "MODEL.PIXEL_MEAN": [1.0, 2.0, 3.0],
            "MODEL.PIXEL_STD": [100.0, 50.0, 20.0],
            "MODEL.HEADS.CLS_LAYER": "CosSoftmax",
            "MODEL.HEADS.EMBEDDING_DIM": 5,
            "MODEL.HEADS.MARGIN": With(0.2, "MODEL.HEADS.CLS_LAYER CosSoftmax"),
            "MODEL.HEADS.SCALE": With(9, "MODEL.HEADS.CLS_LAYER CosSoftmax"),
            "MODEL.HEADS.NAME": "EmbeddingHead",
            "MODEL.HEADS.NECK_FEAT": "after",
            "MODEL.HEADS.NORM": "GhostBN",
            "MODEL.HEADS.NUM_CLASSES": 7,
            "MODEL.HEADS.POOL_LAYER": "GlobalMaxPool",
            "MODEL.HEADS.WITH_BNNECK": False,
            "MODEL.LOSSES.NAME": ("TripletLoss",),
            "MODEL.LOSSES.GATHER_FEATURES": True,
            "MODEL.LOSSES.LABEL_SMOOTHING.SMOOTHING": 0.3,
            "MODEL.LOSSES.LABEL_SMOOTHING.PER_MODALITY": True,
            "MODEL.LOSSES.LABEL_SMOOTHING.SCALE": 2.0,
            "MODEL.LOSSES.BATCH_HARD.MARGIN": 2.0,
            "MODEL.LOSSES.BATCH_HARD.SCALE": 2.0,
            "RUNTIME.CHANNELS_LAST": True,
        },
    ),
    loss("CrossEntropyLoss", "CE", ALPHA=With(0.4, "MODEL.LOSSES.CE.EPSILON -1.0")),
    loss("CrossEntropyLoss", "CE", EPSILON=0.2, SCALE=2.0),
    loss("FocalLoss", "FL", ALPHA=0.5, GAMMA=3, SCALE=2.0),
    loss("TripletLoss", "TRI", MARGIN=2.0, HARD_MINING=True, NORM_FEAT=True, SCALE=2.0),
    loss("CircleLoss", "CIRCLE", MARGIN=0.5, GAMMA=64, SCALE=2.0),
    loss("Cosface", "COSFACE", MARGIN=0.5, GAMMA=64, SCALE=2.0),
    loss("CenterLoss", "CENTER", SCALE=0.01),
    loss("HeteroCenterTripletLoss", "HETERO_CENTER", MARGIN=3.0, REDUCTION="sum", SCALE=2.0),
    loss(
        "WeightedTripletLoss",
        "WEIGHTED_TRIPLET",
        ALPHA=2.0,
        GAMMA=2.0,
        LEGACY_WEIGHTS=True,
        MARGIN=With(3.0, "MODEL.LOSSES.WEIGHTED_TRIPLET.REDUCTION hinge"),
        REDUCTION="hinge",
        SCALE=2.0,
    ),
    loss(
        "CorrelationConsistencyLoss",
        "CORRELATION",
        LEVEL="image",
        NORM="row",
        REDUCTION="mse",
        SCALE=2.0,
    ),
    Group(
        "model",
        "caj/synthetic.yml",
        NARROW + "MODEL.CAJ.KL_SCALE 1.0 MODEL.CAJ.REFINE_SCALE 1.0 MODEL.BACKBONE.WITH_NL False",
        {
            "MODEL.CAJ.KL_SCALE": 0.5,
            "MODEL.CAJ.REFINE_SCALE": 0.5,
            "MODEL.CAJ.TEMPERATURE": 1.0,
        },
    ),
    Group(
        "model",
        "cm_lsp_ge/synthetic.yml",
        TALL + "MODEL.HEADS.STRIPE_DIM 8 MODEL.CM_LSP_GE.RESCORE_TOP 3",
        {
            "MODEL.CM_LSP_GE.CBAM": True,
            "MODEL.CM_LSP_GE.ENHANCEMENT": "",
            "MODEL.CM_LSP_GE.LOCAL": With(
                False,
                "MODEL.CM_LSP_GE.RESCORE_TOP 0 MODEL.LOSSES.NAME "
                "('LabelSmoothingCrossEntropyLoss','HeteroCenterTripletLoss')",
            ),
            "MODEL.CM_LSP_GE.RESCORE_TOP": 5,
            "MODEL.CM_LSP_GE.RESCORE_WEIGHT": 0.9,
            "MODEL.CM_LSP_GE.SHARED_EMBEDDING": False,
            "MODEL.HEADS.NUM_STRIPES": 3,
            "MODEL.LOSSES.PATH_TRIPLET.DISTANCE": "stripes",
            "MODEL.LOSSES.PATH_TRIPLET.MARGIN": 2.0,
            "MODEL.LOSSES.PATH_TRIPLET.MINING": "local",
            "MODEL.LOSSES.PATH_TRIPLET.REDUCTION": "sum",
            "MODEL.LOSSES.PATH_TRIPLET.SCALE": 2.0,
        },
    ),
    Group(
        "model",
        "maum/synthetic.yml",
        NARROW + "MODEL.MAUM.START_EPOCH 1 MODEL.MAUM.VISIBLE_SIZE 3 MODEL.MAUM.INFRARED_SIZE 3",
        {
            "MODEL.MAUM.ALPHA": 10.0,
            "MODEL.MAUM.DELTA": 0.5,
            "MODEL.MAUM.INFRARED_SIZE": 1,
            "MODEL.MAUM.MODALITY_ID_SCALE": 0.5,
            "MODEL.MAUM.PUSH_DELAY": 2,
            "MODEL.MAUM.PUSH_INTERVAL": 3,
            "MODEL.MAUM.REDUCTION": "mean",
            "MODEL.MAUM.START_EPOCH": 4,
            "MODEL.MAUM.UNIDIRECTIONAL_SCALE": 0.5,
            "MODEL.MAUM.VISIBLE_SIZE": 1,
        },
    ),
    Group(
        "model",
        "mrda/synthetic.yml",
        TALL,
        {
            "MODEL.MRDA.CONSTRAINT_STAGE": 2,
            "MODEL.MRDA.LOSS_VIEWS": "original",
            "MODEL.MRDA.MASK": False,
            "MODEL.MRDA.TEST_VIEW": "mean",
            "MODEL.HEADS.ATTENTION.KEPT": 2,
            "MODEL.HEADS.ATTENTION.NAME": "cbam",
            "MODEL.HEADS.ATTENTION.SCALED": False,
            "MODEL.HEADS.ATTENTION.STRIPES": 3,
            "MODEL.HEADS.ATTENTION.COMBINE": With("product", "MODEL.HEADS.ATTENTION.NAME bam"),
            "MODEL.LOSSES.REGIONAL_CENTER.SCALE": 2.0,
            "MODEL.LOSSES.REGIONAL_CENTER.CROSS_TERM": "masked",
            "MODEL.LOSSES.REGIONAL_CENTER.PER_ELEMENT": False,
            "MODEL.LOSSES.REGIONAL_CENTER.BACKGROUND_SCALE": 1.0,
            "MODEL.LOSSES.REGIONAL_CENTER.BACKGROUND_MARGIN": With(
                9.0,
                "MODEL.LOSSES.REGIONAL_CENTER.BACKGROUND_SCALE 1.0",
            ),
        },
    ),
    Group(
        "model",
        "msclnet/synthetic.yml",
        NARROW
        + "MODEL.MSCLNET.RANK 4 MODEL.LOSSES.DIVERSITY.START_EPOCH 1 MODEL.MSCLNET.PARTS 2 "
        + "MODEL.MSCLNET.ROUNDS 2",
        {
            "MODEL.MSCLNET.HIDDEN": 5,
            "MODEL.MSCLNET.JOINT": True,
            "MODEL.MSCLNET.PAIRS": "ranked",
            "MODEL.MSCLNET.PARTITION": "masks",
            "MODEL.MSCLNET.PARTS": 1,
            "MODEL.MSCLNET.RANK": 2,
            "MODEL.MSCLNET.ROUNDS": 1,
            "MODEL.LOSSES.DIVERSITY.CLAMP": 1e-9,
            "MODEL.LOSSES.DIVERSITY.OF": "channels",
            "MODEL.LOSSES.DIVERSITY.SCALE": 1.0,
            "MODEL.LOSSES.DIVERSITY.START_EPOCH": 3,
            "MODEL.LOSSES.GLOBAL_COMPLEMENT.NORMALISE": False,
            "MODEL.LOSSES.GLOBAL_COMPLEMENT.SCALE": 1.0,
            "MODEL.LOSSES.LOCAL_COMPLEMENT.LITERAL": True,
            "MODEL.LOSSES.LOCAL_COMPLEMENT.SCALE": 1.0,
            "MODEL.LOSSES.CASCADED_AGGREGATION.DISPERSION": "literal",
            "MODEL.LOSSES.CASCADED_AGGREGATION.INTER_SCALE": 2.0,
            "MODEL.LOSSES.CASCADED_AGGREGATION.INTRA_SCALE": 2.0,
            "MODEL.LOSSES.CASCADED_AGGREGATION.MARGIN": 2.0,
            "MODEL.LOSSES.CASCADED_AGGREGATION.NORMALISE": False,
            "MODEL.LOSSES.CASCADED_AGGREGATION.SCALE": 2.0,
            "MODEL.LOSSES.CASCADED_AGGREGATION.SUB_SCALE": 2.0,
        },
    ),
    Group(
        "model",
        "mutual_prediction/synthetic.yml",
        TALL + "MODEL.HEADS.STRIPE_DIM 8 MODEL.MUTUAL_PREDICTION.START_EPOCH 2",
        {
            "MODEL.MUTUAL_PREDICTION.ALPHA": 1.0,
            "MODEL.MUTUAL_PREDICTION.BETA": 1.0,
            "MODEL.MUTUAL_PREDICTION.PERIOD": 3,
            "MODEL.MUTUAL_PREDICTION.START_EPOCH": 7,
            "MODEL.HEADS.STRIPE_DIM": 4,
        },
    ),
]

SOLVERS = [
    Group(
        "optimizer",
        "baseline/synthetic.yml",
        NARROW + "SOLVER.WARMUP_EPOCHS 2 SOLVER.WARMUP_METHOD linear",
        {
            "RUNTIME.OPTIMIZER_STEP": "foreach",
            "SOLVER.BACKBONE_LR_FACTOR": 0.5,
            "SOLVER.BASE_LR": 0.5,
            "SOLVER.BIAS_LR_FACTOR": 0.5,
            "SOLVER.HEADS_LR_FACTOR": 0.5,
            "SOLVER.GAMMA": 0.5,
            "SOLVER.MOMENTUM": With(0.5, "SOLVER.OPT SGD"),
            "SOLVER.NESTEROV": With(False, "SOLVER.OPT SGD"),
            "SOLVER.OPT": "SGD",
            "SOLVER.SCHED": "CosineAnnealingLR",
            "SOLVER.ETA_MIN_LR": With(0.0005, "SOLVER.SCHED CosineAnnealingLR"),
            "SOLVER.DELAY_EPOCHS": With(
                5,
                "SOLVER.SCHED CosineAnnealingLR SOLVER.MAX_EPOCH 12",
            ),
            "SOLVER.MAX_EPOCH": With(9, "SOLVER.SCHED CosineAnnealingLR"),
            "SOLVER.STEPS": (4, 6),
            "SOLVER.STEP_FACTORS": (0.7, 0.2),
            "SOLVER.WARMUP_EPOCHS": 5,
            "SOLVER.WARMUP_FACTOR": 0.5,
            "SOLVER.WARMUP_ITERS": With(9, "SOLVER.WARMUP_EPOCHS -1"),
            "SOLVER.WARMUP_METHOD": "exp",
            "SOLVER.WEIGHT_DECAY": 0.1,
            "SOLVER.WEIGHT_DECAY_BIAS": 0.1,
            "SOLVER.WEIGHT_DECAY_NORM": 0.1,
            "SOLVER.CLIP_GRADIENTS.ENABLED": With(True, "SOLVER.OPT SGD"),
        },
    ),
    Group(
        "optimizer",
        "baseline/synthetic.yml",
        NARROW
        + "SOLVER.OPT SGD SOLVER.CLIP_GRADIENTS.ENABLED True SOLVER.CLIP_GRADIENTS.CLIP_VALUE 0.1",
        {
            "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "value",
            "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.2,
            "SOLVER.CLIP_GRADIENTS.NORM_TYPE": 1.0,
        },
    ),
    Group(
        "optimizer",
        "baseline/synthetic.yml",
        NARROW + "MODEL.LOSSES.NAME ('CenterLoss',)",
        {"MODEL.LOSSES.CENTER.LR": 0.1},
    ),
]

AREA = (0.3, 0.4)
ONE = ("visible",)
INPUTS = [
    augmentation(
        "CHANNEL_ERASING",
        AREA=AREA,
        INFRARED_PROB=1.0,
        MIN_ASPECT=0.9,
        MODALITIES=ONE,
        PER_CHANNEL=True,
        PROB=1.0,
        VALUE=(0.1, 0.2, 0.3),
    ),
    augmentation("CHANNEL_EXCHANGE", GREY=True, MODALITIES=("infrared",), PROB=0.5),
    augmentation("ADAPTIVE_GREY", MODALITIES=ONE, PROB=0.9),
    augmentation("GREY", MODALITIES=("infrared",), PROB=0.9),
    augmentation("TRIVIAL_AUGMENT", MODALITIES=ONE, PROB=0.5),
    augmentation("FLIP", MODALITIES=ONE, PROB=0.1),
    augmentation("PADDING", MODALITIES=ONE, SIZE=9, MODE="edge", more="INPUT.PADDING.SIZE 4"),
    augmentation("REA", AREA=AREA, MIN_ASPECT=0.9, MODALITIES=ONE, PROB=0.9, VALUE=[1.0, 2.0, 3.0]),
    augmentation(
        "CJ", MODALITIES=ONE, PROB=0.9, BRIGHTNESS=0.5, CONTRAST=0.5, SATURATION=0.5, HUE=0.4
    ),
    Group(
        "transforms",
        "baseline/synthetic.yml",
        NARROW,
        {
            "INPUT.SIZE_TRAIN": [40, 20],
            "INPUT.SIZE_TEST": [40, 20],
            "INPUT.NUM_VIEWS.VISIBLE": 3,
            "INPUT.NUM_VIEWS.INFRARED": 3,
        },
    ),
    Group(
        "loader",
        "baseline/synthetic.yml",
        REGDB,
        {
            "SEED": 1,
            "DATALOADER.NUM_INSTANCE": 4,
            "DATALOADER.NUM_WORKERS": 1,
            "DATALOADER.SAMPLER_TRAIN": "TrainingSampler",
            "DATALOADER.SET_WEIGHT": With(
                [4, 0],
                "DATALOADER.SAMPLER_TRAIN SetReWeightSampler DATALOADER.SET_WEIGHT [2,2]",
            ),
            "DATALOADER.CACHE.ENABLED": With(True, "DATALOADER.CACHE.FOLDER {own}/cache"),
            "DATALOADER.CACHE.FOLDER": With(
                "{own}/other",
                "DATALOADER.CACHE.ENABLED True DATALOADER.CACHE.FOLDER {own}/cache",
            ),
            "DATALOADER.CACHE.MAX_GB": With(
                1.0,
                "DATALOADER.CACHE.ENABLED True DATALOADER.CACHE.FOLDER {own}/cache",
            ),
            "SOLVER.IMS_PER_BATCH": 8,
            "INPUT.MAX_PIXELS": 100,
        },
    ),
    Group(
        "loader",
        "baseline/synthetic.yml",
        CSV + "DATASETS.CSV_FILE {own}/deep.csv",
        {"INPUT.INFRARED_RANGE": "0..65535", "INPUT.VISIBLE_RANGE": "0..65535"},
    ),
    Group(
        "loader",
        "baseline/synthetic.yml",
        CSV + "DATASETS.CSV_FILE {own}/cut.csv",
        {"DATASETS.VERIFY_IMAGES": "sizes"},
    ),
    Group(
        "loader",
        "baseline/synthetic.yml",
        CSV + "DATASETS.CSV_FILE {own}/overlap.csv TEST.EVAL_PERIOD 1",
        {"DATASETS.ALLOW_OVERLAP": True},
    ),
    Group(
        "items",
        "baseline/synthetic.yml",
        REGDB,
        {
            "DATASETS.NAMES": ("SYSUMM01",),
            "DATASETS.TESTS": ("SYSUMM01",),
            "DATASETS.REGDB_TRIAL": 2,
            "DATASETS.COMBINEALL": True,
            "DATASETS.CSV_FILE": With(
                "{own}/two.csv",
                "DATASETS.NAMES ('CSVDataset',) DATASETS.CSV_FILE {own}/one.csv",
            ),
            "DATASETS.THIN.KEEP": With(
                0.3, "DATASETS.THIN.MODALITY visible DATASETS.THIN.KEEP 0.7"
            ),
            "DATASETS.THIN.MODALITY": With(
                "infrared",
                "DATASETS.THIN.MODALITY visible DATASETS.THIN.KEEP 0.7",
            ),
            "DATASETS.THIN.SEED": With(1, "DATASETS.THIN.MODALITY visible DATASETS.THIN.KEEP 0.7"),
        },
    ),
    Group("tested", "baseline/synthetic.yml", REGDB, {"TEST.IMS_PER_BATCH": 5}),
]

RERANK = "TEST.RERANK.ENABLED True TEST.RERANK.K1 4 TEST.RERANK.K2 2 "
EVALUATIONS = [
    Group(
        "evaluated",
        "baseline/synthetic.yml",
        SYSU + "TEST.PROTOCOL.TRIALS 2 TEST.AQE.QE_K 3",
        {
            "TEST.METRIC": "euclidean",
            "TEST.PROTOCOL.GALLERY": "official",
            "TEST.PROTOCOL.MODES": ("indoor",),
            "TEST.PROTOCOL.SHOTS": (10,),
            "TEST.PROTOCOL.TRIALS": 3,
            "TEST.PROTOCOL.PERMUTATION_FILE": With(
                "{own}/none.mat",
                "TEST.PROTOCOL.GALLERY official",
            ),
            "TEST.RERANK.ENABLED": True,
            "TEST.AQE.ENABLED": True,
            "TEST.AQE.QE_K": With(2, "TEST.AQE.ENABLED True"),
            "TEST.AQE.ALPHA": With(0.5, "TEST.AQE.ENABLED True"),
            "TEST.AQE.QE_TIME": With(2, "TEST.AQE.ENABLED True"),
            "TEST.RERANK.K1": With(6, RERANK),
            "TEST.RERANK.K2": With(3, RERANK),
            "TEST.RERANK.LAMBDA": With(0.9, RERANK),
            "TEST.RERANK.METHOD": With("aim", RERANK),
            "TEST.RERANK.DEFINITION": With("softmax", RERANK),
            "TEST.RERANK.CROSS_MODALITY": With(True, RERANK),
        },
    ),
    Group(
        "evaluated",
        "baseline/synthetic.yml",
        REGDB,
        {"TEST.PROTOCOL.DIRECTIONS": ("infrared_to_visible",)},
    ),
    Group(
        "evaluated",
        "baseline/synthetic.yml",
        CSV + "DATASETS.CSV_FILE {own}/cameras.csv",
        {"DATASETS.CSV_SKIP_SAME_CAMERA": False},
    ),
]

SHORT = REGDB + "SOLVER.MAX_EPOCH 2 SOLVER.IMS_PER_BATCH 16 SOLVER.STEPS [5] SOLVER.LOG_PERIOD 2 "
SHORT += "SOLVER.CHECKPOINT_PERIOD 0 "
RUNS = [
    Group(
        "run",
        "baseline/synthetic.yml",
        SHORT,
        {
            "OUTPUT_DIR": "{own}/elsewhere",
            "SOLVER.LOG_PERIOD": 100,
            "SOLVER.CHECKPOINT_PERIOD": 1,
            "TEST.EVAL_PERIOD": 1,
            "TEST.FLIP.ENABLED": With(True, "TEST.EVAL_PERIOD 2"),
            "TEST.RETRIEVAL_PICTURES": With(1, "TEST.EVAL_PERIOD 2"),
            "CUDNN_BENCHMARK": True,
        },
    ),
    Group(
        "trainer",
        "baseline/synthetic.yml",
        REGDB,
        {
            "MODEL.FREEZE_LAYERS": With(
                ["heads"],
                "MODEL.FREEZE_LAYERS ['backbone'] SOLVER.FREEZE_ITERS 3",
            ),
            "SOLVER.FREEZE_ITERS": With(
                4, "MODEL.FREEZE_LAYERS ['backbone'] SOLVER.FREEZE_ITERS 3"
            ),
            "MODEL.WEIGHTS": "{own}/start.pth",
            "SOLVER.ACCUMULATION": 2,
            "SOLVER.AMP.ENABLED": With(True, "SOLVER.AMP.DTYPE bfloat16"),
            "SOLVER.AMP.DTYPE": With(
                "float16", "SOLVER.AMP.ENABLED True SOLVER.AMP.DTYPE bfloat16"
            ),
        },
    ),
    Group(
        "checked",
        "baseline/synthetic.yml",
        REGDB,
        {
            "MODEL.DEVICE": "meta",
            "TEST.DEVICE": "meta",
            "RUNTIME.KEEP_MEMORY": False,
            "KD.EMA.ENABLED": True,
            "TEST.ROC.ENABLED": True,
            "TEST.PRECISE_BN.ENABLED": True,
            "INPUT.AUGMIX.ENABLED": True,
            "INPUT.AUTOAUG.ENABLED": True,
            "INPUT.AFFINE.ENABLED": True,
            "INPUT.CROP.ENABLED": True,
            "INPUT.RPT.ENABLED": True,
            "VIREID.CONFIG_VERSION": 2,
        },
    ),
    Group("compiled", "baseline/synthetic.yml", REGDB, {"RUNTIME.COMPILE": True}),
    Group("resumed", "baseline/synthetic.yml", REGDB, {"SOLVER.RESUME_OTHER_CONFIG": True}),
]

GROUPS = MODELS + SOLVERS + INPUTS + EVALUATIONS + RUNS

_VIT = "only the vision transformer of FastReID reads it"
_REFUSED = "the feature of FastReID that it belongs to is refused"
_HOST = "only a meta-architecture of FastReID reads it"
#: keys that no run of this package reads, with the reason
NOT_READ = {
    "INPUT.AUGMIX.PROB": _REFUSED,
    "INPUT.AUTOAUG.PROB": _REFUSED,
    "INPUT.CROP.RATIO": _REFUSED,
    "INPUT.CROP.SCALE": _REFUSED,
    "INPUT.CROP.SIZE": _REFUSED,
    "INPUT.RPT.PROB": _REFUSED,
    "KD.EMA.MOMENTUM": _REFUSED,
    "KD.MODEL_CONFIG": _HOST,
    "KD.MODEL_WEIGHTS": _HOST,
    "MODEL.QUEUE_SIZE": _HOST,
    "MODEL.BACKBONE.FEAT_DIM": _HOST,
    "MODEL.BACKBONE.ATT_DROP_RATE": _VIT,
    "MODEL.BACKBONE.DROP_PATH_RATIO": _VIT,
    "MODEL.BACKBONE.DROP_RATIO": _VIT,
    "MODEL.BACKBONE.SIE_COE": _VIT,
    "MODEL.BACKBONE.STRIDE_SIZE": _VIT,
    "TEST.PRECISE_BN.DATASET": _REFUSED,
    "TEST.PRECISE_BN.NUM_ITER": _REFUSED,
}

_OTHER = """
    INPUT.AFFINE.ENABLED INPUT.AUGMIX.ENABLED INPUT.AUTOAUG.ENABLED INPUT.CROP.ENABLED
    INPUT.RPT.ENABLED INPUT.MAX_PIXELS KD.EMA.ENABLED MODEL.BACKBONE.PRETRAIN MODEL.DEVICE
    SOLVER.AMP.DTYPE TEST.DEVICE TEST.PRECISE_BN.ENABLED TEST.PROTOCOL.PERMUTATION_FILE
    TEST.ROC.ENABLED VIREID.CONFIG_VERSION
""".split()
_BASE = "DATASETS.ALLOW_OVERLAP DATASETS.VERIFY_IMAGES SOLVER.RESUME_OTHER_CONFIG".split()
#: the keys of which a value is refused by the observed part, and which: that is what changes
REFUSED = {
    **dict.fromkeys(_OTHER, ("other",)),
    **dict.fromkeys(_BASE, ("base",)),
    "MODEL.BACKBONE.PRETRAIN_PATH": ("base", "other"),  # two files that do not exist
}
