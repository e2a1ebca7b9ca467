"""An earlier run's files go out of the way, whatever comes between. Oracle: all files by name."""

import os

import pytest

from vireid_plugins.errors import UnwritableError
from vireid_plugins.runs import earlier
from vireid_plugins.runs.earlier import (
    has_earlier_run,
    move_earlier_files,
    moved_path,
    unfinished_move,
)

RUN = [
    *("results.json", "result.json", "metrics.json", "last_checkpoint", "model_final.pth"),
    *("model_best.pth", "model_0001.pth", "config.yaml", "run.json", "log.txt", "log.txt.rank1"),
    *("events.out.tfevents.1.host", "report.html", "retrieval/SYSUMM01/1.jpg", "figures/a.png"),
]
MINE = ["notes.txt", "data/list.csv", "settings.yaml"]


def fill(folder, names, content="1"):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content} {name}")


def files(folder):
    """Content by name of all files below ``folder``."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def test_all_files_of_a_run_move_and_nothing_else(tmp_path):
    fill(tmp_path, RUN + MINE)
    assert move_earlier_files(tmp_path) == tmp_path / "earlier-1"
    assert files(tmp_path / "earlier-1") == {name: f"1 {name}" for name in RUN}
    assert {name for name in files(tmp_path) if not name.startswith("earlier-1/")} == set(MINE)
    fill(tmp_path, RUN, "2")
    assert move_earlier_files(tmp_path) == tmp_path / "earlier-2"
    assert files(tmp_path / "earlier-1")["run.json"] == "1 run.json"
    assert files(tmp_path / "earlier-2")["run.json"] == "2 run.json"
    assert move_earlier_files(tmp_path) is None


@pytest.mark.parametrize("names", [[], ["log.txt", "config.yaml", "run.json"], MINE, ["figures/a"]])
def test_a_start_that_came_to_nothing_is_no_run(tmp_path, names):
    fill(tmp_path, names)
    assert not has_earlier_run(tmp_path) and move_earlier_files(tmp_path) is None
    assert set(files(tmp_path)) == set(names)


def test_a_folder_that_does_not_exist(tmp_path):
    assert move_earlier_files(tmp_path / "new") is None and not (tmp_path / "new").exists()


@pytest.mark.parametrize("after", range(16))
def test_a_kill_loses_and_mixes_nothing(tmp_path, monkeypatch, after):
    """Killed after each number of steps; the next start continues with it."""
    fill(tmp_path, RUN + MINE)
    before, steps, real = files(tmp_path), [], os.replace

    def replace(source, target):
        if len(steps) == after:
            raise KeyboardInterrupt
        steps.append(source)
        real(source, target)

    monkeypatch.setattr(earlier.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        move_earlier_files(tmp_path)
        raise KeyboardInterrupt  # after the last step
    monkeypatch.setattr(earlier.os, "replace", real)
    assert sorted(files(tmp_path).values()) == sorted(before.values())
    move_earlier_files(tmp_path)
    assert files(tmp_path / "earlier-1") == {name: f"1 {name}" for name in RUN}
    assert unfinished_move(tmp_path) is None and len(files(tmp_path)) == len(before)


def test_a_move_that_was_stopped_ends_under_its_own_number(tmp_path):
    """Also if the folders of other earlier runs were deleted since."""
    begun = tmp_path / ".earlier-3.moving"
    begun.mkdir()
    (begun / "metrics.json").write_text("")
    (tmp_path / "results.json").write_text("")
    assert move_earlier_files(tmp_path) == tmp_path / "earlier-3"
    assert [path.name for path in tmp_path.iterdir()] == ["earlier-3"]
    assert {path.name for path in (tmp_path / "earlier-3").iterdir()} == {
        "metrics.json",
        "results.json",
    }


def test_a_file_that_cannot_move_is_one_sentence(tmp_path, monkeypatch):
    fill(tmp_path, RUN)

    def refuse(source, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(earlier.os, "replace", refuse)
    with pytest.raises(UnwritableError, match=r"earlier-1 cannot be written: Permission denied"):
        move_earlier_files(tmp_path)
    assert set(files(tmp_path)) == set(RUN)


def test_weights_are_found_where_they_are_now(tmp_path, monkeypatch):
    fill(tmp_path / "run", ["model_final.pth", "mine.pth"])
    monkeypatch.chdir(tmp_path)
    run, names = tmp_path / "run", ["model_final.pth", "mine.pth", "nowhere.pth"]
    target = move_earlier_files(run)
    assert moved_path("run/model_final.pth", run, target) == str(target / "model_final.pth")
    assert moved_path(str(run / "model_final.pth"), run, target) == str(target / "model_final.pth")
    for path in ("", "elsewhere.pth", *(f"run/{name}" for name in names[1:])):
        assert moved_path(path, run, target) == path


def test_a_folder_reached_by_a_link(tmp_path):
    fill(tmp_path / "disk", RUN)
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    assert move_earlier_files(tmp_path / "run") == tmp_path / "run" / "earlier-1"
    assert set(files(tmp_path / "disk" / "earlier-1")) == set(RUN)
