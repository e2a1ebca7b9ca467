"""Read image files as 8-bit RGB. All images are opened here; an error names the file.

Only JPEG, PNG, BMP, TIFF, WebP and PPM, PGM or PBM are decoded, whatever the name of the file says.
Pillow knows forty formats more, and one of them, EPS, is a program that Ghostscript would run.

H, W: height and width in pixels.
"""

import os
import stat
from typing import Any, Callable, NamedTuple, Optional, TypeVar

import numpy as np
import PIL
from PIL import Image, UnidentifiedImageError

from ..errors import UserError
from .gray_range import FULL, Limits, limits_of, narrow
from .other_formats import kind_of
from .text import shown

if not hasattr(Image, "Transpose"):
    raise ImportError(
        f"Pillow {PIL.__version__} is too old: 9.1 or newer is needed. "
        "Run: pip install --upgrade pillow"
    )

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
#: the only formats that are decoded, by Pillow's names; PPM includes PGM and PBM
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
_SHOWN_FORMATS = "JPEG, PNG, BMP, TIFF, WEBP, PPM, PGM and PBM"
#: pixels of the largest image that is decoded, unless a caller says otherwise
MAX_PIXELS = 50_000_000
REMEDY = "Replace the file from the original archive, or take it out of the dataset's lists."

_WIDE_GRAY = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_PHOTOGRAPH_FIRST = "MPO"  # a telephone's JPEG: the photograph, then small views or depths of it
_ORIENTATION = 0x0112  # in EXIF data
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TILE_TAGS = (322, 323)  # width and height of the tiles of a TIFF
_NEEDS_RANGE = (
    "save the image with 8 or 16 bits, or give the range by INPUT.INFRARED_RANGE LOW..HIGH (of "
    "visible images: INPUT.VISIBLE_RANGE)."
)
_LONG_TEXT = ("MAX_TEXT", "Decompressed Data Too Large")  # Pillow says the second up to 10
_NO_LIMIT = 2**62
_Found = TypeVar("_Found")


class ImageError(UserError, RuntimeError):
    """An image file that cannot be used; the message names the file and what to do."""


def is_image_name(name: str) -> bool:
    """Return whether a file name looks like an image's, whatever the case of its suffix.

    Hidden files (``.DS_Store``, ``._0001.jpg``) and other files (``Thumbs.db``) do not.
    """
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def check_file(path: str) -> None:
    """Raise ``ImageError`` unless a file is there, has content and may be read.

    Its content is not read.
    """
    _check_entry(path)
    if not os.access(path, os.R_OK):
        raise _forbidden(path)


def _check_entry(path: str) -> None:
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{shown(path)}: cannot be opened ({reason}). {REMEDY}") from error
    if stat.S_ISDIR(found.st_mode):
        raise ImageError(f"{shown(path)}: cannot be opened (it is a folder). {REMEDY}")
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"{shown(path)}: cannot be opened (a device or a pipe). {REMEDY}")
    if found.st_size == 0:
        raise ImageError(f"{shown(path)}: the file is empty (0 bytes). {REMEDY}")


def _forbidden(path: str) -> ImageError:
    return ImageError(
        f"{shown(path)}: cannot be opened (Permission denied). Let your user read the file and the "
        "folders above it."
    )


def read_image(
    path: str, limits: Optional[Limits] = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read an image file; return the upright image as a PIL image of mode ``RGB``.

    Gray and black-and-white images get three equal channels; palettes are resolved; CMYK is
    converted; transparency is dropped; a rotation in the EXIF data is applied; gray of more than 8
    bits is scaled to 8 bits. Of a telephone's JPEG with several pictures, the photograph is taken.

    Args:
        path: the file.
        limits: gray values that become 0 and 255, for gray of more than 8 bits. None: those of the
            file, see ``limits_of``.
        max_pixels: H x W of the largest image that is decoded.

    Raises:
        ImageError: the file is absent, empty, truncated, larger than ``max_pixels``, of another
            format, or holds several images; or its pixels have no known range.
    """
    return _read(path, max_pixels, lambda image: upright_rgb(image, limits))


def load_image(path: str) -> Image.Image:
    """Read an image file as it is, in whatever mode and orientation, such as a drawn figure.

    Raises:
        ImageError: as ``read_image``.
    """
    return _read(path, MAX_PIXELS, lambda image: image)


def read_picture(path: str) -> Image.Image:
    """Read an image to show it in a figure; other code has already read and checked it.

    This is ``read_image`` with the image's own range for every type of numbers, and without a limit
    of pixels except Pillow's own.

    Raises:
        ImageError: as ``read_image``.
    """
    return _read(path, _NO_LIMIT, lambda image: upright_rgb(image, any_numbers=True))


class Sampled(NamedTuple):
    """Some gray values of one file, from which the range of a set is found."""

    values: np.ndarray  # some gray values; of color, the upper 8 bits; empty for 8 bits per channel
    is_color: bool  # of 16 bits per channel


def sample_values(path: str, most: int, max_pixels: int = MAX_PIXELS) -> Sampled:
    """Return up to about ``most`` values of an image; one of 8 bits is not decoded.

    Raises:
        ImageError: as ``read_image``.
    """

    def values_of(image: Image.Image) -> Sampled:
        is_gray = image.mode in _WIDE_GRAY or image.mode == "F"
        if not is_gray and not _is_wide_color(image):
            return Sampled(np.zeros(0, np.uint8), False)
        values = np.asarray(image).reshape(-1)
        return Sampled(values[:: max(1, len(values) // most)], not is_gray)

    return _read(path, max_pixels, values_of, decode=False)


def upright_rgb(
    image: Image.Image, limits: Optional[Limits] = None, any_numbers: bool = False
) -> Image.Image:
    """Convert any PIL image as ``read_image`` converts the image of a file.

    Args:
        image: the image; it is not changed.
        limits: as for ``read_image``.
        any_numbers: without ``limits``, take the range of the image for all kinds of numbers.

    Raises:
        UserError: the pixels are floating-point numbers, or integers of more than 16 bits, and
            there are no ``limits``; some are NaN; or the image cannot be decoded.
    """
    try:
        image.load()
    except Exception as error:  # as in ``_read``; the file of an image that was given is open
        raise UserError(f"It cannot be decoded ({type(error).__name__}: {error}).") from error
    orientation = _orientation(image)
    if image.mode in _WIDE_GRAY or image.mode == "F":
        pixels = np.asarray(image)
        if limits is None and not any_numbers:
            _check_numbers(pixels)
        image = Image.fromarray(narrow(pixels, limits or limits_of(pixels)))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]  # otherwise Pillow warns that it is dropped
    image = image.copy() if image.mode == "RGB" else image.convert("RGB")
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _check_numbers(pixels: np.ndarray) -> None:
    """Raise ``UserError`` if the range of the numbers (H, W) of an image is unknown."""
    if pixels.dtype.kind == "f":
        raise UserError(f"Floating-point pixels have no agreed range; {_NEEDS_RANGE}")
    low, high = int(pixels.min()), int(pixels.max())
    if low < FULL[0] or high > FULL[1]:
        raise UserError(f"Gray values {low}..{high} do not fit into 16 bits; {_NEEDS_RANGE}")


def _is_wide_color(image: Image.Image) -> bool:
    """Return whether a file has 16 bits per channel, of which Pillow keeps the upper 8."""
    return ";16" in str(getattr(image, "tile", ""))


def _read(
    path: str, max_pixels: int, convert: Callable[[Image.Image], _Found], decode: bool = True
) -> _Found:
    """Open a file and decode it; return ``convert(image)``."""
    path = os.fspath(path)
    _check_entry(path)
    try:
        # Not Image.open(path): what Pillow maps from a file, it mixes up if it has to be rotated.
        with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
            _check_header(image, max_pixels)
            if decode:
                image.load()
            return convert(image)
    except UserError as error:
        raise ImageError(f"{shown(path)}: {error}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{shown(path)}: DecompressionBomb: the image is larger than Pillow opens ({error}). "
            f"The largest here is INPUT.MAX_PIXELS {max_pixels:,}. {REMEDY}"
        ) from error
    except PermissionError as error:
        raise _forbidden(path) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{shown(path)}: not a readable image (UnidentifiedImageError: only "
            f"{_SHOWN_FORMATS} are read; it is {kind_of(path)}). {REMEDY}"
        ) from error
    except ValueError as error:
        if not any(words in str(error) for words in _LONG_TEXT):
            raise _unreadable(path, error) from error
        raise ImageError(
            f"{shown(path)}: its text chunks (comments, XMP) are larger than Pillow reads "
            f"({error}). Save the image without them."
        ) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error ...
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> ImageError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return ImageError(f"{shown(path)}: not a readable image ({reason}). {REMEDY}")


def _check_header(image: Image.Image, max_pixels: int) -> None:
    """Raise ``UserError`` for an image that must not be decoded; only its header was read."""
    width, height = image.size
    if width < 1 or height < 1:
        raise UserError(f"The image has no pixels ({width} x {height}). {REMEDY}")
    if width * height > max_pixels:
        raise UserError(
            f"The image is {width:,} x {height:,} = {width * height:,} pixels, above "
            f"INPUT.MAX_PIXELS {max_pixels:,}. Raise this key if you need such images."
        )
    if image.format == "TIFF":
        _check_tiles(image, max_pixels)
    if getattr(image, "is_animated", False) and image.format != _PHOTOGRAPH_FIRST:
        raise UserError(
            "The file holds several images (pages, or an animation), and nothing says which is "
            'meant. Save that one as a file of its own, for the first by: python -c "from PIL '
            "import Image; image = Image.open('IN'); image.seek(0); image.save('OUT.png')\""
        )


def _check_tiles(image: Any, max_pixels: int) -> None:
    """Raise ``UserError`` if a TIFF's tiles, which are decoded whole, are larger than allowed."""
    width, height = (image.tag_v2.get(tag) for tag in _TILE_TAGS)
    if isinstance(width, int) and isinstance(height, int) and width * height > max_pixels:
        raise UserError(f"Its tiles are {width:,} x {height:,} pixels. {REMEDY}")


def _orientation(image: Image.Image) -> int:
    """Return a decoded image's EXIF orientation, 1..8; 1 (upright) if none can be read."""
    if image.format == "TIFF":  # Pillow has turned it, and up to 10.1 does not say so
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF data raise errors of every kind, and the pixels are good
        return 1
