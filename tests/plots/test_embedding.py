"""Maps of features. Oracles: planted identities, and the points of the picture."""

import builtins
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from vireid_plugins.errors import PlotError
from vireid_plugins.plots import embedding, embedding_figure
from vireid_plugins.plots.embedding import choose_rows
from vireid_plugins.plots.embedding_figure import MOST_IDENTITIES
from vireid_plugins.plots.kinds import draw_kind

from tests.plots.planted import planted_subject, read_numbers


@pytest.fixture
def figures(monkeypatch):
    """What is drawn, as it is saved."""
    kept = []

    def keep(figure, folder, name):
        kept.append(figure)
        return []

    monkeypatch.setattr(embedding, "write_figure", keep)
    return kept


@pytest.fixture
def flat(monkeypatch):
    """In the place of t-SNE: the first two dimensions, at once."""
    calls = []

    def first_two(features, perplexity, seed):
        calls.append((features, perplexity, seed))
        return features[:, :2].astype(float)

    monkeypatch.setitem(embedding.METHODS, "tsne", first_two)
    return calls


def labels(counts):
    """Targets and modalities of ``counts``: identity to (visible, infrared) images."""
    pairs = [(i, m) for i, both in counts.items() for m, n in enumerate(both) for _ in range(n)]
    order = np.random.default_rng(5).permutation(len(pairs))
    return (np.array(column)[order] for column in zip(*pairs))


def test_identities_seen_in_both_modalities_are_drawn_by_the_seed():
    targets, modalities = labels({i: (5, 3) if i % 3 else (6, 0) for i in range(40)})
    choice = choose_rows(targets, modalities, 8, 4, seed=0)
    assert len(set(choice.identities)) == 8 and all(i % 3 for i in choice.identities)
    assert (choice.candidates, choice.known) == (26, "seen in both modalities")
    drawn = list(zip(targets[choice.rows], modalities[choice.rows]))
    for identity in choice.identities:
        assert (drawn.count((identity, 0)), drawn.count((identity, 1))) == (4, 3)
    assert len(drawn) == 8 * 7 and (np.diff(choice.rows) > 0).all()
    again = choose_rows(targets, modalities, 8, 4, seed=0)
    assert (again.rows == choice.rows).all() and again.identities == choice.identities
    others = [choose_rows(targets, modalities, 8, 4, seed=s).identities for s in range(1, 6)]
    assert all(other != choice.identities for other in others)
    # Which images of an identity there are more of, the seed decides too.
    of = [choose_rows(targets, modalities, 26, 4, seed=s).rows.tolist() for s in range(4)]
    assert len({tuple(rows) for rows in of}) == 4


def test_all_images_and_fewer_identities_than_wanted():
    targets, modalities = labels({3: (2, 1), 5: (0, 4), 9: (1, 7)})
    choice = choose_rows(targets, modalities, 10, 0, seed=0)
    assert sorted(choice.identities) == [3, 9]
    assert choice.rows.tolist() == np.flatnonzero(np.isin(targets, [3, 9])).tolist()


@pytest.mark.parametrize("modalities", [np.full(6, -1), np.array([0, 0, 0, 1, 1, 1])])
def test_without_an_identity_in_both_modalities_all_are_candidates(modalities):
    choice = choose_rows(np.arange(6), modalities, 10, 0, seed=0)
    assert (len(choice.identities), choice.candidates, choice.known) == (6, 6, "of the test set")


def test_tsne_puts_an_identity_together(figures, tmp_path):
    subject = planted_subject(noise=0.05, identities=5, images=3)
    (path,) = draw_kind("tsne", [subject], str(tmp_path), identities=4).paths
    rows = read_numbers(path)
    assert len(rows) == 4 * 18 and list(rows[0]) == list(embedding.HEADER)
    points = np.array([[float(row["x"]), float(row["y"])] for row in rows])
    who = np.array([row["identity"] for row in rows])
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(len(rows))
    assert (who[gaps.argmin(1)] == who).mean() > 0.97


def test_numbers_and_marks_are_those_of_the_images(figures, flat, tmp_path):
    subject = planted_subject(images=1)
    drawn = draw_kind("tsne", subject, str(tmp_path), identities=3, seed=4)
    (path,), (note, told) = drawn.paths, drawn.notes
    rows, items = read_numbers(path), {item.path: item for item in subject.items}
    chosen = list(dict.fromkeys(row["identity"] for row in rows))
    assert "3 of 6 identities seen in both modalities, seed 4" in note
    identities = told[len("Identities: ") : -1].split(", ")
    assert sorted(identities) == sorted(chosen)
    unit = subject.features.features.numpy()
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    for row in rows:
        _, identity, camera, modality = items[row["path"]]
        assert (int(row["identity"]), int(row["camera"])) == (identity, camera)
        assert row["modality"] == ("visible", "infrared")[modality]
        place = subject.paths.tolist().index(row["path"])
        assert float(row["x"]) == pytest.approx(unit[place, 0], rel=1e-4)
    axes, beside = figures[0].axes
    # A cloud for each identity and modality: 4 circles, then 2 triangles, of one color.
    clouds = axes.collections
    assert [len(cloud.get_offsets()) for cloud in clouds] == [4, 2] * 3
    shapes = [len(cloud.get_paths()[0].vertices) for cloud in clouds]
    assert shapes[0::2] == [shapes[0]] * 3 and shapes[1::2] == [shapes[1]] * 3
    assert shapes[0] != shapes[1]
    colors = [tuple(cloud.get_facecolor()[0]) for cloud in clouds]
    assert colors[0::2] == colors[1::2] and len(set(colors)) == 3
    words = [text.get_text() for text in beside.get_legend().get_texts()]
    assert words == [*identities, "visible", "infrared"]


def test_two_models_show_the_same_images_on_axes_of_one_extent(figures, flat, tmp_path):
    models = [planted_subject("one", seed=0), planted_subject("two", seed=1, noise=2.0)]
    (path,) = draw_kind("tsne", models, str(tmp_path)).paths
    figures[0].canvas.draw()
    left, right, _ = figures[0].axes
    assert [axes.get_title() for axes in (left, right)] == ["one", "two"]
    assert left.get_xlim() == right.get_xlim() == left.get_ylim() == right.get_ylim()
    assert left.bbox.width == pytest.approx(left.bbox.height, rel=1e-3)
    rows = read_numbers(path)
    one, two = ([r for r in rows if r["model"] == name] for name in ("one", "two"))
    assert [r["path"] for r in one] == [r["path"] for r in two]
    assert [r["x"] for r in one] != [r["x"] for r in two]


def test_models_of_different_test_sets_are_refused(tmp_path):
    models = [planted_subject("one"), planted_subject("two", images=1)]
    with pytest.raises(PlotError, match=r"one is tested on SYSUMM01 \(72 images\) and two on"):
        draw_kind("tsne", models, str(tmp_path))


def test_every_identity_looks_like_no_other():
    looks = [embedding_figure._colors(place) for place in range(MOST_IDENTITIES)]
    seen = {tuple(sorted(look.items())) for look in looks}
    assert len(seen) == MOST_IDENTITIES
    # A black rim on black would not be seen.
    assert all(look["facecolors"] != look["edgecolors"] for look in looks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"identities": 0}, "--identities is 0; expected 1 to 23"),
        ({"identities": 24}, "more cannot be told apart"),
        ({"images_per_identity": -1}, "--images-per-identity is -1"),
        ({"perplexity": 0.5}, "--perplexity is 0.5"),
        ({"seed": -2}, "--seed is -2"),
        ({"identities": 1, "images_per_identity": 1}, "needs at least 4 images; 2 were"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, message, tmp_path):
    with pytest.raises(PlotError, match=message):
        draw_kind("tsne", [planted_subject(images=1)], str(tmp_path), **options)


def test_few_and_identical_images_are_drawn(figures, tmp_path):
    subject = planted_subject(identities=1, images=1, noise=0.0)
    (path,) = draw_kind("tsne", [subject], str(tmp_path)).paths
    points = [float(row["x"]) for row in read_numbers(path)]
    assert len(points) == 6 and np.isfinite(points).all()


def test_umap_is_used_if_installed_and_else_the_error_names_it(figures, tmp_path, monkeypatch):
    asked = {}

    class UMAP:
        def __init__(self, **words):
            asked.update(words)

        def fit_transform(self, features):
            return features[:, :2] * 1.0

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))
    options = {"method": "umap", "seed": 3, "perplexity": 9}
    (path,) = draw_kind("tsne", planted_subject(), str(tmp_path), **options).paths
    assert path.endswith("umap.csv") and asked == {"n_neighbors": 9, "random_state": 3}
    monkeypatch.delitem(sys.modules, "umap")
    real = builtins.__import__

    def without(name, *rest):
        if name == "umap":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PlotError, match="pip install umap-learn"):
        draw_kind("tsne", [planted_subject()], str(tmp_path), method="umap")
