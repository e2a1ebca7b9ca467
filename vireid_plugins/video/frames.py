"""Read the frames of a video, or of a folder of images.

A frame is a uint8 array (H, W, 3) in OpenCV's order of colors: blue, green, red.
"""

import logging
import math
import os
from pathlib import Path
from typing import Any, Iterator, List, Optional, Tuple

import cv2
import numpy as np

from ..errors import MissingFileError, UserError
from ..readers.image import REMEDY, ImageError, is_image_name, read_image
from ..readers.text import is_utf8, shown
from ..search.folder import natural_key

logger = logging.getLogger(__name__)

_AS_IMAGES = "ffmpeg -i VIDEO FOLDER/%06d.png"
_WRITE_AGAIN = "Write this frame again from the video, or take it out of the folder."
# FFmpeg inside OpenCV writes about damaged files to the standard error; -8: never
_FFMPEG_QUIET = ("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Frames:
    """The frames of one source, which can be read several times.

    Attributes:
        path: the video or the folder.
        fps: frames of one second.
        size: height and width of each frame in pixels.
        announced: number of frames that the file says it has; 0: it does not say.
    """

    path: Path
    fps: float
    size: Tuple[int, int]
    announced: int = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames (H, W, 3) in their order."""
        raise NotImplementedError

    def facts(self) -> dict:
        """Return what tells this source from another one: name, size, time of change, ..."""
        raise NotImplementedError


def open_frames(path: Path, fps: Optional[float] = None) -> Frames:
    """Open a video file or a folder of images.

    Args:
        path: the file; or a folder, whose images are the frames in natural order.
        fps: frames of one second; None: what the video says. A folder needs it.

    Raises:
        MissingFileError: there is no such file.
        UserError: it cannot be read as a video, has no frame, or its frames differ in size.
    """
    if fps is not None and not (math.isfinite(fps) and 0 < fps <= 1000):
        raise UserError(f"--fps must be above 0 and at most 1000; got {fps:g}.")
    if not path.exists():
        raise MissingFileError(f"{path} does not exist; expected a video, or a folder of frames.")
    if path.is_dir():
        return FolderFrames(path, fps)
    if not path.is_file():
        raise UserError(f"{path} is no file but a device or a pipe; expected a video.")
    if is_image_name(path.name):
        raise UserError(
            f"{path} is one image; expected a video. For frames that are images, name their folder."
        )
    return VideoFrames(path, fps)


class VideoFrames(Frames):
    """The frames of a video file that OpenCV can decode.

    Args:
        path: the file.
        fps: frames of one second; None: what the file says.
    """

    def __init__(self, path: Path, fps: Optional[float] = None) -> None:
        self.path = path
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes); expected a video.")
        capture = self._open()
        try:
            says = float(capture.get(cv2.CAP_PROP_FPS))
            count = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            there, first = capture.read()
        finally:
            capture.release()
        if not there:
            raise UserError(
                f"{path} has no frame that can be decoded: the video is empty or damaged, or "
                f"OpenCV {cv2.__version__} lacks its codec. If a player shows it, write its frames "
                f"as images ({_AS_IMAGES}) and name that folder."
            )
        if fps is None and not (math.isfinite(says) and 0 < says <= 1000):
            raise UserError(f"{path} does not say its frames per second; add --fps NUMBER.")
        self.fps, self.size = fps or says, first.shape[:2]
        self.announced = int(count) if 0 < count < 2**31 else 0

    def __iter__(self) -> Iterator[np.ndarray]:
        capture = self._open()
        try:
            while True:
                there, frame = capture.read()
                if not there:
                    return
                if frame.shape[:2] != self.size:
                    raise UserError(_other_size(self.path, frame, self.size))
                yield frame
        finally:
            capture.release()

    def facts(self) -> dict:
        found = self.path.stat()
        return {"name": self.path.name, "bytes": found.st_size}

    def _open(self) -> Any:
        if not is_utf8(self.path):  # OpenCV 5.0 ends the process at such a name
            raise UserError(
                f"{shown(self.path)} is not a name in UTF-8, and OpenCV opens no others. Rename "
                "the file or its folder, or name a link to it."
            )
        os.environ.setdefault(*_FFMPEG_QUIET)
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            if not os.access(self.path, os.R_OK):
                raise UserError(f"{self.path} cannot be read (permission denied).")
            raise UserError(
                f"OpenCV {cv2.__version__} cannot open {self.path} as a video: it is no video, it "
                "is damaged, or this OpenCV lacks its codec. If a player shows it, write its "
                f"frames as images ({_AS_IMAGES}) and name that folder."
            )
        return capture


class FolderFrames(Frames):
    """The images of a folder, in natural order; those in folders below it do not count.

    Args:
        path: the folder.
        fps: frames of one second.
    """

    def __init__(self, path: Path, fps: Optional[float] = None) -> None:
        self.path = path
        self.names: List[str] = sorted(
            (entry.name for entry in path.iterdir() if is_image_name(entry.name)),
            key=lambda name: natural_key(os.fsencode(name)),
        )
        if not self.names:
            raise UserError(f"{path} holds no image (.jpg, .png, ...); expected frames of a video.")
        if fps is None:
            raise UserError(f"{path} is a folder of images: add --fps NUMBER, frames per second.")
        self.fps, self.size = fps, self._read(self.names[0]).shape[:2]

    def __iter__(self) -> Iterator[np.ndarray]:
        for name in self.names:
            frame = self._read(name)
            if frame.shape[:2] != self.size:
                raise UserError(_other_size(self.path / name, frame, self.size))
            yield frame

    def facts(self) -> dict:
        found = [(self.path / name).stat() for name in self.names]
        return {
            "name": self.path.name,
            "bytes": sum(one.st_size for one in found),
            "images": len(found),
        }

    def _read(self, name: str) -> np.ndarray:
        try:
            return np.asarray(read_image(str(self.path / name)))[..., ::-1]
        except ImageError as error:
            raise ImageError(str(error).replace(REMEDY, _WRITE_AGAIN)) from error


def _other_size(path: Path, frame: np.ndarray, size: Tuple[int, int]) -> str:
    height, width = frame.shape[:2]
    return (
        f"{path}: a frame has {width} x {height} pixels and the first one {size[1]} x {size[0]}; "
        "expected frames of one size, from one fixed camera."
    )
