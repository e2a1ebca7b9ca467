"""Read image files as 8-bit RGB. All images are opened here; an error names the file.

Only JPEG, PNG, BMP, TIFF, WebP and PPM, PGM or PBM are decoded, whatever the name of the file says.
Pillow knows forty formats more, and one of them, EPS, is a program that Ghostscript would run.

H, W: height and width in pixels.
"""

import os
import stat
from typing import Any, Callable, Optional, Tuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import UserError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
#: the only formats that are decoded, by Pillow's names; PPM includes PGM and PBM
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
#: pixels of the largest image that is decoded, unless a caller says otherwise
MAX_PIXELS = 50_000_000
REMEDY = "Replace the file from the original archive, or take it out of the dataset's lists."

#: the lowest and the highest gray value of an image of more than 8 bits: they become 0 and 255
Limits = Tuple[float, float]
FULL: Limits = (0, 65535)  # of 16 bits

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
# The first bytes of files that are mistaken for images of the allowed formats.
_OTHER_FORMATS = {
    b"GIF8": "GIF",
    b"%!PS": "EPS or PostScript",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"SIMPLE": "FITS",
    b"\xd7\xcd\xc6\x9a": "WMF",
    b"\x00\x00\x01\x00": "ICO",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"<svg": "SVG",
    b"<?xml": "XML, perhaps SVG",
    b"\x93NUMPY": "a NumPy array",
}
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
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{shown(path)}: cannot be opened ({reason}). {REMEDY}") from error
    if stat.S_ISDIR(found.st_mode):
        raise ImageError(f"{shown(path)}: is a folder, not an image. {REMEDY}")
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"{shown(path)}: is a device or a pipe, not a file. {REMEDY}")
    if found.st_size == 0:
        raise ImageError(f"{shown(path)}: the file is empty (0 bytes). {REMEDY}")
    if not os.access(path, os.R_OK):
        raise ImageError(
            f"{shown(path)}: cannot be opened (Permission denied). Let this user read it, such as "
            "by: chmod u+r FILE"
        )


def shown(path: str) -> str:
    """Return a path for messages; bytes that are not UTF-8 are escaped."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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
            file, see ``own_limits``.
        max_pixels: H x W of the largest image that is decoded.

    Raises:
        ImageError: the file is absent, empty, truncated, larger than ``max_pixels``, of another
            format, or holds several images; or its pixels have no known range.
    """
    return _read(path, max_pixels, lambda image: upright_rgb(image, limits))


def load_image(path: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image file as it is, in whatever mode and orientation, such as a drawn figure.

    Raises:
        ImageError: as ``read_image``.
    """
    return _read(path, max_pixels, lambda image: image)


def upright_rgb(image: Image.Image, limits: Optional[Limits] = None) -> Image.Image:
    """Convert any PIL image as ``read_image`` converts the image of a file.

    Raises:
        UserError: the pixels are floating-point numbers, or integers of more than 16 bits, and
            there are no ``limits``.
    """
    image.load()
    orientation = _orientation(image)
    if image.mode in _WIDE_GRAY or image.mode == "F":
        pixels = np.asarray(image)
        image = _narrow(pixels, own_limits(pixels) if limits is None else limits)
    elif image.mode == "P" and "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]  # otherwise Pillow warns that it is dropped
    image = image.convert("RGB")  # a copy, also of an image that is RGB
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def own_limits(pixels: np.ndarray) -> Limits:
    """Return the gray values of one image (H, W) that become 0 and 255 if no others are known.

    Raises:
        UserError: the pixels are floating-point numbers or do not fit into 16 bits, so that one
            image alone does not say what they mean.
    """
    if pixels.dtype.kind == "f":
        raise UserError(
            "Floating-point pixels have no agreed range; save the image with 8 or 16 bits."
        )
    low, high = int(pixels.min()), int(pixels.max())
    if low < FULL[0] or high > FULL[1]:
        raise UserError(
            f"Gray values {low}..{high} do not fit into 16 bits; save the image with 8 or 16 bits."
        )
    return FULL


def _read(path: str, max_pixels: int, convert: Callable[[Image.Image], _Found]) -> _Found:
    """Open and decode a file; return ``convert(image)``."""
    path = os.fspath(path)
    check_file(path)
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_header(image, max_pixels)
            image.load()
            return convert(image)
    except UserError as error:
        raise ImageError(f"{shown(path)}: {error}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{shown(path)}: DecompressionBomb: the image is larger than Pillow opens ({error}). "
            f"The largest here is INPUT.MAX_PIXELS {max_pixels:,}. {REMEDY}"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{shown(path)}: not a readable image (UnidentifiedImageError: {_kind_of(path)}). "
            f"{REMEDY}"
        ) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error ...
        reason = " ".join(f"{type(error).__name__}: {error}".replace(repr(path), "it").split())
        raise ImageError(f"{shown(path)}: not a readable image ({reason}). {REMEDY}") from error


def _check_header(image: Image.Image, max_pixels: int) -> None:
    """Raise ``UserError`` for an image that must not be decoded; only its header was read."""
    width, height = image.size
    if width < 1 or height < 1:
        raise UserError(f"The image is {width} x {height} pixels; it has none. {REMEDY}")
    if width * height > max_pixels:
        raise UserError(
            f"The image is {width:,} x {height:,} = {width * height:,} pixels, above "
            f"INPUT.MAX_PIXELS {max_pixels:,}. Raise this key if such images are meant."
        )
    tags: Any = getattr(image, "tag_v2", {})
    tile = [tags.get(tag) for tag in _TILE_TAGS]
    if all(isinstance(side, int) for side in tile) and tile[0] * tile[1] > max_pixels:
        raise UserError(f"Its tiles are {tile[0]:,} x {tile[1]:,} pixels. {REMEDY}")
    if getattr(image, "is_animated", False) and image.format != _PHOTOGRAPH_FIRST:
        raise UserError(
            "The file holds several images (pages, or an animation), and nothing says which is "
            'meant. Save that one as a file of its own, for the first by: python -c "from PIL '
            "import Image; image = Image.open('IN'); image.seek(0); image.save('OUT.png')\""
        )


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1..8; 1 (upright) if there is none or it cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF data raise errors of every kind, and the pixels are good
        return 1


def _kind_of(path: str) -> str:
    """Return in words what a file is that has none of the formats."""
    with open(path, "rb") as file:
        begin = file.read(32)
    kind = next((kind for magic, kind in _OTHER_FORMATS.items() if begin.startswith(magic)), "")
    if begin[4:8] == b"ftyp":
        kind = "HEIC or AVIF" if begin[8:11] in (b"hei", b"avi", b"mif") else "a video"
    formats = ", ".join(FORMATS[:-1])
    found = f"it is {kind}" if kind else "its first bytes are none of theirs"
    return f"only {formats}, PPM, PGM and PBM are read, and {found}"


def _narrow(pixels: np.ndarray, limits: Limits) -> Image.Image:
    """Return gray (H, W) as 8-bit gray: ``limits`` become 0 and 255, what lies outside is cut."""
    low, high = limits
    numbers = pixels.astype(np.float64)
    if np.isnan(numbers).any():
        raise UserError(f"{np.isnan(numbers).sum()} of its gray values are NaN. {REMEDY}")
    scaled = np.rint((np.clip(numbers, low, high) - low) * (255.0 / (high - low)))
    return Image.fromarray(scaled.astype(np.uint8))
