"""Models measured on drawn persons. Oracles: loops over features; the config's own network."""

import json
import math
import shutil

import numpy as np
import pytest
import torch

from vireid_plugins.engine import FeatureExtractor, carry_config
from vireid_plugins.engine.model import build_model
from vireid_plugins.errors import FileContentError, MissingFileError, UserError
from vireid_plugins.search import SearchIndex
from vireid_plugins.video import cut_video, measure, read_cut, read_persons, table
from vireid_plugins.video.cut import image_name
from vireid_plugins.video.measure import _questions
from vireid_plugins.video.models import models_of

from tests.engine.small import small_cfg
from tests.every_key.narrow import NAME

from .drawn import BLUE, GREEN, RED, frames, write_frames


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return a ResNet-18 with random weights, for images of 32 x 16."""
    return made(tmp_path_factory.mktemp("model"), MODEL__HEADS__NUM_CLASSES=2)


def made(folder, *config, **keys):
    """Make a checkpoint with random weights in ``folder``."""
    cfg = small_cfg(folder, *config, **keys)
    torch.manual_seed(5)
    torch.save({"model": build_model(cfg).state_dict()}, folder / "plain.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    carry_config(folder / "plain.pth", str(folder / "config.yaml"), folder / "small.pth")
    return folder / "small.pth"


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """Return three persons, each seen for four seconds; two of them do not meet by then."""
    folder = tmp_path_factory.mktemp("video")
    return cut_video(
        write_frames(folder / "frames", frames([RED, BLUE, GREEN], 40)),
        folder / "out",
        fps=10,
    )


@pytest.fixture(scope="module")
def rows(cut, checkpoint):
    """Return the rows of the checkpoint and of two random networks."""
    return measure(cut, [f"random:{checkpoint}", str(checkpoint)], gaps=[1, 2], seeds=2)


def rank1_by_loops(cut, extractor, gap, kind):
    """Return rank-1 in percent: for each crop and each other moment ``gap`` frames away."""
    folder, modality = ("crops", "visible") if kind == "color" else ("gray", "infrared")
    rights, galleries = [], []
    for one in cut.sightings:
        query = extractor([cut.folder / folder / image_name(one)], modality)[0]
        for frame in (one.frame - gap, one.frame + gap):
            there = [other for other in cut.sightings if other.frame == frame]
            if len(there) < 2 or one.track not in [other.track for other in there]:
                continue
            paths = [cut.folder / "crops" / image_name(other) for other in there]
            scores = extractor(paths, "visible") @ query
            rights.append(there[int(np.argmax(scores))].track == one.track)
            galleries.append(len(there))
    return 100 * np.mean(rights), 100 * np.mean(1 / np.array(galleries)), len(rights)


@pytest.mark.parametrize("kind", ["color", "gray"])
def test_rows_follow_loops(rows, cut, checkpoint, kind):
    (row,) = [r for r in rows if (r.model, r.kind, r.gap) == (str(checkpoint), kind, 2)]
    rank1, chance, number = rank1_by_loops(cut, FeatureExtractor(checkpoint), 20, kind)
    assert row.rate.rank1 == pytest.approx(rank1) and row.chance == pytest.approx(chance)
    assert (row.questions, row.persons) == (number, 3) and number > 15
    assert row.rate.low <= row.rate.rank1 <= row.rate.high


@pytest.mark.slow
def test_random_networks_are_averaged_over_their_seeds(rows, cut, checkpoint):
    random = [row for row in rows if row.model == f"random:{checkpoint}"]
    assert [(row.kind, row.gap) for row in random] == [
        ("color", 1), ("color", 2), ("gray", 1), ("gray", 2),
    ]  # fmt: skip
    for row in random:
        assert len(row.seeds) == 2
        assert row.rate.rank1 == pytest.approx(np.mean(row.seeds))
        assert row.over_first.rank1 == 0
    second = models_of(f"random:{checkpoint}", cut.folder / "models", 2)[1]
    expected, *_ = rank1_by_loops(cut, FeatureExtractor(second.path), 20, "gray")
    assert random[3].seeds[1] == pytest.approx(expected)


@pytest.mark.slow
def test_random_networks_have_other_weights_and_the_same_network(cut, checkpoint):
    made = models_of(f"random:{checkpoint}", cut.folder / "models", 2)
    states = [FeatureExtractor(one.path).model.state_dict() for one in made]
    states.append(FeatureExtractor(checkpoint).model.state_dict())
    first = {name: value for name, value in states[0].items() if name.endswith("conv1.weight")}
    assert first and all(set(state) == set(states[0]) for state in states)
    for name in first:
        assert len({float(state[name].double().sum()) for state in states}) == 3


@pytest.mark.slow
def test_networks_of_the_list_have_the_given_input(tmp_path, monkeypatch):
    for name in ("start", "pretrained"):  # random weights need no file
        monkeypatch.setattr(f"vireid_plugins.modeling.backbones.{name}.fetch", None)
    (made,) = models_of("random:mobilenetv2", tmp_path, 1, (32, 16))
    extractor = FeatureExtractor(made.path)
    assert list(extractor.cfg.INPUT.SIZE_TEST) == [32, 16] and extractor.feature_size == 1280
    assert extractor.cfg.MODEL.BACKBONE.NETWORK == "mobilenetv2"
    (other,) = models_of("random:mobilenetv2", tmp_path, 1, (32, 32))
    assert other.path != made.path
    assert models_of("random:mobilenetv2", tmp_path, 1, (32, 16)) == [made]


def test_what_is_above_the_first_is_the_difference(rows, checkpoint):
    by = {(row.model, row.kind, row.gap): row for row in rows}
    row, first = by[str(checkpoint), "color", 2], by[f"random:{checkpoint}", "color", 2]
    assert row.over_first.rank1 == pytest.approx(row.rate.rank1 - first.rate.rank1)


def test_the_results_are_written_and_shown(rows, cut):
    held = json.loads((cut.folder / "results.json").read_text())
    assert len(held["rows"]) == len(rows) == 8
    assert held["rows"][0]["rank1"] == round(rows[0].rate.rank1, 2)
    lines = table(rows).splitlines()
    assert len(lines) == 10
    deviation = np.std(rows[0].seeds, ddof=1)
    assert f"{rows[0].rate.rank1:.1f} ± {deviation:.1f}" in lines[2]
    assert "±" not in lines[-1]


def test_the_indexes_can_be_searched(rows, cut, checkpoint):
    indexes = sorted((cut.folder / "index").iterdir())
    assert len(indexes) == 3
    (own,) = [path for path in indexes if path.name.startswith("small-")]
    index = SearchIndex(own)
    assert len(index) == len(cut.sightings)
    name = image_name(cut.sightings[3])
    found = index.search(index.extractor()([cut.folder / "crops" / name], "visible"), 1)
    assert found.names == [[name.encode()]]
    assert math.isclose(found.scores[0, 0], 1, rel_tol=1e-5)


@pytest.mark.slow
def test_a_second_time_nothing_is_computed(rows, cut, checkpoint, monkeypatch):
    monkeypatch.setattr("vireid_plugins.video.models.build_model", None)
    again = measure(cut, [f"random:{checkpoint}", str(checkpoint)], gaps=[1, 2], seeds=2)
    assert [row.facts() for row in again] == [row.facts() for row in rows]


def test_tracks_that_somebody_joined_are_one_person(cut, checkpoint, tmp_path):
    tracks = sorted({one.track for one in cut.sightings})
    (tmp_path / "persons.csv").write_text(f"track,person\n{tracks[0]},anna\n")
    persons = read_persons(tmp_path / "persons.csv", cut)
    assert persons == {tracks[0]: "anna"}
    (row, _) = measure(cut, [str(checkpoint)], persons=persons, gaps=[2])
    assert row.persons == 3
    twice = {track: "anna" for track in tracks[:2]}
    with pytest.raises(UserError, match="cannot both be person anna"):
        measure(cut, [str(checkpoint)], persons=twice, gaps=[2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("track,person\n99,anna\n", "line 2: track '99' is no track of"),
        ("track,person\nx,anna\n", "line 2: track 'x' is no track of"),
        ("track,person\nFIRST,anna\nFIRST,bert\n", "line 3: track '[0-9]+' is listed twice"),
        ("track,who\n1,anna\n", "person"),
    ],
)
def test_wrong_tables_of_persons_are_named(cut, tmp_path, text, words):
    first = str(cut.sightings[0].track)
    (tmp_path / "persons.csv").write_text(text.replace("FIRST", first))
    with pytest.raises(FileContentError, match=words):
        read_persons(tmp_path / "persons.csv", cut)


def test_one_person_alone_is_said(checkpoint, tmp_path):
    source = write_frames(tmp_path / "frames", frames([RED], 30))
    alone = cut_video(source, tmp_path / "out", fps=10)
    with pytest.raises(UserError, match=r"there is no question. 1 person\(s\) .* two persons or"):
        measure(alone, [str(checkpoint)])


def test_a_gap_without_questions_is_left_out(cut, checkpoint, caplog):
    rows = measure(cut, [str(checkpoint)], gaps=[2, 100])
    assert {row.gap for row in rows} == {2}
    assert "--gaps 100: no question has this gap" in caplog.text


def test_a_gap_is_that_of_the_nearest_moment(cut):
    """Moments are 0.5 s apart: 1.3 s is nearer to 1.5 s than to 1 s, and none is below 0.5 s."""
    who = [one.track for one in cut.sightings]
    assert list(_questions(cut, who, [0.1, 1.3, 2])) == [0.5, 1.5, 2]


def test_wrong_words_are_named(cut, checkpoint, tmp_path):
    def refused(kind, match, *words, **options):
        with pytest.raises(kind, match=match):
            measure(cut, words, **options)

    refused(MissingFileError, "none.pth.*expected the path of a checkpoint", "none.pth")
    refused(MissingFileError, "none.pth", "random:none.pth")
    refused(UserError, "mobilenetv2", "weights:mobilenet")
    refused(UserError, "mobilenetv2", "random:mobilenet")
    refused(UserError, "--seeds must be 1 or more", str(checkpoint), seeds=0)
    refused(UserError, "--gaps must be above 0", str(checkpoint), gaps=[0])
    refused(UserError, "--gaps must be above 0", str(checkpoint), gaps=[math.inf])
    refused(UserError, "No model is named")
    (tmp_path / "no.pth").write_text("x")
    refused(UserError, "no.pth", str(tmp_path / "no.pth"))
    refused(UserError, "no.pth", f"random:{tmp_path / 'no.pth'}")


def test_a_model_with_key_points_is_refused(cut, tmp_path):
    words = {"MODEL__BACKBONE__NAME": NAME, "MODEL__HEADS__NUM_CLASSES": 2}
    path = made(tmp_path, "configs/spot/synthetic.yml", **words)
    for word in (str(path), f"random:{path}"):
        with pytest.raises(UserError, match="small: SPOT needs key points.*not read. Leave it out"):
            measure(cut, [word], gaps=[1], seeds=1)


def test_a_lost_crop_is_named(cut, checkpoint, tmp_path):
    shutil.copytree(cut.folder, tmp_path / "out", ignore=shutil.ignore_patterns("index"))
    copy = read_cut(tmp_path / "out")
    lost = image_name(copy.sightings[0])
    (copy.folder / "crops" / lost).unlink()
    with pytest.raises(UserError, match=f"lacks 1 of its images, such as {lost}"):
        measure(copy, [str(checkpoint)])
