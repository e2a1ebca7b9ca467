"""The official permutation file. Oracles: what the test wrote, and what it spoiled."""

import pickle

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import MissingFileError, UserError
from vireid_plugins.evaluation.permutation import read_permutations

COUNTS = {(2, 1): 3, (2, 4): 2, (5, 1): 4}
TRIALS = 2


def cells_of(change=lambda pid, camera, orders: orders, cameras=6, identities=5):
    rng = np.random.default_rng(1)
    cells = np.empty((cameras, 1), dtype=object)
    for camera in range(1, cameras + 1):
        cell = np.empty((identities, 1), dtype=object)
        for pid in range(1, identities + 1):
            number = COUNTS.get((pid, camera), 0)
            orders = np.array([rng.permutation(number) + 1 for _ in range(TRIALS)])
            cell[pid - 1, 0] = change(pid, camera, orders)
        cells[camera - 1, 0] = cell
    return cells


def write(path, cells, name="rand_perm_cam", **options):
    scipy.io.savemat(str(path), {name: cells}, **options)
    return str(path)


def read(path):
    return read_permutations(None, COUNTS, TRIALS, path)


def only(pid, camera, spoil):
    return lambda p, c, orders: spoil(orders.copy()) if (p, c) == (pid, camera) else orders


def repeated(orders):
    orders[1, 0] = orders[1, 1]
    return orders


SPOILED = {
    "an image is missing": (cells_of(only(2, 1, lambda o: o[:, :2])), "2 images, but the folder"),
    "an image too many": (
        cells_of(only(2, 1, lambda o: np.hstack([o, [[4], [4]]]))),
        "permutation of 4 images, but the folder has 3",
    ),
    "an image occurs twice": (cells_of(only(5, 1, repeated)), "trial 1: not an order of the image"),
    "counted from 0": (cells_of(only(2, 4, lambda o: o - 1)), "image 2 does not occur"),
    "fractions": (cells_of(only(2, 4, lambda o: o + 0.5)), "not an order of the images 1 to 2"),
    "not numbers": (cells_of(only(2, 4, lambda o: o * np.nan)), "not an order of the images 1"),
    "fewer trials": (cells_of(only(2, 1, lambda o: o[:1])), "expected 2 rows.*got 1 x 3 values"),
    "a cell for numbers": (cells_of(only(2, 1, lambda o: o.astype(object))), "got 2 x 3 cells"),
    "no numbers": (cells_of(only(2, 1, lambda o: o[:0])), "expected 2 rows of image numbers"),
    "cameras are missing": (cells_of(cameras=3), "has no camera 4: it has 3 cells"),
    "identities are missing": (
        cells_of(identities=4),
        "camera 1, has no identity 5: it has 4 cells",
    ),
    "numbers for cells": (
        np.arange(12.0).reshape(6, 2),
        "has no camera 1: expected a column",
    ),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_what_is_spoiled_is_named(tmp_path, kind):
    cells, said = SPOILED[kind]
    with pytest.raises(UserError, match=said) as caught:
        read(write(tmp_path / "perm.mat", cells))
    assert "perm.mat" in str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "perm.mat"
    with pytest.raises(MissingFileError, match="'random' needs no file"):
        read(str(path))
    for content in (b"", b"1 2 3\n", pickle.dumps(cells_of()), b"MATLAB 7.3 MAT-file" + bytes(999)):
        path.write_bytes(content)
        with pytest.raises(UserError, match="perm.mat.*rand_perm_cam|perm.mat.*permutation"):
            read(str(path))
    with pytest.raises(UserError, match="'rand_perm_cam'; its variables: other"):
        read(write(path, cells_of(), name="other"))
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="perm.mat"):
        read(str(path))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("perm") / "perm.mat"
    return open(write(path, cells_of()), "rb").read(), path


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_right(whole, data):
    """Oracle: the file before the damage."""
    content, path = whole
    spoiled = bytearray(content)
    begin = data.draw(st.sampled_from([0, 128, 128, 128]))  # mostly behind the header
    for place in data.draw(st.lists(st.integers(begin, len(content) - 1), max_size=2)):
        spoiled[place] = data.draw(st.integers(0, 9))
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(bytes(spoiled[: data.draw(st.sampled_from([cut, *[len(content)] * 4]))]))
    try:
        found = read(str(path))
    except UserError as error:
        assert "perm.mat" in str(error)
        return
    for key, count in COUNTS.items():
        assert [sorted(order) for order in found[key]] == [list(range(count))] * TRIALS
