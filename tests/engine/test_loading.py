"""``open_checkpoint``: one way from a file to its config and model. Oracle: the file's content."""

import dataclasses
import hashlib
import re

import pytest
import torch
import yaml

import vireid_plugins as vp
from vireid_plugins import keys
from vireid_plugins.engine.fingerprint import fingerprint, model_words
from vireid_plugins.engine.loading import named_weights, open_checkpoint
from vireid_plugins.engine.model import build_model
from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import CheckpointError, UserError
from vireid_plugins.keys import Key, at_least, declare, each
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import ROOT, small_cfg, small_words

CONFIG = str(ROOT / "configs/agw/synthetic.yml")
CPU = ["MODEL.DEVICE", "cpu"]


def write_checkpoint(folder, facts=True, train_datasets=("SYSUMM01",), **overrides):
    """Return the path of a checkpoint of 5 identities and trial 3, and its tensors."""
    cfg = small_cfg(folder, MODEL__HEADS__NUM_CLASSES=5, DATASETS__REGDB_TRIAL=3, **overrides)
    tensors = build_model(cfg).state_dict()
    cfg.MODEL.HEADS.NUM_CLASSES = 0  # as a user's config; the number is a fact
    content = {"model": tensors}
    if facts:
        content["vireid"] = {
            "config": cfg.dump(),
            "num_classes": 5,
            "train_datasets": list(train_datasets),
            "regdb_trial": 3,
        }
    path = str(folder / "weights.pth")
    torch.save(content, path)
    return path, tensors


def change_carried_config(path, section, key, value):
    """Change one key of the config in a checkpoint, as a file from elsewhere may have it."""
    content = read_checkpoint(path)
    config = yaml.safe_load(content["vireid"]["config"])
    config[section][key] = value
    content["vireid"]["config"] = yaml.safe_dump(config)
    torch.save(content, path)


def assert_holds(checkpoint, tensors):
    """The model is the file's, in evaluation mode."""
    assert not checkpoint.model.training and checkpoint.cfg.is_frozen()
    own = checkpoint.model.state_dict()
    assert own.keys() == tensors.keys()
    assert all(torch.equal(own[name], value) for name, value in tensors.items())


# What configs/mrda/sysu.yml said when the numbers below were recorded.
MRDA_THEN = [
    *("MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPoolingP", "MODEL.LOSSES.NAME"),
    "('LabelSmoothingCrossEntropyLoss','HeteroCenterTripletLoss','CorrelationConsistencyLoss')",
]


@pytest.mark.parametrize(
    "config, opts, recorded",
    [
        ("agw/synthetic.yml", [], "77bed2a831b61b7b"),
        ("mrda/sysu.yml", MRDA_THEN, "c150c2fc448dec78"),
    ],
)
def test_an_index_outlives_new_keys(config, opts, recorded):
    """Recorded before MODEL.BACKBONE.NETWORK and the keys that came after it.

    If it fails, indexes have to be made again.
    """
    words = model_words(build_config(f"configs/{config}", [*CPU, *opts]))
    assert hashlib.sha256(words.encode()).hexdigest()[:16] == recorded, words
    for pair in (["MODEL.BACKBONE.STEM_POOL", "padded"], ["MODEL.HEADS.GEM_EPS", "mean"]):
        other = model_words(build_config(f"configs/{config}", [*CPU, *opts, *pair]))
        assert other != words and pair[1] in other
    start = build_config(
        f"configs/{config}", [*CPU, *opts, "MODEL.BACKBONE.PRETRAIN_PATH", "a.pth"]
    )
    assert model_words(start) == words  # the weights themselves are in the fingerprint


@pytest.mark.parametrize(
    "config, opts, recorded",
    [
        ("agw/synthetic.yml", [], "0638d0adb9b3157c"),
        ("mrda/sysu.yml", MRDA_THEN, "3e6f4a7e5cec1559"),
    ],
)
def test_an_index_outlives_new_versions(config, opts, recorded):
    """The text that is hashed must stay as it is. If it fails, indexes have to be made again."""
    model = torch.nn.Linear(2, 1)
    model.load_state_dict({"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])})
    cfg = build_config(f"configs/{config}", [*CPU, *opts])
    assert fingerprint(cfg, model) == recorded


@pytest.mark.parametrize(
    "key, value, reader",
    [
        ("MODEL.MAUM.UNIDIRECTIONAL_SCALE", "0.05", ""),  # a default between the first and today's
        ("MODEL.MAUM.ALPHA", "64.0", ""),  # the first one, which MAUM's own checkpoints may have
        ("MODEL.RBNET.GROUP_WIDTH", "4", "rbnet/synthetic.yml"),
        ("MODEL.LOSSES.MEAN_DISCREPANCY.SCALE", "3.0", ""),
    ],
)
def test_an_index_outlives_defaults_of_keys_that_its_model_does_not_read(key, value, reader):
    """As an older checkpoint has them; for ``reader`` the value says something."""
    words = model_words(build_config("agw/synthetic.yml", CPU))
    assert model_words(build_config("agw/synthetic.yml", [*CPU, key, value])) == words
    if reader:
        other = model_words(build_config(reader, [*CPU, key, value]))
        assert other != model_words(build_config(reader, CPU))


def test_an_index_outlives_keys_of_a_method_that_comes_later(monkeypatch):
    words = model_words(build_config("", CPU))
    monkeypatch.setattr(keys, "_declared", dict(keys._declared))
    declare("MODEL.OWN.PART", Key("WIDTHS", (1, 2), each(at_least(1)), "widths"))
    declare("MODEL.LOSSES.OWN", Key("SCALE", 1.0, at_least(0), "a weight"))
    assert model_words(build_config("", CPU)) == words
    other = model_words(build_config("", [*CPU, "MODEL.OWN.PART.WIDTHS", "(1, 3)"]))
    assert other != words and "WIDTHS" in other


@pytest.mark.parametrize("config_file", ["", CONFIG])
def test_weights_of_imagenet_are_not_fetched_for_a_checkpoint(tmp_path, config_file):
    path, _ = write_checkpoint(tmp_path)
    change_carried_config(path, "MODEL", "BACKBONE", {"PRETRAIN": True})
    opts = [*CPU, "MODEL.BACKBONE.PRETRAIN", "True"] if config_file else []
    assert open_checkpoint(path, config_file, opts).cfg.MODEL.BACKBONE.PRETRAIN is False


def test_the_device_does_not_change_the_fingerprint(tmp_path):
    """A GPU is named only; the model stays where it was built."""
    checkpoint = open_checkpoint(write_checkpoint(tmp_path)[0])
    cfg = checkpoint.cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cuda"
    other = dataclasses.replace(checkpoint, cfg=cfg)
    vars(other)["model"] = checkpoint.model
    assert other.fingerprint == checkpoint.fingerprint


@pytest.mark.parametrize("config_file", ["", CONFIG])
def test_every_way_gives_the_same_model(tmp_path, config_file):
    path, tensors = write_checkpoint(tmp_path)
    opts = small_words(tmp_path) if config_file else []
    checkpoint = open_checkpoint(path, config_file, opts)
    assert_holds(checkpoint, tensors)
    assert checkpoint.cfg.MODEL.HEADS.NUM_CLASSES == 5
    assert checkpoint.cfg.MODEL.WEIGHTS == path
    assert checkpoint.fingerprint == vp.FeatureExtractor(path).fingerprint


@pytest.mark.parametrize("config_file", ["", CONFIG])
def test_another_number_of_identities_is_refused_and_not_ignored(tmp_path, config_file):
    """Its own number, and 0 (taken from the data), are no contradiction."""
    path, _ = write_checkpoint(tmp_path)
    words = small_words(tmp_path) if config_file else []
    for number in (0, 5):
        opts = [*words, "MODEL.HEADS.NUM_CLASSES", number]
        assert open_checkpoint(path, config_file, opts).cfg.MODEL.HEADS.NUM_CLASSES == 5
    with pytest.raises(UserError, match="NUM_CLASSES is 7, but .* trained on 5 identities.*leave"):
        open_checkpoint(path, config_file, [*words, "MODEL.HEADS.NUM_CLASSES", 7])


def test_another_number_of_identities_in_a_config_file_is_named(tmp_path, caplog):
    """The file may be that of another dataset, so this is a warning."""
    path, _ = write_checkpoint(tmp_path)
    (tmp_path / "own.yml").write_text(
        f"_BASE_: {(ROOT / CONFIG).resolve()}\nMODEL: {{HEADS: {{NUM_CLASSES: 7}}}}\n"
    )
    cfg = open_checkpoint(path, str(tmp_path / "own.yml"), small_words(tmp_path)).cfg
    assert cfg.MODEL.HEADS.NUM_CLASSES == 5
    assert re.search("NUM_CLASSES 7 of .*own.yml is not read: .* on 5 identities", caplog.text)


def test_a_checkpoint_of_another_program_needs_a_config(tmp_path):
    path, tensors = write_checkpoint(tmp_path, facts=False)
    opts = small_words(tmp_path, MODEL__HEADS__NUM_CLASSES=5)
    checkpoint = open_checkpoint(path, CONFIG, opts)
    assert checkpoint.facts is None
    assert_holds(checkpoint, tensors)
    with pytest.raises(CheckpointError, match="carries no config.*has --config-file, name the"):
        open_checkpoint(path)


@pytest.mark.parametrize("content", [{}, {"optimizer": {"state": {}}, "epoch": 3}])
def test_a_checkpoint_without_weights_is_not_advised_to_be_converted(tmp_path, content):
    path = tmp_path / "state.pth"
    torch.save(content, str(path))
    with pytest.raises(CheckpointError, match="state.pth holds no weights") as caught:
        open_checkpoint(str(path))
    assert "convert" not in str(caught.value)


def test_without_a_file_another_program_s_checkpoint_has_the_defaults(tmp_path):
    """As ``train_net.py --eval-only`` without --config-file: FastReID's defaults and the opts."""
    path, _ = write_checkpoint(tmp_path, facts=False)
    cfg = open_checkpoint(path, opts=[*CPU, "TEST.EVAL_PERIOD", "7"], or_defaults=True).cfg
    assert cfg.MODEL.META_ARCHITECTURE == "Baseline" and cfg.TEST.EVAL_PERIOD == 7


def test_the_memory_format_holds_for_the_feature_extractor(tmp_path):
    """``RUNTIME.CHANNELS_LAST`` was lost on the way to features of one's own images."""
    path, _ = write_checkpoint(tmp_path, RUNTIME__CHANNELS_LAST=True)
    kernels = [one for one in vp.FeatureExtractor(path).model.parameters() if one.dim() == 4]
    wide = [one for one in kernels if min(one.shape[1:3]) > 1]  # of others both orders are one
    assert wide and all(one.is_contiguous(memory_format=torch.channels_last) for one in wide)


def test_the_feature_extractor_helps_with_an_unknown_name(tmp_path):
    """The host's registry said only that it knew no such name."""
    path, _ = write_checkpoint(tmp_path)
    change_carried_config(path, "MODEL", "META_ARCHITECTURE", "DualStreamBasline")
    with pytest.raises(UserError, match="Did you mean 'DualStreamBaseline'"):
        vp.FeatureExtractor(path)


def test_the_device_of_the_evaluation_is_checked_where_one_ranks(tmp_path):
    """A carried ``TEST.DEVICE`` that is absent here was not noticed before the ranking."""
    path, _ = write_checkpoint(tmp_path)
    change_carried_config(path, "TEST", "DEVICE", "warp")
    with pytest.raises(UserError, match="TEST.DEVICE is 'warp'"):
        open_checkpoint(path)
    assert vp.FeatureExtractor(path).feature_size == 512  # which ranks nothing


def test_regdb_models_keep_to_their_trial(tmp_path):
    regdb = dict(DATASETS__TESTS="('RegDB',)")
    path, _ = write_checkpoint(tmp_path, train_datasets=["RegDB"], **regdb)
    words = small_words(tmp_path, **regdb)
    assert open_checkpoint(path, CONFIG, words).cfg.DATASETS.REGDB_TRIAL == 3
    with pytest.raises(UserError, match="trained on RegDB trial 3"):
        open_checkpoint(path, CONFIG, [*words, "DATASETS.REGDB_TRIAL", "4"])
    other = small_words(tmp_path, DATASETS__TESTS="('SYSUMM01',)", DATASETS__REGDB_TRIAL=4)
    assert open_checkpoint(path, CONFIG, other).cfg.DATASETS.REGDB_TRIAL == 4


def change_fact(path, name, value):
    content = read_checkpoint(path)
    content["vireid"][name] = value
    if value is ...:
        del content["vireid"][name]
    torch.save(content, path)


@pytest.mark.parametrize(
    "name,value,words",
    [
        ("num_classes", ..., "vireid: 'num_classes' is missing"),
        ("num_classes", "five", "num_classes: expected a whole number of at least 1, found 'five'"),
        ("num_classes", 0, "found 0"),
        ("num_classes", True, "found True"),
        ("num_classes", 10**12, "expected at most 10000000 identities"),
        ("config", ..., "vireid: 'config' is missing"),
        ("config", 3, "vireid: config: expected text, found 3"),
        ("config", "only words", "the config in .*weights.pth is not a config file"),
        ("config", "MODEL: [1\nb", "the config in .*weights.pth is not a config file.*line 2"),
        ("config", "MODEL: !!python/name:os.system x", "weights.pth.*a tag.*is not allowed"),
        ("config", "NOWHERE: 3", "Unknown config key 'NOWHERE' in the config in .*weights.pth"),
        ("train_datasets", "RegDB", "train_datasets: expected a list, found 'RegDB'"),
        ("train_datasets", [3], "train_datasets: expected text, found 3"),
        ("rendered", "", "rendered: expected a list, found ''"),
        ("rendered", [{}], "rendered: expected text, found "),
        ("regdb_trial", ..., "does not say on which trial.*'regdb_trial' is None"),
        ("regdb_trial", "three", "does not say on which trial.*'regdb_trial' is 'three'"),
        ("regdb_trial", 99, "regdb_trial: DATASETS.REGDB_TRIAL is 99; expected 1 to 10"),
    ],
)
def test_wrong_facts_are_named(tmp_path, name, value, words):
    trained_on = dict(train_datasets=["RegDB"], DATASETS__TESTS="('RegDB',)")
    path, _ = write_checkpoint(tmp_path, **trained_on)
    change_fact(path, name, value)
    with pytest.raises(UserError, match=words):
        open_checkpoint(path)


def test_a_carried_config_does_not_matter_beside_a_named_one(tmp_path):
    path, tensors = write_checkpoint(tmp_path)
    change_fact(path, "config", "only words")
    assert_holds(open_checkpoint(path, CONFIG, small_words(tmp_path)), tensors)


def test_features_need_no_dataset(tmp_path):
    """A model of one's own dataset, in a script that does not register it; or sparse facts."""
    path, _ = write_checkpoint(tmp_path, train_datasets=["Elsewhere"])
    change_carried_config(path, "DATASETS", "TESTS", ["Elsewhere"])
    assert vp.FeatureExtractor(path).feature_size == 512
    content = read_checkpoint(path)
    del content["vireid"]["train_datasets"], content["vireid"]["regdb_trial"]
    torch.save(content, path)
    assert vp.FeatureExtractor(path).feature_size == 512


def test_weights_are_named_by_words_or_by_the_config(tmp_path):
    mine = tmp_path / "mine.yml"
    mine.write_text("MODEL:\n  WEIGHTS: a.pth\n  DEVICE: cpu\n")
    assert named_weights(str(mine), []) == "a.pth"
    assert named_weights(str(mine), ["MODEL.WEIGHTS", "b.pth"]) == "b.pth"
    assert named_weights("", ["MODEL.WEIGHTS", "b.pth"]) == "b.pth"
    for config_file in ("", CONFIG):
        with pytest.raises(UserError, match="Add MODEL.WEIGHTS PATH"):
            named_weights(config_file, CPU)
