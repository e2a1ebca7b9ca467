"""Rates of the machine, limits by hand, and results that state them. No test depends on time."""

import json
import math

import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("faiss")

from vireid.cli import run_verb
from vireid_plugins.benchmarks import measures, rates, topics
from vireid_plugins.benchmarks.counting import counted
from vireid_plugins.benchmarks.given_rates import read_rates
from vireid_plugins.benchmarks.machine import machine
from vireid_plugins.benchmarks.measures import Measure, percent
from vireid_plugins.benchmarks.rates import RESOURCES, Rate
from vireid_plugins.errors import UserError

RATES = {"a": Rate(5.0, "steps", 10.0, [2.0]), "b": Rate(2.0, "bytes", 4.0, [2.0])}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Make every run of a rate tiny, and forget the rates that were measured."""
    for name in ("_PRODUCT_SIZE", "_EMULATED_SIZE", "_JPEGS", "_ROWS"):
        monkeypatch.setattr(rates, name, 2)
    monkeypatch.setattr(rates, "_COPIED", 64)
    monkeypatch.setattr(rates, "_FRESH", 3 * rates.mmap.PAGESIZE)
    monkeypatch.setattr(rates, "_ROW", 8)
    rates.measured_rate.cache_clear()
    yield
    rates.measured_rate.cache_clear()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_amounts_of_work_are_those_counted_by_hand(threads):
    amounts = {
        rates.PRODUCT: 2**3,
        rates.HALF_PRODUCT: 2**3,
        rates.MEMORY: 2 * 64,  # read and written
        rates.FRESH_PAGES: threads * 3 * rates.mmap.PAGESIZE,
        rates.JPEG: threads * 2 * 288 * 144,
        rates.SORT: threads * 2 * 8 * 3,  # rows, numbers of a row, log2(8)
    }
    assert set(amounts) == set(RESOURCES)
    for name, (_, make) in RESOURCES.items():
        amount, ways = make(threads, torch.device("cpu"))
        assert amount == amounts[name], name
        for way in ways:
            way()


def test_each_thread_decodes_each_image_of_its_run(monkeypatch):
    opened, real = [], Image.open
    monkeypatch.setattr(rates.Image, "open", lambda file: opened.append(1) or real(file))
    _, (way,) = RESOURCES[rates.JPEG].make(3, torch.device("cpu"))
    way()
    assert len(opened) == 3 * 2
    image = real(rates.io.BytesIO(rates.example_jpeg()))
    assert (image.size, image.format) == ((144, 288), "JPEG")


def test_a_rate_is_that_of_the_fastest_run_of_the_fastest_way(monkeypatch):
    found = {"0": [4.0, 3.0, 9.0], "1": [2.0, 8.0, 8.0]}
    monkeypatch.setattr(rates, "times_in_turn", lambda *words, **options: found)
    threads = torch.get_num_threads()
    rate = rates.measured_rate(rates.SORT, 1)
    assert rate == Rate(2 * 8 * 3 / 2.0, "numbers x log2 of a row's length", 48.0, found["1"])
    assert torch.get_num_threads() == threads
    found["1"] = [1.0]
    assert rates.measured_rate(rates.SORT, 1) == rate  # once in a process
    assert rates.measured_rate(rates.SORT, 2).per_second == 2 * 2 * 8 * 3  # of other threads


def test_the_limit_is_the_sum_of_the_work_at_its_rates():
    measure = Measure("x", [9.0, 8.0, 10.0], {"a": 10.0, "b": 8.0}, [90.0], "case")
    found = measures.as_json(measure, RATES)
    assert found["limit"] == 10 / 5 + 8 / 2
    assert found["fraction of the limit"] == 6 / 9
    assert found["times faster than what it replaces"] == 10
    row = measures.measures_table([measure], RATES).splitlines()[2]
    assert row.startswith("| case | x | 9.000 s (8.000 to 10.000, n = 3) | 10 | 6 s | 67 % | b |")


@pytest.mark.parametrize(
    "fraction,text",
    [(1.05, "105 %"), (0.999, "100 %"), (0.205, "20 %"), (0.0113, "1.1 %"), (None, "?")],
)
def test_fractions_are_plain_numbers(fraction, text):
    assert percent(fraction, "?") == text


def test_what_is_not_known_is_said():
    measure = Measure("x", [2.0], {})
    found = measures.as_json(measure, {})
    assert (found["limit"], found["fraction of the limit"]) == (None, None)
    assert "| not known |  |  |" in measures.measures_table([measure], {})
    floor = Measure("x", [2.0], {measures.FLOOR: 0.5})
    assert measures.as_json(floor, {})["fraction of the limit"] == 0.25
    assert measures.resources_of([measure, floor]) == []


def test_measures_are_taken_out_of_a_result_with_the_names_of_their_cases():
    one, two = Measure("x", [1.0]), Measure("y", [1.0], case="own")
    result = {"first": {"measures": [one, two], "n": 1}, "measures": [two], "other": [3]}
    assert measures.take_measures(result) == [two, one._replace(case="first"), two]
    assert result == {"first": {"n": 1}, "other": [3]}


def test_multiply_adds_are_those_of_products_and_convolutions():
    """By hand: 2 x 3 by 3 x 4, its gradient for the weights; 3 x 3 kernels at 5 x 5 places."""
    linear, image = nn.Linear(3, 4, bias=False), torch.zeros(1, 2, 7, 7)
    if counted(lambda: linear(torch.zeros(2, 3))) == 0:
        pytest.skip("this PyTorch has no formulas")
    assert counted(lambda: linear(torch.zeros(2, 3))) == 2 * 3 * 4
    assert counted(lambda: linear(torch.zeros(2, 3)).sum().backward()) == 2 * (2 * 3 * 4)
    assert counted(lambda: nn.Conv2d(2, 6, 3)(image)) == 5 * 5 * 6 * 2 * 3 * 3


def bench(folder, *words):
    threads = torch.get_num_threads()
    try:
        return run_verb("bench", [*words, "--threads", "1", "--out", str(folder)])
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def limits(tmp_path):
    """A file of rates, as the command writes it."""
    assert bench(tmp_path, "limits") == 0
    (path,) = tmp_path.glob("limits_torch*_cpu_1threads.json")
    return path


def test_the_written_rates_are_read_by_other_topics(limits, monkeypatch, capsys):
    """Nothing is measured anew, and a result states the fraction of the file's rate."""
    monkeypatch.setattr(topics, "measured_rate", None)
    words = "neighbors --queries 20 --gallery 2000 --size 16 --indexes HNSW16 --repeats 1"
    assert bench(limits.parent, *words.split(), "--limits", str(limits)) == 0
    (path,) = limits.parent.glob("neighbors_torch*_cpu_1threads.json")
    found = json.loads(path.read_text())
    rate = json.loads(limits.read_text())["rates"]["1"][rates.PRODUCT]
    assert found["rates"] == {"1": {rates.PRODUCT: rate}}
    exact, approximate = found["measures"]
    assert exact["limit"] == 20 * 2000 * 16 / rate["per_second"]
    assert exact["fraction of the limit"] == exact["limit"] / exact["seconds"][0]
    assert (approximate["case"], approximate["limit"]) == ("HNSW16", None)
    assert (found["topic"], found["machine"]) == ("neighbors", machine())
    assert found["options"]["gallery"] == 2000
    assert "| HNSW16 | exact |" in capsys.readouterr().out
    assert "| HNSW16 | exact |" in path.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("change", "words", "reason"),
    [
        ({}, {"threads": 3}, "threads 1 there, 3 here"),
        ({}, {"processor": True}, "processor time False there, True here"),
        ({}, {"device": "cuda"}, "device 'cpu' there, 'cuda' here"),
        ({"machine": {}}, {}, "machine {} there, "),
        ({"rates": {"1": {}}}, {}, "lacks the rates of JPEG, fresh pages, "),
        ({"rates": []}, {}, "rates: expected a mapping"),
    ],
)
def test_rates_of_another_machine_or_way_are_refused(limits, change, words, reason):
    limits.write_text(json.dumps({**json.loads(limits.read_text()), **change}))
    with pytest.raises(UserError, match=reason):
        read_rates(str(limits), **{"threads": 1, "processor": False, "device": "cpu", **words})


def test_the_table_of_rates_says_what_the_processor_has(limits):
    table = limits.with_suffix(".md").read_text()
    assert all(f"| {name} |" in table for name in RESOURCES)
    has_half = machine()["bfloat16 instructions"]
    assert ("bfloat16 is emulated" in table) == (not has_half)
    assert math.isfinite(json.loads(limits.read_text())["rates"]["1"]["memory"]["per_second"])


def test_the_processor_is_read_from_the_system(monkeypatch, tmp_path):
    """Oracle: the fields of a made-up /proc/cpuinfo."""
    from vireid_plugins.benchmarks import machine as module

    info = {"model name": "Some CPU", "cpu family": "6", "model": "207", "flags": "fma amx_bf16"}
    monkeypatch.setattr(module, "_cpuinfo", lambda: info)
    found = module.machine()
    assert (found["processor"], found["family and model"]) == ("Some CPU", "6 207")
    assert found["bfloat16 instructions"] == ["amx_bf16"]
    monkeypatch.setattr(module, "_cpuinfo", dict)
    assert module.machine()["processor"] and module.machine()["family and model"] == ""
