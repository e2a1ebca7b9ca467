"""Verify the zip archive that ``torch.save`` writes, before ``torch.load`` opens it.

PyTorch reads such archives without checking the CRC-32 of their records. Before 2.6 it also runs
the program in a TorchScript archive, even with ``weights_only=True`` (CVE-2025-32434).
"""

import io
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import torch

from ..errors import CheckpointError
from .allowed import STORAGES, check_allowed, is_storage
from .checksum import leaves
from .numpy_values import stand_in_for
from .text import shown

_PICKLE = "data.pkl"
# Records whose names begin with a dot are written by PyTorch for its own use.
_RECORD = re.compile(r"data\.pkl|version|byteorder|data/\d+|\.data/serialization_id|\.\w+")
_PROGRAM = re.compile(r"constants\.pkl|code/.*")
#: how names of records in archives of other programs end
_OTHERS: Dict[Union[str, Tuple[str, ...]], str] = {
    ".weights.h5": "a model of Keras",
    ".npy": "an archive of NumPy arrays",
    (".pth", ".pt", ".t", ".tar"): "a zip archive with a checkpoint in it: unpack it first",
}
_CHUNK, _END = 1 << 20, 22  # bytes
_REMEDY = "Use an intact copy of it, or another checkpoint."


def check_archive(path: str, entries: Optional[Sequence[str]] = None) -> None:
    """Raise ``CheckpointError`` unless the archive is whole and holds plain tensors only.

    Args:
        path: path of the archive.
        entries: the entries of its dict whose tensors are verified; None: all.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            records = _records(archive, path)
            _check_layout(archive, path)
            _check_pytorch_agrees(path, records)
            _Verification(archive, records, path).run(entries)
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path} was not loaded: it is damaged or truncated ({error}). {_REMEDY}"
        ) from error


def _records(archive: zipfile.ZipFile, path: str) -> Dict[str, zipfile.ZipInfo]:
    """Return the records by name, without the folder that contains all of them."""
    names = [info.filename for info in archive.infolist()]
    folder = names[0].partition("/")[0] if names else ""
    inside = [name[len(folder) + 1 :] for name in names]
    programs = [name for name in inside if _PROGRAM.fullmatch(name)]
    if programs:
        raise CheckpointError(
            f"{path} was not loaded: it is a TorchScript archive (it holds {programs[0]}), a "
            "program that could do anything when it is loaded. If you trust the file, save its "
            "weights alone: torch.save(torch.jit.load(PATH).state_dict(), 'weights.pth')."
        )
    _check_other_programs(path, names)
    for name, own in zip(names, inside):
        if not name.startswith(f"{folder}/") or not _RECORD.fullmatch(own):
            raise _foreign(path, f"with the record {name!r}")
    records = dict(zip(inside, archive.infolist()))
    if len(records) < len(names):
        raise _foreign(path, "with two records of one name")
    if _PICKLE not in records:
        raise _foreign(path, f"without {_PICKLE}")
    return records


def _check_other_programs(path: str, names: Sequence[str]) -> None:
    """Raise ``CheckpointError`` for archives of other programs that are known by their records."""
    for name in names:
        what = next((words for end, words in _OTHERS.items() if name.endswith(end)), "")
        if what:
            raise CheckpointError(
                f"{path} was not loaded: it is {what} (it holds {shown(name)}). Expected a file "
                "written by torch.save."
            )


def _check_layout(archive: zipfile.ZipFile, path: str) -> None:
    """Raise ``CheckpointError`` if the archive is compressed or has other data around it."""
    infos = archive.infolist()
    with open(path, "rb") as file:
        file.seek(-_END, os.SEEK_END)
        ends_well = file.read(4) == b"PK\x05\x06"
    if not ends_well or min(one.header_offset for one in infos) != 0:
        raise _foreign(path, "mixed with other data")
    if any(one.compress_type != zipfile.ZIP_STORED or one.flag_bits & 1 for one in infos):
        raise _foreign(path, "with compressed records")


def _foreign(path: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} was not loaded: it is a zip archive {what}, which torch.save does not write. "
        "Expected a file written by torch.save."
    )


def _check_pytorch_agrees(path: str, records: Dict[str, Any]) -> None:
    """Raise an error if PyTorch's own reader finds other records than Python's ``zipfile``."""
    with open(path, "rb") as file:
        seen = torch._C.PyTorchFileReader(file).get_all_records()
    if sorted(seen) != sorted(records):
        raise zipfile.BadZipFile("it has two different lists of its records")


@dataclass(frozen=True)
class _Storage:
    """The memory of a tensor, as the pickle describes it."""

    record: str
    size: int  # bytes

    def __setstate__(self, state: Any) -> None:
        """Ignore the state that PyTorch < 0.4 saves with a parameter."""


class _Verification:
    """Verify records by their CRC-32, and find which tensor each belongs to."""

    def __init__(
        self, archive: zipfile.ZipFile, records: Dict[str, zipfile.ZipInfo], path: str
    ) -> None:
        self._archive, self._records, self._path = archive, records, path
        # torch.serialization.set_crc32_options(False) writes 0 for every record
        self._has_sums = any(info.CRC for info in records.values())

    def run(self, entries: Optional[Sequence[str]]) -> None:
        for name in self._records:
            if not name.startswith("data/"):
                self._verify(name, f"its record {name}")
        described = self._archive.read(self._records[_PICKLE])
        content = _Describer(io.BytesIO(described), encoding="utf-8").load()
        done = set()
        for tensor, storage in leaves(content):
            if not isinstance(storage, _Storage) or storage.record in done:
                continue
            info = self._records.get(storage.record)
            size = info.file_size if info else 0
            if size != storage.size:  # PyTorch < 2.6 would read beyond the record
                raise self._damaged(tensor, f"has {size} bytes instead of {storage.size}")
            if entries is None or tensor.partition(".")[0] in entries:
                done.add(storage.record)
                self._verify(storage.record, tensor)

    def _verify(self, name: str, what: str) -> None:
        if not self._has_sums:
            return
        try:
            with self._archive.open(self._records[name]) as record:
                while record.read(_CHUNK):
                    pass
        except zipfile.BadZipFile as error:
            raise self._damaged(what, "does not match its checksum") from error

    def _damaged(self, what: str, how: str) -> CheckpointError:
        return CheckpointError(
            f"{self._path} was not loaded: it is damaged: {what} {how}. {_REMEDY}"
        )


class _Describer(pickle.Unpickler):
    """Read the pickle of a checkpoint without its tensors."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a harmless stand-in for each class that is allowed."""
        stand_in = stand_in_for(module, name)
        if stand_in is not None:
            return stand_in
        check_allowed(module, name)
        if name == "Parameter":
            return _Parameter
        if module == "torch._utils":  # functions that make a tensor from its memory
            return _first
        if is_storage(module, name):
            return name
        if (module, name) == ("collections", "Counter"):
            return dict
        return OrderedDict if name == "OrderedDict" else getattr(torch, name)

    def persistent_load(self, saved: Any) -> _Storage:
        """Return the description of a tensor's memory."""
        _, kind, key, _, count = saved[:5]
        return _Storage(f"data/{key}", count * STORAGES[kind])


def check_legacy(path: str) -> None:
    """Raise ``ForbiddenObjectError`` if a file of PyTorch < 1.6 names more than plain tensors."""
    with open(path, "rb") as file:
        for _ in range(4):  # magic number, version, system, content; the tensors follow
            _Describer(file, encoding="utf-8").load()


class _Parameter:
    """A stand-in for a parameter: it returns the memory that it is made from."""

    def __new__(cls, memory: Any, *_: Any) -> Any:
        return memory


def _first(*arguments: Any) -> Any:
    return arguments[0]
