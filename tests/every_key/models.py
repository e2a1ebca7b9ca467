"""The keys of models and losses; see ``table.py``."""

from typing import Any

from .group import NARROW, TALL, Group, With


def loss(name: str, node: str, more: str = "", config: str = "baseline", **others: Any) -> Group:
    """Return the keys of a loss that is trained alone."""
    words = f"{NARROW}MODEL.LOSSES.NAME ('{name}',) {more}"
    found = {f"MODEL.LOSSES.{node}.{key}": value for key, value in others.items()}
    return Group("model", f"{config}/synthetic.yml", words, found)


NETWORK = (
    "MODEL.BACKBONE.NAME build_dual_stream_backbone MODEL.BACKBONE.NETWORK shufflenetv2 "
    "MODEL.BACKBONE.DEPTH 0.5x"
)
VIT = (
    "MODEL.BACKBONE.NAME build_dual_stream_timm_backbone "
    "MODEL.BACKBONE.TIMM_NAME vit_tiny_patch16_224 MODEL.BACKBONE.STRIDE_SIZE [8,8] "
    "MODEL.BACKBONE.TIMM_OPTIONS ['depth=2','embed_dim=16','num_heads=2','patch_size=8'] "
)
CROSSVIT = "MODEL.BACKBONE.TIMM_OPTIONS ['depth=((1,1,0),)','embed_dim=(16,32)','num_heads=(2,2)'] "
NON_LOCAL = "MODEL.BACKBONE.WITH_NL True MODEL.BACKBONE.NL_BLOCKS [0,0,1,0]"
MODELS = [
    Group(
        "structure",
        "baseline/synthetic.yml",
        "",
        {
            "MODEL.BACKBONE.NETWORK": With("mobilenetv2", NETWORK),
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
            "MODEL.BACKBONE.STEM_POOL": With(
                "padded", "MODEL.BACKBONE.NAME build_dual_stream_resnet_backbone"
            ),
            "MODEL.BACKBONE.NAME": "build_resnet_backbone",
            "MODEL.META_ARCHITECTURE": "MAUM",
            "MODEL.PIXEL_MEAN": [1.0, 2.0, 3.0],
            "MODEL.PIXEL_STD": [100.0, 50.0, 20.0],
            "MODEL.HEADS.CLS_LAYER": "CosSoftmax",
            "MODEL.HEADS.EMBEDDING_DIM": 5,
            "MODEL.HEADS.MARGIN": With(0.2, "MODEL.HEADS.CLS_LAYER CosSoftmax"),
            "MODEL.HEADS.SCALE": With(9, "MODEL.HEADS.CLS_LAYER CosSoftmax"),
            "MODEL.HEADS.NAME": "EmbeddingHead",
            "MODEL.HEADS.CLASSIFIER_STD": 0.001,
            "MODEL.HEADS.NECK_STD": 0.01,
            "MODEL.HEADS.GEM_EPS": With("mean", "MODEL.HEADS.POOL_LAYER GeneralizedMeanPooling"),
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
            "TEST.FEATURE": "pooled",
        },
    ),
    Group(
        "model",
        "baseline/synthetic.yml",
        VIT,
        {
            "MODEL.BACKBONE.TIMM_NAME": "deit_tiny_distilled_patch16_224",
            "MODEL.BACKBONE.TIMM_OPTIONS": ["depth=1", "embed_dim=16", "num_heads=2"],
            "MODEL.BACKBONE.STRIDE_SIZE": [4, 4],
            "MODEL.BACKBONE.MODALITY_EMBEDDING": "all",
            "MODEL.BACKBONE.MODALITY_SCALE": With(9.0, "MODEL.BACKBONE.MODALITY_EMBEDDING all"),
            "MODEL.BACKBONE.VIT_OUTPUT": "patches",
            "MODEL.BACKBONE.DROP_PATH_RATIO": 0.9,
            "MODEL.BACKBONE.DROP_RATIO": 0.5,
            "MODEL.BACKBONE.ATT_DROP_RATE": 0.5,
        },
    ),
    loss("SoftmaxTripletLoss", "SOFTMAX_TRIPLET", SCALE=2.0),
    Group(
        "model",
        "mmt/synthetic.yml",
        f"{NARROW}CLUSTERS.ENABLED False ",
        {
            "MODEL.MMT.SOFT_ID_SCALE": 0.1,
            "MODEL.MMT.SOFT_TRIPLET_SCALE": 0.1,
            "MODEL.MMT.MOMENTUM": 0.5,
            "MODEL.MMT.TEACHER": "first",
            "MODEL.MMT.STUDENT": "RBNet",
        },
    ),
    Group(
        "model",
        "rbnet/synthetic.yml",
        NARROW,
        {
            "MODEL.RBNET.MASK_FROM": "re_layer2",
            "MODEL.RBNET.MASK_FORM": "residual",
            "MODEL.RBNET.SKIPS": "all",
            "MODEL.RBNET.GROUP_WIDTH": 1,
            "MODEL.RBNET.SIGMA": 0.1,
            "MODEL.RBNET.KEYPOINT_SCALE": 0.5,
            "MODEL.RBNET.KEYPOINT_BALANCE": "fixed",
            "MODEL.RBNET.MASKED_ID_SCALE": 0.5,
            "MODEL.RBNET.MASKED_METRIC_SCALE": 0.5,
            "MODEL.RBNET.TEST_VIEW": "plain",
        },
    ),
    loss("CrossEntropyLoss", "CE", ALPHA=With(0.4, "MODEL.LOSSES.CE.EPSILON -1.0")),
    loss("CrossEntropyLoss", "CE", EPSILON=0.2, SCALE=2.0),
    loss("FocalLoss", "FL", ALPHA=0.5, GAMMA=3, SCALE=2.0),
    loss("TripletLoss", "TRI", MARGIN=2.0, HARD_MINING=True, NORM_FEAT=True, SCALE=2.0),
    loss("CircleLoss", "CIRCLE", MARGIN=0.5, GAMMA=64, SCALE=2.0),
    loss("Cosface", "COSFACE", MARGIN=0.5, GAMMA=64, SCALE=2.0),
    loss("CenterLoss", "CENTER", SCALE=0.01, OWN_STEP=True),
    loss("HeteroCenterTripletLoss", "HETERO_CENTER", MARGIN=3.0, REDUCTION="sum", SCALE=2.0),
    loss("CrossModalityTripletLoss", "CROSS_MODALITY_TRIPLET", MARGIN=3.0, SCALE=2.0),
    loss("MeanDiscrepancyLoss", "MEAN_DISCREPANCY", FEATURE="features", SCALE=2.0),
    loss("DiscriminativeCenterLoss", "DISCRIMINATIVE_CENTER", SCALE=2.0),
    loss("IntraModalityTripletLoss", "INTRA_TRIPLET", MARGIN=2.0, SCALE=2.0),
    loss("ModalitySharedEnhancementLoss", "MODALITY_SHARED", SCALE=2.0),
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
        FEATURE="bn_features",
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
            "MODEL.CAJ.REFINE_PAIRS": "draw",
            "MODEL.CAJ.TEMPERATURE": 1.0,
        },
    ),
    Group(
        "model",
        "cmtr/synthetic.yml",
        VIT,
        {
            "MODEL.CMTR.LAMBDA": 0.5,
            "MODEL.CMTR.PHI": "affine",
            "MODEL.CMTR.TEST_REMOVED": True,
            "MODEL.LOSSES.MODALITY_AWARE_CENTER.CENTER": "per_modality",
            "MODEL.LOSSES.MODALITY_AWARE_CENTER.SCALE": 2.0,
            "MODEL.LOSSES.MODALITY_AWARE_ID.SCALE": 2.0,
            "MODEL.LOSSES.MODALITY_AWARE_ID.SHARED": True,
            "MODEL.LOSSES.MODALITY_AWARE_ID.SMOOTHING": 0.3,
        },
    ),
    Group(
        "model",
        "crossvit_csa/synthetic.yml",
        CROSSVIT,
        {
            "MODEL.BACKBONE.BRANCH_SCALES": [1.0, 0.5],
            "MODEL.CROSSVIT_CSA.ATTENTION": "channel",
            "MODEL.CROSSVIT_CSA.CLASS_TOKEN": "add",
            "MODEL.CROSSVIT_CSA.KERNEL": 5,
            "MODEL.CROSSVIT_CSA.REDUCTION": 8,
            "MODEL.CROSSVIT_CSA.SPATIAL": "sum",
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
            "MODEL.MRDA.MASK": With(False, "MODEL.LOSSES.NAME ('LabelSmoothingCrossEntropyLoss',)"),
            "MODEL.MRDA.MASK_INPUT": "normalized",
            "MODEL.MRDA.TEST_VIEW": "mean",
            "MODEL.HEADS.ATTENTION.KEPT": 2,
            "MODEL.HEADS.ATTENTION.NAME": "cbam",
            "MODEL.HEADS.ATTENTION.SCALED": False,
            "MODEL.HEADS.ATTENTION.STRIPES": 3,
            "MODEL.HEADS.ATTENTION.ZERO_START": True,
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
            "MODEL.MSCLNET.JOINT": False,
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
            "MODEL.LOSSES.CASCADED_AGGREGATION.DISPERSION": "hinge",
            "MODEL.LOSSES.CASCADED_AGGREGATION.FEATURE": "features",
            "MODEL.LOSSES.CASCADED_AGGREGATION.INTER_SCALE": 2.0,
            "MODEL.LOSSES.CASCADED_AGGREGATION.INTRA_SCALE": 2.0,
            "MODEL.LOSSES.CASCADED_AGGREGATION.MARGIN": With(
                2.0, "MODEL.LOSSES.CASCADED_AGGREGATION.DISPERSION hinge"
            ),
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
    Group(
        "model",
        "pmt/synthetic.yml",
        NARROW + "SOLVER.HEADS_LR_LAYERS [] MODEL.BACKBONE.UNSHARED_STAGES 1",
        {"MODEL.PMT.GRAY_LOSSES": ("LabelSmoothingCrossEntropyLoss",)},
    ),
    Group(
        "model",
        "nformer/synthetic.yml",
        NARROW + "MODEL.NFORMER.DIM 8 MODEL.NFORMER.TOPK 4 MODEL.NFORMER.LANDMARKS 2",
        {
            "MODEL.NFORMER.DIM": 4,
            "MODEL.NFORMER.LAYERS": 2,
            "MODEL.NFORMER.HEADS": 4,
            "MODEL.NFORMER.LANDMARKS": 3,
            "MODEL.NFORMER.TOPK": 3,
            "MODEL.NFORMER.TOPK_PER_MODALITY": True,
            "MODEL.NFORMER.RNS_SOURCE": "affinity",
            "MODEL.NFORMER.NORMALIZE_INPUT": "never",
            "MODEL.NFORMER.DROPOUT": 0.5,
            "MODEL.NFORMER.TEST_LANDMARK_SEED": 1,
            "MODEL.NFORMER.ENCODER_ARCHITECTURE": "MAUM",
            "MODEL.NFORMER.ENCODER_LOSSES": ("NoSuchLoss",),
        },
    ),
    Group(
        "sequences",
        "nformer/synthetic.yml",
        NARROW + "MODEL.NFORMER.DIM 8 MODEL.NFORMER.SEQUENCE_LENGTH 12 "
        "MODEL.NFORMER.IMAGES_PER_SEQUENCE 8",
        {
            "MODEL.NFORMER.SEQUENCE_LENGTH": 9,
            "MODEL.NFORMER.SEQUENCE_PER_MODALITY": True,
            "MODEL.NFORMER.SEQUENCES": 1,
            "MODEL.NFORMER.IMAGES_PER_SEQUENCE": 4,
        },
    ),
    Group(
        "trainer",
        "nformer/synthetic.yml",
        NARROW + "MODEL.NFORMER.DIM 8 MODEL.NFORMER.SEQUENCE_LENGTH 12",
        {
            "MODEL.NFORMER.ENCODER": "{own}/none.pth",
            "MODEL.NFORMER.ENCODER_TRAINED_ON": ("RegDB",),
        },
    ),
    Group(
        "model",
        "baseline/synthetic.yml",
        TALL + "MODEL.HEADS.NAME HCTHead MODEL.HEADS.WITH_BNNECK False MODEL.HEADS.STRIPE_DIM 8",
        {"MODEL.HEADS.GEM_EXPONENT": 10.0},
    ),
]
