"""Cells of CSV files: nothing that a spreadsheet would run, and everything else unchanged."""

import csv
import io

import numpy as np
import pytest

from vireid_plugins.cells import safe_cells
from vireid_plugins.comparison.export import _csv
from vireid_plugins.drawing.style import write_numbers


@pytest.mark.parametrize(
    "text", ["=1+1.jpg", "+cmd", "-a.png", "@SUM(A1)", "\tx", "\r=x", "＝HYPERLINK(1)"]
)
def test_a_text_that_a_spreadsheet_would_run_is_quoted(text):
    assert safe_cells([text]) == [f"'{text}"]


@pytest.mark.parametrize(
    "cell", ["a=b.jpg", "", "-0.25", "+3", "-1e-7", -0.25, np.float32(-1), None, "'=x", "图.png"]
)
def test_other_cells_stay(cell):
    assert safe_cells([cell])[0] is cell


def test_the_numbers_of_a_figure_and_a_table_have_safe_cells(tmp_path):
    path = write_numbers(str(tmp_path), "n", ["image", "=x"], [["=cmd|' /C calc'!A0", -0.5]])
    with open(path, encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["image", "'=x"], ["'=cmd|' /C calc'!A0", "-0.5"]]
    table = list(csv.reader(io.StringIO(_csv([{"run": "@a", "mAP": -1.5}]))))
    assert table == [["run", "mAP"], ["'@a", "-1.5"]]
