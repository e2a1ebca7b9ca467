"""Runs that are not whole, and words that are wrong. Oracle: what was taken away."""

import json
import shutil

import pytest
import torch

from vireid.cli import run_verb
from vireid_plugins.errors import PlotError, ReportError, UnwritableError
from vireid_plugins.plots.curves import Curves
from vireid_plugins.plots.kinds import KINDS, Kind, all_kinds
from vireid_plugins.reporting import write_report
from vireid_plugins.runs.reading import read_run_folder

from tests.reporting.conftest import quick_savefig
from tests.reporting.pages import decode, parse


@pytest.fixture
def folder(run_folder, tmp_path):
    """A copy of the run without its weights and events."""
    target = tmp_path / "run"
    shutil.copytree(
        str(run_folder),
        str(target),
        ignore=shutil.ignore_patterns("*.pth", "events*", "figures", "report.html"),
    )
    return target


@pytest.fixture
def only(monkeypatch):
    """Register these kinds alone: what others draw is tested elsewhere."""

    def register(*kinds):
        for name in list(KINDS):
            monkeypatch.delitem(KINDS, name)
        for kind in kinds:
            monkeypatch.setitem(KINDS, kind.name, kind)

    return register


def checkpoint(folder, name, epoch, last=True):
    """A file that says how many epochs were done, with weights of nothing."""
    facts = {"seed": 7, "config": "", "num_classes": 8, "train_datasets": [], "regdb_trial": 1}
    torch.save({"model": {}, "epoch": epoch, "vireid": facts}, folder / name)
    if last:
        (folder / "last_checkpoint").write_text(name)


def page_of(folder, *words):
    assert run_verb("report", [str(folder), *words]) == 0
    return parse(folder / "report.html")


@pytest.mark.slow
def test_without_a_model_the_report_says_so_and_shows_the_rest(folder, only, monkeypatch):
    quick_savefig(monkeypatch)
    only(all_kinds()["curves"], all_kinds()["tsne"])
    page = page_of(folder)
    assert "its checkpoint model_final.pth is no longer in the folder" in page.one("header").text
    assert "Its weights are gone" in page.one("header").text
    (picture,) = page.one("main").all("img")
    decode(picture.attrs["src"])
    assert "pictures of the model" in page.by_id("missing").text
    names = [section.attrs["id"] for section in page.one("main").all("section")]
    assert names == ["results", "run", "training", "missing", "files"]


def test_a_run_that_was_cut_off(folder, only):
    """One of two epochs, a line of metrics.json that ends in the middle, an older model_final."""
    only()
    (folder / "config.yaml").write_text(
        (folder / "config.yaml").read_text().replace("MAX_EPOCH: 1", "MAX_EPOCH: 2")
    )
    with open(folder / "metrics.json", "a") as file:
        file.write('{"iteration": 9, "total_lo')
    checkpoint(folder, "model_final.pth", 0)
    checkpoint(folder, "model_0000.pth", 0)
    page = page_of(folder)
    header = page.one("header").text
    assert "unfinished" in header
    assert "its last checkpoint, model_0000.pth, is after 1 of 2 epochs" in header
    assert "1 line of metrics.json could not be read" in header
    assert "Not shown: pictures of the model" in header  # there is nothing in the weights
    assert "Seed 7" in page.by_id("run").text


def test_raised_epochs_make_a_finished_run_unfinished(folder):
    checkpoint(folder, "model_final.pth", 0)
    assert read_run_folder(folder).finished
    checkpoint(folder, "model_final.pth", 3)
    assert read_run_folder(folder).epochs == 4
    found = read_run_folder(folder)
    found.cfg.SOLVER.MAX_EPOCH = 5
    assert not found.finished


def test_numbers_without_a_record_of_how_they_were_made(folder, only):
    """A run of somebody's own program: numbers in metrics.json, no more."""
    only()
    for name in ("results.json", "run.json"):
        (folder / name).unlink()
    numbers = json.loads((folder / "metrics.json").read_text().splitlines()[-1])
    page = page_of(folder, "--no-model")
    row = page.by_id("results").one("table").rows()[1]
    assert row[0] == "SYSUMM01/all/single"
    assert row[1].split(" ± ")[0] == f"{numbers['SYSUMM01/all/single/Rank-1']:.2f}"
    assert "is not recorded: metrics.json holds only the numbers" in page.by_id("results").text
    words = page.by_id("run").text
    assert "does not say which file it was made from" in words
    assert "configs/mrda/synthetic.yml" in words  # the nearest
    assert "torch" in words and "threads 1" in words  # as its log says


@pytest.mark.parametrize("kept", ["log.txt", "metrics.json", "results.json", "last_checkpoint"])
def test_one_file_alone_is_reported(folder, only, kept):
    only()
    for path in folder.iterdir():
        if path.name != kept:
            path.unlink()
    page = page_of(folder)
    assert "config.yaml is not in the folder" in page.by_id("missing").text
    assert (len(page.by_id("results").all("table")) == 1) == (kept.endswith(".json"))


def test_damaged_files_are_named(folder, only):
    only()
    (folder / "config.yaml").write_text("MODEL: {NAM: 3}")
    (folder / "results.json").write_text('{"metrics": ')
    (folder / "run.json").write_text("[]")
    (folder / "model_final.pth").write_bytes(b"PK\x03\x04 no zip")
    words = page_of(folder).by_id("missing").text
    assert "config.yaml cannot be read" in words and "MODEL.NAM" in words
    assert "results.json is not JSON" in words
    assert "model_final.pth cannot be loaded" in words


def test_a_kind_that_fails_does_not_take_the_page_with_it(folder, only, capsys):
    class Failing(Kind):
        name, help, needs_model = "failing", "it <fails>", False

        def draw(self, subjects, options, folder):
            raise ZeroDivisionError("division by zero")

    only(Failing())
    assert run_verb("report", [str(folder), "--no-model"]) == 1
    assert "failing: not drawn: division by zero" in capsys.readouterr().out
    page = parse(folder / "report.html")
    assert "failing: it <fails> – division by zero" in page.by_id("missing").text


def test_from_python_it_returns_what_was_written(folder, only, monkeypatch):
    class Failing(Kind):
        name, help, needs_model = "failing", "it fails", False

        def draw(self, subjects, options, out):
            raise PlotError(f"no picture of {subjects[0]}")

    only(Failing())
    said = []
    out = folder.parent / "page.html"
    found = write_report(folder, out=out, with_model=False, title="mine", say=said.append)
    assert found.page == out and found.size == out.stat().st_size
    assert not found.failed  # the user's mistake, not the program's
    assert f"no picture of {folder}" in [one.why for one in found.missing]
    assert said[0] == "drawing failing ..." and "not drawn: no picture of" in said[1]
    assert parse(out).one("h1").text == "mine"
    with pytest.raises(ReportError, match="--queries is -1"):
        write_report(folder, queries=-1)


@pytest.mark.parametrize(
    "words,message",
    [
        (["nowhere"], "nowhere is not a folder"),
        (["."], "holds nothing of a run"),
        (["run", "--weights", "no.pth"], "--weights names 'no.pth'"),
        (["run", "--weights", "no.pth", "--no-model"], "leave one out"),
        (["run", "--skip", "tnse"], "--skip names tnse"),
        (["run", "--queries", "-1"], "--queries is -1"),
        (["run", "MODEL.DEVICE"], "come in pairs"),
        (["run", "--out", "run"], "is a folder"),
        (["run", "--out", "run/log.txt/page.html", "--no-model"], "cannot be written: Not a dir"),
        (["run", "--out", "run/model_final.pth"], "ends in .html"),
    ],
)
def test_mistakes_end_with_one_line(folder, monkeypatch, capsys, words, message):
    monkeypatch.chdir(folder.parent)
    assert run_verb("report", words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (folder / "report.html").exists()


def test_words_may_stand_anywhere(folder, only, monkeypatch):
    """KEY VALUE pairs before and after options; a page elsewhere links back to the run."""
    only()
    monkeypatch.chdir(folder.parent)
    words = ["run", "TEST.IMS_PER_BATCH", "4", "--out", "page/x.html", "MODEL.DEVICE", "cpu"]
    assert run_verb("report", words) == 0
    page = parse(folder.parent / "page" / "x.html")
    assert "../run/log.txt" in [a.attrs["href"] for a in page.by_id("files").all("a")]


def test_a_full_disk_ends_the_report_in_one_line(folder, monkeypatch, capsys):
    def full(*words):
        raise UnwritableError("figures/curves.png cannot be written: No space left on device.")

    monkeypatch.setattr(Curves, "draw", full)
    assert run_verb("report", [str(folder), "--no-model"]) == 2
    error = capsys.readouterr().err
    assert error == "error: figures/curves.png cannot be written: No space left on device.\n"
    assert not (folder / "report.html").exists()
