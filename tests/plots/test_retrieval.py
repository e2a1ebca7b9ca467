"""The kind ``retrieval``. Oracles: planted features, whose rankings are known, and the artists."""

from collections import Counter

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from vireid_plugins.drawing.retrieval import GallerySearch, choose
from vireid_plugins.errors import PlotError
from vireid_plugins.evaluation import SYSUMM01Protocol, Trial
from vireid_plugins.plots.kinds import draw_kind

from tests.plots.photographs import features_of, subject_of, words_of
from tests.plots.planted import read_numbers


def search_of(dataset, noise):
    queries = np.arange(len(dataset.query))
    trial = Trial(queries, len(queries) + np.arange(len(dataset.gallery)))
    return GallerySearch(features_of(dataset, noise), dataset, trial, SYSUMM01Protocol())


def test_a_perfect_model_has_green_frames_first(sysu, figures, tmp_path):
    drawn = draw_kind("retrieval", [subject_of(sysu)], str(tmp_path), topk=4)
    paths = drawn.paths
    assert [path.rsplit(".", 1)[1] for path in paths] == ["png", "pdf", "csv"]
    rows = read_numbers(paths[-1])
    assert Counter(row["chosen"] for row in rows) == {"best": 8, "worst": 8, "random": 8}
    assert len({row["query"] for row in rows}) == 6  # no query twice
    for row in rows:
        assert row["first_correct"] == "1" and float(row["average_precision"]) == 100
        assert (row["query_identity"] == row["identity"]) == (row["correct"] == "1")
        valid = 3 if row["query_camera"] == "3" else 4  # never camera 2 for camera 3
        assert (row["query_camera"], row["camera"]) != ("3", "2")
        assert row["correct"] == str(int(int(row["rank"]) <= valid))
    (figure,) = figures
    words = words_of(figure)
    marks = [word[0] for word in words if word[:2] in ("✓ ", "✗ ") and word[2].isdigit()]
    assert marks == ["✓" if row["correct"] == "1" else "✗" for row in rows]
    green, orange, gray = "#00855f", "#d55e00", "#333333"
    frames = Counter(patch.get_edgecolor()[:3] for patch in figure.axes[0].patches)
    right = marks.count("✓")
    assert frames == {to_rgb(green): right, to_rgb(orange): 24 - right, to_rgb(gray): 6}
    note = words[-1]
    assert "2 best" in note and "2 worst" in note and "2 drawn at random; of 12, seed 0" in note
    assert "query camera 3 with gallery camera 2" in note


def test_best_and_worst_are_the_ends_of_the_order(sysu):
    search = search_of(sysu, 0.9)
    pool = np.random.default_rng(1).permutation(search.queries)
    measured = search.difficulty(pool)
    keys = sorted(zip(measured.first_correct, -measured.average_precision, pool))
    # The hardest are the end of the list; best and worst take one query of each identity first.
    hardest, words = choose(search, pool, ["hardest"], 3)
    assert hardest.tolist() == [row for _, _, row in keys[::-1][:3]] and words == ["hardest"] * 3
    for word, ordered in (("best", keys), ("worst", keys[::-1])):
        once, again, seen = [], [], set()
        for _, _, row in ordered:
            (again if sysu.query[row].pid in seen else once).append(row)
            seen.add(sysu.query[row].pid)
        assert choose(search, pool, [word], 8)[0].tolist() == (once + again)[:8]
        assert once + again != [row for _, _, row in ordered]
    everyone, words = choose(search, pool, ["random", "best", "worst"], 99)
    assert sorted(everyone) == sorted(pool) and words == ["random"] * 12
    found = search.retrievals(hardest, ["hardest"] * 3, 2)
    assert [one.first_correct for one in found] == [first for first, _, _ in keys[::-1][:3]]


def test_two_models_search_for_the_same_queries(sysu, figures, tmp_path):
    subjects = [subject_of(sysu), subject_of(sysu, 0.9, "noisy")]
    options = {"queries": ["worst"], "count": 3, "topk": 3, "trial": 1}
    paths = draw_kind("retrieval", subjects, str(tmp_path), **options).paths
    rows = read_numbers(paths[-1])
    queries = [
        list(dict.fromkeys(row["query"] for row in rows if row["model"] == label))
        for label in ("planted", "noisy")
    ]
    assert queries[0] == queries[1] and len(queries[0]) == 3
    assert {row["first_correct"] for row in rows if row["model"] == "planted"} == {"1"}
    assert {row["first_correct"] for row in rows if row["model"] == "noisy"} != {"1"}
    page = words_of(figures[0])
    assert sum(word.startswith("planted: first ✓ at 1") for word in page) == 3
    assert sum(word.startswith("noisy: first ✓ at") for word in page) == 3
    assert sum(word.startswith("query (worst)") for word in page) == 3
    assert len(figures[0].axes[0].images) == 3 + 2 * 3 * 3
    boxes = [patch.get_window_extent() for patch in figures[0].axes[0].patches]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_given_queries_are_drawn_and_named(sysu, figures, tmp_path):
    path = sysu.query[3].path
    options = {"queries": [path, "5 c3.png"], "topk": 2}
    drawn = draw_kind("retrieval", [subject_of(sysu)], str(tmp_path), **options)
    rows = read_numbers(drawn.paths[-1])
    assert [row["query"] for row in rows[::2]] == [path, sysu.query[10].path]
    assert {row["chosen"] for row in rows} == {"given"}
    assert "2 given; of 12." in words_of(figures[0])[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queries": ["nobody.png"]}, "'nobody.png' is not an image of the test set"),
        ({"queries": ["c3.png"]}, "'c3.png' is not an image of the test set"),  # no part of a name
        ({"queries": ["0 c1.png"]}, "not a query of this protocol; a query is for example .*png"),
        ({"count": 0}, "--count is 0; expected 1 or more"),
        ({"topk": 51}, "room for 50"),
        ({"trial": 2}, "--trial is 2; all/single has trials 0 to 1"),
        ({"protocol": "all/singel"}, "Did you mean 'all/single'"),
    ],
)
def test_wrong_options_are_refused(sysu, tmp_path, options, said):
    with pytest.raises(PlotError, match=said):
        draw_kind("retrieval", [subject_of(sysu)], str(tmp_path), **options)
    assert not list(tmp_path.iterdir())
