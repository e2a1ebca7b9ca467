"""Damaged side files. Oracle: the sentence names the file that the test has damaged."""

import numpy as np
import pytest

from vireid_plugins.errors import FileContentError, MissingFileError
from vireid_plugins.synthvi.annotations import INDEX_FILE, Annotations, pack


@pytest.fixture
def rendered(tmp_path):
    """A dataset of two images, whose side file is written here."""
    mask = np.zeros((4, 3), bool)
    mask[1, 2] = True
    points = np.arange(51.0).reshape(17, 3)
    (tmp_path / "synthvi").mkdir()
    (tmp_path / "synthvi/1.npz").write_bytes(pack([points, points + 1], [mask, ~mask]))
    index = "cam1/a.jpg,synthvi/1.npz,0\ncam1/b.jpg,synthvi/1.npz,1\n"
    (tmp_path / INDEX_FILE).write_text(index, encoding="utf-8")
    return tmp_path


def test_whole_files_are_read(rendered):
    found = Annotations(rendered)
    assert len(found) == 2
    assert found.keypoints("cam1/b.jpg")[0].tolist() == [1, 2, 3]
    assert np.flatnonzero(found.mask("cam1/a.jpg")).tolist() == [5]
    assert found.mask("cam1/b.jpg").sum() == 11


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n", "line 1: expected 3 cells, found 2"),
        ("a,b,c\n", "line 1: expected a row number, found 'c'"),
        ("a,b,-1\n", "found '-1'"),
        ("a,b,0\nc,d,1.5\n", "line 2: expected a row number, found '1.5'"),
        ("a,b," + "9" * 30, "expected a row number"),
        ('a,"b,0\n', "line 1: not a row of a CSV file"),
    ],
)
def test_a_damaged_index_is_told(rendered, text, words):
    (rendered / INDEX_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(FileContentError) as caught:
        Annotations(rendered)
    assert words in str(caught.value)
    assert "index.csv" in str(caught.value)


def test_damaged_side_files_are_told(rendered):
    side_file = rendered / "synthvi/1.npz"
    whole = side_file.read_bytes()
    for content, words in (
        (whole[:-40], "1.npz is damaged"),
        (pack([np.zeros((17, 2))] * 2, [np.zeros((4, 3), bool)] * 2), "arrays of other shapes"),
        (pack([np.zeros((17, 3))], [np.zeros((4, 3), bool)]), "1.npz holds 1 images"),
    ):
        side_file.write_bytes(content)
        with pytest.raises(FileContentError, match=words):
            Annotations(rendered).keypoints("cam1/b.jpg")
    side_file.unlink()
    with pytest.raises(MissingFileError, match=r"1\.npz"):
        Annotations(rendered).mask("cam1/b.jpg")
