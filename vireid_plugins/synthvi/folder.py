"""The folder of a rendered dataset: who made it, what is missing, and how files are written."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Optional

from ..errors import UserError
from ..readers.json_file import read_json
from ..readers.rendering import MARKER, complete, setting_words
from ..readers.shape import field
from .plan import Tracklet
from .settings import Settings

SCRATCH_FOLDER = "synthvi/writing"


class OccupiedFolderError(UserError, FileExistsError):
    """The folder holds something else, which must not be overwritten."""


def claim(root: Path, settings: Settings, overwrite: bool) -> bool:
    """Make sure that the dataset of ``settings`` may be written to ``root``.

    Args:
        root: the dataset's own folder.
        settings: the settings of the dataset to be written.
        overwrite: delete a dataset that was rendered there with other settings.

    Returns:
        Whether the finished dataset of these settings is already there.

    Raises:
        OccupiedFolderError: the folder holds other files, or a dataset with other settings and
            ``overwrite`` is False.
    """
    if root.exists() and not root.is_dir():
        raise OccupiedFolderError(f"{root} is a file; name another folder (--out)")
    if not root.is_dir() or not any(root.iterdir()):
        return False
    marker = root / MARKER
    if not marker.is_file():
        raise OccupiedFolderError(
            f"{root} holds files that SynthVI did not make (it has no {MARKER}); "
            "nothing was written: name another folder (--out)"
        )
    found = _read_marker(marker)
    wanted = settings.as_json()
    there = complete(found["parameters"])
    differing = [name for name in wanted if there.get(name) != wanted[name]]
    if not differing:
        return bool(found["finished"])
    if not overwrite:
        told = "; ".join(
            f"{name}: {setting_words(there.get(name))} there, {setting_words(wanted[name])} wanted"
            for name in differing
        )
        if differing == ["infrared"] and "infrared" not in found["parameters"]:
            told += "; an earlier version rendered it, and --infrared free reuses it"
        raise OccupiedFolderError(
            f"{root} holds a SynthVI dataset with other settings ({told}); "
            "name another folder (--out), or replace it (--overwrite)"
        )
    shutil.rmtree(root)
    return False


def _read_marker(marker: Path) -> Dict[str, Any]:
    remedy = "Nothing was written: name another folder (--out), or move this one away."
    try:
        found = read_json(marker, remedy=remedy)
        return {
            "parameters": field(found, "parameters", dict, str(marker), remedy),
            "finished": field(found, "finished", bool, str(marker), remedy),
        }
    except UserError as error:
        raise OccupiedFolderError(f"{marker.name} is not a marker of SynthVI: {error}") from error


def write_marker(root: Path, settings: Settings, finished: bool) -> None:
    """Write the file that holds the settings of the dataset in ``root`` and whether it is finished.

    This file shows that the folder belongs to this package, see :func:`claim`.
    """
    content = {"made_by": "SynthVI", "parameters": settings.as_json(), "finished": finished}
    write_whole(root / MARKER, (json.dumps(content, indent=2) + "\n").encode("utf-8"))


def is_complete(root: Path, tracklet: Tracklet) -> bool:
    """Return whether all images of a tracklet and its side file are there."""
    paths = [path for image in tracklet.images for path in image.paths]
    return all((root / path).is_file() for path in (*paths, tracklet.side_file))


def write_whole(path: Path, content: bytes, scratch: Optional[Path] = None) -> None:
    """Write a file so that at any moment it is absent, as it was before, or complete.

    It does not wait for the disk: after a power cut the file may be lost.

    Args:
        scratch: a folder on the same disk for the unfinished file, where it cannot be mistaken for
            an image; None: the folder of ``path``.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        _write_whole(path, content, path.parent if scratch is None else scratch)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); what was rendered is kept, "
            "name another place or make room"
        ) from error


def _write_whole(path: Path, content: bytes, scratch: Path) -> None:
    for folder in (path.parent, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=scratch, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
