"""Find out from the first bytes of a file in which format ``torch.save`` wrote it."""

import os
import tarfile

from ..errors import CheckpointError
from .safetensors_file import is_safetensors

ZIP, LEGACY = "zip", "legacy"  # since PyTorch 1.6, and before

_BEGINNINGS = {
    b"PK\x03\x04": ZIP,
    # a pickle of the number 0x1950a86a20f9469cfc6c, in protocol 2 and later ones
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": LEGACY,
    b"\x80\x03\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": LEGACY,
    b"\x80\x04\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": LEGACY,
    b"\x80\x04\x95\r\x00\x00\x00\x00\x00\x00\x00\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": LEGACY,
    b"\x80\x05\x95\r\x00\x00\x00\x00\x00\x00\x00\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": LEGACY,
}
_ONNX = "an ONNX model, whose weights have lost their names: use the checkpoint it was made from"
_PAGE = "a web page, perhaps an error message of a download: download the file again"
# other kinds of files that often have the name of a checkpoint
_OTHERS = {
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file itself by 'git lfs pull'",
    b"<": _PAGE,
    b"{": "text, perhaps an error message of a download: look into it, and download it again",
    b"\x80": "a pickle, not written by torch.save; a pickle can run code",
    b"\x93NUMPY": "an array of NumPy",
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"\x89HDF": "an HDF5 file, perhaps weights of Keras",
    b"GGUF": "a GGUF file, a language model",
    b"Rar!": "a RAR archive: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"BZh": "compressed by bzip2: unpack it first",
    b"\xfd7zXZ": "compressed by xz: unpack it first",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF document",
    b"MATLAB 5.0": "a .mat file of MATLAB",
    b"\x08\x03\x12": _ONNX,
    **{bytes((8, version, 18)): _ONNX for version in range(4, 13)},
}


def container_of(path: str) -> str:
    """Return :data:`ZIP` or :data:`LEGACY`.

    Raises:
        OSError: the file cannot be read.
        CheckpointError: the file is neither.
    """
    with open(path, "rb") as file:
        head = file.read(64)
    found = next((kind for begin, kind in _BEGINNINGS.items() if head.startswith(begin)), None)
    if found is not None and not (found == LEGACY and tarfile.is_tarfile(path)):
        return found
    if os.path.getsize(path) == 0:
        what = "empty"
    elif tarfile.is_tarfile(path):
        what = "a tar archive, PyTorch's format before 2017, which is not read: it can run code"
    elif is_safetensors(path):
        what = (
            "a file of safetensors, the weights of an ordinary network: name it in "
            "MODEL.BACKBONE.PRETRAIN_PATH"
        )
    else:
        unknown = f"not a PyTorch checkpoint; it begins with {head[:16]!r}"
        start = head.removeprefix(b"\xef\xbb\xbf").lstrip() or head  # a byte order mark, lines
        what = next((words for begin, words in _OTHERS.items() if start.startswith(begin)), unknown)
    raise CheckpointError(
        f"{path} was not loaded: it is {what}. Expected a file written by torch.save."
    )
