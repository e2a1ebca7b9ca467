"""Damaged and locked indexes: the right answer or one sentence, never other images in silence."""

import json
import multiprocessing
import os
import shutil
import sqlite3
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import UserError
from vireid_plugins.search import SearchIndex, database, index_folder
from vireid_plugins.search.catalog import CATALOG
from vireid_plugins.search.facts import checked_facts
from vireid_plugins.search.feature_file import PAGE, page_sums
from vireid_plugins.search.threshold import Calibration

from tests.search.fakes import FakeExtractor, features, write_images

IMAGES = 40
QUERIES = features(range(100, 103))


def index_of(images, out):
    return index_folder(FakeExtractor(), images, "visible", out, progress=False, workers=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The images and a whole index of them; tests copy it before they damage it."""
    folder = tmp_path_factory.mktemp("made")
    write_images(folder / "in", range(IMAGES))
    index_of(folder / "in", folder / "index")
    return folder


@pytest.fixture
def out(made, tmp_path):
    return shutil.copytree(made / "index", tmp_path / "index")


def flip(path, places):
    content = bytearray(path.read_bytes())
    for place in places:
        content[place % len(content)] ^= 0xFF
    path.write_bytes(bytes(content))


def test_the_sum_of_a_page_is_that_of_its_bytes_however_they_were_added():
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype("<f4")
    whole = [zlib.crc32(rows[i : i + PAGE].tobytes()) for i in range(0, 50, PAGE)]
    sums, first = {}, 0
    for count in (1, 3, 20, 8, 0, 18):
        last = sums.get(first // PAGE, 0) if first % PAGE else 0
        sums.update(page_sums(rows[first : first + count], first, last))
        first += count
    assert [sums[page] for page in sorted(sums)] == whole


def test_changed_features_are_named_and_never_searched(out):
    size = SearchIndex(out).facts["dimensions"] * 4
    flip(out / "features-0.f32", range(20 * size, 20 * size + 64))
    with pytest.raises(UserError, match="f32 is damaged: the features of rows 16 to 31"):
        SearchIndex(out).search(QUERIES, 3)


def test_a_page_that_is_not_asked_for_is_not_read(out):
    index = SearchIndex(out)
    flip(out / "features-0.f32", [index.facts["dimensions"] * 4 * 39])
    rows = index.features
    assert len(rows[:32]) == 32 and rows[0].shape == (rows.shape[1],)
    with pytest.raises(UserError, match="rows 32 to 39"):
        rows[np.array([3, 33])]


def test_damage_is_not_copied_into_a_new_file(made, out):
    index = SearchIndex(out)
    flip(out / "features-0.f32", [5])
    with pytest.raises(UserError, match="rows 0 to 15"):
        index.feature_file().compacted(index.features, np.arange(3))
    assert [path.name for path in out.glob("features*")] == ["features-0.f32"]


def test_an_index_without_sums_is_searched_with_a_note_and_gets_them(made, out, caplog):
    expected = SearchIndex(out).search(QUERIES, 3)
    connection = sqlite3.connect(out / CATALOG)
    connection.executescript("DROP TABLE sums; UPDATE facts SET value = '1' WHERE key = 'format'")
    connection.close()
    caplog.set_level("WARNING", "vireid_plugins")
    found = SearchIndex(out).search(QUERIES, 3)
    assert found.names == expected.names and np.array_equal(found.scores, expected.scores)
    assert "no checksums" in caplog.text
    assert index_of(made / "in", out).unchanged == IMAGES
    flip(out / "features-0.f32", [0])
    with pytest.raises(UserError, match="rows 0 to 15"):
        SearchIndex(out).search(QUERIES, 3)


FACTS = {
    "no JSON": ("rows", "{", "rows is not JSON"),
    "a word": ("rows", '"forty"', "rows: expected a whole number, found 'forty'"),
    "a negative number": ("dimensions", "-4", "dimensions: expected a number of at least 1"),
    "true": ("generation", "true", "generation: expected a whole number, found True"),
    "another modality": ("modality", '"night"', "night"),
    "a list": ("images", "[]", "images: expected text, found"),
    "another version": ("format", "3", "of format 3; this version"),
    "a version before the first": ("format", "0", "of format 0; this version"),
    "a cut calibration": ("thresholds", '{"infrared": {"threshold": 0.5}}', "'false_accepts'"),
    "more rows than there are": ("rows", "41", "has .* bytes; its 41 rows|checksums"),
    "fewer rows than there are": ("rows", "20", "not numbers from 0 to 19"),
    "another size": ("dimensions", "7", "damaged: the features of rows"),
}


@pytest.mark.parametrize("name", FACTS)
def test_a_wrong_fact_is_named(out, name):
    key, value, words = FACTS[name]
    connection = sqlite3.connect(out / CATALOG)
    connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))
    connection.commit()
    connection.close()
    with pytest.raises(UserError, match=words) as caught:
        SearchIndex(out).search(QUERIES, 3)
    assert "elete" not in str(caught.value)


@pytest.mark.parametrize("key", ["fingerprint", "weights", "kind", "complete", "format"])
def test_a_missing_fact_is_named(out, key):
    connection = sqlite3.connect(out / CATALOG)
    connection.execute("DELETE FROM facts WHERE key = ?", (key,))
    connection.commit()
    connection.close()
    with pytest.raises(UserError, match=f"'{key}' is missing"):
        SearchIndex(out)


def hold(path, locked, released):
    connection = sqlite3.connect(path)
    connection.execute("BEGIN EXCLUSIVE")
    locked.set()
    released.wait(30)


@pytest.fixture
def holder(out):
    if not hasattr(os, "fork"):
        pytest.skip("the lock is held by a forked process")
    context = multiprocessing.get_context("fork")
    locked, released = context.Event(), context.Event()
    process = context.Process(target=hold, args=(out / CATALOG, locked, released))
    process.start()
    assert locked.wait(30)
    yield process, released
    released.set()
    process.join()


def test_a_locked_catalog_names_who_holds_it_and_loses_nothing(out, holder, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 0.2)
    with pytest.raises(UserError, match="is locked by .*Nothing is lost: wait") as caught:
        SearchIndex(out)
    assert f"process {holder[0].pid} (" in str(caught.value)
    assert "elete" not in str(caught.value) and "new index" not in str(caught.value)


def test_a_lock_that_passes_is_waited_for(out, holder, monkeypatch):
    """It lasts longer than the wait before the warning."""
    monkeypatch.setattr(database, "_QUIET", 0.05)
    later = threading.Timer(0.4, holder[1].set)
    monkeypatch.setattr(database.logger, "warning", lambda *args: later.start())
    assert len(SearchIndex(out)) == IMAGES
    later.join()


@pytest.mark.parametrize(
    "said, words",
    [
        ("database or disk is full", "the disk is full .*are kept. Free some space"),
        ("attempt to write a readonly database", "cannot be opened for this .*permissions"),
        ("unable to open database file", "cannot be opened for this .*permissions"),
        ("database disk image is malformed", "is damaged or is not a catalog. Make a new index"),
    ],
)
def test_each_cause_has_its_own_remedy(tmp_path, said, words):
    with pytest.raises(UserError, match=words) as caught, database.reported(tmp_path / CATALOG):
        raise sqlite3.OperationalError(said)
    assert said in str(caught.value) and str(caught.value).startswith(str(tmp_path / CATALOG))
    assert ("new index" in str(caught.value)) == ("malformed" in said)


def test_an_unknown_entry_of_a_calibration_is_named():
    """A later version may have one that changes what a score means."""
    values = {"others": [[0.5, 0.1, 0.2]], "surprise": 1}
    for name, kind in Calibration.__annotations__.items():
        values.setdefault(name, kind(1) if isinstance(kind, type) else [])
    facts = [
        *((name, '"visible"') for name in ("fingerprint", "weights", "modality", "images", "kind")),
        *((name, "1") for name in ("format", "generation", "rows", "dimensions")),
        ("complete", "true"),
    ]
    for known in (False, True):
        values.pop("surprise" if known else "", None)
        rows = [*facts, ("thresholds", json.dumps({"infrared": values}))]
        if known:
            assert checked_facts(Path("c"), rows, (1, 2))["thresholds"]["infrared"] == values
        else:
            with pytest.raises(UserError, match="c, thresholds, infrared: 'surprise' is unknown"):
                checked_facts(Path("c"), rows, (1, 2))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from([CATALOG, "features-0.f32"]),
    st.lists(st.integers(0, 1 << 20), min_size=1, max_size=3),
    st.one_of(st.none(), st.integers(0, 1 << 15)),
)
def test_damage_anywhere_gives_the_right_answer_or_a_sentence(made, file, places, cut):
    expected = SearchIndex(made / "index").search(QUERIES, 5)
    out = shutil.copytree(made / "index", made / "copy", dirs_exist_ok=True)
    try:
        flip(out / file, places)
        if cut is not None:
            (out / file).write_bytes((out / file).read_bytes()[:cut])
        try:
            found = SearchIndex(out).search(QUERIES, 5)
        except UserError:
            return
        assert found.names == expected.names and np.array_equal(found.scores, expected.scores)
    finally:
        shutil.rmtree(out)
