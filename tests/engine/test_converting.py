"""Converted checkpoints. Oracles: features of the public codes; the format of their files.

The features in ``RECORDED`` were computed by the public code itself, in float64, with the weights
of ``public.value_of`` and the images of ``images``: ``model.py`` of
mangye16/Cross-Modal-Re-ID-baseline at e817a26 and ``model_mine.py`` of
hijune6/Hetero-center-triplet-loss-for-VT-Re-ID. Each row is an image's feature of length 1, times
three vectors of ``numpy.random.RandomState(1)``; two visible rows, then two infrared ones.
"""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vireid_plugins as vp
from vireid.cli import run_verb
from vireid_plugins.engine.loading import open_checkpoint
from vireid_plugins.engine.model import build_model
from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import CheckpointError, ExistingFileError, MissingFileError, UserError
from vireid_plugins.published import map_names
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.published import public

REGDB = "regdb_agw_p4_n8_lr_0.1_seed_0_trial_3_best.t"
SMALL = {"depth": 18, "non_local": (0, 1, 1, 0)}
# name: tensors, words of the command, features
RECORDED = {
    "agw": (
        public.agw_shapes(7),
        {"dataset": "sysu"},
        [
            [-0.055245576165734944, 0.8545644752272233, 0.577720028144437],
            [-0.12457412345902605, 0.8402075566457897, 0.6095533223836634],
            [-0.12130563761318701, 0.9147608638600406, 0.5705128644589786],
            [-0.14252370918822288, 0.8140941677226062, 0.5397537909266843],
        ],
    ),
    "base": (
        public.agw_shapes(7, non_local=()),
        {"dataset": "sysu"},
        [
            [0.07384268808944337, 0.9106033020433196, 0.5053743665120259],
            [0.06914250650881151, 0.9122491764696354, 0.48670326595017493],
            [-0.014424039770050157, 0.9606989335579958, 0.4974777977511736],
            [-0.0011306738078528666, 0.9307330435570106, 0.4535390719840644],
        ],
    ),
    "hct, RegDB": (
        public.hct_shapes(7),
        {"dataset": "regdb", "trial": 2},
        [
            [0.11485128377974912, -0.48772790003311206, 0.5556048489387801],
            [0.14545868305185716, -0.17555515340800415, 0.5144516368292043],
            [0.3108422045965386, -0.47439966205749695, 1.122695597627039],
            [0.006003846410785815, -0.5829975383521568, 1.0171393117121905],
        ],
    ),
    "hct without stripes": (
        public.hct_shapes(7, share_net=1, stripes=0),
        {"dataset": "sysu"},
        [
            [-0.005566063364400062, 0.8671531635440701, 0.6149561322137316],
            [-0.06141697804786016, 0.8490999577949813, 0.6549033085967555],
            [-0.07792901831648519, 0.9348869674597475, 0.6093706460065014],
            [-0.09416613587156972, 0.8303556348633178, 0.571406949848401],
        ],
    ),
    "hct, all shared": (
        public.hct_shapes(7, share_net=0, stripes=3, width=64),
        {"dataset": "sysu"},
        [
            [-0.4750945840019746, 2.8308790919138107, 0.7725660609567901],
            [-0.536061645112821, 2.8394733352657475, 0.7898870082536548],
            [-0.4750945840019746, 2.8308790919138107, 0.7725660609567901],
            [-0.536061645112821, 2.8394733352657475, 0.7898870082536548],
        ],
    ),
}


def draws_used(shapes):
    """A function that draws the tensors that are converted; the others take no room."""
    used = map_names(shapes, "a.t").names
    return lambda name, shape: (public.value_of if name in used else public.filled)(name, shape)


def images():
    return torch.from_numpy(np.random.RandomState(0).standard_normal((2, 3, 96, 48)))


def features_of(model):
    """Features (4, D) of length 1: of the images as visible ones, and as infrared ones."""
    rows = []
    with torch.no_grad():
        for modality in (0, 1):
            modalities = torch.full((2,), modality)
            feature_map = model.backbone(images(), modalities)
            rows.append(F.normalize(model.heads(feature_map, None, modalities)))
    return torch.cat(rows)


@pytest.fixture(scope="module", autouse=True)
def drawn_once():
    """What ``value_of`` draws is kept while this file runs: the networks share most names."""
    yield
    public.value_of.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
def test_the_features_are_those_of_the_public_code(tmp_path, name):
    shapes, words, expected = RECORDED[name]
    path = public.save(tmp_path / "a.t", shapes, draw=draws_used(shapes))
    vp.convert(path, tmp_path / "b.pth", **words)
    found = features_of(open_checkpoint(str(tmp_path / "b.pth")).model.double())
    vectors = np.random.RandomState(1).standard_normal((found.shape[1], 3))
    assert np.abs(found.numpy() @ vectors - expected).max() < 1e-9


@pytest.fixture(scope="module")
def regdb(tmp_path_factory):
    """A small file in the format of AGW, whose name tells dataset and trial."""
    return public.save(tmp_path_factory.mktemp("public") / REGDB, public.agw_shapes(9, **SMALL))


def test_the_new_file_says_what_it_was_trained_on(regdb, tmp_path):
    made = vp.convert(regdb, tmp_path / "new.pth")
    assert (made.source, made.dataset, made.trial, made.num_classes) == ("agw", "RegDB", 3, 9)
    assert made.results == "epoch 40, rank-1 40.00, mAP 47.00, mINP 35.00"
    opened = open_checkpoint(made.out)
    cfg = opened.cfg
    assert opened.facts["train_datasets"] == ["RegDB"] and opened.facts["regdb_trial"] == 3
    assert cfg.DATASETS.TESTS == ("RegDB",) and cfg.DATASETS.REGDB_TRIAL == 3
    assert cfg.MODEL.BACKBONE.STEM_POOL == "padded" and cfg.MODEL.BACKBONE.NL_LEGACY_WIDTH
    assert cfg.INPUT.SIZE_TEST == [288, 144] and not cfg.MODEL.BACKBONE.PRETRAIN
    assert read_checkpoint(made.out)["epoch"] == 40
    with pytest.raises(UserError, match="RegDB trial 3: it has seen test identities of trial 4"):
        open_checkpoint(made.out, opts=["DATASETS.REGDB_TRIAL", 4])


def test_features_can_be_computed_without_further_words(tmp_path):
    shapes = public.agw_shapes(9, **SMALL)
    path = public.save(tmp_path / REGDB, shapes, draw=draws_used(shapes))
    vp.convert(path, tmp_path / "new.pth")
    image = np.arange(96 * 48 * 3, dtype=np.uint8).reshape(96, 48, 3)
    extractor = vp.FeatureExtractor(tmp_path / "new.pth")
    assert extractor([image], "visible").shape == (1, 512)
    assert not np.allclose(extractor([image], "visible"), extractor([image], "infrared"))


@pytest.mark.parametrize(
    "words",
    [
        {"legacy": True},
        {"prefix": "module."},
        {"epoch": np.int64(40)},
        {"optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": []}},
    ],
    ids=["before PyTorch 1.6", "DataParallel", "NumPy's epoch", "with an optimizer"],
)
def test_other_forms_of_the_file_give_the_same(regdb, tmp_path, words):
    other = public.save(tmp_path / REGDB, public.agw_shapes(9, **SMALL), **words)
    first, second = (
        read_checkpoint(vp.convert(one, tmp_path / f"{number}.pth").out)
        for number, one in enumerate((regdb, other))
    )
    assert first["epoch"] == second["epoch"] and list(first["model"]) == list(second["model"])
    assert all(torch.equal(one, second["model"][name]) for name, one in first["model"].items())


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", ""])
def test_weights_under_other_entries_are_found(tmp_path, wrapper):
    weights = public.weights_of(public.agw_shapes(9, **SMALL))
    torch.save({wrapper: weights} if wrapper else weights, tmp_path / REGDB)
    assert vp.convert(tmp_path / REGDB, tmp_path / "new.pth").dataset == "RegDB"


@pytest.mark.parametrize(
    "name, source, dataset, trial",
    [
        ("sysu_agw_p4_n8_lr_0.1_seed_0_best.t", "agw", "SYSUMM01", None),
        ("regdb_awg_p4_n8_lr_0.1_seed_0_trial_10_best.t", "agw", "RegDB", 10),
        ("regdb_base_p4_n8_lr_0.1_seed_0_trial_1_epoch_40.t", "agw", "RegDB", 1),
        (
            "sysu_adp_joint_co_nog_ch_nog_sq1_aug_G_p4_n8_lr_0.1_seed_0_best.t",
            "caj",
            "SYSUMM01",
            None,
        ),
        (
            "sysu_adp_joint_co_nog_ch_nog_sq1_p4_n8_lr_0.1_seed_0_map_best.t",
            "caj+",
            "SYSUMM01",
            None,
        ),
        ("regdb_adp_joint_p4_n8_lr_0.1_seed_0_trial_7_mINP_best.t", "caj+", "RegDB", 7),
        ("llcm_agw_p4_n6_lr_0.1_seed_0_best.t", "llcm-agw", "LLCM", None),
        ("my trial-2 of RegDB.pth", "agw", "RegDB", 2),
    ],
)
def test_the_name_of_a_file_tells_its_training(tmp_path, name, source, dataset, trial):
    """Names as the public training scripts put them together."""
    path = public.save(tmp_path / name, public.agw_shapes(9, **SMALL))
    made = vp.convert(path, tmp_path / "new.pth")
    assert (made.source, made.dataset, made.trial) == (source, dataset, trial)


@pytest.mark.parametrize("count, dataset", [(395, "SYSUMM01"), (206, "RegDB"), (713, "LLCM")])
def test_the_number_of_identities_tells_a_published_training_set(tmp_path, count, dataset):
    path = public.save(tmp_path / "trial_2.t", public.agw_shapes(count, **SMALL))
    assert vp.convert(path, tmp_path / "new.pth").dataset == dataset


@pytest.mark.parametrize(
    "name, classes, words, message",
    [
        ("a.t", 9, {}, "neither its name nor its 9 identities tell .* Add --dataset sysu, regdb"),
        ("regdb_a.t", 9, {}, "one of the 10 splits of RegDB.*Add --trial N"),
        ("regdb_trial_12.t", 9, {}, "The trial in the name of .* is 12; RegDB has the trials 1 to"),
        (REGDB, 9, {"trial": 0}, "--trial is 0, and the name of .* says trial 3"),
        ("regdb_a.t", 9, {"trial": 11}, "--trial is 11; RegDB has the trials 1 to 10"),
        ("sysu_a.t", 9, {"trial": 1}, "--trial is 1, and SYSUMM01 has only one split. Leave it"),
        ("a.t", 395, {"dataset": "regdb"}, "395 identities, as many as SYSUMM01.*--dataset sysu"),
        ("regdb_trial_1.t", 395, {}, "its name says RegDB. Rename the file"),
        (REGDB, 9, {"dataset": "sysu"}, "--dataset is sysu, and the name of .* says RegDB. Leave"),
        ("a.t", 9, {"dataset": "regbd"}, "--dataset.*RegDB"),
        (REGDB, 9, {"source": "agv"}, "--from is 'agv'; expected one of agw, caj"),
        (REGDB, 9, {"source": "hct"}, None),
        (REGDB, 9, {"opts": ["TEST.FLIP.ENABLED"]}, "KEY VALUE pairs; got TEST.FLIP.ENABLED. Add"),
        (REGDB, 9, {"opts": ["MODEL.BACKBONE.DEPTH", "50x"]}, "does not fill the network"),
        (REGDB, 9, {"opts": ["MODEL.BACKBONE.WITH_NL", False]}, "non_local.*is without a place"),
        (REGDB, 9, {"opts": ["MODEL.BACKBON.DEPTH", "50x"]}, "MODEL.BACKBON"),
        (REGDB, 9, {"opts": ["DATASETS.REGDB_TRIAL", 5]}, "REGDB_TRIAL cannot .* --trial says it"),
        (REGDB, 9, {"opts": ["MODEL.HEADS.NUM_CLASSES", 8]}, "NUM_CLASSES cannot .* the file says"),
        (REGDB, 0, {}, "has an empty classifier.weight"),
    ],
)
def test_what_is_not_known_is_asked_for(tmp_path, name, classes, words, message):
    path = public.save(tmp_path / name, public.agw_shapes(classes, **SMALL))
    if message is None:  # HCT trains this network too, with its option --pcb off
        assert vp.convert(path, tmp_path / "new.pth", **words).source == "hct"
        return
    with pytest.raises(UserError, match=message):
        vp.convert(path, tmp_path / "new.pth", **words)
    assert not (tmp_path / "new.pth").exists()


def test_another_source_is_told_what_the_file_is(tmp_path):
    path = public.save(tmp_path / "a.t", public.hct_shapes(9, depth=18))
    with pytest.raises(
        CheckpointError, match="not of --from caj: it is a checkpoint of HCT.*--from hct"
    ):
        vp.convert(path, tmp_path / "new.pth", "caj", dataset="sysu")


def test_files_are_not_replaced_and_must_exist(regdb, tmp_path):
    (tmp_path / "new.pth").write_bytes(b"precious")
    with pytest.raises(ExistingFileError, match="new.pth exists and is not replaced"):
        vp.convert(regdb, tmp_path / "new.pth")
    assert (tmp_path / "new.pth").read_bytes() == b"precious"
    with pytest.raises(ExistingFileError):
        vp.convert(regdb, regdb)
    with pytest.raises(MissingFileError):
        vp.convert(tmp_path / "absent.t", tmp_path / "other.pth")
    with pytest.raises(UserError, match="no/such"):
        vp.convert(regdb, tmp_path / "no/such/folder.pth")


def test_a_converted_file_is_not_converted_again(regdb, tmp_path):
    vp.convert(regdb, tmp_path / "new.pth")
    with pytest.raises(CheckpointError, match="is a checkpoint of this package already"):
        vp.convert(tmp_path / "new.pth", tmp_path / "newer.pth")


def without(name):
    def change(weights):
        for one in [one for one in weights if one.startswith(name)]:
            del weights[one]

    return change


def shortened(weights):
    weights["bottleneck.weight"] = weights["bottleneck.weight"][:-1]


def poisoned(weights):
    weights["bottleneck.weight"] = torch.full((512,), float("nan"))


def wider(weights, factor=3):
    theta = weights["NL_2.0.theta.weight"]
    weights["NL_2.0.theta.weight"] = theta.repeat(factor, 1, 1, 1)


@pytest.mark.parametrize(
    "change, message",
    [
        (without("thermal_module"), "backbone.infrared.stem.bn1.bias, which is missing"),
        (without("base_resnet.base.layer3"), "base_resnet.base.layer3 is missing. Use an intact"),
        (without("base_resnet.base.layer4.1."), r"its layers have \[2, 2, 2, 1\] blocks"),
        (without("NL_3.0.W"), "backbone.shared.layer3.non_local.1.W.0.bias, which is missing"),
        (without("classifier"), "has no classifier.weight"),
        (shortened, r"heads.bottleneck.0.weight, which is \(511,\) instead of \(512,\)"),
        (poisoned, "bottleneck.weight holds NaN"),
        (wider, "NL_2.0.theta.weight has 3 inner channels; expected 1"),
        (lambda weights: wider(weights, 64), "non-local blocks have different inner widths"),
    ],
)
def test_a_file_that_is_not_complete_says_what_is_wrong(tmp_path, change, message):
    weights = public.weights_of(public.agw_shapes(9, **SMALL))
    change(weights)
    torch.save({"net": weights}, tmp_path / REGDB)
    with pytest.raises(CheckpointError, match=message):
        vp.convert(tmp_path / REGDB, tmp_path / "new.pth")
    assert os.listdir(tmp_path) == [REGDB]


def test_a_stripe_that_is_missing_between_others_is_named(tmp_path):
    weights = public.weights_of(public.hct_shapes(9, depth=18, stripes=3))
    without("fc_list.1.")(weights)
    torch.save({"net": weights}, tmp_path / "sysu_hct.t")
    with pytest.raises(CheckpointError, match="of its 2 stripes, tensors are missing"):
        vp.convert(tmp_path / "sysu_hct.t", tmp_path / "new.pth", dataset="sysu")


def test_a_file_of_an_old_pytorch_has_no_numbers_of_batches(tmp_path):
    weights = public.weights_of(public.agw_shapes(9, **SMALL))
    for name in [name for name in weights if name.endswith("num_batches_tracked")]:
        del weights[name]
    torch.save({"net": weights}, tmp_path / REGDB)
    made = vp.convert(tmp_path / REGDB, tmp_path / "new.pth")
    assert open_checkpoint(made.out).model is not None


@pytest.mark.parametrize("epoch, kept", [(0, 0), (-1, None), ("last", None)])
def test_an_epoch_is_kept_if_it_is_one(tmp_path, epoch, kept):
    path = public.save(tmp_path / REGDB, public.agw_shapes(9, **SMALL), epoch=epoch)
    made = vp.convert(path, tmp_path / "new.pth")
    assert read_checkpoint(made.out).get("epoch") == kept


def test_half_width_non_local_blocks_are_recognized(tmp_path):
    """Non-local blocks of half the channels, as in a corrected copy of the public code."""
    shapes = public.agw_shapes(9, 18, (0, 1, 1, 0), inner=64)
    shapes = {
        name: tuple(128 if size == 64 else size for size in shape)
        if name.startswith("NL_3") and len(shape) and ".W.1." not in name
        else shape
        for name, shape in shapes.items()
    }
    made = vp.convert(public.save(tmp_path / REGDB, shapes), tmp_path / "new.pth")
    assert not open_checkpoint(made.out).cfg.MODEL.BACKBONE.NL_LEGACY_WIDTH


def test_the_command_says_what_was_made(regdb, tmp_path, capsys):
    out = tmp_path / "new.pth"
    assert run_verb("convert", [regdb, "--out", str(out), "TEST.IMS_PER_BATCH", "7"]) == 0
    said = capsys.readouterr().out
    assert "AGW (TPAMI 2021), trained on RegDB trial 3, 9 identities. 158 tensors" in said
    assert "epoch 40, rank-1 40.00, mAP 47.00" in said
    assert "images of 288 x 144 (INPUT.SIZE_TEST), GeneralizedMeanPooling (MODEL.HEADS" in said
    assert open_checkpoint(str(out)).cfg.TEST.IMS_PER_BATCH == 7
    assert run_verb("convert", ["--from", "agw", "--out", str(out), regdb]) == 2
    assert "new.pth exists and is not replaced" in capsys.readouterr().err


def test_the_command_adds_a_config_to_other_weights(tmp_path, capsys):
    """Weights under an entry ``net``, with ``module.`` of DDP, of a network that is built here."""
    model = build_model(build_config("agw/synthetic.yml", ["MODEL.HEADS.NUM_CLASSES", 5]))
    weights = {f"module.{name}": one for name, one in model.state_dict().items()}
    torch.save({"net": weights, "mAP": np.float64(1)}, tmp_path / "a.t")
    with pytest.raises(CheckpointError, match="vireid convert .*a.t --config-file CONFIG_FILE"):
        open_checkpoint(str(tmp_path / "a.t"))
    given = ["--config-file", "agw/synthetic.yml", "--out", str(tmp_path / "b.pth")]
    assert run_verb("convert", [str(tmp_path / "a.t"), *given]) == 0
    made = open_checkpoint(str(tmp_path / "b.pth")).model.state_dict()
    assert all(torch.equal(one, made[name]) for name, one in model.state_dict().items())
    assert run_verb("convert", [str(tmp_path / "a.t"), "--trial", "1", *given]) == 2
    assert "leave --from, --dataset and --trial out" in capsys.readouterr().err


def test_a_public_file_is_recognized_wherever_it_is_named(regdb, tmp_path):
    advice = r"AGW's two-stream ResNet .*convert it with: vireid convert \S+trial_3_best.t --out"
    with pytest.raises(CheckpointError, match=f"carries no config.*{advice}"):
        vp.FeatureExtractor(regdb)
    torch.save({"model": read_checkpoint(regdb)["net"]}, tmp_path / "renamed.pth")
    for path, words in (
        (regdb, f"cannot be loaded into this model.*{advice}"),
        (str(tmp_path / "renamed.pth"), "belongs to another model.*vireid convert"),
    ):
        opened = open_checkpoint(path, "agw/synthetic.yml")
        with pytest.raises(CheckpointError, match=words):
            assert opened.model
    start = ["MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", regdb]
    with pytest.raises(CheckpointError, match=f"cannot be the start of a backbone.*{advice}"):
        build_model(build_config("agw/synthetic.yml", start))
