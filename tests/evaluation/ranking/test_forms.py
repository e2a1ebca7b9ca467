"""The two forms of ranking agree to the last bit, and whatever is wrong with numba is survived."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from vireid_plugins.evaluation import RankRules
from vireid_plugins.evaluation.ranking import counting, plain
from vireid_plugins.evaluation.ranking.parallel import in_parallel
from vireid_plugins.evaluation.ranking.views import NEVER, Views
from vireid_plugins.evaluation.rules import Labels


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def random_case(rng, dtype):
    """Scores of few levels, so that most are equal, of galleries of one chunk and of several."""
    num_query, num_columns = int(rng.integers(1, 12)), int(rng.choice([1, 31, 33, 600, 9001]))
    levels = int(rng.choice([1, 3, 50, 10**6]))
    scores = rng.integers(0, levels, (num_query, num_columns)).astype(dtype) / 3
    length = int(rng.choice([1, num_columns, 2 * num_columns]))  # identical images share a column
    columns = rng.integers(0, num_columns, length)
    identities, cameras = int(rng.choice([1, 7, 400])), int(rng.integers(1, 4))
    gallery = Labels(rng.integers(0, identities, length), rng.integers(1, cameras + 1, length))
    query = Labels(rng.integers(-1, identities + 1, num_query), rng.integers(1, 4, num_query))
    return torch.from_numpy(scores), torch.from_numpy(columns), gallery, query


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sort_ties", [True, False])
def test_both_forms_agree_bitwise_on_many_ties(dtype, sort_ties, monkeypatch, threads):
    pytest.importorskip("numba")
    from vireid_plugins.evaluation.ranking import compiled as in_threads

    monkeypatch.setattr(plain, "_TIES_BY_COMPARISON", 0 if sort_ties else 10**9)
    for form in (plain, in_threads):  # two threads share even the smallest work
        monkeypatch.setattr(form, "_PART_SCORES", 1)
    compiled = counting.compiled_form(torch.float32 if dtype == np.float32 else torch.float64)
    rng = np.random.default_rng(17)
    compared = 0
    for number in range(40):
        threads(1 + number % 2)
        scores, columns, gallery, query = random_case(rng, dtype)
        pairs = [(), ((1, 2),), ((1, 1), (2, 3))][number % 3]
        views = Views(gallery, columns, RankRules(pairs, bool(number % 2)))
        own = views.identity_of(query.targets)
        for view, rows in views.of_queries(query):
            for by_identity in (True, False):
                asked = (scores, rows, own[rows], view, by_identity, number % 4 * 40)
                one, other = compiled(*asked), plain.find_places(*asked)
                for got, expected in zip(one, other):
                    assert got.dtype == expected.dtype == np.int64
                    np.testing.assert_array_equal(got, expected)
                compared += int((one[0] < NEVER).sum())
    assert compared > 5_000


def test_without_numba_nothing_is_said(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, f"{counting.__package__}.compiled", raising=False)
    assert counting.compiled_form.__wrapped__(torch.float32) is None
    assert caplog.records == []


def test_a_numba_that_does_not_fit_numpy_is_named_once_and_not_used(monkeypatch, caplog, tmp_path):
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 2.4 or less')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "numba"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"{counting.__package__}.compiled", raising=False)
    counting.compiled_form.cache_clear()
    try:
        found = [counting.compiled_form(torch.float32) for _ in range(2)]
    finally:
        counting.compiled_form.cache_clear()
    assert found == [None, None]
    (record,) = caplog.records
    assert "numba is installed, but does not work" in record.message
    assert "Numba needs NumPy 2.4 or less" in record.message


@pytest.mark.parametrize("error", [OSError(28, "No space left"), RuntimeError("no locator")])
def test_a_cache_folder_that_takes_nothing_is_no_error(error, monkeypatch):
    """Stands in for numba: compiling for the cache fails, as it does beside a full disk."""
    pytest.importorskip("numba")
    from vireid_plugins.evaluation.ranking import compiled

    asked = []

    def njit(types, nogil, cache=False):
        asked.append(cache)
        if cache:
            raise error
        return lambda function: function

    monkeypatch.setattr(compiled.numba, "njit", njit)
    kernel = compiled.compiled_form(torch.float64).args[0]
    assert asked == [True, False]
    assert kernel is compiled._find
    scores, columns, gallery, query = random_case(np.random.default_rng(0), np.float64)
    views = Views(gallery, columns, RankRules())
    ((view, rows),) = views.of_queries(query)
    asked = (scores, rows, views.identity_of(query.targets), view, True, 3)
    for got, expected in zip(compiled.find_places(kernel, *asked), plain.find_places(*asked)):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "length,least,expected",
    [(10, 1, [(0, 5), (5, 10)]), (10, 5, [(0, 5), (5, 10)]), (10, 6, [(0, 10)]), (0, 0, [(0, 0)])],
)
def test_small_work_stays_in_one_part(length, least, expected, threads):
    threads(2)
    parts = []
    in_parallel(lambda begin, end: parts.append((begin, end)), length, least)
    assert sorted(parts) == expected


def test_importing_the_package_does_not_import_numba():
    """numba takes half a second, which only those who rank should wait for."""
    code = "import sys, vireid_plugins.evaluation; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_identities_with_very_many_images_are_sorted(monkeypatch):
    """Comparing each of 3000 images with each of them would cost more than a sort."""
    monkeypatch.setattr(counting, "compiled_form", lambda dtype: pytest.fail("was asked"))
    gallery = Labels(np.zeros(3000, np.int64))
    views = Views(gallery, torch.arange(3000), RankRules())
    ((view, rows),) = views.of_queries(Labels(np.zeros(2, np.int64)))
    scores = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3000)))
    found = counting.find_places(scores, rows, np.zeros(2, np.int64), view, False, 0)
    np.testing.assert_array_equal(found.ranks, np.tile(np.arange(1, 3001), (2, 1)))
