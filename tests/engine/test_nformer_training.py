"""NFormer's second stage through the whole engine. Oracles: the encoder's own checkpoint and
features, draws repeated by hand, and bitwise equality with a run that was never stopped."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import vireid_plugins as vp
from vireid.cli import run_verb
from vireid_plugins.comparison import worker
from vireid_plugins.data.seeding import generator
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.loading import open_checkpoint
from vireid_plugins.engine.sequences import _DRAWS, training_batches
from vireid_plugins.engine.session import train
from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import CheckpointError, UserError
from vireid_plugins.evaluation import extract_features
from vireid_plugins.plots import all_kinds, load_subject
from vireid_plugins.readers.checkpoint import read_checkpoint
from vireid_plugins.reporting import write_report
from vireid_plugins.runs.names import SETTINGS

from tests.engine.small import ROOT, SMALL, small_cfg, small_words

CONFIG = "configs/nformer/synthetic.yml"
MRDA = "configs/mrda/synthetic.yml"
CLASSES = {"MODEL__HEADS__NUM_CLASSES": 8}
TESTED = {"TEST__EVAL_PERIOD": 2, "TEST__PROTOCOL__MODES": "('all',)"}


def run(folder, config, resume=False, **keys):
    trainer = VIReIDTrainer(small_cfg(folder, config, **keys))
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return f"{folder}/model_final.pth"


@pytest.fixture(scope="module")
def encoder(tiny_root, tmp_path_factory):
    """The checkpoint of a trained MRDA: another method, two more keys that decide features."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        keys = {"MODEL__BACKBONE__LAST_STRIDE": 1, "MODEL__HEADS__ATTENTION__STRIPES": 2}
        keys.update({"MODEL__HEADS__ATTENTION__KEPT": 1, "SOLVER__MAX_EPOCH": 1})
        keys["INPUT__INTERPOLATION"] = "lanczos"
        return run(tmp_path_factory.mktemp("encoder"), MRDA, **keys)


def words_of(encoder, **keys):
    own = ("INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST")
    own += ("MODEL.BACKBONE.WITH_NL", "MODEL.BACKBONE.LAST_STRIDE")
    small = {key.replace(".", "__"): None for key in own}
    words = {"MODEL__NFORMER__ENCODER": encoder, "MODEL__NFORMER__SEQUENCE_LENGTH": 12}
    words.update({"MODEL__NFORMER__IMAGES_PER_SEQUENCE": 8, "MODEL__NFORMER__DIM": 16})
    return {key: value for key, value in {**words, **keys}.items() if key not in small}


def cfg_of(folder, encoder, **keys):
    dropped = ("INPUT.SIZE", "MODEL.BACKBONE")
    pairs = {key: value for key, value in SMALL.items() if not key.startswith(dropped)}
    pairs["OUTPUT_DIR"] = str(folder)
    pairs.update({k.replace("__", "."): str(v) for k, v in words_of(encoder, **keys).items()})
    return build_config(str(ROOT / CONFIG), [word for pair in pairs.items() for word in pair])


def trained(folder, encoder, resume=False, **keys):
    trainer = VIReIDTrainer(cfg_of(folder, encoder, **keys))
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return f"{folder}/model_final.pth"


@pytest.fixture(scope="module")
def finished(encoder, tiny_root, tmp_path_factory):
    """A finished second stage that was evaluated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        return trained(tmp_path_factory.mktemp("finished"), encoder, **TESTED)


@pytest.mark.slow
def test_the_encoder_decides_network_input_and_weights(encoder, finished, datasets, tmp_path):
    cfg = cfg_of(tmp_path, encoder)
    held = open_checkpoint(encoder)
    assert (cfg.MODEL.NFORMER.ENCODER_ARCHITECTURE, cfg.MODEL.META_ARCHITECTURE) == (
        "MRDA",
        "NFormer",
    )
    assert cfg.MODEL.HEADS.ATTENTION.STRIPES == 2 and cfg.INPUT.SIZE_TEST == [32, 16]
    assert cfg.INPUT.INTERPOLATION == "lanczos"
    again = build_config(str(ROOT / CONFIG), ["MODEL.WEIGHTS", finished])  # of its own checkpoint
    assert (again.MODEL.HEADS, again.INPUT.SIZE_TEST) == (
        {**cfg.MODEL.HEADS, "NUM_CLASSES": again.MODEL.HEADS.NUM_CLASSES},
        [32, 16],
    )
    assert cfg.MODEL.LOSSES.NAME[1] == "BatchHardTripletLoss"  # of the second stage
    loader, _ = VIReIDTrainer.build_test_loader(held.cfg, "SYSUMM01")
    with_it = extract_features(open_checkpoint(finished).model, loader)
    expected = extract_features(held.model, loader)
    assert torch.equal(with_it.features, expected.features)
    assert with_it.relation is not None and expected.relation is None
    assert bool(open_checkpoint(finished).model.projection.is_set)  # principal axes came first


@pytest.mark.slow
def test_the_finished_checkpoint_needs_the_encoder_no_more(encoder, finished, datasets, tmp_path):
    own, last = tmp_path / "run", tmp_path / "moved.pth"
    shutil.copy(encoder, last)
    path = trained(own, last, SOLVER__MAX_EPOCH=1)
    last.unlink()
    model = open_checkpoint(path).model
    features = torch.randn(5, 512)
    assert torch.isfinite(model.relate(features, torch.zeros(5).long())).all()
    trained(own, last, resume=True, SOLVER__MAX_EPOCH=1)  # and neither does a resume
    with pytest.raises(UserError, match=r"FEATURE is 'pooled', and .*trained on the feature 'bn'"):
        trained(own, last, resume=True, SOLVER__MAX_EPOCH=1, TEST__FEATURE="pooled")
    content = read_checkpoint(encoder)  # another one of the same network
    content["model"] = {n: 2 * one for n, one in content["model"].items()}
    torch.save({key: content[key] for key in ("model", "vireid")}, last)
    before = read_checkpoint(path)["model"]
    with pytest.raises(CheckpointError, match="with the encoder .*moved.pth, whose weights differ"):
        trained(own, last, resume=True, SOLVER__MAX_EPOCH=1)
    assert all(torch.equal(one, before[n]) for n, one in read_checkpoint(path)["model"].items())
    last.unlink()
    with pytest.raises(CheckpointError, match="ENCODER names .*moved.pth.*does not exist"):
        trained(tmp_path / "other", last)


@pytest.mark.slow
def test_results_of_both_kinds_are_recorded(finished):
    folder = finished.rsplit("/", 1)[0]
    with open(f"{folder}/results.json", encoding="utf-8") as file:
        found = json.load(file)
    plain, related = found["protocols"]
    assert (plain["key"], related["key"]) == (
        "SYSUMM01/all/single",
        "SYSUMM01/all/single/transductive",
    )
    assert "transductive" not in plain
    assert related["transductive"].startswith("NFormer, k = 20, landmarks of seed 0: all queries")
    assert f"{related['key']}/mAP" in found["metrics"]


@pytest.mark.slow
def test_a_run_that_was_stopped_inside_an_epoch_ends_as_if_it_was_not(
    encoder, finished, datasets, tmp_path, monkeypatch
):
    trainer = VIReIDTrainer(cfg_of(tmp_path, encoder, **TESTED))
    trainer.resume_or_load(resume=False)
    assert trainer.iters_per_epoch >= 3
    step = VIReIDTrainer.run_step

    def stopping(self):
        step(self)
        if self.iter == self.iters_per_epoch + 1:
            self.signals.requested = 15

    with monkeypatch.context() as patch:
        patch.setattr(VIReIDTrainer, "run_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    path = trained(tmp_path, encoder, resume=True, **TESTED)
    whole, parts = (read_checkpoint(one)["model"] for one in (finished, path))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.slow
def test_a_sequence_holds_rows_near_its_center(encoder, datasets, tmp_path):
    cfg = cfg_of(tmp_path, encoder, MODEL__NFORMER__SEQUENCE_LENGTH=5, **CLASSES)
    loader, model = VIReIDTrainer.build_train_loader(cfg), VIReIDTrainer.build_model(cfg)
    batches = training_batches(cfg, loader, model, seed=3)
    assert len(batches) == len(loader) * 16 // 8 // 2  # images, for each sequence, two in a batch
    batches.set_epoch(0)
    before = batches._extract()
    batches.set_epoch(1)
    state = torch.get_rng_state()
    whole = list(batches)
    assert torch.equal(torch.get_rng_state(), state) and len(whole) == len(batches)
    rows = batches._extract()
    features = rows["features"]
    assert not torch.equal(before["features"], features)  # augmented anew
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))
    random = generator(3, 1, 0, 1, _DRAWS)  # of batch 1
    for number in range(2):
        nearness = (features @ features[int(random.integers(len(features)))]).numpy()
        order = np.argsort(-nearness, kind="stable")
        width = int(5 * (1 + random.random()))
        places = order[random.permutation(width)[:5]]
        assert torch.equal(whole[1]["features"][number], features[places])
        assert torch.equal(whole[1]["targets"].view(2, 5)[number], rows["targets"][places])
    batches.set_epoch(1)
    batches.skip(1)
    for one, other in zip(batches, whole[1:]):
        assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.slow
def test_half_of_a_sequence_from_each_modality(encoder, datasets, tmp_path):
    cfg = cfg_of(tmp_path, encoder, MODEL__NFORMER__SEQUENCE_PER_MODALITY=True, **CLASSES)
    loader, model = VIReIDTrainer.build_train_loader(cfg), VIReIDTrainer.build_model(cfg)
    batches = training_batches(cfg, loader, model, seed=0)
    batches.set_epoch(0)
    found = next(iter(batches))["modalities"].view(2, 12)
    assert found.sum(1).tolist() == [6, 6]


def test_mistakes_are_named(encoder, finished, datasets, tmp_path):
    for words in ({}, {"MODEL__NFORMER__ENCODER_ARCHITECTURE": "DualStreamBaseline"}):
        with pytest.raises(UserError, match="MODEL.NFORMER.ENCODER names none"):
            train(CONFIG, small_words(tmp_path, **words))
    with pytest.raises(UserError, match="a checkpoint of MRDA and not of NFormer.*ENCODER /"):
        build_config(str(ROOT / CONFIG), ["MODEL.WEIGHTS", encoder])
    (tmp_path / SETTINGS).write_text(build_config(str(ROOT / CONFIG), []).dump())
    with pytest.raises(UserError, match="MODEL.NFORMER.ENCODER names none"):
        worker.run(tmp_path, {})  # a run of ``vireid compare``
    with pytest.raises(CheckpointError, match="ENCODER names .*none.pth.*does not exist"):
        train(CONFIG, small_words(tmp_path, MODEL__NFORMER__ENCODER=str(tmp_path / "none.pth")))
    for feature in ("both", "pooled"):
        with pytest.raises(UserError, match=f"FEATURE is '{feature}'.*can relate no other"):
            open_checkpoint(finished, opts=["TEST.FEATURE", feature])
    with pytest.raises(UserError, match="itself.*checkpoint of that.*encoder"):
        cfg_of(tmp_path, finished)
    with pytest.raises(UserError, match=r"DEPTH is '34x', but the encoder.*trained with '18x'"):
        cfg_of(tmp_path, encoder, MODEL__BACKBONE__DEPTH="34x")
    with pytest.raises(
        UserError, match="MODEL.META_ARCHITECTURE DualStreamBaseline has no encoder"
    ):
        words = small_words(tmp_path, MODEL__NFORMER__ENCODER=encoder)
        small = "configs/agw/synthetic.yml"
        train(small, words)
    foreign = tmp_path / "foreign.pth"
    torch.save({"model": {"a": torch.zeros(1)}}, foreign)
    with pytest.raises(CheckpointError, match="carries no config"):
        cfg_of(tmp_path, foreign)


@pytest.mark.slow
def test_the_seed_stands_in_the_path(encoder, datasets, tmp_path):
    shutil.copy(encoder, tmp_path / "seed4.pth")
    path = str(tmp_path / "seed{seed}.pth")
    assert cfg_of(tmp_path, path, SEED=4).MODEL.NFORMER.ENCODER_ARCHITECTURE == "MRDA"
    with pytest.raises(CheckpointError, match="seed5.pth.*does not exist"):
        trained(tmp_path / "run", path, SEED=5)


@pytest.mark.slow
def test_what_sees_single_images_has_the_encoders_features_and_says_so(
    encoder, finished, datasets, tmp_path, capsys, caplog
):
    for value in (10, 90, 200):
        Image.new("RGB", (20, 40), (value,) * 3).save(tmp_path / f"{value}.png")
    images = sorted(tmp_path.glob("*.png"))
    found, expected = (vp.FeatureExtractor(path)(images, "visible") for path in (finished, encoder))
    assert np.array_equal(found, expected) and found.shape == (3, 512)
    words = ["index", "--weights", finished, "--images", str(tmp_path), "--modality", "visible"]
    assert run_verb("search", [*words, "--out", str(tmp_path / "index")]) == 0
    said = "image by image, without NFormer, k = 20"
    assert said in capsys.readouterr().out
    load_subject(finished, progress=False)
    assert said in caplog.text
    kinds = set(all_kinds()) - {"distances"}
    report = write_report(
        finished.rsplit("/", 1)[0], out=tmp_path / "page.html", skip=kinds, queries=0
    )
    assert f"Pictures: Features are computed {said}" in report.page.read_text()
