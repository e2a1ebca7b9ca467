"""Pictures inside the page: of a reasonable size, as data: URIs."""

import base64
import io
from dataclasses import dataclass
from typing import Sequence, Tuple

from PIL import Image

from .html import Markup, join, tag

_FIGURE_SIZE = (1800, 2400)  # pixels: width, height of a figure at most
_PHOTO_SIZE = (192, 384)
_QUALITY = 88
# A PNG keeps letters and lines sharp: it is taken unless it is this much larger.
_SHARPNESS = 1.6


@dataclass(frozen=True)
class Picture:
    """A picture on the page."""

    uri: str  # data:
    width: int  # pixels
    height: int
    alt: str  # what is seen
    caption: str = ""  # for the large view; empty: as ``alt``
    links: Sequence[Tuple[str, str]] = ()  # word, relative address

    def button(self, class_: str = "") -> Markup:
        """The picture, which opens the viewer."""
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
    """A drawn figure: its data: URI, width and height in pixels."""
    with Image.open(path) as image:
        return _encode(_flattened(image), _FIGURE_SIZE)


def photo_uri(image: Image.Image) -> Tuple[str, int, int]:
    """A photograph: its data: URI, width and height in pixels."""
    return _as_jpeg(_fitted(image, _PHOTO_SIZE))


def _flattened(image: Image.Image) -> Image.Image:
    """RGB on white."""
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _fitted(image: Image.Image, most: Tuple[int, int]) -> Image.Image:
    """No larger than ``most``, in its own proportions."""
    image = image.copy()
    image.thumbnail(most, Image.Resampling.LANCZOS)
    return image


def _encode(image: Image.Image, most: Tuple[int, int]) -> Tuple[str, int, int]:
    """As PNG, or as JPEG where that is much smaller, as of photographs."""
    image = _fitted(image, most)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    png = _uri("png", content.getvalue())
    jpeg, width, height = _as_jpeg(image)
    return (jpeg if len(png) > _SHARPNESS * len(jpeg) else png), width, height


def _as_jpeg(image: Image.Image) -> Tuple[str, int, int]:
    content = io.BytesIO()
    # Colors at full resolution: else red letters and frames are smeared.
    image.save(content, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return _uri("jpeg", content.getvalue()), image.width, image.height


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def links(pairs: Sequence[Tuple[str, str]]) -> Markup:
    """Links in one line."""
    return join((tag("a", word, href=address) for word, address in pairs), between=" · ")
