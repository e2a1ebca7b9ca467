"""What an estimator of poses is, and how one is chosen."""

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
from PIL import Image

from ..errors import UserError


class Placed(NamedTuple):
    """Where an image lies in the larger picture that a network sees."""

    pixels: np.ndarray  # (H, W, 3) uint8, what the network sees
    left: int  # columns of the picture to the left of the image
    top: int
    across: float  # columns of the picture for one column of the image
    down: float

    def back(self, points: np.ndarray) -> np.ndarray:
        """Return places (..., 2) in the image.

        Args:
            points: x and y in the picture, where (0, 0) is its outer upper left corner.

        Returns:
            x and y in the image, where (0, 0) is the middle of its upper left pixel.
        """
        return (points - [self.left, self.top]) / [self.across, self.down] - 0.5

    def cut(self, values: np.ndarray, width: int, height: int) -> np.ndarray:
        """Return the part of a map (H, W) of the picture that is the image, at the image's size.

        Args:
            values: (H, W) float32, one for each pixel of the picture.
            width, height: of the image, in pixels.
        """
        right = self.left + round(width * self.across)
        bottom = self.top + round(height * self.down)
        part = Image.fromarray(values[self.top : bottom, self.left : right])
        return np.asarray(part.resize((width, height), Image.Resampling.BILINEAR))


def place(image: Image.Image, height: int, width: int, margin: float) -> Placed:
    """Put an image into the middle of a black picture of another size; its proportions stay.

    Args:
        image: a PIL image of mode RGB.
        height, width: of the picture, in pixels.
        margin: free space at each side, a share of the image where it fills the picture.
    """
    room = 1 + 2 * margin
    scale = min(width / (image.width * room), height / (image.height * room))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    resized = image.resize(size, Image.Resampling.BILINEAR)
    picture = Image.new("RGB", (width, height))
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    picture.paste(resized, (left, top))
    scales = size[0] / image.width, size[1] / image.height
    return Placed(np.asarray(picture), left, top, *scales)


class Estimator:
    """Finds the 17 joints of the person that an image shows; a subclass for each network."""

    #: which network with which weights; a file of key points keeps it
    name = ""

    def find(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return key points (B, 17, 3) float32 of B images of mode RGB, of any sizes.

        x and y are in pixels of each image, with (0, 0) in the middle of the upper left one; the
        confidence is from 0 to 1.
        """
        raise NotImplementedError

    def masks(self, images: Sequence[Image.Image]) -> List[np.ndarray]:
        """Return where the person is in each image of mode RGB: (H, W) float32 from 0 to 1 each.

        Raises:
            UserError: the network finds no masks.
        """
        raise UserError(f"{self.name or type(self).__name__} finds joints, and no person masks.")


#: name -> function that returns the estimator, given a number of threads
ESTIMATORS: Dict[str, Callable[[Optional[int]], Estimator]] = {}


def open_estimator(which: str = "blazepose", threads: Optional[int] = None) -> Estimator:
    """Return an estimator.

    Args:
        which: a name, or the path of an ONNX file of RTMPose.
        threads: of the processor; None: as many as the library takes.

    Raises:
        UserError: there is no such estimator.
        MissingLibraryError: it needs a library that is not installed.
        CheckpointError: its files cannot be fetched.
    """
    from . import blazepose, rtmpose  # noqa: F401  blazepose registers itself

    if which.lower().endswith(".onnx"):
        return rtmpose.RTMPose(which, threads)
    if which not in ESTIMATORS:
        known: List[str] = sorted(ESTIMATORS)
        raise UserError(
            f"There is no estimator {which!r}; expected {', '.join(known)}, or the path of an "
            "ONNX file (.onnx) of RTMPose."
        )
    return ESTIMATORS[which](threads)
