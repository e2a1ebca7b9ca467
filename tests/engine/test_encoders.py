"""Encoders of NFormer, of several kinds. Oracle: the features of the encoder's own checkpoint."""

import shutil

import pytest
import torch

from vireid_plugins.comparison import Comparison, worker
from vireid_plugins.comparison.runs import GIVEN, differing_settings
from vireid_plugins.data.datasets.build import split_facts
from vireid_plugins.data.transforms.chains import build_transforms
from vireid_plugins.engine.checkpoint import read_facts
from vireid_plugins.engine.encoder import encoder_path, load_encoder, trained_on
from vireid_plugins.engine.loading import configure, open_checkpoint
from vireid_plugins.engine.model import build_model
from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import PlanError, UserError
from vireid_plugins.merge import flat_values
from vireid_plugins.modality import Modality
from vireid_plugins.runs.names import SETTINGS

from tests.onnx_export.small import small_checkpoint

HCT = {"MODEL__HEADS__NAME": "HCTHead", "MODEL__HEADS__WITH_BNNECK": False}
HOST = {
    "MODEL__BACKBONE__NAME": "build_resnet_backbone",
    "MODEL__BACKBONE__FEAT_DIM": 512,
    "MODEL__HEADS__NAME": "EmbeddingHead",
    "MODEL__META_ARCHITECTURE": "Baseline",
    "MODEL__LOSSES__NAME": "('CrossEntropyLoss',)",
}
OTHER_INPUT = {"INPUT__INTERPOLATION": "lanczos", "MODEL__PIXEL_MEAN": "[9., 8., 7.]"}
CASES = {
    "AGW": ("agw", {}),
    "both features": ("agw", {"TEST__FEATURE": "both"}),
    "CAJ": ("caj", {}),
    "two views": ("caj", {"MODEL__CAJ__REFINE_SCALE": 0.5, "INPUT__NUM_VIEWS__VISIBLE": 2}),
    "two networks": ("mmt", {"INPUT__NUM_VIEWS__VISIBLE": 2, "INPUT__NUM_VIEWS__INFRARED": 2}),
    "stripes": ("mutual_prediction", {}),
    "stripes of HCT": ("baseline", HCT),
    "global and local": ("cm_lsp_ge", {}),
    "memories": ("maum", {}),
    "other input": ("pmt", OTHER_INPUT),
    "FastReID's model": ("baseline", HOST),
}


def batch_of(size, count=4):
    zeros = torch.zeros(count, dtype=torch.int64)
    images = torch.randint(0, 256, (count, 3, *size)).float()
    labels = {"modalities": torch.arange(count) % len(Modality), "index": torch.arange(count)}
    return {"images": images, **labels, "targets": zeros, "camids": zeros}


@pytest.mark.parametrize("case", CASES)
def test_an_encoder_of_any_kind_and_of_another_number_of_identities(case, tmp_path):
    method, keys = CASES[case]
    if method == "pmt":
        pytest.importorskip("timm", reason="timm is not installed")
    path = small_checkpoint(tmp_path / "encoder.pth", f"configs/{method}/synthetic.yml", **keys)
    held = open_checkpoint(str(path))
    words = f"MODEL.NFORMER.ENCODER {path} MODEL.DEVICE cpu MODEL.HEADS.NUM_CLASSES 13"
    cfg = build_config("nformer/sysu.yml", [*words.split(), "MODEL.NFORMER.DIM", "16"])
    model = build_model(cfg)
    load_encoder(cfg, model)
    batch = batch_of(held.cfg.INPUT.SIZE_TEST)
    with torch.no_grad():
        found = model.eval()(batch)
        torch.testing.assert_close(found, held.model(batch), rtol=1e-5, atol=1e-5)
    assert model.relate(found, batch["modalities"]).shape == (4, 16)
    assert model.classifier.out_features == 13
    own, theirs = (build_transforms(one, is_train=False).describe() for one in (cfg, held.cfg))
    assert own == theirs


def test_split_and_gray_ranges_are_those_of_the_encoder(tmp_path):
    path = small_checkpoint(tmp_path / "encoder.pth", "configs/baseline/synthetic.yml")
    content = torch.load(path, weights_only=True)
    content["vireid"].update(
        {"train_datasets": ["RegDB"], "regdb_trial": 3, "infrared_range": "10..900"}
    )
    torch.save(content, path)
    words = ["MODEL.NFORMER.ENCODER", str(path), "MODEL.DEVICE", "cpu"]
    cfg = build_config("nformer/regdb.yml", words)
    assert (cfg.DATASETS.REGDB_TRIAL, cfg.INPUT.INFRARED_RANGE) == (3, "10..900")
    with pytest.raises(UserError, match="was trained on RegDB trial 3"):
        build_config("nformer/regdb.yml", [*words, "DATASETS.REGDB_TRIAL", "4"])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The checkpoint of a small baseline; tests change copies."""
    path = tmp_path_factory.mktemp("plain") / "encoder.pth"
    return small_checkpoint(path, "configs/baseline/synthetic.yml")


def on_regdb(path, trial, **facts):
    """Let an encoder's checkpoint say that it was trained on a trial of RegDB."""
    content = torch.load(path, weights_only=True)
    content["vireid"].update({"train_datasets": ["RegDB"], "regdb_trial": trial, **facts})
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize(
    "sets",
    [
        ("RegDB", "RegDB"),
        ("RegDB", "SYSUMM01"),  # tested on RegDB later
        ("SYSUMM01", "SYSUMM01"),
        ("SYSUMM01", "RegDB"),
    ],
)
def test_the_trial_of_the_encoder_holds_whatever_is_trained_and_tested(sets, plain, tmp_path):
    """The oracle is 3: persons of the encoder's training are in the tests of all other trials."""
    path = shutil.copy(plain, tmp_path / "encoder.pth")
    words = ["MODEL.NFORMER.ENCODER", on_regdb(path, 3), "MODEL.DEVICE", "cpu"]
    words += ["DATASETS.NAMES", str(sets[:1]), "DATASETS.TESTS", str(sets[1:])]
    cfg = build_config("nformer/sysu.yml", words)
    assert cfg.DATASETS.REGDB_TRIAL == 3
    assert set(trained_on(cfg)) == {sets[0], "RegDB"}
    own = tmp_path / "own.pth"  # and the finished checkpoint says so, without the encoder's file
    facts = {"train_datasets": trained_on(cfg), **split_facts(cfg), "num_classes": 8}
    torch.save({"model": {}, "vireid": {**facts, "config": cfg.dump()}}, own)
    path.unlink()
    later = ["DATASETS.TESTS", "('RegDB',)"]
    held = configure(str(own), read_facts(str(own)), opts=later)
    assert held.DATASETS.REGDB_TRIAL == 3
    with pytest.raises(UserError, match="RegDB trial 3: it has seen test identities of trial 2"):
        configure(str(own), read_facts(str(own)), opts=[*later, "DATASETS.REGDB_TRIAL", "2"])
    again = ["MODEL.WEIGHTS", str(own), "MODEL.DEVICE", "cpu"]
    cfg = build_config("nformer/regdb.yml", again)
    assert cfg.DATASETS.REGDB_TRIAL == 3 and "RegDB" in trained_on(cfg)
    with pytest.raises(UserError, match="has seen test identities of trial 2"):
        build_config("nformer/regdb.yml", [*again, "DATASETS.REGDB_TRIAL", "2"])


def test_an_encoder_that_does_not_say_what_it_was_trained_on(tmp_path):
    """Weights of another program, to which a config was added: the config says it."""
    path = small_checkpoint(
        tmp_path / "encoder.pth",
        "configs/baseline/synthetic.yml",
        DATASETS__NAMES="('RegDB',)",
        DATASETS__REGDB_TRIAL=7,
    )
    words = ["MODEL.NFORMER.ENCODER", str(path), "MODEL.DEVICE", "cpu"]
    assert build_config("nformer/regdb.yml", words).DATASETS.REGDB_TRIAL == 7
    with pytest.raises(UserError, match="RegDB trial 7: it has seen test identities of trial 4"):
        build_config("nformer/regdb.yml", [*words, "DATASETS.REGDB_TRIAL", "4"])


def test_the_trial_stands_in_the_path(plain, tmp_path):
    for trial in (2, 5):
        on_regdb(shutil.copy(plain, tmp_path / f"{trial}.pth"), trial)
    words = ["MODEL.NFORMER.ENCODER", str(tmp_path / "{trial}.pth"), "MODEL.DEVICE", "cpu"]
    cfg = build_config("nformer/regdb.yml", [*words, "DATASETS.REGDB_TRIAL", "5"])
    assert encoder_path(cfg).endswith("5.pth") and cfg.MODEL.NFORMER.ENCODER_ARCHITECTURE
    cfg = build_config("nformer/sysu.yml", words)  # SYSU-MM01 has no trials
    assert encoder_path(cfg).endswith("{trial}.pth") and not cfg.MODEL.NFORMER.ENCODER_ARCHITECTURE


def test_a_comparison_over_trials_refuses_the_encoder_of_another_trial(plain, tmp_path):
    path = shutil.copy(plain, tmp_path / "encoder2.pth")
    on_regdb(path, 2)
    opts = ["MODEL.DEVICE", "cpu", "MODEL.NFORMER.ENCODER", str(path)]
    plan = dict(output=tmp_path / "out", seeds=(0,))
    with pytest.raises(PlanError, match=r"trial 3 seed 0: .*trial 2.* \{trial\} in the path of"):
        Comparison(["nformer/regdb.yml"], trials=(2, 3), opts=opts, **plan)
    opts[-1] = str(tmp_path / "encoder{trial}.pth")
    found = Comparison(["nformer/regdb.yml"], trials=(2, 3), opts=opts, **plan)
    first, second = (run.cfg for run in found.runs)
    assert (first.DATASETS.REGDB_TRIAL, second.DATASETS.REGDB_TRIAL) == (2, 3)
    assert first.MODEL.NFORMER.ENCODER_ARCHITECTURE and not second.MODEL.NFORMER.ENCODER_LOSSES
    (tmp_path / SETTINGS).write_text(first.dump())
    made = build_config(str(tmp_path / SETTINGS), found.runs[0].given)  # what a worker records
    assert differing_settings(flat_values(made), flat_values(first)) == []
    (tmp_path / SETTINGS).write_text(second.dump())
    shutil.copy(path, tmp_path / "encoder3.pth")  # made since, by mistake
    with pytest.raises(UserError, match="encoder3.pth was trained on RegDB trial 2"):
        worker.run(tmp_path, {GIVEN: found.runs[1].given})
