"""Keep files of pretrained weights in one folder: ``weights`` in the cache of this package."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Iterable, List, NamedTuple, Optional

from ..errors import CheckpointError, UserError
from ..files import cache_folder, writing
from ..locks import sole_use
from . import catalog
from .catalog import Entry, lookup
from .source import ELSEWHERE, NotFetchedError, Source, wrong_sha256
from .urls import Url

logger = logging.getLogger(__name__)

_PATIENCE = 3600.0  # seconds that a process waits for another one, which is fetching


class Held(NamedTuple):
    """Whether the cache has a file: ``path`` is None if not; ``wrong`` is empty if it is right."""

    entry: Entry
    path: Optional[Path]
    wrong: str = ""


def weights_folder() -> Path:
    """Return the folder of the files: ``$VIREID_CACHE/weights``, or in the user's own cache."""
    return cache_folder() / "weights"


def held_path(name: str) -> Path:
    """Return the path of a file that is in the cache and right; nothing is fetched.

    Raises:
        UnknownNameError: it is not in the catalog.
        CheckpointError: it is not in the cache, or another file has its name.
    """
    entry = lookup(name)
    path = _held(entry.source, entry.file)
    if path is None:
        raise CheckpointError(
            f"weights:{entry.name} is not in the cache, {weights_folder()}. Fetch it with "
            f"`vireid weights fetch {entry.name}`."
        )
    return _right(path, entry.source, entry.sha256)


def fetch(name: str) -> Path:
    """Return the path of a file of the catalog; it is fetched if the cache does not have it.

    Several processes may ask at once: one of them fetches. A file gets its name once it is whole,
    and its SHA-256 is checked each time.

    Raises:
        UnknownNameError: it is not in the catalog.
        CheckpointError: it cannot be fetched, and the message says how to put it there by hand;
            or another file has its name.
        UnwritableError: the cache cannot be written.
    """
    entry = lookup(name)
    return _fetch(entry.source, entry.file, entry.sha256, f"weights:{entry.name}")


def fetch_url(address: str) -> Path:
    """Do the same as ``fetch`` with a file that has an address of its own.

    If its name holds the beginning of its SHA-256, such as ``net-0a1b2c3d.pth``, that is checked.
    """
    source = Url(address)
    return _fetch(source, source.file, source.sha256, source.file)


def fetch_from(source: Source, file: str, sha256: str, label: str) -> Path:
    """Do the same as ``fetch`` with a file that is no backbone, and so not in the catalog.

    Args:
        source: where it comes from.
        file: its name in the cache.
        sha256: of the file.
        label: what messages call it.
    """
    return _fetch(source, file, sha256, label)


def examine(names: Iterable[str] = ()) -> List[Held]:
    """Return the state of files in the cache, their SHA-256 checked; without names, of all.

    Raises:
        UnknownNameError: one is not in the catalog.
    """
    entries = [lookup(name) for name in names] or list(catalog.CATALOG)
    found = []
    for entry in entries:
        path = _held(entry.source, entry.file)
        try:
            wrong = "" if path is None else wrong_sha256(path, entry.sha256)
        except CheckpointError as error:
            wrong = str(error)
        found.append(Held(entry, path, wrong))
    return found


def _held(source: Source, file: str) -> Optional[Path]:
    path = weights_folder() / file
    return path if path.is_file() else source.elsewhere()


def _right(path: Path, source: Source, sha256: str) -> Path:
    """Return ``path``; raise ``CheckpointError`` if it is another file."""
    wrong = wrong_sha256(path, sha256)
    if wrong:
        raise CheckpointError(
            f"{wrong}. Move it away to have it fetched again from {source.described()}."
        )
    return path


def _fetch(source: Source, file: str, sha256: str, label: str) -> Path:
    path = _held(source, file)
    if path is None:
        path = weights_folder() / file
        with writing(path.parent, ELSEWHERE):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):  # the lock's message has no such remedy
                pass
        busy = UserError(
            f"{label}: another process has been fetching into {path.parent} for more than "
            f"{_PATIENCE / 60:.0f} minutes. End it, and run the same command again."
        )
        with sole_use(path.parent, busy, wait=_PATIENCE):
            if not path.is_file():
                _bring(source, path, sha256, label)
    logger.info("Pretrained weights: %s", path)
    return _right(path, source, sha256)


def _bring(source: Source, path: Path, sha256: str, label: str) -> None:
    """Fetch a file while no other process does."""
    _remove_leftovers(path.parent)
    if source.published:
        logger.info("Fetching %s from %s to %s", label, source.described(), path)
    try:
        source.bring(path, sha256)
    except NotFetchedError as error:
        raise CheckpointError(
            f"{label} could not be fetched: {error}. {source.by_hand(path, sha256)}"
        ) from error


def _remove_leftovers(folder: Path) -> None:
    """Delete what killed processes have left; the lock says that no other one is at work."""
    for pattern in (".*.partial", ".fetching.*"):
        for path in folder.glob(pattern):
            logger.info("Removing %s, which was left incomplete.", path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
