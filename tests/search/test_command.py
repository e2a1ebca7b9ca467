"""The command line with a real, untrained model: what it finds, writes and refuses."""

import csv
import os
import re
import shutil

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageEnhance

import vireid_plugins as vp
from vireid.cli import run_verb
from vireid.verbs import search as words_of_search
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.feature_extractor import PRECISIONS
from vireid_plugins.readers.checkpoint import read_checkpoint
from vireid_plugins.runs.names import FACTS
from vireid_plugins.search import SearchIndex
from vireid_plugins.search.approximate import KINDS, LEAST_IMAGES

from tests.engine.small import small_cfg


def main(words):
    """Run the command; return its exit status."""
    return run_verb("search", words)


@pytest.fixture(scope="module")
def weights(tiny_root, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        folder = tmp_path_factory.mktemp("model")
        trainer = VIReIDTrainer(small_cfg(folder))
    state = {"model": trainer.model.state_dict(), FACTS: trainer.facts()}
    torch.save(state, folder / "model_final.pth")
    return str(folder / "model_final.pth")


@pytest.fixture(scope="module")
def people(tiny_root, tmp_path_factory):
    """Eleven people by one camera, and a twelfth, planted by another camera's image of her."""
    folder = tmp_path_factory.mktemp("people")
    images = sorted((tiny_root / "SYSU-MM01" / "cam1").glob("*/*.jpg"))
    for number, path in enumerate(images[1:], start=1):
        shutil.copy(path, folder / f"{number}.jpg")
    planted = Image.open(images[0])
    planted.save(folder / "wanted.png")
    width, height = planted.size
    night = ImageEnhance.Brightness(planted.crop((1, 1, width, height))).enhance(0.9)
    (folder / ".queries").mkdir()  # hidden: not among the people
    night.resize((2 * width, 2 * height)).save(folder / ".queries" / "night.jpg", quality=80)
    return folder


@pytest.fixture(scope="module")
def index(weights, people, tmp_path_factory):
    out = tmp_path_factory.mktemp("search") / "index"
    words = [
        "index",
        "--weights",
        weights,
        "--images",
        str(people),
        "--modality",
        "visible",
        "--out",
        str(out),
        "--workers",
        "0",
    ]
    assert main(words) == 0
    return str(out)


def test_the_words_are_those_of_the_library(capsys):
    assert words_of_search.PRECISIONS == PRECISIONS
    with pytest.raises(SystemExit):
        main(["index", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"{', '.join(KINDS)}, or words of faiss's factory; default: {KINDS[0]}" in text
    assert f"fewer than {LEAST_IMAGES:,} images" in text


@pytest.mark.slow
def test_a_planted_person_is_found_among_distractors(index, people, tmp_path, capsys, monkeypatch):
    figures, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **o: [figures.append(self), savefig(self, *a, **o)]
    )
    query = people / ".queries" / "night.jpg"
    words = [
        "query",
        index,
        "--image",
        str(query),
        "--modality",
        "visible",
        "--topk",
        "5",
        "--csv",
        str(tmp_path / "found.csv"),
        "--save",
        str(tmp_path / "grid.png"),
    ]
    assert main(words) == 0
    output = capsys.readouterr().out
    assert "12 visible images" in output and "scores only rank" in output
    assert re.search(r"^ +1 +[01]\.\d{3}  wanted\.png$", output, re.M)
    with open(tmp_path / "found.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == list("12345")
    assert (rows[0]["query"], rows[0]["image"]) == (str(query), "wanted.png")
    extractor = vp.FeatureExtractor(SearchIndex(index).facts["weights"])
    pair = extractor([query, people / "wanted.png"], "visible")
    assert float(rows[0]["score"]) == pytest.approx(float(pair[0] @ pair[1]), abs=1e-5)
    assert float(rows[1]["score"]) < float(rows[0]["score"])
    assert len(figures[0].axes[0].images) == 6
    first = Image.open(people / "wanted.png").convert("RGB")
    np.testing.assert_array_equal(figures[0].axes[0].images[1].get_array(), np.asarray(first))
    assert Image.open(tmp_path / "grid.png").size[0] > 500


def test_a_folder_of_queries_becomes_a_table(index, people, tmp_path, capsys):
    asked = tmp_path / "asked"
    asked.mkdir()
    for name in ("2.jpg", "10.jpg", "1.jpg"):
        shutil.copy(people / name, asked / name)
    shutil.copy(people / "3.jpg", asked / os.fsdecode(b"\xff.jpg"))
    (asked / "11.jpg").write_text("no image")
    out = tmp_path / "found.csv"
    words = [
        "query",
        index,
        "--images",
        str(asked),
        "--modality",
        "visible",
        "--topk",
        "2",
        "--csv",
        str(out),
        "--workers",
        "0",
        "--threshold",
        "0.999",
    ]
    assert main(words) == 1  # one could not be read
    captured = capsys.readouterr()
    assert "4 queries" in captured.out and "Threshold 0.999, as asked" in captured.out
    assert "skipped: 11.jpg: not a readable image" in captured.err
    with open(out, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    best = [(row["query"], row["image"]) for row in rows if row["rank"] == "1"]
    assert best == [
        ("1.jpg", "1.jpg"),
        ("2.jpg", "2.jpg"),
        ("10.jpg", "10.jpg"),
        ("\udcff.jpg", "3.jpg"),
    ]
    for row in rows:
        assert row["at_or_above_threshold"] == ("yes" if float(row["score"]) >= 0.999 else "no")


def test_calibrated_thresholds_are_kept_and_explained(index, people, datasets, tmp_path, capsys):
    copy = str(shutil.copytree(index, tmp_path / "index"))
    assert main(["calibrate", copy, "--workers", "0"]) == 0
    told = capsys.readouterr().out
    known = SearchIndex(copy).facts["thresholds"]
    assert set(known) == {"visible", "infrared"}
    for query, one in known.items():
        assert f"{query} queries: {one['threshold']:.3f}" in told
        assert abs(one["false_accepts"] - one["false_rejects"]) < 5
    # 4 test people; per person 2 infrared and 4 visible cameras, but 3 with 2 is not compared
    assert known["infrared"]["same_pairs"] == 4 * (2 * 4 - 1)
    assert known["infrared"]["different_pairs"] == 4 * 3 * (2 * 4 - 1)
    assert known["visible"]["same_pairs"] == 4 * 6
    words = ["query", copy, "--image", str(people / "wanted.png"), "--topk", "20"]
    assert main([*words, "--modality", "infrared"]) == 0
    output = capsys.readouterr().out
    assert "SYSUMM01's test images, visible-infrared pairs that its protocol compares" in output
    marks = re.findall(r"^ +\d+ +(-?\d\.\d{3})  (above|below)", output, re.M)
    assert len(marks) == 12
    for score, mark in marks:
        above = float(score) >= known["infrared"]["threshold"]
        assert mark == ("above" if above else "below")


@pytest.mark.slow
def test_the_same_words_bring_an_index_up_to_date(weights, people, tmp_path, capsys):
    images, out = shutil.copytree(people, tmp_path / "in"), str(tmp_path / "index")
    words = [
        "index",
        "--weights",
        weights,
        "--images",
        str(images),
        "--modality",
        "visible",
        "--out",
        out,
    ]
    assert main(words) == 0
    assert "12 new" in capsys.readouterr().out
    (images / "broken.jpg").write_bytes(b"")
    shutil.copy(images / "1.jpg", images / "copy.jpg")
    assert main(words) == 1
    output = capsys.readouterr().out
    assert "13 images can be searched: 1 new" in output and "12 as before" in output
    assert "1 could not be read" in output and "broken.csv" in output


@pytest.mark.slow
def test_mistakes_end_with_a_line_and_2(index, weights, people, tmp_path, capsys, monkeypatch):
    image = ["--image", str(people / "1.jpg")]
    folder = ["--images", str(people)]
    other = tmp_path / "other.pth"
    data = read_checkpoint(weights)
    name = next(name for name in data["model"] if name.endswith("running_mean"))
    data["model"][name] += 1
    torch.save(data, other)
    visible = ["--modality", "visible"]
    to_index = ["index", "--images", str(people), *visible, "--out"]
    for words, told in (
        (["query", str(people), *image, *visible], "is not an index"),
        (["query", index, *visible], "either --image FILE"),
        (["query", index, *folder, *visible], "needs --csv"),
        (["query", index, *image, *visible, "--topk", "0"], "--topk must be at least 1"),
        (["query", index, *image, *visible, "--topk", "60", "--save", "x.png"], "Use --csv"),
        (["query", index, *image, *visible, "--save", "x.gif"], "ends in .png or .pdf"),
        (["query", index, *image, *visible, "--save", f"{other}/x.png"], f"{other}/x.png cannot"),
        (["query", index, *folder, *visible, "--csv", str(tmp_path)], f"{tmp_path} cannot be wri"),
        (["query", index, *image, *visible, "--csv", str(people / "2.jpg")], "ends in .csv"),
        (["query", index, "--image", "x.png", *visible, "--save", "./x.png"], "is a query too"),
        (["query", index, *image, *visible, "--threshold", "high"], "from -1 to 1"),
        (["query", index, "--image", "gone.jpg", *visible], "No query could be read: gone.jpg"),
        (["query", index, *image, *visible, "--weights", str(other)], "was made by the model"),
        (["query", index, *image, *visible, "--weights", "gone.pth"], "no such file"),
        (["query", index, *image, *visible, "--device", "gpu"], "device is 'gpu'"),
        (["query", index, *image, *visible, "--workers", "-1"], "--workers must be 0 or more"),
        (["calibrate", index, "INPUT.SIZE_TEST", "[8, 8]"], "takes keys of DATASETS."),
        ([*to_index, index, "--weights", str(other)], "was made by the model"),
        ([*to_index, index, "--weights", "gone.pth"], "--weights names gone.pth"),
        ([*to_index, str(people), "--weights", weights], "holds other things"),
    ):
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert told in error and error.count("\n") == 1 and error.startswith("error: "), error


def test_a_moved_checkpoint_and_a_read_only_index_are_reported(
    index, weights, people, tmp_path, capsys, monkeypatch
):
    moved = str(shutil.copy(weights, tmp_path / "moved.pth"))
    copy = str(shutil.copytree(index, tmp_path / "index"))
    writable = SearchIndex(copy, writable=True)
    writable.catalog.remember(weights=str(tmp_path / "gone.pth"))
    writable.catalog.close()
    words = ["query", copy, "--image", str(people / "2.jpg"), "--modality", "visible"]
    assert main(words) == 2
    assert "remembers its model as" in capsys.readouterr().err
    assert main([*words, "--weights", moved]) == 0
    assert "1    1.000  2.jpg" in capsys.readouterr().out

    def refusing(folder):
        raise OSError(30, "Read-only file system", str(folder))

    monkeypatch.setattr("vireid_plugins.search.build.sole_writer", refusing)
    words = [
        "index",
        "--weights",
        weights,
        "--images",
        str(people),
        "--modality",
        "visible",
        "--out",
        copy,
    ]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"error: {copy}: Read-only file system")
