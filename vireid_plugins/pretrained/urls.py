"""Fetch a file from an address of its own, by the downloader of PyTorch."""

import contextlib
import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional
from urllib.error import URLError
from urllib.parse import urlparse

import torch

from ..errors import CheckpointError
from ..files import writing
from ..readers.checkpoint import read_checkpoint
from .source import ELSEWHERE, NotFetchedError, Source, wrong_sha256

_OF_THE_DISK = {errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True)
class Url(Source):
    """A checkpoint at ``address``, such as ``https://host/net-0a1b2c3d.pth``."""

    address: str

    @property
    def file(self) -> str:
        """The name of the file."""
        return Path(urlparse(self.address).path).name

    @property
    def sha256(self) -> str:
        """How the SHA-256 of the file begins, if its name says that; otherwise empty."""
        found = re.search(r"-([0-9a-f]{8,64})\.[^.]+$", self.file)
        return found[1] if found else ""

    def described(self) -> str:
        """Return the address."""
        return self.address

    def bring(self, target: Path, sha256: str) -> None:
        """Download the file; it gets its name once it is whole."""
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        with writing(target, ELSEWHERE):
            try:
                self._download(partial, sha256)
                os.replace(partial, target)
            finally:
                with contextlib.suppress(OSError):
                    partial.unlink()

    def _download(self, partial: Path, sha256: str) -> None:
        try:
            torch.hub.download_url_to_file(self.address, str(partial), progress=False)
        except Exception as error:  # of the network, of an unknown server: there are many types
            if _is_of_the_disk(error):
                raise
            raise NotFetchedError(
                f"{self.address} was not reached ({type(error).__name__}: {error})"
            ) from error
        if wrong_sha256(partial, sha256):
            raise NotFetchedError(
                f"what {self.address} gave ({partial.stat().st_size:,} bytes) has another SHA-256 "
                f"than {sha256}...; was the connection closed early?"
            )
        try:
            read_checkpoint(str(partial))  # the names of some files hold no hash
        except CheckpointError as error:
            raise NotFetchedError(f"what {self.address} gave is no checkpoint: {error}") from error

    def by_hand(self, target: Path, sha256: str) -> str:
        """Return how to put the file there."""
        known = f" (its SHA-256 begins with {sha256})" if sha256 else ""
        return f"Fetch {self.address} on a machine with a network, and put it at {target}{known}."

    def elsewhere(self) -> Optional[Path]:
        """Return the file in PyTorch's own cache, where torchvision may have put it, or None."""
        path = Path(torch.hub.get_dir()) / "checkpoints" / self.file
        return path if path.is_file() else None


def _is_of_the_disk(error: Exception) -> bool:
    """Return whether the system refused to write; an ``HTTPError`` is an ``OSError`` too."""
    if not isinstance(error, OSError) or isinstance(error, URLError):
        return False
    return error.errno in _OF_THE_DISK or error.filename is not None
