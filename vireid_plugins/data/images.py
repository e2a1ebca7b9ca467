"""Read image files of every kind as 8-bit RGB; an error names the file."""

import os

import numpy as np
from PIL import Image, ImageOps

from vireid_plugins.errors import UserError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
REMEDY = "Replace the file from the original archive, or take it out of the dataset's lists."

_WIDE_GRAY = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_LARGEST_16_BIT = 65535


class ImageError(UserError, RuntimeError):
    """An image file that cannot be used; the message names the file and what to do."""


def is_image_name(name: str) -> bool:
    """Return whether a file name looks like an image's, whatever the case of its suffix.

    Hidden files (``.DS_Store``, ``._0001.jpg``) and other files (``Thumbs.db``) do not.
    """
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def check_size(path: str) -> None:
    """Raise ``ImageError`` if the file is absent or empty; its content is not read."""
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror}). {REMEDY}") from error
    if size == 0:
        raise ImageError(f"{path}: the file is empty (0 bytes). {REMEDY}")


def read_image(path: str) -> Image.Image:
    """Read an image file; return the upright image as a PIL image of mode ``RGB``.

    Gray and black-and-white images get three equal channels; palettes are resolved; CMYK is
    converted; the transparency of RGBA is dropped; 16-bit gray is scaled from 0..65535 to 0..255
    (PIL alone clips it to white); a rotation in the EXIF data is applied.

    Raises:
        ImageError: the file is absent, empty, truncated or not an image, or its pixels are
            floating-point numbers.
    """
    check_size(path)
    try:
        with Image.open(path) as image:
            image.load()
            return upright_rgb(image)
    except UserError as error:
        raise ImageError(f"{path}: {error} {REMEDY}") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error ...
        raise ImageError(
            f"{path}: not a readable image ({type(error).__name__}: {error}). {REMEDY}"
        ) from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """Convert any PIL image as ``read_image`` converts the image of a file.

    Raises:
        UserError: the pixels are floating-point numbers, or integers of more than 16 bits.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode in _WIDE_GRAY:
        image = _narrow(np.asarray(image))
    elif image.mode == "F":
        raise UserError(
            "Floating-point pixels have no agreed range; save the image with 8 or 16 bits."
        )
    return image if image.mode == "RGB" else image.convert("RGB")


def _narrow(pixels: np.ndarray) -> Image.Image:
    """Return 16-bit gray (H, W) as 8-bit gray: 0 stays 0 and 65535 becomes 255."""
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > _LARGEST_16_BIT:
        raise UserError(
            f"Gray values {low}..{high} do not fit into 16 bits; save the image with 8 or 16 bits."
        )
    scaled = np.rint(pixels.astype(np.float64) * (255.0 / _LARGEST_16_BIT))
    return Image.fromarray(scaled.astype(np.uint8))
