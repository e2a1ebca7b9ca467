"""Variables of .mat files. Oracle: the values that SciPy wrote, and SciPy's own reader."""

import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import FileContentError, MissingFileError
from vireid_plugins.readers.mat_file import read_mat


def cells(*values):
    array = np.empty((len(values), 1), dtype=object)
    for place, value in enumerate(values):
        array[place, 0] = value
    return array


PERMUTATIONS = cells(
    cells(np.array([[2, 1, 3]], np.uint8), np.zeros((0, 0))),
    cells(np.arange(300.0).reshape(3, 100), np.array([[-5]], np.int16)),
)


def mat_bytes(compressed, **values):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, values, do_compression=compressed)
    return buffer.getvalue()


def write(tmp_path, content):
    path = tmp_path / "a.mat"
    path.write_bytes(content)
    return path


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if expected.dtype == object:
        for one, other in zip(found.ravel(), expected.ravel()):
            assert_same(one, other)
    else:
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("compressed", [False, True])
def test_values_are_those_of_scipy(tmp_path, compressed):
    numbers = {
        f"of_{dtype}": np.arange(6).reshape(2, 3).astype(dtype)
        for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "bool")
    }
    values = {**numbers, "word": "text", "perm": PERMUTATIONS, "deep": np.ones((2, 3, 4))}
    path = write(tmp_path, mat_bytes(compressed, **values))
    expected = scipy.io.loadmat(path)
    for name in [*numbers, "perm", "deep"]:
        assert_same(read_mat(path, name), expected[name])


def test_the_other_order_of_bytes(tmp_path):
    """A file of two numbers, 1.5 and -2, written by hand from the format."""

    def element(kind, content):
        return struct.pack(">II", kind, len(content)) + content + b"\0" * (-len(content) % 8)

    matrix = (
        element(6, struct.pack(">II", 6, 0))
        + element(5, struct.pack(">ii", 1, 2))
        + struct.pack(">HH", 1, 1)  # a short element: its length comes first
        + b"x\0\0\0"
        + element(9, struct.pack(">dd", 1.5, -2))
    )
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    path = write(tmp_path, header + element(14, matrix))
    assert_same(read_mat(path, "x"), np.array([[1.5, -2.0]]))
    assert np.array_equal(scipy.io.loadmat(path)["x"], [[1.5, -2.0]])


def zip_bytes():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b")
    return buffer.getvalue()


def without_end(content):
    """A file whose only variable, a compressed one, ends before its stream does."""
    return content[:132] + struct.pack("<I", len(content) - 136 - 8) + content[136:-8]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"1 2 3\n4 5 6", "it is text: '1 2 3 4 5 6'"),
        (bytes(range(200, 250)), "begins with the bytes c8 c9 ca"),
        (pickle.dumps({"x": 1}), "a pickled Python object"),
        (zip_bytes(), "a checkpoint"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512), "save it in MATLAB"),
        (b"\x89HDF\r\n\x1a\n", "version 7.3"),
        (b"MATLAB 5.0 MAT-file", "no .mat file"),
        (mat_bytes(False, x=np.ones(3))[:150], "is cut off or damaged"),
        (mat_bytes(True, x=np.arange(99))[:-3], "is cut off or damaged"),
        (without_end(mat_bytes(True, x=np.arange(99))), "has no end or is too large"),
        (mat_bytes(False)[:124] + b"\0\1XY", "the order of bytes"),
        (mat_bytes(False, other=1, more=2), "has no variable 'x'; its variables: other, more"),
        (mat_bytes(False), "its variables: none"),
        (mat_bytes(True, x="word"), "holds text where"),
        (mat_bytes(True, x={"field": 1}), "holds structs where"),
        (mat_bytes(True, x=np.ones(2) * 1j), "holds complex numbers where"),
        (mat_bytes(True, x=cells("word")), "holds text where"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, content, words):
    path = write(tmp_path, content)
    with pytest.raises(FileContentError) as caught:
        read_mat(path, "x", "Fetch it again.")
    told = str(caught.value)
    assert told.startswith(str(path))
    assert words in told
    assert told.endswith("Fetch it again.")


def test_an_absent_file_is_told(tmp_path):
    with pytest.raises(MissingFileError):
        read_mat(tmp_path / "absent.mat", "x")


VALID = [mat_bytes(compressed, perm=PERMUTATIONS, x=np.eye(2)) for compressed in (False, True)]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(VALID), st.data())
def test_damaged_bytes_give_a_value_or_an_error(tmp_path_factory, content, data):
    """Also inside a compressed variable, whose own checksum would hide the damage."""
    path = tmp_path_factory.getbasetemp() / "damaged.mat"
    begin = data.draw(st.sampled_from([0, 128, 128, 128]))  # mostly behind the header
    packed = content != VALID[0] and data.draw(st.booleans())
    damaged = bytearray(VALID[0] if packed else content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(begin, 700) | st.integers(begin, len(damaged) - 1))
        damaged[place % len(damaged)] = data.draw(st.integers(0, 20) | st.integers(0, 255))
    end = data.draw(st.sampled_from([len(damaged)] * 3 + [data.draw(st.integers(0, len(damaged)))]))
    damaged = damaged[:end]
    if packed:
        variables = zlib.compress(damaged[128:])
        damaged = damaged[:128] + struct.pack("<II", 15, len(variables)) + variables
    path.write_bytes(damaged)
    try:
        found = read_mat(path, "perm")
    except FileContentError as error:
        assert str(error).startswith(str(path))
    else:
        assert found.ndim >= 2
