"""Put pictures into the page, as data: URIs of a reasonable size."""

import base64
import io
from dataclasses import dataclass
from typing import Sequence, Tuple

from PIL import Image

from ..readers.image import load_image
from .html import Markup, join, tag

_FIGURE_SIZE = (1800, 2400)  # largest width and height of a figure in pixels
_PHOTO_SIZE = (192, 384)
_QUALITY = 88
# A PNG keeps letters and lines sharp; a JPEG is used if the PNG is this many times larger.
_SHARPNESS = 1.6


@dataclass(frozen=True)
class Picture:
    """A picture on the page."""

    uri: str  # data:
    width: int  # pixels
    height: int
    alt: str  # what the picture shows
    caption: str = ""  # caption of the large view; empty: ``alt``
    links: Sequence[Tuple[str, str]] = ()  # words and relative addresses

    def button(self, class_: str = "") -> Markup:
        """Return the picture as a button that opens the viewer."""
        image = tag("img", src=self.uri, alt=self.alt, width=self.width, height=self.height)
        return tag(
            "button",
            image,
            class_=f"picture {class_}".strip(),
            type="button",
            aria_haspopup="dialog",
            data_caption=self.caption or self.alt,
        )


def figure_uri(path: str) -> Tuple[str, int, int]:
    """Return the data: URI of a figure, its width and its height in pixels."""
    return _figure_data(_flattened(load_image(path)), _FIGURE_SIZE)


def photo_uri(image: Image.Image) -> Tuple[str, int, int]:
    """Return the data: URI of a photograph, its width and its height in pixels."""
    return _as_jpeg(_fitted(image, _PHOTO_SIZE))


def _flattened(image: Image.Image) -> Image.Image:
    """Return ``image`` as RGB on a white ground."""
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _fitted(image: Image.Image, most: Tuple[int, int]) -> Image.Image:
    """Return ``image`` no larger than ``most``, in its own proportions."""
    image = image.copy()
    image.thumbnail(most, Image.Resampling.LANCZOS)
    return image


def _figure_data(image: Image.Image, most: Tuple[int, int]) -> Tuple[str, int, int]:
    """Return ``image`` as PNG, or as JPEG if that is much smaller, as it is for photographs."""
    image = _fitted(image, most)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    png = _uri("png", content.getvalue())
    jpeg, width, height = _as_jpeg(image)
    return (jpeg if len(png) > _SHARPNESS * len(jpeg) else png), width, height


def _as_jpeg(image: Image.Image) -> Tuple[str, int, int]:
    content = io.BytesIO()
    # Colors are kept at full resolution; otherwise red letters and frames are smeared.
    image.save(content, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return _uri("jpeg", content.getvalue()), image.width, image.height


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def links(pairs: Sequence[Tuple[str, str]]) -> Markup:
    """Return links in one line."""
    return join((tag("a", word, href=address) for word, address in pairs), between=" · ")
