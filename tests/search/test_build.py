"""Making an index. Oracle: features of the numbers that the images were drawn from."""

import csv
import multiprocessing
import os
import signal
import sqlite3
import time
from importlib.metadata import version

import numpy as np
import pytest
from PIL import Image

from vireid_plugins.search import SearchIndex, build, index_folder
from vireid_plugins.search.catalog import Catalog
from vireid_plugins.search.feature_file import PAGE, FeatureFile, page_sums, sole_writer
from vireid_plugins.search.folder import FoundImage

from tests.search.fakes import FakeExtractor, features, write_images


def run(images, out, extractor=None, **options):
    options.setdefault("workers", 0)
    return index_folder(
        extractor or FakeExtractor(), images, "visible", out, progress=False, **options
    )


def held(out):
    """Names and features of an index, by name."""
    index = SearchIndex(out)
    rows = index.catalog.rows()
    names = index.catalog.names(rows.tolist())
    return {names[row].decode(): index.features[row] for row in rows.tolist()}


def check(out, numbers, name="{}.png"):
    """The index holds the images of ``numbers`` and nothing else, with the right features."""
    found = held(out)
    assert sorted(found) == sorted(name.format(number) for number in numbers)
    index = SearchIndex(out)
    whole = np.fromfile(index.feature_file().path, "<f4").reshape(-1, index.facts["dimensions"])
    assert index.catalog.read()[1].tolist() == list(page_sums(whole, 0).values())
    expected = features(numbers)
    for number, row in zip(numbers, expected):
        np.testing.assert_array_equal(found[name.format(number)], row)


def test_every_image_has_its_features_in_natural_order(tmp_path):
    write_images(tmp_path / "in", range(11), "{}/x.png")
    summary = run(tmp_path / "in", tmp_path / "index", workers=1)
    assert (summary.found, summary.added, summary.broken) == (11, 11, 0)
    check(tmp_path / "index", range(11), "{}/x.png")
    assert list(held(tmp_path / "index")) == [f"{number}/x.png" for number in range(11)]


def test_only_what_is_new_is_computed(tmp_path):
    images, out, extractor = tmp_path / "in", tmp_path / "index", FakeExtractor()
    write_images(images, range(10))
    run(images, out, extractor)
    write_images(images, range(10, 13))
    (images / "3.png").unlink()
    os.replace(images / "12.png", images / "5.png")  # other content under an old name
    os.utime(images / "7.png", ns=(1, 1))
    extractor.computed = 0
    summary = run(images, out, extractor)
    assert extractor.computed == summary.added == 4  # 5, 7, 10, 11
    assert (summary.dropped, summary.unchanged) == (3, 7)
    found = held(out)
    np.testing.assert_array_equal(found["5.png"], features([12])[0])
    os.replace(images / "5.png", images / "12.png")
    check_numbers = [0, 1, 2, 4, 6, 7, 8, 9, 10, 11, 12]
    run(images, out, extractor)
    check(out, check_numbers)
    extractor.computed = 0
    run(images, out, extractor)
    assert extractor.computed == 0


def _killed_while_indexing(images, out, when):
    """In a process of its own: killed by the kernel after the ``when``-th step of saving."""
    steps = iter(range(when))

    def step(function):
        def counting(*args):
            result = function(*args)
            if next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counting

    build._IMAGES_AT_ONCE = 4
    FeatureFile.append = step(FeatureFile.append)
    Catalog.add = step(Catalog.add)
    run(images, out)


@pytest.mark.parametrize("when", [2, 3])  # features without their names; both on the disk
def test_a_killed_run_goes_on(tmp_path, when):
    images, out = tmp_path / "in", tmp_path / "index"
    write_images(images, range(14))
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_killed_while_indexing, args=(images, out, when))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept = 4 * ((when + 1) // 2)
    assert len(SearchIndex(out)) == kept and not SearchIndex(out).facts["complete"]
    extractor = FakeExtractor()
    assert run(images, out, extractor).unchanged == kept
    assert extractor.computed == 14 - kept
    check(out, range(14))
    assert SearchIndex(out).facts["complete"]
    assert os.path.getsize(out / "features-0.f32") == features(range(14)).nbytes


def _killed_in_a_transaction(out):
    """SQLite writes into its file before the end of a transaction once its memory is full."""
    connection = sqlite3.connect(out / "catalogue.sqlite")
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("DELETE FROM images")
    assert (out / "catalogue.sqlite-journal").stat().st_size > 1_000
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_within_a_transaction_is_taken_back(tmp_path):
    out = tmp_path / "index"
    write_images(tmp_path / "in", range(1))
    run(tmp_path / "in", out)
    index = SearchIndex(out, writable=True)
    images = [FoundImage(b"%d" % number * 50, 0, 0) for number in range(3_000)]
    index.catalog.add(images, {page: 0 for page in range(-(-3_001 // PAGE))})
    index.catalog.close()
    process = multiprocessing.get_context("fork").Process(
        target=_killed_in_a_transaction, args=(out,)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (out / "catalogue.sqlite-journal").exists()
    assert len(SearchIndex(out)) == 3_001


def test_a_full_disk_costs_nothing_that_was_done(tmp_path, monkeypatch):
    images, out = tmp_path / "in", tmp_path / "index"
    write_images(images, range(12))
    monkeypatch.setattr(build, "_IMAGES_AT_ONCE", 4)
    append, calls = FeatureFile.append, []

    def full(self, rows, block, last_sum):
        calls.append(rows)
        if len(calls) == 2:
            with open(self.path, "ab") as file:
                file.write(b"half a row")
            raise OSError(28, "No space left on device", str(self.path))
        return append(self, rows, block, last_sum)

    monkeypatch.setattr(FeatureFile, "append", full)
    with pytest.raises(OSError, match="No space left"):
        run(images, out)
    assert run(images, out).unchanged == 4
    check(out, range(12))


def test_what_cannot_be_read_is_listed_and_the_rest_is_indexed(tmp_path, monkeypatch):
    images, out = tmp_path / "in", tmp_path / "index"
    write_images(images, range(6))
    (images / "empty.jpg").write_bytes(b"")
    (images / "text.jpg").write_text("no image")
    whole = (images / "0.png").read_bytes()
    (images / "cut.png").write_bytes(whole[: len(whole) // 2])
    (images / "link.png").symlink_to("nowhere")
    Image.new("RGB", (300, 300)).save(images / "huge.png")
    Image.new("F", (2, 2)).save(images / "float.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    summary = run(images, out)
    assert (summary.added, summary.broken) == (6, 6)
    check(out, range(6))
    with open(out / "broken.csv", newline="", encoding="utf-8") as file:
        reasons = dict(list(csv.reader(file))[1:])
    for name, reason in {
        "empty.jpg": "empty",
        "text.jpg": "UnidentifiedImageError",
        "cut.png": "not a readable",
        "link.png": "No such file",
        "huge.png": "DecompressionBomb",
        "float.tif": "Floating-point",
    }.items():
        assert reason in reasons.pop(name)
    assert not reasons
    (images / "text.jpg").unlink()
    write_images(images, [6])
    os.replace(images / "6.png", images / "empty.jpg")  # fixed: a PNG by another name
    assert run(images, out).broken == 4
    np.testing.assert_array_equal(held(out)["empty.jpg"], features([6])[0])


def test_features_that_are_not_finite_stay_out(tmp_path):
    images, out = tmp_path / "in", tmp_path / "index"
    write_images(images, range(5))

    class Diverged(FakeExtractor):
        def features_of(self, tensor, modality, keypoints=None):
            rows = super().features_of(tensor, modality)
            rows[1] = np.nan
            return rows

    summary = run(images, out, Diverged(batch_size=5))
    assert (summary.added, summary.broken) == (4, 1)
    assert "1.png,the model's features of it are NaN" in (out / "broken.csv").read_text()


def test_images_of_a_folder_that_cannot_be_read_now_are_kept(tmp_path, monkeypatch):
    images, out = tmp_path / "in", tmp_path / "index"
    write_images(images, range(3))
    write_images(images, range(3, 6), "shut/{}.png")
    run(images, out)
    scandir = os.scandir

    def refusing(path):
        if os.fsencode(path).endswith(b"shut"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    (images / "0.png").unlink()
    summary = run(images, out)
    assert (summary.dropped, summary.unchanged, summary.broken) == (1, 5, 1)


def test_rows_of_images_that_are_gone_are_left_out_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_COMPACT_FROM", 2)
    images, out = tmp_path / "in", tmp_path / "index"
    write_images(images, range(10))
    run(images, out)
    for number in range(7):
        (images / f"{number}.png").unlink()
    run(images, out)
    assert [path.name for path in out.glob("features-*")] == ["features-1.f32"]
    assert os.path.getsize(out / "features-1.f32") == features(range(3)).nbytes
    check(out, range(7, 10))
    write_images(images, range(10, 12))
    run(images, out)
    check(out, range(7, 12))


def test_a_second_writer_is_refused_until_the_first_is_killed(tmp_path):
    images, out = tmp_path / "in", tmp_path / "index"
    write_images(images, range(2))
    run(images, out)
    context = multiprocessing.get_context("fork")
    locked = context.Event()

    def hold():
        with sole_writer(out):
            locked.set()
            signal.pause()

    process = context.Process(target=hold)
    process.start()
    assert locked.wait(30)
    with pytest.raises(ValueError, match="Another process is writing into"):
        run(images, out)
    assert len(held(out)) == 2  # reading goes on
    process.kill()
    process.join()
    run(images, out)


@pytest.mark.skipif(
    not hasattr(os, "fork") or version("filelock") < "4", reason="the child would inherit the lock"
)
def test_a_process_that_loads_images_does_not_keep_the_lock(tmp_path):
    """A killed process leaves such ones behind for some seconds."""
    with sole_writer(tmp_path):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        child.start()
    try:
        with sole_writer(tmp_path):
            pass
    finally:
        child.kill()
        child.join()


def test_mistakes_are_refused_before_anything_is_written(tmp_path):
    images, out, empty = tmp_path / "in", tmp_path / "index", tmp_path / "empty"
    write_images(images, range(2))
    empty.mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        run(empty, out)
    for wrong, words in ((tmp_path / "nowhere", "does not exist"), (images / "0.png", "a file")):
        with pytest.raises(ValueError, match=words):
            run(wrong, out)
    with pytest.raises(ValueError, match="holds other things"):
        run(images, images)
    with pytest.raises(ValueError, match="0.png is a file"):
        run(images, images / "0.png")
    with pytest.raises(ValueError, match="'hnws' is none of flat, hnsw, ivf-pq"):
        run(images, out, kind="hnws")
    run(images, out)  # what was refused has left nothing in the way


def test_another_model_modality_or_folder_is_refused(tmp_path):
    images, out = tmp_path / "in", tmp_path / "index"
    write_images(images, range(2))
    write_images(tmp_path / "others", range(2))
    run(images, out, weights="first.pth")
    one, two = FakeExtractor("one").fingerprint, FakeExtractor("two").fingerprint
    words = f"made by the model {one}.*first.pth.*second.pth is the model {two}"
    with pytest.raises(ValueError, match=words):
        run(images, out, FakeExtractor("two"), weights="second.pth")
    with pytest.raises(ValueError, match="is an index of visible images; --modality is infrared"):
        index_folder(FakeExtractor(), images, "infrared", out, progress=False, workers=0)
    with pytest.raises(ValueError, match="is an index of the images in"):
        run(tmp_path / "others", out)
    os.rename(images, tmp_path / "moved")
    assert run(tmp_path / "moved", out).unchanged == 2  # the same files in another place
    for path in (tmp_path / "moved").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="no image now, and the index has 2. Is a disk missing"):
        run(tmp_path / "moved", out)
    assert len(SearchIndex(out)) == 2


def test_damaged_indexes_are_reported(tmp_path):
    images, out = tmp_path / "in", tmp_path / "index"
    write_images(images, range(4))
    run(images, out)
    with open(out / "features-0.f32", "r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match="has 100 bytes; its 4 rows"):
        SearchIndex(out).features  # noqa: B018
    with pytest.raises(ValueError, match="has 100 bytes"):
        run(images, out)
    (out / "catalogue.sqlite").write_bytes(b"something else " * 100)
    with pytest.raises(ValueError, match="cannot be read as the catalog"):
        SearchIndex(out)
    with pytest.raises(FileNotFoundError, match="is not an index"):
        SearchIndex(images)
