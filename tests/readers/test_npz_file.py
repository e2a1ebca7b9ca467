"""Arrays of .npz files. Oracle: the arrays that NumPy wrote, and NumPy's own reader."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import FileContentError, MissingFileError
from vireid_plugins.readers.npz_file import read_npz

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4)),
    "c": np.array(5, dtype=">i4"),
    "d": np.zeros((0, 7)),
}


def npz_bytes(save=np.savez_compressed, **arrays):
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def zip_bytes(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy_header(text, **facts):
    facts = {"descr": "<f8", "fortran_order": False, **facts}
    line = (text or repr(facts)).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line


def write(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_as_they_were_written(tmp_path, save):
    path = write(tmp_path, npz_bytes(save, **ARRAYS))
    found = read_npz(path, list(ARRAYS))
    with np.load(path) as expected:
        for name in ARRAYS:
            assert np.array_equal(found[name], expected[name])
            assert found[name].dtype == expected[name].dtype


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        npz_bytes(b=np.ones(2)),
        npz_bytes(a=np.array([{}, 1], dtype=object)),
        npz_bytes(a=np.ones(2))[:-30],
        zip_bytes(a=b""),
        zip_bytes(a=b"\x93NUMPY\x02\x00\x00\x00\x00\x00"),
        zip_bytes(a=npy_header("", shape=(99999999999,))),
        zip_bytes(a=npy_header("", shape=(-1, 2)) + b"12"),
        zip_bytes(a=npy_header("", descr="|O", shape=(1,)) + b"pickled"),
        zip_bytes(a=npy_header("__import__('os')")),
        zip_bytes(a=npy_header("((((")),
    ],
)
def test_damage_is_told(tmp_path, content):
    path = write(tmp_path, content)
    with pytest.raises(FileContentError) as caught:
        read_npz(path, ["a"], "Render it again.")
    told = str(caught.value)
    assert told.startswith(f"{path} is damaged (")
    assert told.endswith("Render it again.")


def test_an_absent_file_is_told(tmp_path):
    with pytest.raises(MissingFileError):
        read_npz(tmp_path / "absent.npz", ["a"])


VALID = [npz_bytes(save, **ARRAYS) for save in (np.savez, np.savez_compressed)]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(VALID), st.data())
def test_damaged_bytes_give_the_arrays_or_an_error(tmp_path_factory, content, data):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    try:
        found = read_npz(path, list(ARRAYS))
    except FileContentError as error:
        assert str(error).startswith(str(path))
    else:  # a zip file has checksums of its contents
        assert all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(ARRAYS)), st.data())
def test_a_damaged_array_in_a_whole_archive_is_an_array_or_an_error(tmp_path_factory, name, data):
    """The checksums of the archive fit the damage, so NumPy sees it."""
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    buffer = io.BytesIO()
    np.save(buffer, ARRAYS[name])
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, 70) | st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(
            st.sampled_from(b"0123456789()',:|<>OfiuU ") | st.integers(0, 255)
        )
    path.write_bytes(zip_bytes(a=bytes(damaged)))
    try:
        found = read_npz(path, ["a"])["a"]
    except FileContentError as error:
        assert str(error).startswith(str(path))
    else:
        assert isinstance(found, np.ndarray) and not found.dtype.hasobject
