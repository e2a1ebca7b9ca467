"""Other values than those of the training. Oracle: the two configs, whose values the test sets."""

import contextlib
import logging
from types import SimpleNamespace

import pytest
import torch
import yaml

import vireid_plugins as vp
from vireid_plugins import keys
from vireid_plugins.engine.loading import open_checkpoint
from vireid_plugins.engine.other_values import check_pixel_scale, other_values
from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import UserError
from vireid_plugins.keys import Key, at_least, declare
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import small_words
from tests.engine.test_loading import CONFIG, CPU, write_checkpoint


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of ``agw/synthetic.yml`` with images of 32 x 16."""
    return write_checkpoint(tmp_path_factory.mktemp("weights"))[0]


def warned(caplog, weights, *opts, config_file=""):
    """Return what is warned of when the model is built."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="vireid_plugins.engine.loading"):
        opened = open_checkpoint(weights, config_file, [*CPU, *opts])
        assert not caplog.messages  # said once, by the command that computes features
        assert opened.model is opened.model
    return caplog.messages


def test_the_checkpoints_own_values_are_silent(caplog, weights):
    assert warned(caplog, weights) == []
    same = ["INPUT.SIZE_TEST", "[32, 16]", "MODEL.PIXEL_STD", "[58.395, 57.12, 57.375]"]
    assert warned(caplog, weights, *same, "TEST.METRIC", "euclidean") == []


def test_the_config_file_of_the_training_is_silent(caplog, weights, tmp_path):
    assert warned(caplog, weights, *small_words(tmp_path), config_file=CONFIG) == []


@pytest.mark.parametrize(
    "key,value,words",
    [
        ("MODEL.PIXEL_MEAN", "[0, 0, 0]", "[123.675, 116.28, 103.53] -> [0, 0, 0]"),
        ("MODEL.PIXEL_MEAN", "[123.68, 116.28, 103.53]", "-> [123.68, 116.28, 103.53]"),
        ("MODEL.PIXEL_STD", "[50.0, 50.0, 50.0]", "57.375] -> [50.0, 50.0, 50.0]"),
        ("INPUT.SIZE_TEST", "[48, 24]", "[32, 16] -> [48, 24]"),
        ("INPUT.INTERPOLATION", "nearest", "'bicubic' -> 'nearest'"),
        ("MODEL.BACKBONE.LAST_STRIDE", "1", "2 -> 1"),
        ("MODEL.BACKBONE.STEM_POOL", "padded", "'host' -> 'padded'"),
        ("MODEL.HEADS.GEM_EPS", "mean", "'activation' -> 'mean'"),
    ],
)
def test_a_value_that_changes_the_features_is_named_with_both_values(
    caplog, weights, key, value, words
):
    (line,) = warned(caplog, weights, key, value)
    assert line.startswith(f"{weights} was trained with other values") and "Leave the keys" in line
    assert f"{key} {words}".split(" ")[0] in line and words in line


def test_several_keys_are_one_warning(caplog, weights):
    given = ["MODEL.PIXEL_MEAN", "[0, 0, 0]", "INPUT.SIZE_TEST", "[48, 24]"]
    (line,) = warned(caplog, weights, *given)
    assert "INPUT.SIZE_TEST" in line and "MODEL.PIXEL_MEAN" in line


def test_a_config_file_with_other_values_is_named(caplog, weights):
    """synthetic.yml tests 96 x 48; the keys that make the same network stand beside it."""
    network = ["MODEL.BACKBONE.WITH_NL", "False", "MODEL.BACKBONE.LAST_STRIDE", "2"]
    (line,) = warned(caplog, weights, *network, config_file=CONFIG)
    assert "INPUT.SIZE_TEST [32, 16] -> [96, 48]" in line and "Leave --config-file out" in line
    assert "MODEL." not in line.split("(trained")[1] and "SIZE_TRAIN" not in line


def test_a_config_file_beside_a_given_key_is_named_too(caplog, weights):
    given = ["MODEL.BACKBONE.WITH_NL", "False", "MODEL.PIXEL_MEAN", "[0, 0, 0]"]
    (line,) = warned(caplog, weights, *given, config_file=CONFIG)
    assert "INPUT.SIZE_TEST" in line and "MODEL.PIXEL_MEAN" in line
    assert "Leave --config-file out" in line


def test_keys_of_the_training_are_said_to_have_no_effect(caplog, weights):
    (line,) = warned(caplog, weights, "INPUT.FLIP.PROB", "0.1", "MODEL.HEADS.MARGIN", "0.3")
    assert line.startswith("INPUT.FLIP.PROB: read only in training")


@pytest.mark.parametrize(
    "key,value",
    [
        ("MODEL.DEVICE", "cpu"),
        ("MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS", "True"),
        ("MODEL.MRDA.TEST_VIEW", "masked"),
        ("MODEL.LOSSES.BATCH_HARD.SCALE", "2.0"),
        ("DATALOADER.NUM_WORKERS", "1"),
    ],
)
def test_other_keys_may_differ_in_silence(caplog, weights, key, value):
    assert warned(caplog, weights, key, value) == []


def test_a_new_key_says_where_it_is_declared_whether_it_changes_the_features(monkeypatch):
    monkeypatch.setattr(keys, "_declared", dict(keys._declared))
    declare("MODEL.OWN", Key("WIDTH", 1, at_least(1), "a width"))
    declare("MODEL.OWN", Key("DROPOUT", 1, at_least(1), "of training"), features=False)
    declare("MODEL.LOSSES.OWN", Key("SCALE", 1, at_least(1), "a weight"))
    declare("INPUT.OWN", Key("ZOOM", 1, at_least(1), "of each image"))
    now = build_config("", [*CPU])
    held = {"config": now.dump()}
    for group in (now.MODEL.OWN, now.MODEL.LOSSES.OWN, now.INPUT.OWN):
        for name in group:
            group[name] = 2
    (line,) = other_values(now, held, "x.pth")
    assert "INPUT.OWN.ZOOM 1 -> 2, MODEL.OWN.WIDTH 1 -> 2. " in line


def test_a_file_that_carries_no_config_has_nothing_to_compare():
    assert other_values(None, None, "x.pth") == [] == other_values(None, {"config": 3}, "x.pth")


def test_means_of_pixels_from_0_to_1_are_refused_with_the_values_to_write(weights):
    with pytest.raises(UserError, match=r"MODEL.PIXEL_MEAN .*\[123.675, 116.28, 103.53\]"):
        open_checkpoint(weights, "", [*CPU, "MODEL.PIXEL_MEAN", "[0.485, 0.456, 0.406]"])
    with pytest.raises(UserError, match=r"MODEL.PIXEL_STD .*\[58.395, 57.12, 57.375\]"):
        open_checkpoint(weights, "", [*CPU, "MODEL.PIXEL_STD", "[0.229, 0.224, 0.225]"])
    plain = ["MODEL.PIXEL_MEAN", "[0, 0, 0]", "MODEL.PIXEL_STD", "[1, 1, 1]"]
    assert open_checkpoint(weights, "", [*CPU, *plain]).cfg.MODEL.PIXEL_STD == [1, 1, 1]


@pytest.mark.parametrize("mean, refused", [((1.0, 0.5, 0.5), True), ((0.5, 1.5, 0.5), False)])
def test_the_largest_mean_tells_the_range_of_pixels(mean, refused):
    cfg = SimpleNamespace(MODEL=SimpleNamespace(PIXEL_MEAN=mean))
    with pytest.raises(UserError) if refused else contextlib.nullcontext():
        check_pixel_scale(cfg)


def test_a_checkpoint_that_was_trained_with_such_means_still_opens(tmp_path):
    """Its features are consistent with its training; only a new choice is refused."""
    path, _ = write_checkpoint(tmp_path)
    content = read_checkpoint(path)
    config = yaml.safe_load(content["vireid"]["config"])
    config["MODEL"]["PIXEL_MEAN"] = [0.5, 0.5, 0.5]
    content["vireid"]["config"] = yaml.safe_dump(config)
    torch.save(content, path)
    assert open_checkpoint(path, "", CPU).cfg.MODEL.PIXEL_MEAN == [0.5, 0.5, 0.5]
    assert vp.FeatureExtractor(path) is not None
