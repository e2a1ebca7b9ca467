"""Each topic of tools/bench.py at a tiny size: the sides agree and the result is written."""

import json
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("faiss")

from vireid_plugins.benchmarks import growth, jaccard, measuring

from tools import bench


def run(monkeypatch, folder, *words):
    """The written result of ``tools/bench.py`` with ``words``."""
    threads = torch.get_num_threads()
    words = [*words, "--threads", "1", "--repeats", "1", "--out", str(folder)]
    monkeypatch.setattr(sys, "argv", ["tools/bench.py", *words])
    try:
        bench.main()
    finally:
        torch.set_num_threads(threads)
    (path,) = folder.glob(f"{words[0]}_torch*_cpu_1threads.json")
    return json.loads(path.read_text())


def test_a_million_of_a_few(monkeypatch, tmp_path):
    words = "million --queries 20 --gallery 2000 --size 16 --positives 2 --top 5".split()
    found = run(monkeypatch, tmp_path, *words)["2 positives"]
    assert found["share of nearest equal to faiss's"] == 1.0
    assert found["ratio of ours to faiss"] > 0 and 0 < found["mAP"] <= 100
    assert (found["peak memory beyond the features"] or 1) > 0  # None: the system does not tell


def test_jaccard_agrees_with_both_dense_forms(monkeypatch, tmp_path):
    # A process for each would take most of this test; that of a million is measured above.
    monkeypatch.setattr(jaccard, "peak_memory", lambda *inputs, make: 1 << 20)
    words = "jaccard --items 300 --sparse-items 200 --sizes 16".split()
    result = run(monkeypatch, tmp_path, *words)
    for definition in jaccard.DENSE:
        found = result[f"{definition}, N 300, d 16"]
        assert found["greatest difference, 100 rows"] < 1e-5
        assert "dense" not in result[f"{definition}, N 200, d 16"]


def test_neighbours_recall(monkeypatch, tmp_path):
    words = "neighbors --queries 20 --gallery 2000 --size 16 --indexes HNSW16 IVF,SQ8 --probes 8"
    result = run(monkeypatch, tmp_path, *words.split())
    assert result["HNSW16"]["recall@10"] > 0.9
    assert result["IVF,SQ8, 8 probes"]["share of the items' size on disk"] < 1


def test_an_index_is_asked(monkeypatch, tmp_path):
    words = "search --gallery 1500 --queries 20 --size 16 --kinds flat hnsw".split()
    result = run(monkeypatch, tmp_path, *words)
    assert result["flat"]["recall@10"] == 1.0
    assert result["hnsw"]["recall@10"] > 0.9
    assert result["hnsw"]["MiB on disk"] > result["flat"]["MiB on disk"] > 1500 * 16 * 4 / 2**20


def test_growth_is_drawn(monkeypatch, tmp_path):
    words = "growth --most 4000 --queries 10 --fixed 100 --most-items 200 --size 8 --batches"
    result = run(monkeypatch, tmp_path, *words.split())
    assert list(result["gallery"]["metrics"]) == ["1000", "3162", "4000"]
    assert list(result["identities"]["metrics"]) == ["1", "10", "100"]
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    assert growth.sizes_up_to(10_000) == [1000, 3162, 10_000]
    assert [growth._short(v) for v in (0.2, 50, 20e3, 1e7)] == ["0.2", "50", "20k", "10M"]


@pytest.mark.parametrize("topic", list(bench.SCRIPTS))
def test_topics_with_scripts_of_their_own_take_their_words(topic, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["tools/bench.py", topic, "--help"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 0 and f"{topic}.py" in capfd.readouterr().out


def test_words_that_are_wrong_are_refused(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path, "rankings")
    assert "rankings" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="the count is Linux's")
def test_peak_memory_is_what_was_held():
    """Squares of 80 MiB of numbers; the numbers themselves are not counted."""
    found = measuring.peak_memory(np.square, 10 << 20, make=np.ones)
    assert 75 << 20 < found < 95 << 20
