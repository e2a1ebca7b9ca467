"""What a check calls usable is trained and evaluated, and nothing else is. Oracle: the other one.

Each case spoils a good set. Cases that are refused by a rule about numbers of images that depends
on the config (the size of a batch) are not among them.
"""

import os
import shutil
import tempfile
from contextlib import contextmanager

import pytest

from vireid_plugins.data.build import build_test_loader, build_train_loader
from vireid_plugins.data.checks import check_dataset
from vireid_plugins.errors import UserError

HEAD = "path,pid,camid,modality,split"
NOBODY = 65534


def rows_of(splits):
    return [
        [f"{pid}_{word}_{k}.png", pid, camera, word, split]
        for split, pids in splits.items()
        for pid in pids
        for camera, word in ((1, "visible"), (2, "infrared"))
        for k in (1, 2)
    ]


def change(column, value, *lines):
    """Return a function that sets a column of some lines, counted from 0."""

    def spoil(rows, folder):
        for line in lines:
            rows[line][column] = value

    return spoil


def more(*new):
    return lambda rows, folder: rows.extend(map(list, new))


def on_disk(name, action):
    return lambda rows, folder: action(folder / name)


def cut(path):
    path.write_bytes(path.read_bytes()[:60])


def into_folder(path):
    path.unlink()
    path.mkdir()


def into_pipe(path):
    path.unlink()
    os.mkfifo(path)


def into_circle(path):
    path.unlink()
    path.symlink_to(path)


def without(word, split):
    def spoil(rows, folder):
        rows[:] = [row for row in rows if (row[3], row[4]) != (word, split)]

    return spoil


GOOD = {
    "nothing": lambda rows, folder: None,
    "words": change(1, " anna ", 0, 1, 2, 3),
    "points": change(1, "1.0", 0, 2),
    "zeros": change(1, "001", 0, 3),
    "full_width": change(1, "１", 0, 1),
    "plus": change(1, "+1", 1, 2),
    "20_digits": change(1, "20240115103000000001", 0, 1, 2, 3),
    "camera_words": change(2, "hall", 0, 1),
    "minus_one": more(
        *[[f"{w}{s}.png", -1, 1, w, s] for w in ("visible",) for s in ("train", "test")]
    ),
    "twice": more(["1_visible_1.png", 1, 1, "visible", "train"]),
    "query_only_in_one": more(["9_x.png", 99, 1, "visible", "query"]),
    "16_bytes_name": change(0, "./1_visible_1.png", 0),
}
BAD = {
    "leaked_image": change(0, "1_visible_1.png", -1),
    "leaked_person": change(1, "1", -1, -2, -3, -4),
    "two_identities": more(["1_visible_1.png", 2, 1, "visible", "train"]),
    "two_modalities": more(["1_visible_1.png", 1, 1, "infrared", "train"]),
    "two_cameras": more(["1_visible_1.png", 1, 7, "visible", "train"]),
    "nan": change(1, "nan", 3),
    "rounded": change(1, "2.02E+19", 3),
    "empty_camera": change(2, "None", 3),
    "modality": change(3, "thermal", 3),
    "split": change(4, "validate", 3),
    "absent": change(0, "absent.png", 3),
    "no_infrared_training": without("infrared", "train"),
    "no_visible_test": without("visible", "test"),
    "all_junk": change(1, "-1", *range(12)),
    "one_person": change(1, "1", *range(12)),
    "one_modality_only": change(3, "visible", 2, 3),
    "no_match": lambda rows, folder: [change(1, 100 + n, n)(rows, folder) for n in range(12, 20)],
    "truncated": on_disk("1_visible_1.png", cut),
    "empty": on_disk("8_visible_1.png", lambda path: path.write_bytes(b"")),
    "text": on_disk("2_visible_1.png", lambda path: path.write_text("text")),
    "folder": on_disk("2_visible_1.png", into_folder),
    "pipe": on_disk("2_visible_2.png", into_pipe),
    "circle": on_disk("9_visible_2.png", into_circle),
}


@pytest.mark.parametrize("case", [*GOOD, *BAD])
def test_a_check_says_what_training_and_evaluation_do(case, make_csv, cfg, tmp_path):
    rows = rows_of({"train": (1, 2, 3), "test": (8, 9)})
    path = make_csv(rows)
    {**GOOD, **BAD}[case](rows, path.parent)
    for name in [row[0] for row in rows]:
        if not os.path.lexists(path.parent / name) and "absent" not in name:
            shutil.copy(path.parent / "1_visible_2.png", path.parent / name)
    make_csv(rows, images=False)
    cfg.DATASETS.CSV_FILE = "own/list.csv"
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("CSVDataset",)
    report = check_dataset("csv", str(tmp_path), full=True, csv_file="own/list.csv")
    try:
        build_train_loader(cfg)
        build_test_loader(cfg, "CSVDataset")
        trained = True
    except UserError:
        trained = False
    assert (report.usable, trained) == (case in GOOD, case in GOOD), str(report)


def test_all_problems_of_all_kinds_are_counted(make_csv, tmp_path):
    rows = rows_of({"train": (1, 2, 3), "test": (8, 9)})
    rows += [["1_visible_1.png", 2, 1, "visible", "train"], ["gone.png", 3, 1, "visible", "train"]]
    rows += [["2_visible_1.png", "nan", 1, "visible", "test"]]
    folder = make_csv(rows).parent
    (folder / "gone.png").unlink()
    cut(folder / "1_visible_2.png")
    (folder / "9_infrared_1.png").write_bytes(b"")
    into_folder(folder / "8_visible_1.png")
    report = check_dataset("csv", str(tmp_path), full=True, csv_file="own/list.csv")
    assert "17 of 20 image files decoded, 3 unusable." in report.lines
    assert len(report.problems) == 6 and "6 problem(s)" in str(report)
    for word in ("gone.png (line 23)", "line 24: pid: 'nan'", "two identities", "1_visible_2.png"):
        assert word in str(report)


@contextmanager
def ordinary_user():
    """Read files as somebody whom permissions bind."""
    root = os.geteuid() == 0
    try:
        if root:
            os.setresuid(NOBODY, NOBODY, 0)
        yield
    finally:
        if root:
            os.setresuid(0, 0, 0)


@pytest.fixture
def open_folder():
    """Yield a folder that every user may enter, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield name


@pytest.mark.skipif(not hasattr(os, "setresuid"), reason="permissions of Linux")
@pytest.mark.parametrize(
    "locked, expected",
    [
        ("cam3/0001/0001.jpg", "0001.jpg: cannot be opened (Permission denied)"),
        ("cam3/0001", "cam3/0001: the folder cannot be read (Permission denied)"),
        ("cam3", "cam3: the folder cannot be read (Permission denied)"),
        ("exp/test_id.txt", "test_id.txt cannot be read: Permission denied"),
        ("", "no folder"),
    ],
)
def test_what_may_not_be_read_is_one_sentence(locked, expected, make_sysu, open_folder):
    folder = os.path.join(open_folder, "SYSU-MM01")
    shutil.copytree(make_sysu(), folder)
    open(os.path.join(folder, "synthvi.json"), "w").close()
    assert check_dataset("sysu", open_folder).usable
    os.chmod(os.path.join(folder, locked) if locked else open_folder, 0)
    try:
        with ordinary_user():
            report = check_dataset("sysu", open_folder)
    finally:
        os.chmod(os.path.join(folder, locked) if locked else open_folder, 0o755)
    assert expected in str(report) and not report.usable


def test_a_name_that_is_no_text_is_shown_and_refused(make_sysu, cfg, tmp_path):
    folder = make_sysu()
    (folder / "synthvi.json").touch()
    odd = os.fsencode(folder / "cam1" / "0001") + b"/photo\xff.jpg"
    try:
        shutil.copy(folder / "cam1" / "0001" / "0001.jpg", odd)
    except OSError:
        pytest.skip("this disk has names in UTF-8 only")
    report = check_dataset("sysu", str(tmp_path), full=True)
    assert len(report.problems) == 1 and "photo\\" in report.problems[0]
    str(report).encode("utf-8")
    with pytest.raises(UserError, match=r"1 path\(s\) of training images are not in UTF-8"):
        build_train_loader(cfg)
