"""Every key: under which config, set to which other value, it must change what which observer sees.

A new key gets a line here. ``{own}`` stands for the folder of the test's own files.
"""

from typing import Any

from .group import CSV, NARROW, REGDB, SYSU, Group, With
from .models import MODELS


def augmentation(node: str, view: str = "[1]", more: str = "", **others: Any) -> Group:
    """Return the keys of a node of INPUT that is switched on."""
    words = f"{NARROW}INPUT.{node}.ENABLED True INPUT.NUM_VIEWS.VISIBLE 2 "
    words += "INPUT.NUM_VIEWS.INFRARED 2 INPUT.PADDING.ENABLED False INPUT.FLIP.ENABLED False "
    words += f"INPUT.{node}.ENABLED True " + more
    found = {f"INPUT.{node}.{key}": value for key, value in others.items()}
    found.update({f"INPUT.{node}.ENABLED": False, f"INPUT.{node}.VIEWS": view})
    found[f"INPUT.{node}.EPOCHS"] = (1, 2)
    return Group("transforms", "baseline/synthetic.yml", words, found)


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
            "SOLVER.HEADS_LR_LAYERS": With(
                ["backbone.shared.layer1"], "SOLVER.BACKBONE_LR_FACTOR 0.1"
            ),
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

CLUSTERS = SYSU + (
    "CLUSTERS.ENABLED True CLUSTERS.K1 6 CLUSTERS.K2 2 CLUSTERS.RADIUS 0.6 CLUSTERS.MIN_SAMPLES 2 "
    "DATALOADER.SAMPLER_TRAIN TrainingSampler SOLVER.IMS_PER_BATCH 8 CLUSTERS.ITERATIONS 2 "
    "SOLVER.CHECKPOINT_PERIOD 0 "
)
BY_RULE = "CLUSTERS.RADIUS 0.0 CLUSTERS.RADIUS_SHARE 0.05"
STARTS = Group(
    "trainer",
    "mmt/synthetic.yml",
    NARROW + "SOLVER.IMS_PER_BATCH 8",
    {f"MODEL.MMT.START_{number}": "{own}/none.pth" for number in (1, 2)},
)
CLUSTERINGS = Group(
    "clustered",
    "baseline/synthetic.yml",
    CLUSTERS,
    {
        "CLUSTERS.ENABLED": False,
        "CLUSTERS.ITERATIONS": 3,
        "CLUSTERS.PERIOD": 2,
        "CLUSTERS.RADIUS": 0.3,
        "CLUSTERS.RADIUS_SHARE": With(0.01, BY_RULE),
        "CLUSTERS.MIN_SAMPLES": 4,
        "CLUSTERS.K1": 3,
        "CLUSTERS.K2": 1,
        "CLUSTERS.DEFINITION": "softmax",
        "CLUSTERS.WITHIN": "modality",
        "CLUSTERS.NEW_OPTIMIZER": False,
    },
)
CONTRAST = CLUSTERS + (
    "MODEL.CLUSTER_CONTRAST.FIRST_EPOCHS 0 SOLVER.MAX_EPOCH 1 CLUSTERS.ITERATIONS 4 "
    "DATALOADER.SAMPLER_TRAIN EachModalitySampler DATALOADER.INFRARED_IDENTITIES 0 "
)
CONTRASTS = [
    Group(
        "clustered",
        "adca/synthetic.yml",
        CONTRAST,
        {
            "MODEL.CLUSTER_CONTRAST.VOTE_COSINE": 1.5,
            "MODEL.CLUSTER_CONTRAST.AGGREGATION": 0.3,
            "DATALOADER.INFRARED_IDENTITIES": 1,
        },
    ),
    Group(
        "clustered",
        "bmil/synthetic.yml",
        CONTRAST,
        {
            "CLUSTERS.BALANCED_ORDER": "turns",
            "CLUSTERS.VISIBLE_SHARE": 1.0,
            "MODEL.CLUSTER_CONTRAST.GLOBAL": "all",
            "MODEL.CLUSTER_CONTRAST.GLOBAL_SCALE": 2.0,
            "MODEL.CLUSTER_CONTRAST.SPLIT": False,
            "MODEL.CLUSTER_CONTRAST.NEAREST": 2,
        },
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
    augmentation(
        "JITTER_OR_BLUR",
        more="INPUT.JITTER_OR_BLUR.KERNEL 5",
        BRIGHTNESS=0.9,
        CONTRAST=0.9,
        KERNEL=3,
        SIGMA=(0.5, 0.6),
        MODALITIES=ONE,
        PROB=0.5,
    ),
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
            "INPUT.INTERPOLATION": "lanczos",
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
            "DATALOADER.IDENTITY_DRAW": "independent",
            "DATALOADER.IMAGE_DRAW": "replacement",
            "DATALOADER.EXTRA_BATCHES": 1,
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
        REGDB + "DATALOADER.SAMPLER_TRAIN PairsAndNegativesSampler DATALOADER.NUM_INSTANCE 1 "
        "DATALOADER.NEGATIVES 1 SOLVER.IMS_PER_BATCH 6",
        {"DATALOADER.NEGATIVES": 2, "DATALOADER.EPOCH_BATCHES": 3},
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
        CSV + "DATASETS.CSV_FILE {own}/one.csv",
        {
            "INPUT.KEYPOINTS.READ": "train",
            "INPUT.KEYPOINTS.FILE": With("other.npz", "INPUT.KEYPOINTS.READ train"),
        },
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
            "TEST.RERANK.NEIGHBORS": With("queries", RERANK),
        },
    ),
    Group(
        "evaluated",
        "baseline/synthetic.yml",
        REGDB,
        {
            "TEST.PROTOCOL.DIRECTIONS": ("infrared_to_visible",),
            "TEST.PROTOCOL.REGDB_CMC": "identity",
        },
    ),
    Group(
        "protocols",
        "baseline/synthetic.yml",
        NARROW + "DATASETS.TESTS ('LLCM',)",
        {"TEST.PROTOCOL.LLCM": "released_code"},
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
            "TEST.PRECISE_BN.ENABLED": With(True, "TEST.EVAL_PERIOD 2"),
            "TEST.PRECISE_BN.NUM_ITER": With(1, "TEST.EVAL_PERIOD 2 TEST.PRECISE_BN.ENABLED True"),
            "TEST.FLIP.NORMALIZED": With(True, "TEST.EVAL_PERIOD 2 TEST.FLIP.ENABLED True"),
            "TEST.RETRIEVAL_PICTURES": With(1, "TEST.EVAL_PERIOD 2"),
            "CUDNN_BENCHMARK": True,
        },
    ),
    Group(
        "trainer",
        "baseline/synthetic.yml",
        REGDB,
        {
            "SOLVER.PICTURE_PERIOD": 7,
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
            "TEST.PRECISE_BN.DATASET": With(
                "LLCM", "TEST.EVAL_PERIOD 1 TEST.PRECISE_BN.ENABLED True"
            ),
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

GROUPS = [*MODELS, *SOLVERS, *INPUTS, *EVALUATIONS, *RUNS, CLUSTERINGS, *CONTRASTS, STARTS]

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
    "MODEL.BACKBONE.SIE_COE": _VIT,
}

_OTHER = """
    INPUT.AFFINE.ENABLED INPUT.AUGMIX.ENABLED INPUT.AUTOAUG.ENABLED INPUT.CROP.ENABLED
    INPUT.RPT.ENABLED INPUT.MAX_PIXELS KD.EMA.ENABLED MODEL.BACKBONE.PRETRAIN MODEL.DEVICE
    MODEL.CLUSTER_CONTRAST.MATCH
    MODEL.MMT.START_1 MODEL.MMT.START_2 SOLVER.AMP.DTYPE TEST.DEVICE
    TEST.PRECISE_BN.DATASET TEST.PROTOCOL.PERMUTATION_FILE
    TEST.ROC.ENABLED VIREID.CONFIG_VERSION MODEL.NFORMER.ENCODER MODEL.NFORMER.ENCODER_LOSSES
""".split()
_BASE = "DATASETS.ALLOW_OVERLAP DATASETS.VERIFY_IMAGES SOLVER.RESUME_OTHER_CONFIG".split()
#: the keys of which a value is refused by the observed part, and which: that is what changes
REFUSED = {
    **dict.fromkeys(_OTHER, ("other",)),
    **dict.fromkeys(_BASE, ("base",)),
    "MODEL.BACKBONE.PRETRAIN_PATH": ("base", "other"),  # two files that do not exist
}
