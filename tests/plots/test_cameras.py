"""The matrix of cameras. Oracles: planted features, and the numbers behind what is drawn."""

import numpy as np
import pytest

from vireid_plugins.errors import PlotError
from vireid_plugins.plots import draw_kind
from vireid_plugins.plots.cameras import measure_cameras
from vireid_plugins.plots.cameras_figure import signed

from tests.plots.planted import planted_subject, read_numbers


def cells(axes):
    """The numbers in a matrix, row by row, as they are written."""
    size = len(axes.get_xticks())
    words = [text.get_text() for text in axes.texts]
    return np.array(words).reshape(size, size)


def test_numbers_frames_and_means_are_drawn(figures, tmp_path):
    subject = planted_subject(noise=1.0, identities=8)
    drawn = draw_kind("cameras", subject, str(tmp_path), trials=3)
    assert [path.rpartition("/")[2] for path in drawn.paths] == [
        *("cameras.png", "cameras.pdf", "cameras.csv", "cameras_summary.csv")
    ]
    axes = figures[0].axes[0]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["V1", "V2", "V4", "V5", "I3", "I6"]
    matrix = measure_cameras(subject, 3)
    lines = read_numbers(tmp_path / "cameras.csv")
    words = cells(axes)
    for line, word, value in zip(lines, words.flat, matrix.rank1.flat):
        assert word == ("–" if np.isnan(value) else f"{value:.0f}")
        assert line["rank1"] == ("" if np.isnan(value) else f"{value:.6g}")
    assert words[1, 4] == words[4, 1] == "–"  # SYSU-MM01's cameras 2 and 3
    assert [line["empty"] for line in lines[:6]] == ["own camera", "", "", "", "", ""]
    assert lines[10]["empty"] == "never compared" and lines[11]["queries"] == "16"
    frames = [(patch.get_xy(), patch.get_width(), patch.get_height()) for patch in axes.patches]
    assert frames == [
        ((-0.5, -0.5), 4, 4),
        ((3.5, -0.5), 2, 4),
        ((-0.5, 3.5), 4, 2),
        ((3.5, 3.5), 2, 2),
    ]
    means = {line["cells"]: float(line["mean_rank1"]) for line in read_numbers(drawn.paths[3])}
    own = matrix.rank1[:4, :4][~np.eye(4, dtype=bool)]
    assert means["within visible"] == pytest.approx(own.mean(), rel=1e-5)
    assert f"planted: within visible {own.mean():.1f} %; within infrared" in drawn.notes[0]
    assert f"within visible {own.mean():.1f}" in axes.get_xlabel()
    assert "infrared camera 3 with visible camera 2" in drawn.notes[-1]


def test_the_difference_of_two_models_is_a_second_picture(figures, tmp_path):
    better, worse = planted_subject("new", noise=0.1), planted_subject("old", noise=2.0, gap=3.0)
    drawn = draw_kind("cameras", [better, worse], str(tmp_path))
    both, difference = figures
    assert [axes.get_title() for axes in both.axes[:2]] == ["new", "old"]
    axes = difference.axes[0]
    assert axes.get_title() == "new minus old"
    first, second = (measure_cameras(one).rank1 for one in (better, worse))
    words, image = cells(axes), axes.images[0]
    for word, value in zip(words.flat, (first - second).flat):
        assert word == ("–" if np.isnan(value) else signed(float(value)))
    low, high = image.get_clim()
    assert low == -high == pytest.approx(-np.nanmax(abs(first - second)))
    lines = read_numbers(tmp_path / "cameras_difference.csv")
    assert float(lines[1]["difference"]) == pytest.approx((first - second)[0, 1], rel=1e-4)
    gain = np.nanmean((first - second)[:4, 4:])
    assert drawn.notes[2].startswith("new minus old, points: within visible +")
    assert f"visible to infrared {gain:+.1f}; infrared to visible" in drawn.notes[2]


def test_the_same_model_twice_differs_nowhere(figures, tmp_path):
    draw_kind("cameras", [planted_subject("a"), planted_subject("b")], str(tmp_path))
    assert set(cells(figures[1].axes[0]).flat) == {"–", "0"}
    assert figures[1].axes[0].images[0].get_clim() == (-5, 5)


def test_a_difference_has_a_sign_unless_it_rounds_to_zero():
    told = [signed(value) for value in (3.5, -3.4, 0.4, -0.4, -0.0)]
    assert told == ["+4", "\N{MINUS SIGN}3", "0", "0", "0"]
    assert [signed(value, 1) for value in (2.04, -0.06, -0.04)] == [
        "+2.0",
        "\N{MINUS SIGN}0.1",
        "0.0",
    ]


def only(subject, keep):
    """The subject with the test images that ``keep`` chooses among its items."""
    features, dataset = subject.features, subject.dataset
    items = dataset.query + dataset.gallery
    rows = [place for place, item in enumerate(items) if keep(item)]
    dataset.query = [item for item in dataset.query if keep(item)]
    dataset.gallery = [item for item in dataset.gallery if keep(item)]
    labels = (getattr(features, name)[rows] for name in ("targets", "camids", "modalities"))
    vars(subject)["features"] = type(features)(
        features.features[rows], *labels, np.arange(len(rows))
    )
    return subject


def test_two_cameras_as_in_regdb(figures, tmp_path):
    subject = only(planted_subject(), lambda item: item.camid in (1, 6))
    notes = draw_kind("cameras", subject, str(tmp_path)).notes
    assert cells(figures[0].axes[0]).tolist() == [["–", "100"], ["100", "–"]]
    assert notes[0] == "planted: visible to infrared 100.0 %; infrared to visible 100.0 %."


def test_one_camera_and_cameras_without_a_common_identity_are_refused(tmp_path):
    one = only(planted_subject(), lambda item: item.camid == 1)
    with pytest.raises(PlotError, match="of SYSUMM01 are of one camera"):
        draw_kind("cameras", one, str(tmp_path))
    apart = only(planted_subject(), lambda item: (item.camid, item.pid) in [(1, 0), (6, 10)])
    with pytest.raises(PlotError, match="No two cameras of SYSUMM01 .* same identity"):
        draw_kind("cameras", apart, str(tmp_path))
    with pytest.raises(PlotError, match="--trials is 0; expected 1 to 1000"):
        draw_kind("cameras", planted_subject(), str(tmp_path), trials=0)
    assert list(tmp_path.iterdir()) == []
