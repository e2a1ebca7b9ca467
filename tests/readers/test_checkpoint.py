"""Reading checkpoints. Oracles: what was saved; files that are crafted here, byte by byte."""

import io
import pickle
import tarfile
import warnings
import zipfile
from typing import Tuple

import numpy as np
import pytest
import torch

from vireid_plugins.errors import CheckpointError, MissingFileError
from vireid_plugins.readers.checkpoint import read_checkpoint
from vireid_plugins.readers.checksum import CHECKSUM, tensor_sums

CONTENT = {
    "model": {"first.weight": torch.arange(60.0).view(6, 10), "last.bias": torch.arange(64.0)},
    "optimizer": {"state": {0: {"momentum": torch.ones(300)}}},
    "epoch": 3,
}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "weights.pth")


def records(path):
    """The records of an archive by their names without the folder."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write_archive(path, content, compression=zipfile.ZIP_STORED, folder="archive/"):
    """Write pairs of a name and bytes as an archive, a name twice if it is there twice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, value in content:
                archive.writestr(f"{folder}{name}", value)


def at(path, part):
    """The place of a record in a file."""
    with zipfile.ZipFile(path) as archive:
        info = next(one for one in archive.infolist() if one.filename.endswith(part))
    with open(path, "rb") as file:
        data = file.read()
    lengths = data[info.header_offset + 26 : info.header_offset + 30]
    begin = info.header_offset + 30
    return begin + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")


def damage(path, begin, length=64):
    """Flip all bits of ``length`` bytes."""
    with open(path, "r+b") as file:
        file.seek(begin)
        data = file.read(length)
        file.seek(begin)
        file.write(bytes(255 - one for one in data))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_mapped_checkpoint_holds_what_was_saved(path, zipped):
    """PyTorch maps only its zip format; a file in the older format is read as a whole."""
    torch.save(CONTENT, path, _use_new_zipfile_serialization=zipped)
    for entries in (None, ["model"], []):
        loaded = read_checkpoint(path, entries)
        assert loaded["epoch"] == 3
        for name, value in CONTENT["model"].items():
            assert torch.equal(loaded["model"][name], value)


def test_writing_to_a_mapped_tensor_leaves_the_file_as_it_was(path):
    torch.save({"weight": torch.zeros(3)}, path)
    read_checkpoint(path, entries=[])["weight"].fill_(1.0)
    assert torch.equal(read_checkpoint(path)["weight"], torch.zeros(3))


def test_a_damaged_tensor_is_named(path):
    """PyTorch reads such a file without a word. No checksum of ours is in it."""
    torch.save(CONTENT, path)
    damage(path, at(path, "data/1"))
    with pytest.raises(CheckpointError, match="weights.pth.*damaged: model.last.bias does not"):
        read_checkpoint(path)


def test_only_what_is_used_is_read_and_verified(path):
    torch.save(CONTENT, path)
    damage(path, at(path, "data/2"))
    assert torch.equal(
        read_checkpoint(path, ["model"])["model"]["last.bias"], CONTENT["model"]["last.bias"]
    )
    with pytest.raises(
        CheckpointError, match="optimizer.state.0.momentum does not match its checksum"
    ):
        read_checkpoint(path, ["model", "optimizer"])


def test_a_damaged_description_is_named(path):
    torch.save(CONTENT, path)
    damage(path, at(path, "data.pkl") + 20)
    with pytest.raises(CheckpointError, match="its record data.pkl does not match its checksum"):
        read_checkpoint(path, [])


def test_a_checksum_finds_what_the_archive_cannot_know(path):
    """A tensor that was changed before the file was written; a file without PyTorch's sums."""
    changed = {**CONTENT, CHECKSUM: tensor_sums(CONTENT), "model": dict(CONTENT["model"])}
    torch.save(changed, path)
    assert read_checkpoint(path)["epoch"] == 3
    for other in (CONTENT["model"]["last.bias"] + 1, torch.arange(64), torch.arange(64.0)[None]):
        changed["model"]["last.bias"] = other
        for zipped in (True, False):
            torch.save(changed, path, _use_new_zipfile_serialization=zipped)
            with pytest.raises(
                CheckpointError, match="model.last.bias does not match its checksum"
            ):
                read_checkpoint(path, ["model"])


def test_a_tensor_that_became_nan_is_told(path):
    changed = {**CONTENT, CHECKSUM: tensor_sums(CONTENT)}
    changed["model"] = {"last.bias": torch.full((64,), float("nan"))}
    torch.save(changed, path)
    with pytest.raises(
        CheckpointError, match="last.bias holds NaN or infinite values and does not"
    ):
        read_checkpoint(path)


def test_a_checksum_knows_neither_order_in_memory_nor_device():
    image = torch.rand(2, 3, 4, 5)
    sums = tensor_sums({"x": image})
    assert tensor_sums({"x": image.contiguous(memory_format=torch.channels_last)}) == sums
    assert tensor_sums({"x": torch.nn.Parameter(image)}) == sums
    assert tensor_sums({"x": image.view(3, 2, 4, 5)}) != sums
    kinds = (torch.bool, torch.bfloat16, torch.float16, torch.int64, torch.float64)
    assert len({tensor_sums({"x": torch.zeros(2, dtype=kind)})["x"] for kind in kinds}) == 5


class Writes(torch.nn.Module):
    """A program that makes a file when it is loaded."""

    def __init__(self, target: str):
        super().__init__()
        self.target, self.size = target, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images

    @torch.jit.export
    def __getstate__(self):
        return (self.target, self.training)

    @torch.jit.export
    def __setstate__(self, state: Tuple[str, bool]):
        self.target = state[0]
        self.training = state[1]
        self.size = torch.from_file(self.target, True, 4).numel()


def test_a_torchscript_archive_is_refused_before_its_program_runs(path, tmp_path):
    """PyTorch < 2.6 runs it, however it is told to load the file (CVE-2025-32434)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Writes(str(tmp_path / "made"))).save(path)
    (tmp_path / "made").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=r"TorchScript archive.*torch.jit.load\(PATH\)"):
        read_checkpoint(path)
    assert not (tmp_path / "made").exists()
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        torch.load(path, weights_only=True)
        assert (tmp_path / "made").exists()  # the check above can fail


def _polyglot(path):
    with open(path, "rb") as file:
        data = file.read()
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("storages")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))


FOREIGN = {
    "a program beside": (lambda found: [*found, ("code/x.py", b"")], "TorchScript"),
    "constants": (lambda found: [*found, ("constants.pkl", b"")], "TorchScript"),
    "a foreign record": (lambda found: [*found, ("x.py", b"")], "record 'archive/x.py'"),
    "a way out": (lambda found: [*found, ("../x.pkl", b"")], r"record 'archive/\.\./x.pkl'"),
    "two contents": (lambda found: [*found, ("data.pkl", b"")], "two records of one name"),
    "no content": (lambda found: [(n, v) for n, v in found if n != "data.pkl"], "without data.pkl"),
}


@pytest.mark.parametrize("how", FOREIGN)
def test_other_archives_are_refused(path, how):
    torch.save(CONTENT, path)
    change, words = FOREIGN[how]
    write_archive(path, change(list(records(path).items())))
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(path)


def test_archives_with_other_data_around_them_are_refused(path):
    torch.save(CONTENT, path)
    with open(path, "rb") as file:
        data = file.read()
    write_archive(path, records(path).items(), zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="with compressed records"):
        read_checkpoint(path)
    for other, words in (
        (data + b"more", "mixed with other data"),
        (b"before" + data, "begins with b'beforePK"),
        (data[: len(data) // 2], "damaged or truncated"),
        (data[:100], "damaged or truncated"),
        (data[:2], "begins with b'PK'"),
        (b"", "it is empty"),
    ):
        with open(path, "wb") as file:
            file.write(other)
        with pytest.raises(CheckpointError, match=words):
            read_checkpoint(path)


def test_tar_archives_are_refused(path):
    """PyTorch's format before 2017, which its loader still unpickles."""
    torch.save(CONTENT, path)
    _polyglot(path)
    with pytest.raises(CheckpointError, match="a tar archive"):
        read_checkpoint(path)


def test_a_size_beyond_the_record_is_refused(path):
    """PyTorch 1.13 reads memory that does not belong to the file, and crashes."""
    torch.save({"w": torch.zeros(100)}, path)
    found = records(path)
    count = pickle.BININT1 + b"\x64"
    assert found["data.pkl"].count(count) == 2  # of the memory, and of the tensor
    found["data.pkl"] = found["data.pkl"].replace(count, pickle.BININT + b"\x00\x00\x00\x10")
    write_archive(path, found.items())
    with pytest.raises(CheckpointError, match="w has 400 bytes instead of 1073741824"):
        read_checkpoint(path)


def test_a_record_that_is_longer_than_its_tensor_is_refused(path):
    torch.save({"w": torch.zeros(100)}, path)
    found = records(path)
    found["data/0"] += bytes(4)
    write_archive(path, found.items())
    with pytest.raises(CheckpointError, match="w has 404 bytes instead of 400"):
        read_checkpoint(path)


def test_an_archive_that_pytorch_lists_otherwise_is_refused(path, monkeypatch):
    """What is verified must be what PyTorch reads; here its list lacks a record."""
    torch.save(CONTENT, path)
    reader = torch._C.PyTorchFileReader

    class Other:
        def __init__(self, file):
            self.get_all_records = lambda: reader(file).get_all_records()[1:]

    monkeypatch.setattr(torch._C, "PyTorchFileReader", Other)
    with pytest.raises(CheckpointError, match="two different lists of its records"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "content,words",
    [
        ([torch.ones(1)], "of the type list; expected a dict"),
        (torch.ones(1), "of the type Tensor; expected a dict"),
        (3, "of the type int; expected a dict"),
        ({1: torch.ones(1)}, "an entry named 1, of the type int"),
        ({"a": print}, r"holds \w+.print. Expected only plain tensors"),
        ({"a": np.array([print])}, "holds NumPy values of the type 'O8'. Expected only"),
        ({"a": torch.eye(2).to_sparse()}, "_rebuild_sparse_tensor. Expected only plain tensors"),
        ({CHECKSUM: "word"}, "its entry 'checksum' is of the type str"),
    ],
)
def test_other_content_is_named(path, content, words, zipped):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "data,words",
    [
        (b"import os\n", "not a PyTorch checkpoint; it begins with b'import os"),  # KeyError: 105
        (b"<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (pickle.dumps({"a": 1}), "a pickle, not written by torch.save"),
    ],
)
def test_other_files_are_named(path, data, words):
    with open(path, "wb") as file:
        file.write(data)
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(path)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(MissingFileError, match="none.pth cannot be read: No such file"):
        read_checkpoint(str(tmp_path / "none.pth"))
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        read_checkpoint(str(tmp_path))


def test_a_name_that_is_not_utf_8_can_be_read(tmp_path):
    path = str(tmp_path / "weights-\udcff.pth")
    torch.save(CONTENT, str(tmp_path / "plain.pth"))
    (tmp_path / "plain.pth").rename(path)
    assert read_checkpoint(path, ["model"])["epoch"] == 3


def test_one_element_with_another_stride_has_a_checksum():
    """``torch.ones(1).expand(1)`` counts as contiguous, with the stride 0."""
    assert tensor_sums({"a": torch.ones(()).expand(1)}) == tensor_sums({"a": torch.ones(1)})


@pytest.mark.parametrize(
    "data,words",
    [
        (b"\n  <!DOCTYPE html><html>Quota exceeded", "a web page"),
        (b"\xef\xbb\xbf<html>", "a web page"),
        (b'{"error": "not found"}', "text, perhaps an error message of a download"),
        (
            b"\x08\x00\x00\x00\x00\x00\x00\x00" + b'{"a": 1}' + bytes(9),
            "a file of safetensors",
        ),
        (b"\x89HDF\r\n\x1a\n" + bytes(9), "an HDF5 file, perhaps weights of Keras"),
        (b"\x08\x08\x12\x07pytorch", "an ONNX model"),
        (b"GGUF" + bytes(9), "a GGUF file"),
        (b"Rar!\x1a\x07", "a RAR archive: unpack it"),
        (b"%PDF-1.4", "a PDF document"),
    ],
)
def test_files_of_other_programs_are_named(path, data, words):
    with open(path, "wb") as file:
        file.write(data)
    with pytest.raises(CheckpointError, match=f"was not loaded: it is {words}"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "record,words",
    [
        ("model.weights.h5", r"a model of Keras \(it holds model.weights.h5\)"),
        ("a.npy", "an archive of NumPy arrays"),
        ("best/weights.pth", "a zip archive with a checkpoint in it: unpack it first"),
    ],
)
def test_zip_archives_of_other_programs_are_named(path, record, words):
    write_archive(path, [(record, b"1")], folder="")
    with pytest.raises(CheckpointError, match=f"was not loaded: it is {words}"):
        read_checkpoint(path)


def test_no_colors_of_pytorch_are_in_a_message(path):
    """Its loader writes bold letters into the advice of an error."""
    with open(path, "wb") as file:
        file.write(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.garbage")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert "\x1b" not in str(caught.value)
