"""What a source of a file is, and how a file is recognized by its SHA-256."""

import hashlib
from pathlib import Path
from typing import Optional

from ..errors import CheckpointError

ELSEWHERE = "Or keep such files in another folder: VIREID_CACHE=FOLDER."


class NotFetchedError(CheckpointError):
    """A file that a source could not give; the message is the cause alone, without a remedy."""


class Source:
    """Where a file comes from; a subclass for each way of fetching one."""

    published = True  # False: it is never fetched

    def described(self) -> str:
        """Return the place in words, such as ``"https://host/net.pth"``."""
        raise NotImplementedError

    def bring(self, target: Path, sha256: str) -> None:
        """Write the file to ``target``, in a folder that exists; write nothing if it is not right.

        Args:
            target: where the file is to be.
            sha256: how the SHA-256 of the file begins; empty: it is not known.

        Raises:
            NotFetchedError: it cannot be fetched, or is not the file with this SHA-256.
            UnwritableError: it cannot be written.
        """
        raise NotImplementedError

    def by_hand(self, target: Path, sha256: str) -> str:
        """Return sentences that say how to put the file at ``target`` without a network here."""
        raise NotImplementedError

    def elsewhere(self) -> Optional[Path]:
        """Return where another program may have put the file already, or None."""
        return None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits.

    Raises:
        CheckpointError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()


def wrong_sha256(path: Path, expected: str) -> str:
    """Return what is wrong with a file whose SHA-256 must begin with ``expected``; empty: nothing.

    Raises:
        CheckpointError: the file cannot be read.
    """
    found = sha256_of(path)
    if found.startswith(expected):
        return ""
    return (
        f"{path} ({path.stat().st_size:,} bytes) is not the file that its name promises: its "
        f"SHA-256 begins with {found[:8]}, not {expected[:8]}"
    )
