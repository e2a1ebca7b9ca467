"""Each line of a run stands once in its own log. Oracle: the lines that were logged."""

import gc
import logging
import os
import warnings

import pytest

from vireid_plugins.runs.log import LOGGED, close_log, log_to_console, open_log, reopen_log, run_log

logger = logging.getLogger("vireid_plugins.some.part")


def lines(folder, name="log.txt"):
    return [line.split("INFO: ")[-1] for line in (folder / name).read_text("utf-8").splitlines()]


@pytest.fixture
def folders(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    return tmp_path / "a", tmp_path / "b"


def test_each_line_is_in_its_own_log_once(folders, capsys):
    one, two = folders
    for number, folder in enumerate((one, two, one)):
        open_log(str(folder))
        logger.info("run %d", number)
        logging.getLogger("fastreid.engine").info("host %d", number)
    close_log()
    logger.info("between runs")
    assert lines(one) == ["run 0", "host 0", "run 2", "host 2"]
    assert lines(two) == ["run 1", "host 1"]
    assert capsys.readouterr().out.count("run 1") == 1


def test_a_run_that_raises_leaves_the_loggers_as_they_were(folders):
    before = [(logging.getLogger(n).level, logging.getLogger(n).propagate) for n in LOGGED]
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for folder in folders:
            with pytest.raises(ZeroDivisionError), run_log(str(folder)):
                1 / 0  # noqa: B018
        gc.collect()
    for name, state in zip(LOGGED, before):
        one = logging.getLogger(name)
        assert not one.handlers and (one.level, one.propagate) == state


def test_handlers_of_the_user_stay_and_get_each_line_once(folders):
    seen = []

    class Mine(logging.Handler):
        def emit(self, record):
            seen.append(record.getMessage())

    mine = Mine()
    logging.getLogger("vireid_plugins").addHandler(mine)
    try:
        for number, folder in enumerate(folders):
            with run_log(str(folder)):
                logger.info("run %d", number)
        assert seen == ["run 0", "run 1"] and lines(folders[1]) == ["run 1"]
        assert logging.getLogger("vireid_plugins").handlers == [mine]
        log_to_console()
        assert logging.getLogger("vireid_plugins").handlers == [mine]
    finally:
        logging.getLogger("vireid_plugins").removeHandler(mine)


def test_a_log_that_was_moved_begins_anew(folders):
    one, two = folders
    with run_log(str(one)):
        reopen_log()
        logger.info("first")
        (one / "log.txt").rename(two / "log.txt")
        reopen_log()
        logger.info("second")
    assert (lines(two), lines(one)) == (["first"], ["second"])
    reopen_log()
    assert not logging.getLogger("vireid_plugins").handlers


def test_other_processes_have_files_of_their_own(folders, capsys):
    with run_log(str(folders[0]), rank=1):
        logger.info("from process 1")
    assert lines(folders[0], "log.txt.rank1") == ["from process 1"]
    assert capsys.readouterr().out == ""


def test_every_character_is_kept(folders, capsys):
    with run_log(str(folders[0])):
        logger.info("中文 ± \udcff")
    assert lines(folders[0]) == ["中文 ± \\udcff"]
    assert "中文 ± \\udcff" in capsys.readouterr().out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device here is always full")
def test_a_full_disk_is_said_once_and_the_run_goes_on(folders, capsys):
    (folders[0] / "log.txt").symlink_to("/dev/full")
    with run_log(str(folders[0])):
        for number in range(3):
            logger.info("line %d", number)
    err = capsys.readouterr().err
    assert err.startswith("warning: lines of the log are missing: ") and err.count("\n") == 1
    assert "log.txt cannot be written: No space left on device" in err


def test_a_closed_pipe_ends_only_the_display(folders, monkeypatch, capsys):
    class Closed:
        encoding = "ascii"

        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Closed())
    with run_log(str(folders[0])):
        logger.info("first")
        logger.info("second")
    assert lines(folders[0]) == ["first", "second"] and capsys.readouterr().err == ""


def test_colors_and_control_characters_stay_out_of_the_lines(folders, capsys, monkeypatch):
    """FastReID colors names of tensors; another program's handler gets the line as it was."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with run_log(str(folders[0])):
        logging.getLogger("fastreid.utils").info(
            "keys: %s", "\x1b[34mheads.weight\x1b[0m\x07\n two"
        )
    text = (folders[0] / "log.txt").read_text(encoding="utf-8")
    assert "keys: heads.weight\\x07\n two\n" in text and "\x1b" not in text
    assert "keys: heads.weight\\x07\n two\n" in capsys.readouterr().out
