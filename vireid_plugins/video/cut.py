"""Cut the persons out of a video, and keep them in a folder.

``crops/`` holds them in color and ``gray/`` the same crops with the red channel copied to all
three; ``tracks.csv`` says who is where and when; ``video.json`` how they were made.
"""

import contextlib
import csv
import io
import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import numpy as np
from tqdm import tqdm

from ..errors import ExistingFileError, UserError
from ..files import check_can_write, write_atomically, writing
from ..locks import sole_use
from ..readers.csv_file import read_csv
from ..readers.json_file import read_json
from .foreground import least_height
from .frames import Frames, open_frames
from .sightings import Found, Sighting, find_sightings

logger = logging.getLogger(__name__)

CROPS, GRAY, TRACKS, FACTS = "crops", "gray", "tracks.csv", "video.json"
COLUMNS = ("image", "track", "frame", "seconds", "left", "top", "width", "height")
_RED = 2  # of OpenCV's order of channels
_MOST_LOST = 0.98  # containers count their frames with small errors
_MARGIN = 0.05  # of the height, added on each side


@dataclass(frozen=True)
class Settings:
    """How persons are found.

    Attributes:
        every: frames from one moment to the next.
        min_height: height in pixels of the smallest person.
        fps: frames of one second.
    """

    every: int
    min_height: float
    fps: float


@dataclass(frozen=True)
class Cut:
    """The crops of a video.

    Attributes:
        folder: where they are.
        sightings: who is where and when, ordered by frame and track.
        fps: frames of one second.
        facts: what ``video.json`` holds.
    """

    folder: Path
    sightings: List[Sighting]
    fps: float
    facts: Dict[str, Any]

    @property
    def num_tracks(self) -> int:
        """Return the number of tracks that have a crop."""
        return len({one.track for one in self.sightings})


def image_name(one: Sighting) -> str:
    """Return the name of the image of a sighting below ``crops`` or ``gray``."""
    return f"track{one.track:04d}/frame{one.frame:06d}.png"


def cut_video(
    video: Path,
    out: Path,
    *,
    fps: Optional[float] = None,
    every: float = 0.5,
    min_height: Optional[float] = None,
    progress: bool = False,
) -> Cut:
    """Cut the persons out of a video of a fixed camera; a cut that is there is read again.

    Args:
        video: a video file, or a folder of frames.
        out: the folder that is made.
        fps: frames of one second; None: what the video says.
        every: seconds from one moment, at which all persons are cut out, to the next.
        min_height: height in pixels of the smallest person; None: 1/15 of the frame.
        progress: show progress bars on a terminal.

    Raises:
        MissingFileError: there is no such video.
        ExistingFileError: ``out`` holds something else.
        UserError: the video cannot be read, the camera moves, or nobody is found.
        UnwritableError: the disk is full, or ``out`` cannot be written.
    """
    frames = open_frames(video, fps)
    if not 0 < every <= 60:
        raise UserError(f"--every must be above 0 and at most 60 seconds; got {every:g}.")
    settings = Settings(
        max(1, round(every * frames.fps)), least_height(frames, min_height), frames.fps
    )
    wanted = {"source": frames.facts(), "settings": asdict(settings)}
    _make_folder(out)
    with sole_use(out, UserError(f"Another process writes into {out}.")):
        if (out / TRACKS).is_file():
            return _read_again(out, wanted)
        found = find_sightings(frames, settings.every, settings.min_height, progress)
        if found.num_frames < _MOST_LOST * frames.announced:
            logger.warning(
                "%s: only %d of %d frames can be decoded; the file was cut off or is damaged.",
                *(video, found.num_frames, frames.announced),
            )
        _check_anybody(found, frames, settings)
        facts = {**wanted, "opencv": cv2.__version__, "found": _counts(found)}
        _write(out, frames, found.sightings, facts, progress)
    return Cut(out, found.sightings, frames.fps, facts)


def read_cut(folder: Path) -> Cut:
    """Read the crops' table of a folder that ``cut_video`` has made.

    Raises:
        MissingFileError: it has no such table.
        FileContentError: a table is damaged.
    """
    facts = read_json(folder / FACTS, remedy="Cut the video into a new folder.")
    rows = read_csv(folder / TRACKS, COLUMNS)
    numbers = ("track", "frame", "left", "top", "width", "height")
    try:
        sightings = [Sighting(*(int(row.cells[name]) for name in numbers)) for row in rows]
        fps = float(facts["settings"]["fps"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / TRACKS} or {FACTS} was changed ({error}). Cut the video into a new folder."
        ) from error
    return Cut(folder, sightings, fps, facts)


def _make_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ExistingFileError(f"--out {out} is a file; expected a folder.")
    if out.is_dir() and not (out / FACTS).is_file():
        others = [entry.name for entry in out.iterdir() if not entry.name.startswith(".")]
        if others:
            raise ExistingFileError(
                f"--out {out} holds other things ({', '.join(sorted(others)[:3])}); give a new or "
                "empty folder."
            )
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    check_can_write(out / FACTS)


def _read_again(out: Path, wanted: Dict[str, Any]) -> Cut:
    cut = read_cut(out)
    differing = [
        f"{name} {cut.facts.get(part, {}).get(name)} there, {value} now"
        for part, values in wanted.items()
        for name, value in values.items()
        if cut.facts.get(part, {}).get(name) != value
    ]
    if differing:
        raise ExistingFileError(
            f"--out {out} holds the crops of another video or of other settings "
            f"({'; '.join(differing)}). Give another folder."
        )
    return cut


def _check_anybody(found: Found, frames: Frames, settings: Settings) -> None:
    if found.sightings:
        return
    raise UserError(
        f"{frames.path}: nobody was found in {found.num_frames} frames. {found.num_moving} things "
        f"moved for a second or longer, {found.num_groups} of them groups. Persons must walk, "
        f"upright and at least {settings.min_height:g} pixels high, in front of a camera that does "
        "not move; --min-height sets a smaller height."
    )


def _counts(found: Found) -> Dict[str, int]:
    return {
        "frames": found.num_frames,
        "frames left out": found.num_whole,
        "moving": found.num_moving,
        "groups": found.num_groups,
        "tracks": len({one.track for one in found.sightings}),
        "crops": len(found.sightings),
    }


def _write(
    out: Path, frames: Frames, sightings: List[Sighting], facts: Dict[str, Any], progress: bool
) -> None:
    """Write the crops, then the tables, ``tracks.csv`` last: it shows that all is there."""
    write_atomically(out / FACTS, lambda file: file.write(_json(facts)))
    remedy = "Give the same command again: it begins anew."
    with writing(out, remedy):
        for name in (CROPS, GRAY):  # of a command that was stopped
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(out / name)
    at: Dict[int, List[Sighting]] = {}
    for one in sightings:
        at.setdefault(one.frame, []).append(one)
    hidden = None if progress else True
    for number, frame in enumerate(tqdm(frames, unit="frame", desc="crops", disable=hidden)):
        for one in at.get(number, ()):
            crop = _crop(frame, one)
            _save(out / CROPS / image_name(one), crop, remedy)
            _save(out / GRAY / image_name(one), crop[..., _RED], remedy)
    write_atomically(out / TRACKS, lambda file: file.write(_table(sightings, frames.fps)))


def _crop(frame: np.ndarray, one: Sighting) -> np.ndarray:
    margin = round(_MARGIN * one.height)
    rows = slice(max(one.top - margin, 0), one.top + one.height + margin)
    columns = slice(max(one.left - margin, 0), one.left + one.width + margin)
    return np.ascontiguousarray(frame[rows, columns])


def _save(path: Path, image: np.ndarray, remedy: str) -> None:
    done, content = cv2.imencode(".png", image)
    assert done, "OpenCV always has PNG"
    with writing(path, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.tobytes())


def _json(facts: Dict[str, Any]) -> bytes:
    return (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _table(sightings: List[Sighting], fps: float) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for one in sightings:
        seconds = f"{one.frame / fps:.3f}"
        rows.writerow([image_name(one), one.track, one.frame, seconds, *one[2:]])
    return text.getvalue().encode()
