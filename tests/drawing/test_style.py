"""Figures and numbers as files. Oracles: the bytes, read back by other programs."""

import csv
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
from matplotlib import rcParams
from PIL import Image

from vireid_plugins.drawing.style import (
    COLORS,
    new_figure,
    plain,
    styled,
    write_figure,
    write_numbers,
)


@pytest.fixture
def figure():
    with styled():
        figure = new_figure(3, 2)
        axes = figure.subplots()
        axes.plot([0, 1], [1, 0], color=COLORS[3])
        axes.set_title(plain("price $5 and $6"))
    return figure


def test_png_and_pdf_are_whole_and_hold_the_figure(figure, tmp_path):
    folder = tmp_path / "a new" / "folder"
    paths = write_figure(figure, str(folder), "curve")
    assert paths == [str(folder / "curve.png"), str(folder / "curve.pdf")]
    assert sorted(path.name for path in folder.iterdir()) == ["curve.pdf", "curve.png"]
    with Image.open(paths[0]) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (320, 480, 3)  # 2 x 3 inches at 160 dots
    vermilion = [int(COLORS[3][i : i + 2], 16) for i in (1, 3, 5)]
    assert (pixels == vermilion).all(2).sum() > 300
    content = (folder / "curve.pdf").read_bytes()
    assert content.startswith(b"%PDF") and content.rstrip().endswith(b"%%EOF")
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.S)
    readable = content + b"".join(zlib.decompress(s) for s in streams if s[:1] == b"x")
    # The page's size in points, and text in an embedded TrueType font, not in outlines.
    assert b"0 0 216 144" in readable
    assert b"/FontFile2" in readable and b"/Type3" not in readable


def test_the_same_figure_gives_the_same_bytes(figure, tmp_path):
    for name in ("one", "two"):
        write_figure(figure, str(tmp_path), name)
    for kind in ("png", "pdf"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()


def test_the_style_ends_where_it_was_begun():
    before = rcParams["axes.spines.top"]
    with styled():
        assert rcParams["axes.spines.top"] is False and rcParams["pdf.fonttype"] == 42
    assert rcParams["axes.spines.top"] == before


def test_dollars_are_no_mathematics(figure):
    (axes,) = figure.axes
    figure.canvas.draw()
    assert axes.title.get_text() == r"price \$5 and \$6"
    assert axes.title._preprocess_math(axes.title.get_text()) == ("price $5 and $6", False)


def test_numbers_are_read_back_as_they_were(tmp_path):
    rows = [("a, b", 1, 0.1), ('say "ü"', np.int64(7), np.float64(1e-9))]
    path = write_numbers(str(tmp_path / "new"), "numbers", ("name", "n", "x"), iter(rows))
    with open(path, encoding="utf-8", newline="") as file:
        read = list(csv.reader(file))
    assert read[0] == ["name", "n", "x"]
    assert [(name, int(n), float(x)) for name, n, x in read[1:]] == rows


def test_colors_differ_without_color_vision():
    """Each two differ in what a deuteranope or protanope is left with: Machado et al., 2009."""
    matrices = (
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
    )
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLORS])
    for matrix in (np.eye(3), *map(np.array, matrices)):
        seen = np.clip(rgb**2.2 @ matrix.T, 0, 1) ** (1 / 2.2)
        gaps = np.linalg.norm(seen[:, None] - seen[None], axis=2)
        assert gaps[~np.eye(len(COLORS), dtype=bool)].min() > 0.15


def test_matplotlib_is_loaded_only_when_something_is_drawn(tmp_path):
    """Training imports this room, and must not wait for matplotlib: a fresh process is asked."""
    script = (
        "import sys, vireid_plugins\n"
        "from vireid_plugins.drawing import retrieval_page, sheet, photos, style\n"
        "loaded = [name for name in sys.modules if name.split('.')[0] == 'matplotlib']\n"
        "assert not loaded, loaded[:3]\n"
        "style.write_figure(style.new_figure(1, 1), sys.argv[1], 'empty')\n"
        "assert 'matplotlib' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "empty.png").is_file()
