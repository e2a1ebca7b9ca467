"""The kind ``parts``: which positions are which part of a person, and which are attended to.

It draws any method whose taps (``modeling/maps.py``) have the names ``part_maps``, (B, p, h, w) in
0..1, and ``structure_attention``, (B, h, w); of a method with only one of them, that one. SPOT has
both. B images, p parts, h x w a map.
"""

from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from ..drawing.photos import Photo
from ..drawing.sheet import IMAGE_BOX, Panel, PanelGroup, draw_sheet, load_picture
from ..drawing.style import write_figure, write_numbers
from ..errors import PlotError
from ..modeling.maps import map_names
from .chosen import PhotoOptions, chosen_photos
from .kinds import Drawn, Kind, register_kind
from .maps import maps_of
from .overlay import COLOR_MAP, overlay
from .subject import Subject

PARTS, ATTENTION = "part_maps", "structure_attention"
HEADER = ("image", "modality", "identity", "camera", "map", "row", "column", "value")


@register_kind("parts", help="the parts of a person and the attention, as a method sees them")
class Parts(Kind):
    """Each photograph, the attention that its positions get, and the map of each part."""

    Options = PhotoOptions
    most_subjects = 1

    def draw(self, subjects: Sequence[Subject], options: PhotoOptions, folder: str) -> Drawn:
        """Draw a photograph and a panel for each map."""
        subject = subjects[0]
        known = map_names(subject.model)
        names = [name for name in (ATTENTION, PARTS) if name in known]
        if not names:
            raise PlotError(
                f"{subject.label} ({type(subject.model).__name__}) shows neither {PARTS} nor "
                f"{ATTENTION}; it shows {', '.join(known) or 'nothing'}. Draw a model that marks "
                "such a map by a Tap, as SPOT does."
            )
        photos, why = chosen_photos(subject, options)
        maps = maps_of(subject, photos, names)
        words = ["image", *_titles(maps)]
        sheet = draw_sheet(
            [_group(photo, maps, place) for place, photo in enumerate(photos)],
            words,
            title=f"Parts of {subject.label}",
            note=f"{why} Attention: what a position gets of all others, in parts of the image's "
            "largest value. A part: how much of each position is in it, from 0 to 1.",
            bar=(COLOR_MAP, ("0", "1, or the image's largest")),
        )
        paths = write_figure(sheet.page.figure, folder, "parts")
        numbers = write_numbers(folder, "parts", HEADER, _numbers(photos, maps))
        return Drawn([*paths, numbers], [why])


def _titles(maps: Dict[str, np.ndarray]) -> List[str]:
    count = maps[PARTS].shape[1] if PARTS in maps else 0
    return ["attention"] * (ATTENTION in maps) + [f"part {n + 1}" for n in range(count)]


def _of_image(maps: Dict[str, np.ndarray], place: int) -> Iterator[Tuple[str, np.ndarray]]:
    """Yield the title and the map (h, w) of each panel of an image."""
    found = [maps[ATTENTION][place]] if ATTENTION in maps else []
    return zip(_titles(maps), [*found, *(maps[PARTS][place] if PARTS in maps else ())])


def _group(photo: Photo, maps: Dict[str, np.ndarray], place: int) -> PanelGroup:
    pixels, size = load_picture(photo.path, IMAGE_BOX)
    panels = [Panel(pixels, size)]
    for title, values in _of_image(maps, place):
        if title == "attention":
            values = values / max(float(values.max()), np.finfo(np.float32).tiny)
        panels.append(Panel(overlay(pixels, values.astype(np.float32)), size))
    return PanelGroup(panels, photo.caption.replace("\n", ", "))


def _numbers(photos: Sequence[Photo], maps: Dict[str, np.ndarray]) -> Iterator[Sequence[Any]]:
    for place, photo in enumerate(photos):
        head = (photo.path, photo.modality_label, photo.target, photo.camid)
        for title, values in _of_image(maps, place):
            for (row, column), value in np.ndenumerate(values):
                yield (*head, title, row, column, f"{value:.4g}")
