"""Find the checkpoint that a run continues from."""

import contextlib
from pathlib import Path
from typing import Iterator, Optional

from ..errors import CheckpointError, FileContentError, MissingFileError
from ..readers.text import name_of, read_text
from .names import LAST


def last_checkpoint(folder: Path) -> Optional[Path]:
    """Return the file that ``last_checkpoint`` names; None if the run has saved none.

    Args:
        folder: ``OUTPUT_DIR`` of the run.

    Raises:
        MissingFileError: the file that it names does not exist any more.
        FileContentError: it holds something else than the name of a file in ``folder``.
    """
    path = folder / LAST
    if not path.is_file():
        return None
    remedy = _remedy(folder)
    name = read_text(path, remedy).strip()
    if not _is_file_name(name):
        shown = name if len(name) <= 60 else f"{name[:60]} ..."
        raise FileContentError(
            f"{path}: expected the name of a checkpoint in its folder, found {shown!r}. {remedy}"
        )
    if not (folder / name).is_file():
        raise MissingFileError(f"{path} names {name!r}, which does not exist. {remedy}")
    return folder / name


def last_checkpoint_name(folder: Path) -> str:
    """Return the name that ``last_checkpoint`` holds, for a reader of the run; empty if unknown.

    The file of that name may be gone.

    Raises:
        FileContentError: it holds something else than the name of a file in ``folder``.
    """
    try:
        found = last_checkpoint(folder)
    except MissingFileError:
        return read_text(folder / LAST).strip()
    return found.name if found else ""


@contextlib.contextmanager
def naming_others(path: Path) -> Iterator[None]:
    """Add to an error about a checkpoint, inside the block, how to resume from another one."""
    try:
        yield
    except CheckpointError as error:
        others = sorted(name_of(other) for other in path.parent.glob("*.pth") if other != path)
        remedy = (
            f"To resume from another checkpoint of this run, write "
            f"{' or '.join(map(repr, others))} into {path.parent / LAST}."
            if others
            else "There is no other checkpoint in the folder: leave --resume out to start from "
            "the beginning."
        )
        raise CheckpointError(f"{error} {remedy}") from error


def _is_file_name(name: str) -> bool:
    """Return whether ``name`` leads to no other folder."""
    plain = name.isprintable() and not set(name) & set("/\\:") and name not in ("", ".", "..")
    return plain and len(name.encode("utf-8", "surrogateescape")) <= 255


def _remedy(folder: Path) -> str:
    others = sorted(name_of(path) for path in folder.glob("*.pth"))
    if not others:
        return "Delete it to start from the beginning; there is no checkpoint in the folder."
    return f"Write one of {others} into it, or leave --resume out to start from the beginning."
