"""Mistakes that a config alone shows. Oracle: each is one sentence, before any line of the log."""

import pytest
import torch

from vireid_plugins.engine.early_checks import check_training, odd_values
from vireid_plugins.engine.setup import build_config
from vireid_plugins.engine.trainer import VIReIDTrainer
from vireid_plugins.engine.trial import try_model
from vireid_plugins.errors import UserError

from tests.engine.small import small_words


def checked(folder, *words, config="baseline/synthetic.yml"):
    """The sentence that ends a training by these words before data are read; empty if none."""
    try:
        cfg = build_config(config, [*small_words(folder), *words])
        check_training(cfg)
        try_model(cfg)
    except UserError as error:
        return str(error)
    return ""


HOST = (
    "MODEL.META_ARCHITECTURE Baseline MODEL.BACKBONE.NAME build_resnet_backbone "
    "MODEL.HEADS.NAME EmbeddingHead MODEL.LOSSES.NAME ('CrossEntropyLoss',) "
)
STAGED = "MODEL.BACKBONE.NAME build_dual_stream_backbone "


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("MODEL.DEVICE meta", "MODEL.DEVICE is 'meta', on which PyTorch"),
        ("MODEL.DEVICE mps", "MODEL.DEVICE is 'mps', on which PyTorch"),
        ("MODEL.DEVICE cpu:7", "the CPU is not numbered"),
        ("MODEL.DEVICE gpu", "expected cpu, cuda, or cuda:N"),
        ("TEST.DEVICE meta", "TEST.DEVICE is 'meta', on which PyTorch"),
        ("DATALOADER.SAMPLER_TRAIN Foo", "DATALOADER.SAMPLER_TRAIN names 'Foo'"),
        ("DATALOADER.NUM_INSTANCE 3", "must be a multiple of 2 \\* DATALOADER.NUM_INSTANCE"),
        ("DATASETS.NAMES ()", "DATASETS.NAMES must name datasets"),
        ("DATASETS.TESTS ('RegDB','RegDB')", "DATASETS.TESTS must name each test set once"),
        ("DATASETS.TESTS () TEST.EVAL_PERIOD 1", "DATASETS.TESTS is empty"),
        ("DATASETS.THIN.KEEP 0.5", "DATASETS.THIN.KEEP is 0.5 and MODALITY is empty"),
        ("INPUT.AUTOAUG.ENABLED True", "INPUT.AUTOAUG.ENABLED is not supported"),
        ("INPUT.FLIP.VIEWS (1,)", "INPUT.FLIP.VIEWS is \\[1\\]"),
        ("KD.EMA.ENABLED True", "KD.EMA.ENABLED is not supported"),
        (
            "TEST.PRECISE_BN.ENABLED True TEST.PRECISE_BN.DATASET RegDB TEST.EVAL_PERIOD 1",
            "PRECISE_BN.DATASET is 'RegDB': the statistics are always those of the training",
        ),
        ("TEST.ROC.ENABLED True", "TEST.ROC.ENABLED is not supported"),
        ("TEST.PROTOCOL.DIRECTIONS () DATASETS.TESTS ('RegDB',)", "no protocol to evaluate"),
        ("TEST.AQE.ENABLED True TEST.METRIC euclidean", "needs TEST.METRIC cosine"),
        ("SOLVER.OPT Foo", "SOLVER.OPT is 'Foo'"),
        ("SOLVER.OPT Muon", "SOLVER.OPT is 'Muon'"),
        ("SOLVER.OPT SGD SOLVER.MOMENTUM 0", "SOLVER.NESTEROV is True and SOLVER.MOMENTUM is 0"),
        ("SOLVER.SCHED StepLR", "SOLVER.SCHED is 'StepLR'"),
        ("SOLVER.SCHED CosineAnnealingLR SOLVER.ETA_MIN_LR 1", "the learning rate would rise"),
        ("SOLVER.WARMUP_METHOD foo", "SOLVER.WARMUP_METHOD is 'foo'"),
        ("SOLVER.WARMUP_FACTOR 0 SOLVER.WARMUP_METHOD exp", "nothing trains during the warm-up"),
        ("SOLVER.STEP_FACTORS (0.1,0.2,0.3)", "SOLVER.STEP_FACTORS is"),
        ("SOLVER.BACKBONE_LR_FACTOR 0 SOLVER.HEADS_LR_FACTOR 0", "nothing would train"),
        ("SOLVER.AMP.ENABLED True", "SOLVER.AMP.DTYPE float16 needs a GPU"),
        ("MODEL.FREEZE_LAYERS ['backbone']", "SOLVER.FREEZE_ITERS is 0, so nothing"),
        ("MODEL.FREEZE_LAYERS ['('] SOLVER.FREEZE_ITERS 1", "which is not a pattern"),
        ("MODEL.FREEZE_LAYERS ['trunk'] SOLVER.FREEZE_ITERS 1", "which no parameter starts with"),
        (
            "MODEL.META_ARCHITECTURE SPOT",
            "KEYPOINTS.READ is none. Set it to all.*learned_structure",
        ),
        ("MODEL.META_ARCHITECTURE Foo", "MODEL.META_ARCHITECTURE names 'Foo'"),
        ("MODEL.META_ARCHITECTURE Baseline", "does not say which images are infrared"),
        ("MODEL.META_ARCHITECTURE MGN", "does not say which images are infrared"),
        (HOST + "MODEL.HEADS.NAME BNNeckHead", "takes FastReID's heads only"),
        (HOST + "MODEL.LOSSES.NAME ('CenterLoss',)", "would ignore CenterLoss"),
        (HOST, "FEAT_DIM is 2048, and build_resnet_backbone 18x makes maps of 512 channels"),
        ("MODEL.BACKBONE.NAME resnet", "MODEL.BACKBONE.NAME names 'resnet'"),
        ("MODEL.BACKBONE.DEPTH 19x", "MODEL.BACKBONE.DEPTH is '19x'"),
        ("MODEL.BACKBONE.NAME build_osnet_backbone", "DEPTH is '18x', which build_osnet_.* x1_0,"),
        ("MODEL.BACKBONE.NAME build_shufflenetv2_backbone", "DEPTH is '18x', which build_shuff"),
        ("MODEL.BACKBONE.NAME build_mobilenetv3_backbone", "DEPTH is '18x', which build_mobile"),
        (STAGED + "MODEL.BACKBONE.NETWORK mobilenet", "'mobilenet'.* Did you mean .*'mobilenetv2'"),
        (STAGED + "MODEL.BACKBONE.NETWORK mobilenetv2", "DEPTH is '18x'; expected one of 1.0x,"),
        ("MODEL.BACKBONE.NETWORK osnet", "does not read .*NETWORK osnet; only build_dual_stream_b"),
        (
            "MODEL.BACKBONE.NAME build_resnet_backbone MODEL.BACKBONE.STEM_POOL padded",
            "STEM_POOL padded; only build_dual_stream_resnet_backbone",
        ),
        ("MODEL.BACKBONE.NORM XX", "MODEL.BACKBONE.NORM is 'XX'"),
        ("MODEL.HEADS.NORM FrozenBN", "MODEL.HEADS.NORM is 'FrozenBN'"),
        ("MODEL.HEADS.NAME Foo", "MODEL.HEADS.NAME names 'Foo'"),
        ("MODEL.HEADS.POOL_LAYER Identity INPUT.SIZE_TEST [96,48]", "POOL_LAYER Identity makes"),
        ("MODEL.HEADS.POOL_LAYER Flatten INPUT.SIZE_TEST [96,48]", "POOL_LAYER Flatten makes"),
        ("MODEL.LOSSES.NAME ()", "MODEL.LOSSES.NAME is empty"),
        ("MODEL.LOSSES.NAME ('CenterLos',)", "MODEL.LOSSES.NAME names 'CenterLos'"),
        ("MODEL.LOSSES.NAME ('PathTripletLoss',)", "Missing: stripe_features"),
        ("MODEL.LOSSES.NAME ('BatchHardTripletLoss',) MODEL.LOSSES.BATCH_HARD.SCALE 0", "is 0: "),
        ("MODEL.BACKBONE.WITH_NL True MODEL.BACKBONE.NL_BLOCKS [0,9,0,0]", "NL_BLOCKS of layer2"),
        ("INPUT.SIZE_TEST [1,1]", "SIZE_TEST \\[1, 1\\] does not suit.*takes is \\[3, 3\\]"),
        ("INPUT.SIZE_TRAIN [2,9]", "SIZE_TRAIN \\[2, 9\\] does not suit.*takes is \\[3, 3\\]"),
        ("RUNTIME.OPTIMIZER_STEP fused SOLVER.OPT Rprop", "RUNTIME.OPTIMIZER_STEP is 'fused'"),
        (
            "RUNTIME.COMPILE True MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS True",
            "nothing would be compiled",
        ),
        ("MODEL.BACKBONE.PRETRAIN True MODEL.BACKBONE.PRETRAIN_PATH /no.pth", "'/no.pth', which"),
    ],
)
def test_a_mistake_is_said_before_data_are_read(tmp_path, words, said):
    sentence = checked(tmp_path / "run", *words.split())
    assert "\n" not in sentence
    with pytest.raises(UserError, match=said):
        raise UserError(sentence)
    assert not (tmp_path / "run").exists()


def test_the_smallest_height_is_that_of_the_stripes(tmp_path):
    """Six stripes need six rows. Rows of 83 pixels: 42, 21, 11, 6; of 82: 41, 20, 10, 5."""
    words = "INPUT.SIZE_TRAIN [96,48] INPUT.SIZE_TEST [48,16]"
    config = "mutual_prediction/synthetic.yml"
    sentence = checked(tmp_path, *words.split(), "MODEL.BACKBONE.LAST_STRIDE", "1", config=config)
    assert "INPUT.SIZE_TEST [48, 16] does not suit this model" in sentence
    assert "takes is [83, 3]" in sentence


def test_right_configs_pass_and_random_states_stay(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert checked(tmp_path) == ""
    assert checked(tmp_path, *HOST.split(), "MODEL.BACKBONE.FEAT_DIM", "512") == ""
    assert checked(tmp_path, "MODEL.BACKBONE.NORM", "GN") == ""
    assert torch.rand(1) == expected


def test_a_trainer_of_ones_own_script_checks_too(tmp_path):
    cfg = build_config("baseline/synthetic.yml", small_words(tmp_path / "run"))
    cfg.SOLVER.OPT = "Foo"
    with pytest.raises(UserError, match="SOLVER.OPT is 'Foo'"):
        VIReIDTrainer(cfg)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("SOLVER.WARMUP_EPOCHS 1 SOLVER.MAX_EPOCH 2", None),
        ("SOLVER.WARMUP_EPOCHS 2 SOLVER.MAX_EPOCH 2", "SOLVER.WARMUP_EPOCHS is 2 of 2 epochs"),
        ("SOLVER.SCHED CosineAnnealingLR SOLVER.DELAY_EPOCHS 5", "SOLVER.DELAY_EPOCHS is 5 of 2"),
        (
            "INPUT.GREY.ENABLED True INPUT.GREY.EPOCHS [0,3]",
            r"GREY.EPOCHS is [0, 3] and SOLVER.MAX",
        ),
        ("SOLVER.FREEZE_ITERS 5", "nothing is frozen"),
        ("SOLVER.AMP.DTYPE auto", "SOLVER.AMP.ENABLED is False: no mixed precision"),
        ("SOLVER.AMP.DTYPE auto SOLVER.AMP.ENABLED True", None),
        ("MODEL.LOSSES.NAME ('CenterLoss',)", "CenterLoss only pulls features together"),
    ],
)
def test_what_is_odd_is_one_warning(tmp_path, words, said):
    cfg = build_config("baseline/synthetic.yml", [*small_words(tmp_path), *words.split()])
    check_training(cfg)
    found = odd_values(cfg)
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


@pytest.mark.parametrize(
    ("config", "key"),
    [("msclnet", "SIZE_TRAIN"), ("cm_lsp_ge", "SIZE_TRAIN"), ("cm_lsp_ge", "SIZE_TEST")],
)
def test_a_size_that_only_the_training_refuses(tmp_path, config, key):
    """The stripes of these methods are cut in training; CM-LSP-GE's head cuts none at test."""
    words = f"INPUT.SIZE_TRAIN [192,16] INPUT.SIZE_TEST [192,16] INPUT.{key} [8,8]"
    sentence = checked(tmp_path, *words.split(), config=f"{config}/synthetic.yml")
    if key == "SIZE_TEST":
        assert sentence == ""
    else:
        assert "INPUT.SIZE_TRAIN [8, 8] does not suit this model" in sentence
