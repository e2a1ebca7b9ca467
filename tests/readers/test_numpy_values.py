"""NumPy's numbers and arrays in checkpoints. Oracles: what was saved; crafted pickles."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from vireid_plugins.errors import CheckpointError
from vireid_plugins.readers.checkpoint import read_checkpoint

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
ARRAYS = {
    "cmc": np.linspace(0, 1, 20, dtype=np.float32),
    "columns first": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "other byte order": np.arange(3, dtype=">f8"),
    "unsigned": np.arange(3, dtype=np.uint32),
    "empty": np.zeros((0, 3)),
    "without axes": np.array(3.5),
    "switches": np.array([True, False]),
}
SCALARS = {
    "mAP": np.float64(0.1),
    "half": np.float16(0.5),
    "epoch": np.int64(-4),
    "byte": np.uint8(200),
    "done": np.bool_(True),
    "dataset": np.str_("r\xe9gdb"),
}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "weights.t")


@FORMATS
@pytest.mark.parametrize("entries", [None, ["net"]], ids=["all", "net"])
def test_numbers_become_those_of_python_and_arrays_tensors(path, entries, zipped):
    """The file is as the public code of AGW saves it: results of NumPy beside the weights."""
    content = {"net": {"w": torch.ones(3)}, **SCALARS, **ARRAYS, "nested": [{"a": (np.int32(2),)}]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(path, entries)
    assert torch.equal(read["net"]["w"], torch.ones(3)) and read["nested"] == [{"a": (2,)}]
    for name, value in SCALARS.items():
        assert read[name] == value.item() and type(read[name]) is type(value.item())
    for name, array in ARRAYS.items():
        assert tuple(read[name].shape) == array.shape
        assert read[name].tolist() == array.tolist()
        read[name].add_(1) if name not in ("empty", "switches") else None  # they can be written to


@FORMATS
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_files_of_numpy_1_and_2_are_read_under_either(path, module, zipped):
    torch.save({"mAP": np.float64(0.25)}, path, _use_new_zipfile_serialization=zipped)
    with open(path, "rb") as file:
        data = file.read()
    if zipped:  # the length of the name is part of the archive: the pickle is written anew
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, value in records.items():
                archive.writestr(name, renamed(value, module))
    else:
        with open(path, "wb") as file:
            file.write(renamed(data, module))
    assert read_checkpoint(path)["mAP"] == 0.25


def renamed(data, module):
    return data.replace(SCALAR.__module__.encode(), module.encode())


@FORMATS
@pytest.mark.parametrize(
    "value,words",
    [
        (np.array([print], dtype=object), "NumPy values of the type 'O8'"),
        (np.zeros(2, dtype="c8"), "NumPy values of the type 'c8'"),
        (np.zeros(2, dtype=[("a", "f4")]), "NumPy values of the type 'V4'"),
        (np.array(["word"]), "a NumPy array of other values than numbers"),
        (np.datetime64("2020-01-01"), "NumPy values of the type 'M8'"),
        (np.random.RandomState(0), "numpy.random"),
    ],
)
def test_other_objects_of_numpy_are_refused_by_name(path, value, words, zipped):
    torch.save({"net": {}, "x": value}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=f"it holds {words}"):
        read_checkpoint(path)


class Crafted:
    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


SCALAR = np.float64(0).__reduce__()[0]
RECONSTRUCT = np.zeros(1).__reduce__()[0]
F8 = np.dtype("f8")


@pytest.mark.parametrize(
    "value",
    [
        Crafted(SCALAR, F8, b"1234567"),
        Crafted(SCALAR, F8, b""),
        Crafted(SCALAR, b"12345678", F8),
        Crafted(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, (3,), F8, False, b"12345678")),
        Crafted(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, (-1,), F8, False, b"12345678")),
        Crafted(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, (1,), F8, False, [print])),
        Crafted(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, (1,))),
        Crafted(RECONSTRUCT, os.system, (0,), b"b"),
        Crafted(bytes, 1 << 40),
    ],
)
def test_crafted_values_are_refused(path, value):
    """Wrong sizes, wrong kinds, and other functions in the places of NumPy's classes."""
    torch.save({"net": {}, "x": value}, path)
    with pytest.raises(CheckpointError, match="was not loaded"):
        read_checkpoint(path)


def test_the_stand_ins_are_not_left_behind(path):
    """A file that is loaded afterwards, by other code, has NumPy's own classes."""
    torch.save({"mAP": np.float64(0.25)}, path)
    read_checkpoint(path)
    assert type(pickle.loads(pickle.dumps(np.float64(1)))) is np.float64
    if hasattr(torch.serialization, "get_safe_globals"):
        named = [one for one in torch.serialization.get_safe_globals() if "numpy" in str(one)]
        assert not named
