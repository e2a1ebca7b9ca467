"""A run goes on only with the images that it began with. Oracle: markers that the test changes."""

import json

import pytest

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.same_rendering import check_same_rendering, rendered_facts
from vireid_plugins.errors import CheckpointError
from vireid_plugins.readers.rendering import MARKER
from vireid_plugins.synthvi import render_dataset

from tests.engine.small import small_cfg

LINKED = {"dense": 0.5, "clear": 0.3, "free": 0.2}
SETTINGS = {"layout": "sysu", "train": 4, "seed": 0, "size": [32, 32], "infrared": LINKED}
SETTINGS["version"] = 3


def facts(*settings):
    """What a checkpoint says of images with these settings of the renderer; None: photographs."""
    texts = ["" if one is None else json.dumps(one) for one in settings]
    return {"train_datasets": ["SYSUMM01", "RegDB"][: len(texts)], "rendered": texts}


OTHER = {
    "other dyes": ({"infrared": {**LINKED, "dense": 0.4, "free": 0.3}}, "infrared 0.5 dense"),
    "other people": ({"seed": 1}, "rendered with seed 0 .* rendered with seed 1 now"),
    "other sizes": ({"size": [96, 48]}, r"size \[32, 32\]"),
    "a later renderer": ({"version": 4}, "version 3 .* version 4"),
    "two settings": ({"seed": 1, "difficulty": 2.0}, "seed 0 .* difficulty 2.0, seed 1"),
}


@pytest.mark.parametrize("other, words", OTHER.values(), ids=OTHER)
def test_other_images_are_refused_and_the_settings_named(other, words):
    with pytest.raises(CheckpointError, match=words) as told:
        check_same_rendering(facts(SETTINGS), facts({**SETTINGS, **other}), "a.pth")
    message = str(told.value)
    assert message.startswith("a.pth cannot be resumed: the training images of SYSUMM01 were")
    assert MARKER in message and "another OUTPUT_DIR" in message and "FASTREID_DATASETS" in message


def test_photographs_that_became_rendered_images_are_refused():
    with pytest.raises(CheckpointError, match="were not rendered when .* rendered with infrared"):
        check_same_rendering(facts(None), facts(SETTINGS), "a.pth")


def test_the_second_dataset_is_compared_too():
    with pytest.raises(CheckpointError, match="of RegDB were rendered with seed 0"):
        check_same_rendering(facts(None, SETTINGS), facts(None, {**SETTINGS, "seed": 5}), "a.pth")


@pytest.mark.parametrize(
    "before, now",
    [
        (SETTINGS, dict(reversed(SETTINGS.items()))),
        (None, None),
        # these numbers decide which files there are, which the fingerprint compares
        (SETTINGS, {**SETTINGS, "train": 5, "test": 9, "images_per_camera": 2, "absence": 0.1}),
        # before there were dyes, all images were of the free form
        (
            {"seed": 0, "version": 2},
            {"seed": 0, "version": 3, "infrared": {"dense": 0, "clear": 0, "free": 1}},
        ),
    ],
)
def test_the_same_images_go_on(before, now, caplog):
    check_same_rendering(facts(before), facts(now), "a.pth")
    assert not caplog.records


def test_where_files_cannot_tell_a_warning_says_so(caplog):
    check_same_rendering(facts(SETTINGS), facts(None), "a.pth")
    assert f"no readable {MARKER} any more" in caplog.text and "SYSUMM01" in caplog.text
    caplog.clear()
    check_same_rendering({}, facts(None, SETTINGS), "a.pth")
    assert len(caplog.records) == 1
    assert "a.pth was written by an earlier version" in caplog.text and "of RegDB" in caplog.text
    caplog.clear()
    check_same_rendering({}, facts(None), "a.pth")  # photographs: nothing to say
    assert not caplog.records


@pytest.mark.parametrize("text", ["{", "3", "[1]"])
def test_a_damaged_entry_is_one_sentence(text):
    held = {"train_datasets": ["SYSUMM01"], "rendered": [text]}
    with pytest.raises(CheckpointError, match=r"a\.pth .* 'rendered' is damaged"):
        check_same_rendering(held, facts(SETTINGS), "a.pth")


def test_what_is_recorded_is_what_the_marker_says(tmp_path):
    class Rendered:
        dataset_dir = str(tmp_path)

    class Stock:
        """A dataset of FastReID may have no folder."""

    (tmp_path / MARKER).write_text(json.dumps({"parameters": SETTINGS, "finished": True}))
    texts = rendered_facts([Rendered(), Stock()])["rendered"]
    assert json.loads(texts[0]) == SETTINGS and texts[1] == ""


@pytest.mark.slow
def test_a_run_is_not_resumed_on_images_with_other_dyes(tmp_path, monkeypatch):
    """The same command as before, with another share of dyes, gives the same files and names."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))

    def render(infrared):
        words = dict(ids=(4, 2), images_per_camera=2, size=(32, 32), jobs=1, progress=False)
        render_dataset("sysu", tmp_path, "tiny", infrared=infrared, overwrite=True, **words)

    def trainer(epochs):
        return VIReIDTrainer(small_cfg(tmp_path / "run", SOLVER__MAX_EPOCH=epochs))

    render((0.5, 0.3, 0.2))
    first = trainer(1)
    first.resume_or_load(resume=False)
    first.train()
    files = {path.name for path in (tmp_path / "run").iterdir()}
    render((0.0, 0.0, 1.0))
    other = trainer(2)
    assert other.facts()["fingerprint"] == first.facts()["fingerprint"]
    with pytest.raises(
        CheckpointError, match=r"infrared 0.5 dense \+ 0.3 clear .* infrared 1 free now"
    ):
        other.resume_or_load(resume=True)
    assert {path.name for path in (tmp_path / "run").iterdir()} == files
    render((0.5, 0.3, 0.2))
    trainer(2).resume_or_load(resume=True)
