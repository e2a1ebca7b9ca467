"""Each topic of ``vireid bench`` at a tiny size: the sides agree and the result is written."""

import dataclasses
import json
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

pytest.importorskip("faiss")

from vireid.cli import run_verb
from vireid_plugins.benchmarks import clusters, growth, jaccard, measuring, ranking, startup


def run(folder, *words):
    """Return the written result of ``vireid bench`` with ``words``."""
    threads = torch.get_num_threads()
    words = [*words, "--threads", "1", "--repeats", "1", "--out", str(folder)]
    try:
        assert run_verb("bench", words) == 0
    finally:
        torch.set_num_threads(threads)
    (path,) = folder.glob(f"{words[0]}_torch*_cpu_1threads.json")
    result = json.loads(path.read_text())
    check_limits(result)
    return result


def check_limits(result):
    """Every topic with times states them; a limit is the work at the rates in the same file."""
    assert result["measures"]
    rates = result["rates"]["1"]
    for measure in result["measures"]:
        assert measure["case"] and measure["name"] and measure["seconds"]
        work = {name: amount for name, amount in measure["work"].items() if name in rates}
        if work == measure["work"] != {}:
            limit = sum(amount / rates[name]["per_second"] for name, amount in work.items())
            assert measure["limit"] == pytest.approx(limit)
            middle = np.median(measure["seconds"])
            assert measure["fraction of the limit"] == pytest.approx(limit / middle)


def work_of(result, case, name):
    """Return the work of the one measure with these names."""
    (found,) = [m for m in result["measures"] if (m["case"], m["name"]) == (case, name)]
    return found["work"]


@pytest.mark.slow
def test_a_million_of_a_few(tmp_path):
    words = "million --queries 20 --gallery 2000 --size 16 --positives 2 --top 5".split()
    result = run(tmp_path, *words)
    found = result["2 positives"]
    assert found["share of nearest equal to faiss's"] == 1.0
    assert found["ratio of ours to faiss"] > 0 and 0 < found["mAP"] <= 100
    work = {"product, float32": 20 * 2000 * 16, "memory": 4 * 20 * 2000}
    assert work_of(result, "2 positives", "metrics and top") == work
    assert (found["peak memory beyond the features"] or 1) > 0  # None: the system does not tell


@pytest.mark.slow
def test_jaccard_agrees_with_both_dense_forms(monkeypatch, tmp_path):
    # A process for each would take most of this test; that of a million is measured above.
    monkeypatch.setattr(jaccard, "peak_memory", lambda *inputs, make: 1 << 20)
    words = "jaccard --items 300 --sparse-items 200 --sizes 16".split()
    result = run(tmp_path, *words)
    for definition in jaccard.DENSE:
        found = result[f"{definition}, N 300, d 16"]
        assert found["greatest difference, 100 rows"] < 1e-5
        assert "dense" not in result[f"{definition}, N 200, d 16"]
        work = {"product, float32": 300 * 300 / 2 * 16}
        assert work_of(result, f"{definition}, N 300, d 16", "sparse") == work


@pytest.mark.slow
def test_clusters_are_those_of_both_dense_ways(monkeypatch, tmp_path):
    monkeypatch.setattr(clusters, "peak_memory", lambda *inputs, make: 1 << 20)
    result = run(
        tmp_path, *"clusters --items 300 --sparse-items 200 --size 16 --processor-time".split()
    )
    for way in clusters.WAYS:
        found = result[f"{way}, N 300, d 16"]
        assert found["share of images with the same label"] == 1.0
        assert found["ours: clusters"] > 1 and result["processor time"]
        work = {"product, float32": 300 * 300 / 2 * 16}
        assert work_of(result, f"{way}, N 300, d 16", "ours") == work
        assert "dense" not in result[f"{way}, N 200, d 16"]


def test_ranks_of_a_test_set_state_their_work(tmp_path, monkeypatch):
    """SYSU-MM01's ten galleries of 301 folders, one image each; RegDB's two; 20 queries of each."""

    def fewer(name, size, made=ranking.make_case):
        case = made(name, size)
        trials = [ranking.Trial(trial.query[:20], trial.gallery) for trial in case.trials]
        return dataclasses.replace(case, trials=trials)

    monkeypatch.setattr(ranking, "make_case", fewer)
    result = run(tmp_path, *"ranking --cases sysu-single regdb --size 16".split())
    # each direction has its own queries, which meet the images of its own gallery alone
    both = work_of(result, "regdb", "product and ranks")
    assert both == {"memory": 4 * 2 * 20 * 2060, "product, float32": 2 * 20 * 2060 * 16}
    work = work_of(result, "sysu-single", "ranks from scores")
    assert work == {"memory": 4 * 10 * 20 * 301}
    product = work_of(result, "sysu-single", "product and ranks")["product, float32"]
    assert 20 * 301 * 16 < product <= 20 * 6775 * 16  # with all images that a gallery has


def test_neighbors_recall(tmp_path):
    words = "neighbors --queries 20 --gallery 2000 --size 16 --indexes HNSW16 IVF,SQ8 --probes 8"
    result = run(tmp_path, *words.split())
    assert result["HNSW16"]["recall@10"] > 0.9
    assert result["IVF,SQ8, 8 probes"]["share of the items' size on disk"] < 1


def test_memory_over_evaluations(tmp_path):
    """Python holds no more after the last evaluation than after the second one."""
    words = "evaluations --times 6 --identities 6 --images 2 --size 8".split()
    threads = torch.get_num_threads()
    try:
        assert run_verb("bench", [*words, "--out", str(tmp_path)]) == 0
    finally:
        torch.set_num_threads(threads)
    (path,) = tmp_path.glob("evaluations_torch*.json")
    counts = json.loads(path.read_text())["counts"]
    assert list(counts) == ["1", "2", "5", "6"]
    assert counts["6"]["Python"] < counts["2"]["Python"] + 0.1
    assert counts["6"]["objects"] < counts["2"]["objects"] + 100


def test_recall_and_size_of_an_index(tmp_path):
    words = "search --gallery 1500 --queries 20 --size 16 --kinds flat hnsw".split()
    result = run(tmp_path, *words)
    assert result["flat"]["recall@10"] == 1.0
    assert result["hnsw"]["recall@10"] > 0.9
    assert work_of(result, "flat", "a query") == {"memory": 1500 * 16 * 4}
    assert work_of(result, "hnsw", "a query") == {}
    assert result["hnsw"]["MiB on disk"] > result["flat"]["MiB on disk"] > 1500 * 16 * 4 / 2**20


@pytest.mark.slow
def test_growth_is_drawn(tmp_path):
    words = "growth --most 4000 --queries 10 --fixed 100 --most-items 200 --size 8 --batches"
    result = run(tmp_path, *words.split())
    assert list(result["gallery"]["metrics"]) == ["1000", "3162", "4000"]
    assert list(result["identities"]["metrics"]) == ["1", "10", "100"]
    assert work_of(result, "gallery 3162", "metrics") == {"product, float32": 10 * 3162 * 8}
    assert work_of(result, "items 200", "Jaccard") == {"product, float32": 200 * 200 / 2 * 8}
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    assert growth.sizes_up_to(10_000) == [1000, 3162, 10_000]
    assert [growth._short(v) for v in (0.2, 50, 20e3, 1e7)] == ["0.2", "50", "20k", "10M"]


def test_startup_measures_fresh_processes(monkeypatch, tmp_path):
    """Any figure below zero, or an import of PyTorch in nothing, would be a wrong clock."""
    monkeypatch.setattr(startup, "NEEDED", ("numpy",))
    monkeypatch.setattr(startup, "make_index", lambda folder, depth: ["INDEX"])
    cases = startup.make_cases(tmp_path, "18x")
    assert "search" in cases["search query"] and "vireid_plugins" not in cases["import torch"]
    monkeypatch.setattr(
        startup,
        "make_cases",
        lambda folder, depth: {**dict.fromkeys(cases, "pass"), "import torch": "sum(range(10**7))"},
    )
    result = run(tmp_path, "startup")
    assert result["import torch"][0] > 2 * result["vireid --help"][0] > 0
    assert result["ratio of import vireid_plugins to import torch"] < 0.5
    floor = {"measured floor": result["import torch"][0]}
    assert work_of(result, "startup", "import vireid_plugins") == floor
    with pytest.raises(RuntimeError, match="No module named 'nothing'"):
        startup.processor_seconds("import nothing", 1)


def test_the_query_of_startup_is_answered(tmp_path, capfd):
    """In this process: what the measured process does is a real query."""
    words = startup.make_index(tmp_path, "18x")
    assert run_verb("search", ["query", *words]) == 0
    assert "20 visible images" in capfd.readouterr().out


@pytest.mark.parametrize("topic", ["neighbors", "gradients agw/synthetic.yml"])
def test_a_folder_that_cannot_be_made_is_said_before_the_measurement(tmp_path, capsys, topic):
    (tmp_path / "file").write_text("")
    words = [*topic.split(), "--out", str(tmp_path / "file")]
    assert run_verb("bench", words) == 2
    assert capsys.readouterr().err.endswith("it is a file. Choose another folder.\n")


def test_waiting_takes_no_processor_time():
    def wait():
        time.sleep(0.2)

    (seconds,) = measuring.times_in_turn({"wait": wait}, 1, warm_up=False)["wait"]
    assert seconds >= 0.2
    (seconds,) = measuring.times_in_turn({"wait": wait}, 1, False, processor=True)["wait"]
    assert seconds < 0.1


def test_what_a_new_process_returns_and_raises():
    assert measuring.in_own_process(textwrap.shorten, text="a b c", width=100) == "a b c"
    with pytest.raises(RuntimeError, match="unexpected keyword argument 'color'"):
        measuring.in_own_process(textwrap.dedent, color="red")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the count is Linux's")
def test_peak_memory_is_what_was_held():
    """Squares of 80 MiB of numbers; the numbers themselves are not counted."""
    found = measuring.peak_memory(np.square, 10 << 20, make=np.ones)
    assert 75 << 20 < found < 95 << 20
