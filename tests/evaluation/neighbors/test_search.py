"""Oracles: brute-force neighbors in float64; stand-ins for a faiss that has GPUs."""

import json
import logging

import numpy as np
import pytest
import torch

from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import NearestNeighbors
from vireid_plugins.evaluation.neighbors import faiss_index

needs_faiss = pytest.mark.skipif(faiss_index.load_faiss() is None, reason="faiss is not installed")
APPROXIMATE = ["HNSW16", "IVF,SQ8", "IVF16,PQ8x4"]
ALL = ["flat", *(pytest.param(words, marks=needs_faiss) for words in APPROXIMATE)]


def squared_distances(a, b):
    return ((a[:, None].astype(np.float64) - b[None].astype(np.float64)) ** 2).sum(2)


def people(num=2000, size=32, seed=0):
    """Items in clusters of ten, and queries near them."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((num // 10, size))
    items = np.repeat(centers, 10, axis=0) + 0.3 * rng.standard_normal((num, size))
    queries = centers[:50] + 0.3 * rng.standard_normal((50, size))
    return items.astype(np.float32), queries.astype(np.float32)


@pytest.mark.parametrize("library", ["faiss", "torch"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("ties", [False, True])
def test_exact_neighbors_equal_brute_force(library, metric, ties, monkeypatch):
    if library == "torch":
        monkeypatch.setattr(faiss_index, "load_faiss", lambda: None)
    elif faiss_index.load_faiss() is None:
        pytest.skip("faiss is not installed")
    rng = np.random.default_rng(1)
    items, queries = rng.standard_normal((60, 16)), rng.standard_normal((25, 16))
    if ties:  # axes and repeated rows: many equal distances, exact in floating point
        axes = np.eye(16)[:4]
        items, queries = axes[rng.integers(0, 4, 60)], axes[rng.integers(0, 4, 25)]
    items, queries = items.astype(np.float32), queries.astype(np.float32)
    if metric == "cosine":
        unit = [x / np.linalg.norm(x.astype(np.float64), axis=1)[:, None] for x in (queries, items)]
        expected = 1 - (unit[0][:, None] * unit[1][None]).sum(2)
    else:
        expected = np.sqrt(squared_distances(queries, items))
    for k in (1, 7, 60):
        order = np.argsort(expected, axis=1, kind="stable")[:, :k]
        distances, indices = NearestNeighbors(metric).fit(items).search(queries, k)
        np.testing.assert_array_equal(indices, order)
        wanted = np.take_along_axis(expected, order, 1)
        np.testing.assert_allclose(distances, wanted, atol=1e-5)


def test_messages_say_what_is_wrong():
    with pytest.raises(RuntimeError, match="fit"):
        NearestNeighbors().search(np.ones((1, 2)), 1)
    with pytest.raises(ValueError, match="between 1 and the number of items, 3; got 4"):
        NearestNeighbors().fit(np.ones((3, 2))).search(np.ones((1, 2)), 4)
    with pytest.raises(ValueError, match="5 dimensions, the items 2"):
        NearestNeighbors().fit(np.ones((3, 2))).search(np.ones((1, 5)), 1)
    with pytest.raises(ValueError, match="metric must be one of"):
        NearestNeighbors("manhattan")
    with pytest.raises(ValueError, match="gpus must be one of"):
        NearestNeighbors(gpus="all")
    with pytest.raises(ValueError, match="probes must be at least 1"):
        NearestNeighbors(probes=0)
    with pytest.raises(RuntimeError, match="add needs fit"):
        NearestNeighbors().add(np.ones((1, 2)))
    fitted = NearestNeighbors().fit(np.ones((3, 2)))
    with pytest.raises(ValueError, match="features have 3 dimensions, the items 2"):
        fitted.add(np.ones((1, 3)))
    with pytest.raises(ValueError, match="Either all items have ids or none"):
        fitted.add(np.ones((1, 2)), [7])
    with pytest.raises(ValueError, match=r"ids must be 3 integers or strings; got shape \(2,\)"):
        fitted.fit(np.ones((3, 2)), ["a", "b"])


@needs_faiss
@pytest.mark.parametrize("index", APPROXIMATE)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_approximate_neighbors_find_most_of_the_exact(index, metric):
    """Recall at 10 of the cluster's ten; compressed distances of the same size."""
    items, queries = people()
    exact, wanted = NearestNeighbors(metric).fit(items).search(queries, 10)
    found = NearestNeighbors(metric, index=index, probes=64).fit(items)
    distances, indices = found.search(queries, 10)
    recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(wanted, indices)])
    assert recall > (0.5 if "PQ" in index else 0.9)
    assert not found.exact and len(found) == 2000
    assert (np.diff(distances, axis=1) >= -1e-6).all()
    off = np.abs(distances - exact).mean() / exact.mean()
    assert off < (2.0 if "PQ" in index else 0.02)


@needs_faiss
def test_a_list_that_is_too_short_is_filled_up():
    """Sixteen lists, one looked into: fewer than 400 of 500 items."""
    items, queries = people(500)
    found = NearestNeighbors("euclidean", index="IVF16,Flat", probes=1).fit(items)
    distances, indices = found.search(queries[:3], 400)
    assert (indices == -1).any() and np.isinf(distances[indices == -1]).all()


@needs_faiss
def test_words_that_faiss_does_not_know_are_named():
    items, _ = people(500)
    with pytest.raises(
        ValueError, match="faiss cannot build an index 'IVF12,PQ7' of 32 dimensions"
    ):
        NearestNeighbors(index="IVF,PQ7").fit(items)
    with pytest.raises(ValueError, match="cannot build an index 'TREE'.*Examples: 'flat'"):
        NearestNeighbors(index="TREE").fit(items)


def test_an_approximate_index_without_faiss_says_what_to_install(monkeypatch):
    monkeypatch.setattr(faiss_index, "load_faiss", lambda: None)
    with pytest.raises(RuntimeError, match="'HNSW32' needs faiss.*pip install faiss-cpu"):
        NearestNeighbors(index="HNSW32")


@pytest.mark.slow
@pytest.mark.parametrize("index", ALL)
def test_items_may_come_in_parts(index):
    items, queries = people()
    whole = NearestNeighbors(index=index).fit(items, np.arange(2000))
    parts = NearestNeighbors(index=index).fit(items[:1500], np.arange(1500))
    parts.add(items[1500:], np.arange(1500, 2000))
    assert len(parts) == 2000 and (parts.ids == whole.ids).all()
    if index == "flat":
        for a, b in zip(parts.search(queries, 5), whole.search(queries, 5)):
            np.testing.assert_array_equal(a, b)
    else:
        assert (parts.search(items[1900:1950], 1)[1][:, 0] >= 1500).mean() > 0.9


@pytest.mark.parametrize("index", ALL)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_saved_and_loaded_it_answers_alike(index, metric, tmp_path):
    items, queries = people()
    names = [f"{n}.jpg" for n in range(2000)]
    first = NearestNeighbors(metric, index=index, probes=5).fit(items, names)
    first.fingerprint = "model-1"
    first.save(tmp_path / "index")
    second = NearestNeighbors.load(tmp_path / "index", fingerprint="model-1")
    assert (second.metric, second.index, second.probes) == (metric, index, 5)
    assert second.ids[7] == "7.jpg" and second.fingerprint == "model-1"
    for a, b in zip(first.search(queries, 5), second.search(queries, 5)):
        np.testing.assert_array_equal(a, b)
    second.add(items[:1], ["again.jpg"])
    assert len(second) == 2001


def test_an_index_of_another_model_is_refused(tmp_path):
    index = NearestNeighbors().fit(np.eye(3))
    index.fingerprint = "model-1"
    index.save(tmp_path / "index")
    with pytest.raises(
        ValueError, match="made by the model model-1, and .* come from the model model-2"
    ):
        NearestNeighbors.load(tmp_path / "index", fingerprint="model-2")
    assert len(NearestNeighbors.load(tmp_path / "index")) == 3
    with pytest.raises(FileNotFoundError, match="holds no index"):
        NearestNeighbors.load(tmp_path)


@pytest.mark.parametrize("index", ["flat", pytest.param("HNSW8", marks=needs_faiss)])
def test_a_damaged_file_is_named(index, tmp_path):
    folder = tmp_path / "index"
    rows = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    NearestNeighbors(index=index).fit(rows, list(range(30))).save(folder)
    files = [path for path in folder.iterdir() if path.name != "index.json"]
    assert len(files) == 2
    for path in files:
        content = path.read_bytes()
        for other in (content[:-5], content[:200] + bytes([content[200] ^ 1]) + content[201:]):
            path.write_bytes(other)
            with pytest.raises(UserError, match=f"{path.name} does not match its checksum"):
                NearestNeighbors.load(folder)
        path.unlink()
        with pytest.raises(UserError, match=f"{path.name} is missing"):
            NearestNeighbors.load(folder)
        path.write_bytes(content)
    assert len(NearestNeighbors.load(folder)) == 30


def test_facts_that_are_wrong_are_named_and_old_ones_load_with_a_note(tmp_path, caplog):
    NearestNeighbors().fit(np.eye(3, dtype=np.float32)).save(tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    facts = json.loads(path.read_text())
    for name, value, words in (
        ("format", "one", "format: expected a whole number, found 'one'"),
        ("probes", None, "probes: expected a whole number"),
        ("metric", "manhattan", "manhattan"),
        ("sums", {"../x": 1}, "expected names of files, found '../x'"),
        ("sums", {"items.npy": "x"}, "sums: items.npy: expected a whole number"),
    ):
        path.write_text(json.dumps({**facts, name: value}))
        with pytest.raises(UserError, match=words):
            NearestNeighbors.load(tmp_path / "index")
    path.write_text("{" * 5)
    with pytest.raises(UserError, match="index.json is not JSON"):
        NearestNeighbors.load(tmp_path / "index")
    del facts["sums"]
    path.write_text(json.dumps(facts))
    assert len(NearestNeighbors.load(tmp_path / "index")) == 3
    assert "has no checksums" in caplog.text


def test_a_save_that_fails_leaves_the_former_index(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    NearestNeighbors().fit(np.eye(3), ["a", "b", "c"]).save(folder)
    monkeypatch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        NearestNeighbors().fit(np.eye(4)).save(folder)
    monkeypatch.undo()
    assert NearestNeighbors.load(folder).ids.tolist() == ["a", "b", "c"]
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    NearestNeighbors().fit(np.eye(4)).save(folder)
    assert len(NearestNeighbors.load(folder)) == 4
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileExistsError, match="is not an index"):
        NearestNeighbors().fit(np.eye(4)).save(tmp_path / "photos")


# ------------------------------------------------------------------- GPUs, by stand-ins: none here


class FakeFaiss:
    """faiss with two GPUs on which an index is what it was, or which has no kernels."""

    METRIC_INNER_PRODUCT, METRIC_L2 = 0, 1

    def __init__(self, works=True):
        self.works, self.calls = works, []
        self.StandardGpuResources = object

    class GpuMultipleClonerOptions:
        shard = False

    class IndexFlat:
        def __init__(self, size, metric):
            self.d = size

        def add(self, items):
            pass

        def search(self, queries, k):
            pass

        def reset(self):
            pass

    def index_cpu_to_gpu(self, resources, number, index):
        self.calls.append(("one", number))
        if not self.works:
            raise RuntimeError("Error in void faiss::gpu\nCUDA error 209 no kernel image")
        return index

    def index_cpu_to_all_gpus(self, index, co):
        self.calls.append(("all", co.shard))
        return index


@pytest.mark.parametrize(
    "device,gpus,call",
    [
        ("cuda", "one", ("one", 0)),
        ("cuda:1", "one", ("one", 1)),
        ("cuda", "shards", ("all", True)),
        ("cuda", "replicas", ("all", False)),
    ],
)
def test_an_exact_index_goes_to_the_gpus_that_are_asked_for(device, gpus, call, monkeypatch):
    fake = FakeFaiss()
    monkeypatch.setattr(faiss_index, "load_faiss", lambda: fake)
    assert faiss_index.flat_index(4, "cosine", torch.device(device), gpus) is not None
    assert fake.calls == [call]


def test_a_gpu_that_faiss_does_not_support_falls_back_with_one_warning(monkeypatch, caplog):
    fake = FakeFaiss(works=False)
    monkeypatch.setattr(faiss_index, "load_faiss", lambda: fake)
    with caplog.at_level(logging.INFO, logger="vireid_plugins"):
        for _ in range(2):
            assert faiss_index.flat_index(4, "cosine", torch.device("cuda:7")) is None
    (line,) = [r for r in caplog.records if "cuda:7" in r.getMessage()]
    assert line.levelno == logging.WARNING and "no kernel image" in line.getMessage()


def test_a_faiss_without_gpus_leaves_a_gpu_to_pytorch(monkeypatch, caplog):
    fake = FakeFaiss()
    del fake.StandardGpuResources
    monkeypatch.setattr(faiss_index, "load_faiss", lambda: fake)
    assert faiss_index.flat_index(4, "cosine", torch.device("cuda")) is None
    assert fake.calls == []
