"""A user's mistake is a type. Oracle: what Python's own exceptions of these names promise."""

import pytest

from vireid_plugins import errors
from vireid_plugins.data.datasets.base import DatasetError
from vireid_plugins.onnx_export import ExportError
from vireid_plugins.readers.image import ImageError

PLAIN = (errors.ReportError, errors.PlanError, errors.PlotError)
ALSO = {
    errors.UnknownNameError: KeyError,
    errors.MissingFileError: FileNotFoundError,
    errors.ExistingFileError: FileExistsError,
    errors.MissingLibraryError: RuntimeError,
    errors.CheckpointError: RuntimeError,
    errors.NonFiniteError: FloatingPointError,
}


@pytest.mark.parametrize("kind", [errors.UserError, *PLAIN, *ALSO, DatasetError, ImageError])
def test_a_mistake_is_foreseen_and_says_its_message(kind, monkeypatch):
    """Also a ``KeyError``, around whose message Python would put quotes."""
    monkeypatch.delenv("VIREID_TRACEBACK", raising=False)
    error = kind("'a' is wrong;\nexpected 'b'.")
    assert isinstance(error, ValueError) and isinstance(error, ALSO.get(kind, ValueError))
    assert str(error) == "'a' is wrong;\nexpected 'b'."
    assert errors.one_line(error) == "'a' is wrong; expected 'b'."
    assert errors.is_foreseen(error)
    monkeypatch.setenv("VIREID_TRACEBACK", "1")
    assert not errors.is_foreseen(error)


@pytest.mark.parametrize("kind", [ValueError, KeyError, OSError, RuntimeError, ZeroDivisionError])
def test_any_other_exception_is_a_fault(kind):
    assert not errors.is_foreseen(kind("of the program"))


def test_an_export_error_is_a_mistake():
    assert issubclass(ExportError, errors.UserError)


def test_a_long_message_keeps_its_ends():
    text = errors.one_line(ValueError("begin " + "x" * 1000 + " end"))
    assert text.startswith("begin x") and text.endswith("x end") and len(text) < 500
    assert errors.one_line(ValueError()) == "ValueError"


def test_a_report_is_one_line(capsys):
    errors.report(errors.UserError("first\nsecond"))
    assert capsys.readouterr().err == "error: first second\n"


def test_a_file_to_which_access_is_denied_is_a_mistake(monkeypatch, capsys):
    monkeypatch.delenv("VIREID_TRACEBACK", raising=False)
    denied = PermissionError(13, "Permission denied", "/root/a.pth")
    assert errors.is_foreseen(denied)
    errors.report(denied)
    told = capsys.readouterr().err
    assert told.startswith("error: /root/a.pth: permission denied. Change the permissions")
    assert told.count("\n") == 1
    assert not errors.is_foreseen(PermissionError(1, "Operation not permitted"))  # names no file


def test_a_report_has_no_control_characters(capsys):
    """A name of a file may turn the terminal red, move the cursor, or write from right to left."""
    errors.report(errors.UserError("a\x1b[31mred\x1b[0m\x07\u202e.pth, \u4eba\u3000\xe9: no file"))
    expected = "error: a\\x1b[31mred\\x1b[0m\\x07\\u202e.pth, \u4eba\u3000\xe9: no file\n"
    assert capsys.readouterr().err == expected


def test_a_message_of_a_library_loses_its_colors():
    assert (
        errors.one_line(ValueError("\x1b[1mbold\x1b[0m and \x1b[38;5;4mblue\x1b[m"))
        == "bold and blue"
    )
