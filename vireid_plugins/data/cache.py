"""Cache decoded images: a folder of raw pixels, shared by workers, processes and runs.

An entry is one file. Its name is a digest of everything that its pixels depend on: the image's
absolute path, size and modification time, what the transforms do to it first, and the versions of
the decoders. So the entry of another image, or of an image that has changed, is never used. A file
begins with the same digest, the shape and a checksum; if it was cut off, or was put there by
something else, the image is decoded again. A file is written under another name and then renamed,
so it is complete or absent. If anything is wrong with the folder, images are decoded as without a
cache.

H, W: height and width in pixels.
"""

import hashlib
import logging
import mmap
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any, Callable, Optional, Union

import torch
import torchvision
from PIL import Image, features

from ..files import cache_folder
from ..keys import SWITCH, Key, above, check_values, declare, text

logger = logging.getLogger(__name__)

declare(
    "DATALOADER.CACHE",
    Key("ENABLED", False, SWITCH, "keep decoded images on disk: height x width x 3 bytes each"),
    Key("FOLDER", "", text("a path"), "empty: images/ in $VIREID_CACHE or in the user's cache"),
    Key("MAX_GB", 20.0, above(0), "GiB that all entries of the folder may take together"),
)

_GIB = 2**30
_MAGIC = b"VIREIDU8"
_HEADER = struct.Struct("<8s32sIII")  # magic, digest, H, W, CRC-32 of the pixels
_BLOCK = 1024  # bytes of an entry for each byte of the ledger
_READER = "2"  # increase it whenever ``readers/image.py`` reads other pixels from the same file
_OLD = 3600.0  # seconds after which no process still writes an unfinished file
_HITS, _MISSES, _WARNED = range(3)


def build_cache(cfg: Any) -> Optional["ImageCache"]:
    """Return the cache that ``DATALOADER.CACHE`` asks for; None if it is switched off.

    Raises:
        UserError: ``MAX_GB`` is not above 0.
    """
    node = cfg.DATALOADER.CACHE
    if not node.ENABLED:
        return None
    check_values("DATALOADER.CACHE", MAX_GB=node.MAX_GB)
    return ImageCache(node.FOLDER or cache_folder() / "images", int(node.MAX_GB * _GIB))


class ImageCache:
    """A folder of decoded images: ``cache.image(path, kind, make)`` calls ``make`` only once.

    Args:
        folder: it is created when the first entry is written.
        max_bytes: limit of all entries of the folder together, whichever process wrote them. A
            full folder stays as it is; further images are decoded each time.
    """

    def __init__(self, folder: Union[str, Path], max_bytes: int) -> None:
        self.folder = Path(folder).absolute()
        self.max_bytes = max_bytes
        # hits, misses, warned: in shared memory, where all loading processes count
        self._counts = torch.zeros(3, dtype=torch.int64).share_memory_()
        self._full = False
        self._decoders = _decoders()
        self._remove_unfinished()

    def image(self, path: str, kind: str, make: Callable[[], Image.Image]) -> Image.Image:
        """Return the image that ``make()`` returns, mode RGB, from the cache if it is there.

        Args:
            path: the path of the image file.
            kind: in words, what ``make`` does to the decoded image.
            make: decodes the image.

        Raises:
            ImageError: if ``make`` raises it; the cache itself raises nothing.
        """
        digest = self.digest(path, kind)
        if digest is None:
            return make()
        found = self._read(digest)
        self._counts[_MISSES if found is None else _HITS] += 1
        if found is not None:
            return found
        made = make()
        if not self._full and self.digest(path, kind) == digest:  # unchanged while it was read
            self._write(digest, made)
        return made

    def digest(self, path: str, kind: str) -> Optional[bytes]:
        """Return 32 bytes that change whenever the pixels may change; None if there is no file."""
        try:
            stat = os.stat(path)
        except OSError:
            return None
        parts = (os.path.abspath(path), stat.st_size, stat.st_mtime_ns, kind, *self._decoders)
        return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()

    def describe(self) -> str:
        """Return in words where the cache is, how full it is, and its use since the last call."""
        hits, misses = (int(self._counts[place]) for place in (_HITS, _MISSES))
        self._counts[_HITS] = self._counts[_MISSES] = 0
        return (
            f"{self.folder}: {self._taken() / _GIB:.2f} of {self.max_bytes / _GIB:.2f} GiB taken; "
            f"{hits} images found, {misses} decoded"
        )

    def _file(self, digest: bytes) -> Path:
        name = digest.hex()
        return self.folder / name[:2] / f"{name}.u8"

    def _read(self, digest: bytes) -> Optional[Image.Image]:
        try:
            with open(self._file(digest), "rb") as file:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
                    return _decoded(pages, digest)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            if isinstance(error, OSError):
                self._warn(f"{self._file(digest)} cannot be read ({error})")
            return None

    def _write(self, digest: bytes, image: Image.Image) -> None:
        content = _encoded(image, digest)
        target = self._file(digest)
        partial = target.with_name(f".{target.stem}.{os.getpid()}.{os.urandom(4).hex()}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not self._reserve(len(content)):
                return
            partial.write_bytes(content)
            os.replace(partial, target)
        except OSError as error:
            _remove(partial)
            if not target.is_file():  # on Windows another process may have it open, just written
                self._full = True
                self._warn(f"nothing more can be written to {self.folder} ({error})")

    def _reserve(self, size: int) -> bool:
        """Reserve ``size`` more bytes; return whether they fit.

        The file ``ledger`` grows by one byte for each block of an entry, appended by the process
        that writes the entry, so its length gives the size of all entries. In this way the limit
        holds for all processes together without a lock. An entry that was replaced, or that a
        killed process did not finish, stays counted.
        """
        blocks = -(-size // _BLOCK)
        if self._taken() + blocks * _BLOCK <= self.max_bytes:
            with open(self.folder / "ledger", "ab", buffering=0) as ledger:
                ledger.write(bytes(blocks))
                if ledger.tell() * _BLOCK <= self.max_bytes:
                    return True
        self._full = True
        self._warn(
            f"{self.folder} is full at DATALOADER.CACHE.MAX_GB {self.max_bytes / _GIB:.2f}; the "
            "other images are decoded each time. Raise MAX_GB, or delete the folder"
        )
        return False

    def _taken(self) -> int:
        try:
            return os.stat(self.folder / "ledger").st_size * _BLOCK
        except OSError:
            return 0

    def _remove_unfinished(self) -> None:
        """Delete unfinished files that a killed process left long ago."""
        for partial in self.folder.glob("*/.*.partial"):
            try:
                if time.time() - partial.stat().st_mtime > _OLD:
                    partial.unlink()
            except OSError:
                continue

    def _warn(self, reason: str) -> None:
        """Log a warning, once for all loading processes of a run."""
        if not self._counts[_WARNED]:
            self._counts[_WARNED] = 1
            logger.warning("The image cache: %s. Training continues.", reason)


def _decoders() -> tuple:
    versions = [features.version(name) for name in ("jpg", "zlib", "libtiff", "webp")]
    return (_READER, Image.__version__, torchvision.__version__, *versions)


def _encoded(image: Image.Image, digest: bytes) -> bytes:
    pixels = image.tobytes()
    return _HEADER.pack(_MAGIC, digest, image.height, image.width, zlib.crc32(pixels)) + pixels


def _decoded(pages: mmap.mmap, digest: bytes) -> Optional[Image.Image]:
    """Return a copy of the image; None if the content of the file does not fit its name."""
    if len(pages) < _HEADER.size:
        return None
    magic, found, height, width, checksum = _HEADER.unpack_from(pages)
    if magic != _MAGIC or found != digest or len(pages) != _HEADER.size + 3 * height * width:
        return None
    with memoryview(pages) as whole, whole[_HEADER.size :] as pixels:
        if zlib.crc32(pixels) != checksum:
            return None
        return Image.frombytes("RGB", (width, height), pixels)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        pass
