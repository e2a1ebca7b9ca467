"""Asking an index. Oracle: all similarities in float64, sorted."""

import numpy as np
import pytest

from vireid_plugins.search import SearchIndex, approximate, build, index, index_folder

from tests.search.fakes import FakeExtractor, features, write_images

NUMBERS = range(300)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, NUMBERS)
    return folder


def run(images, out, kind=""):
    extractor = FakeExtractor(batch_size=64)
    summary = index_folder(extractor, images, "visible", out, kind=kind, workers=0, progress=False)
    return summary, extractor


def queries(count=9):
    """Some that are in the index and some that are not."""
    return features(list(range(count)) + list(range(1000, 1000 + count)))


def expected(asked, numbers, k):
    gallery = features(numbers).astype(np.float64)
    scores = asked.astype(np.float64) @ gallery.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), [[numbers[i] for i in line] for line in order]


def found(hits):
    return hits.scores, [[int(name.split(b".")[0]) for name in line] for line in hits.names]


def compare(hits, asked, numbers, k):
    scores, names = found(hits)
    best, right = expected(asked, list(numbers), k)
    np.testing.assert_allclose(scores, best, atol=1e-5)
    assert names == right


@pytest.mark.parametrize("keep", [True, False])
def test_exact_search_in_blocks_equals_sorting(images, tmp_path, monkeypatch, keep):
    monkeypatch.setattr(index, "BLOCK", 37)
    monkeypatch.setattr(index, "_KEPT_BYTES", (1 << 20) * keep)
    assert run(images, tmp_path / "index")[0].search == "exact"
    searched = SearchIndex(tmp_path / "index")
    for _ in range(2):
        compare(searched.search(queries(), 50), queries(), NUMBERS, 50)
    assert bool(searched._blocks) == keep


def test_more_than_there_are_gives_all(tmp_path):
    write_images(tmp_path / "in", range(3))
    run(tmp_path / "in", tmp_path / "index")
    searched = SearchIndex(tmp_path / "index")
    compare(searched.search(queries(), 10), queries(), range(3), 3)
    assert searched.search(queries()[:0], 10).scores.shape == (0, 3)
    with pytest.raises(ValueError, match="k must be at least 1; got 0"):
        searched.search(queries(), 0)
    with pytest.raises(ValueError, match="7 dimensions"):
        searched.search(queries()[:, :7], 1)


def test_duplicates_tie_in_natural_order(tmp_path):
    folder = tmp_path / "in"
    write_images(folder, [5, 6])
    for copy in (2, 10, 1):
        (folder / f"copy{copy}.png").write_bytes((folder / "5.png").read_bytes())
    run(folder, tmp_path / "index")
    hits = SearchIndex(tmp_path / "index").search(features([5]), 5)
    assert hits.names[0] == [b"5.png", b"copy1.png", b"copy2.png", b"copy10.png", b"6.png"]
    np.testing.assert_allclose(hits.scores[0, :4], 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["hnsw", "IVF,SQ8"])
def test_approximate_indexes_find_what_is_there_and_score_it_exactly(
    images, tmp_path, monkeypatch, kind
):
    """All lists are looked into and all images fetched; a graph may still lack a few of them."""
    monkeypatch.setattr(approximate, "LEAST_IMAGES", 200)
    monkeypatch.setattr(build, "LEAST_IMAGES", 200)
    monkeypatch.setattr(approximate, "BLOCK", 64)
    monkeypatch.setattr(index, "_FETCHED_AT_LEAST", 300)
    out = tmp_path / "index"
    summary, _ = run(images, out, kind)
    assert "approximate" in summary.search
    searched = SearchIndex(out)
    hits = searched.search(queries(), 10)
    assert len(searched._opened.approximate.neighbors) == 300
    scores, names = found(hits)
    best, right = expected(queries(), list(NUMBERS), 10)
    assert [line[0] for line in names] == [line[0] for line in right]
    agreed = sum(len(set(one) & set(other)) for one, other in zip(names, right))
    assert agreed >= (0.9 if kind == "hnsw" else 1) * best.size
    everything = queries() @ features(NUMBERS).T
    exact = [row[line] for row, line in zip(everything, names)]
    np.testing.assert_allclose(scores, exact, atol=1e-5)
    assert run(images, out)[0].search == summary.search  # the kind is remembered
    assert run(images, out, "flat")[0].search == "exact"
    assert not list(out.glob("neighbors*"))


def test_faiss_words_are_made_for_the_number_of_images():
    assert approximate.factory_words("flat", 512, 10**6) == "flat"
    assert approximate.factory_words("ivf-pq", 512, 10**6) == "IVF4000,PQ64"
    assert approximate.factory_words("ivf-pq", 2048, 10**7) == "IVF1680,PQ64"  # of 65,536
    assert approximate.factory_words("ivf-pq", 90, 10**4) == "IVF256,PQ45"  # it must divide
    assert approximate.factory_words("OPQ16,IVF,PQ16", 512, 10**4) == "OPQ16,IVF256,PQ16"
    with pytest.raises(ValueError, match="'IVF,PQ7' is none of flat, hnsw, ivf-pq; faiss cannot"):
        approximate.factory_words("IVF,PQ7", 512, 10**4)


def test_an_approximate_index_grows_and_forgets(tmp_path, monkeypatch):
    monkeypatch.setattr(approximate, "LEAST_IMAGES", 50)
    monkeypatch.setattr(build, "LEAST_IMAGES", 50)
    folder, out = tmp_path / "in", tmp_path / "index"
    write_images(folder, range(60))
    run(folder, out, "hnsw")
    write_images(folder, range(60, 70))
    with monkeypatch.context() as patch:  # killed before the approximate search has the new ones
        patch.setattr(build._Indexing, "_build_search", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(folder, out)
    searched = SearchIndex(out)
    compare(searched.search(queries(), 5), queries(), range(70), 5)
    assert len(searched._opened.approximate.neighbors) == 60
    (folder / "0.png").unlink()  # it stays in the approximate search, and is never found
    run(folder, out)
    searched = SearchIndex(out)
    compare(searched.search(queries(), 5), queries(), range(1, 70), 5)
    assert len(searched._opened.approximate.neighbors) == 70
    for number in range(1, 10):  # many are gone: it is rebuilt
        (folder / f"{number}.png").unlink()
    run(folder, out)
    searched = SearchIndex(out)
    compare(searched.search(queries(), 5), queries(), range(10, 70), 5)
    assert len(searched._opened.approximate.neighbors) == 60


def test_an_approximate_search_that_cannot_be_read_is_made_anew(images, tmp_path, monkeypatch):
    monkeypatch.setattr(approximate, "LEAST_IMAGES", 200)
    monkeypatch.setattr(build, "LEAST_IMAGES", 200)
    out = tmp_path / "index"
    run(images, out, "hnsw")
    (out / "neighbors-0" / "index.faiss").write_bytes(b"cut")
    _, extractor = run(images, out)
    assert extractor.computed == 0
    compare(SearchIndex(out).search(queries(), 5), queries(), NUMBERS, 5)


def test_an_index_that_is_rewritten_meanwhile_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_COMPACT_FROM", 1)
    folder = tmp_path / "in"
    write_images(folder, range(8))
    run(folder, tmp_path / "index")
    reader = SearchIndex(tmp_path / "index")
    reader.search(queries(), 2)
    for number in range(5):
        (folder / f"{number}.png").unlink()
    run(folder, tmp_path / "index")
    with pytest.raises(ValueError, match="changed during the search"):
        reader.search(queries(), 2)
    compare(SearchIndex(tmp_path / "index").search(queries(), 2), queries(), range(5, 8), 2)
