"""The picture of distances. Oracles: planted features, and the numbers behind what is drawn."""

from types import SimpleNamespace

import numpy as np
import pytest

from vireid_plugins.errors import PlotError
from vireid_plugins.evaluation import LLCMProtocol
from vireid_plugins.plots import distances
from vireid_plugins.plots.kinds import draw_kind

from tests.plots.planted import planted_subject, read_numbers

PAIRS = ["visible-visible", "infrared-infrared", "visible-infrared"]


@pytest.fixture
def figures(monkeypatch):
    """What is drawn, as it is saved; nothing is written as a picture."""
    kept = []

    def keep(figure, folder, name):
        kept.append(figure)
        return [f"{name}.png", f"{name}.pdf"]

    monkeypatch.setattr(distances, "write_figure", keep)
    return kept


def test_counts_add_up_and_the_summary_follows_from_the_labels(figures, tmp_path):
    subject = planted_subject(noise=0.3)
    paths = draw_kind("distances", subject, str(tmp_path), bins=30).paths
    names = ["distances.csv", "distances_summary.csv", "distances_roc.csv"]
    assert paths == ["distances.png", "distances.pdf"] + [str(tmp_path / one) for one in names]
    counts, summary, roc = (read_numbers(tmp_path / name) for name in names)
    # 6 identities x 2 images: 48 visible, 24 infrared; of 12 x 12 pairs of cameras 3 and 2, none.
    expected = {
        PAIRS[0]: (6 * 8 * 7 // 2, 48 * 47 // 2, 0),
        PAIRS[1]: (6 * 4 * 3 // 2, 24 * 23 // 2, 0),
        PAIRS[2]: (6 * (4 * 8 - 4), 24 * 48 - 144, 144),
    }
    assert [line["pairs"] for line in summary] == PAIRS
    for line in summary:
        same, everything, skipped = expected[line["pairs"]]
        bins = [one for one in counts if one["pairs"] == line["pairs"]]
        assert len(bins) == 30 and (bins[0]["from"], bins[-1]["to"]) == ("0", "2")
        assert sum(int(one["same_identity"]) for one in bins) == same
        assert sum(int(one["different_identities"]) for one in bins) == everything - same
        assert int(line["same_identity_pairs"]) == same
        assert int(line["different_identities_pairs"]) == everything - same
        assert int(line["never_compared_pairs"]) == skipped
        curve = [one for one in roc if one["pairs"] == line["pairs"]]
        # The area below the points of the file is the area of the summary.
        false, true = (
            np.array([float(p[f"{k}_accept_rate"]) for p in curve]) for k in ("false", "true")
        )
        area = float(((true[1:] + true[:-1]) / 2 * np.diff(false)).sum())
        assert area == pytest.approx(float(line["auc"]), abs=2e-3)
        # Both errors at the threshold are the rate.
        threshold, rate = float(line["threshold"]), float(line["equal_error_rate"])
        at = np.searchsorted([float(p["threshold"]) for p in curve], threshold)
        assert false[at] == pytest.approx(rate, abs=0.03)
        assert 1 - true[at] == pytest.approx(rate, abs=0.03)


def test_features_of_one_point_each_are_separated_without_error(figures, tmp_path):
    subject = planted_subject(noise=0.0)
    draw_kind("distances", [subject], str(tmp_path))
    for line in read_numbers(tmp_path / "distances_summary.csv"):
        assert float(line["mean_same"]) == pytest.approx(0, abs=1e-6)
        assert (line["auc"], line["equal_error_rate"]) == ("1", "0")
        assert 0 < float(line["threshold"]) < float(line["mean_different"])


def shown(axes):
    """Numbers of the histograms' outlines, one identity and two, and of the lines across."""
    outlines = [patch.get_data() for patch in axes.patches if not patch.get_fill()]
    return outlines, [line.get_xdata()[0] for line in axes.lines]


def test_panels_show_the_counts_the_means_and_the_threshold(figures, tmp_path):
    subject = planted_subject(noise=0.5)
    draw_kind("distances", [subject], str(tmp_path))
    (figure,) = figures
    *panels, roc, footer = figure.axes
    assert [axes.get_title("left") for axes in (*panels, roc)] == [*PAIRS, "ROC"]
    summary = read_numbers(tmp_path / "distances_summary.csv")
    for axes, line in zip(panels, summary):
        outlines, across = shown(axes)
        for outline in outlines:  # nearly all pairs lie in the range drawn
            assert 99.9 < outline.values.sum() <= 100.0001
            assert (outline.edges[0], outline.edges[-1]) == (0, axes.get_xlim()[1])
        middle = [
            np.average(o.edges[:-1] + np.diff(o.edges) / 2, weights=o.values) for o in outlines
        ]
        assert middle == pytest.approx(across[:2], abs=0.03)
        expected = [float(line[k]) for k in ("mean_same", "mean_different", "threshold")]
        assert across == pytest.approx(expected, abs=1e-4)
        assert f"gap {float(line['gap']):.2f}" in axes.get_title("right")
    words = [text.get_text() for text in roc.get_legend().get_texts()]
    for word, line in zip(words, summary):
        assert word.startswith(f"{line['pairs']}\nAUC {float(line['auc']):.3f}, equal error ")
        assert word.endswith(f"{100 * float(line['equal_error_rate']):.1f} %")
    assert "infrared camera 3 with visible camera 2" in footer.texts[0].get_text()


@pytest.mark.slow
def test_two_models_stand_side_by_side_on_the_same_axes(figures, tmp_path):
    models = [planted_subject("near", noise=0.2), planted_subject("far", noise=0.9)]
    draw_kind("distances", models, str(tmp_path))
    figures[0].canvas.draw()
    panels = figures[0].axes[:8]
    for left, right in zip(panels[:4], panels[4:]):
        assert left.get_title("left") == right.get_title("left")
        assert (left.get_xlim(), left.get_ylim()) == (right.get_xlim(), right.get_ylim())
        a, b = left.get_position(), right.get_position()
        assert a.y0 == pytest.approx(b.y0) and a.x1 < b.x0
    assert_titles_are_apart(panels)
    assert [panels[i].texts[0].get_text() for i in (0, 4)] == ["near", "far"]
    summary = read_numbers(tmp_path / "distances_summary.csv")
    assert [line["model"] for line in summary] == ["near"] * 3 + ["far"] * 3
    gaps = [float(line["gap"]) for line in summary]
    assert all(near > far for near, far in zip(gaps[:3], gaps[3:]))


def test_euclidean_distances_share_the_greater_range(figures, tmp_path):
    models = [
        planted_subject("one", metric="euclidean"),
        planted_subject("two", metric="euclidean", gap=5.0),
    ]
    draw_kind("distances", models, str(tmp_path), bins=7)
    lines = read_numbers(tmp_path / "distances.csv")
    assert {one["to"] for one in lines if one["model"] == "one"} == {
        one["to"] for one in lines if one["model"] == "two"
    }
    summary = {
        (one["model"], one["pairs"]): one
        for one in read_numbers(tmp_path / "distances_summary.csv")
    }
    # 5 more in each of 8 dimensions; within a modality nothing changes.
    moved = float(summary["two", PAIRS[2]]["mean_same"])
    assert moved == pytest.approx(5 * 8**0.5, rel=0.05)
    for pairs in PAIRS[:2]:
        assert float(summary["two", pairs]["mean_same"]) == pytest.approx(
            float(summary["one", pairs]["mean_same"]), rel=1e-4
        )


def test_the_note_names_the_rules_of_the_protocol():
    subject = SimpleNamespace(dataset_name="LLCM", protocols=[LLCMProtocol("visible_to_infrared")])
    assert distances._note(subject).endswith("images of one person by one camera.")


@pytest.mark.parametrize("bins", [0, 1001])
def test_a_number_of_bins_out_of_range_is_refused(bins, tmp_path):
    with pytest.raises(PlotError, match="--bins is .* expected 1 to 1000"):
        draw_kind("distances", [planted_subject()], str(tmp_path), bins=bins)


def test_different_metrics_are_not_put_side_by_side(tmp_path):
    models = [planted_subject("a"), planted_subject("b", metric="euclidean")]
    with pytest.raises(PlotError, match="'a': 'cosine', 'b': 'euclidean'.*TEST.METRIC cosine"):
        draw_kind("distances", models, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_different_protocols_are_not_put_side_by_side(tmp_path):
    subjects = [planted_subject(label="a"), planted_subject(label="b")]
    subjects[1].protocols = [LLCMProtocol("visible_to_infrared", variant="all_images")]
    with pytest.raises(PlotError, match="a: infrared camera 3 with visible camera 2; b: none"):
        draw_kind("distances", subjects, str(tmp_path))


def assert_titles_are_apart(panels):
    for axes in panels:
        boxes = [
            text.get_window_extent()
            for text in (axes.title, axes._left_title, axes._right_title)
            if text.get_text()
        ]
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[i + 1 :])
