"""Grids of generated images: whose identity, whose pose, whose illumination.

B images, (3, H, W) each.
"""

from typing import Any, List, NamedTuple, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from .codes import mixed
from .swaps import Codes

_GAP = 4  # pixels between the grids of a mosaic
Cells = List[List[Optional[Tensor]]]  # rows of images (3, H, W), normalized; None: an empty place


class Grid(NamedTuple):
    """Rows of images with names of rows and columns."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Cells


def swap_grids(
    model: Any, images: Tensor, modalities: Tensor, persons: Sequence[Any], names: Sequence[str]
) -> List[Grid]:
    """Return the three grids of images that a model with ``encode`` and ``decode`` makes.

    Args:
        model: in evaluation mode, such as ``HiCMD``.
        images: (B, 3, H, W), normalized.
        modalities: (B,).
        persons: who is on each image.
        names: what the images are called.
    """
    with torch.no_grad():
        codes = model.encode(images, modalities)
        kinds = modalities.tolist()
        return [
            _everyone_in_each_pose(model, images, codes, names),
            _across(model, images, modalities, codes, partners(kinds, persons, same=True), names),
            _parts(model, images, codes, partners(kinds, persons, same=False), names),
        ]


def partners(modalities: Sequence[int], persons: Sequence[Any], same: bool) -> List[int]:
    """Return for each image one of the other modality, of the same person or of another one.

    Where there is none, it is the next image.
    """
    count, found = len(persons), []
    for place in range(count):
        others = [(place + step) % count for step in range(1, count)]
        fitting = [
            one
            for one in others
            if modalities[one] != modalities[place] and (persons[one] == persons[place]) == same
        ]
        found.append((fitting or others or [place])[0])
    return found


def exchanged(model: Any, codes: Codes, persons: Tensor, donors: Tensor) -> Tensor:
    """Return images (n, 3, H, W): prototype and style of some images, pose and light of others.

    Args:
        persons, donors: (n,) places of the images.
    """
    a, b = codes.attributes[persons], codes.attributes[donors]
    return model.decode(codes.prototypes[persons], mixed(a, b, b))


def _everyone_in_each_pose(model: Any, images: Tensor, codes: Codes, names: Sequence[str]) -> Grid:
    """Return a row for each pose and illumination, and a column for each prototype and style."""
    places = torch.arange(len(images), device=images.device)
    cells: Cells = [[None, *images]]
    for place, image in enumerate(images):
        cells.append([image, *exchanged(model, codes, places, torch.full_like(places, place))])
    return Grid(
        "Everyone in each pose: the person (prototype, style) of the column, the pose and the "
        "light (illumination) of the row. Top right and bottom left cross the modalities.",
        ("person", *names),
        ("pose, light", *names),
        cells,
    )


def _across(
    model: Any,
    images: Tensor,
    modalities: Tensor,
    codes: Codes,
    partner: Sequence[int],
    names: Sequence[str],
) -> Grid:
    """Return for each image: restored, in the other modality, and that one swapped back."""
    places = torch.arange(len(images), device=images.device)
    others = torch.tensor(partner, device=images.device)
    own = model.decode(codes.prototypes, codes.attributes)
    crossed = exchanged(model, codes, places, others)
    again = model.encode(crossed, modalities[others])  # the image's person in the partner's light
    back = model.decode(
        again.prototypes, mixed(again.attributes, codes.attributes, codes.attributes)
    )
    return Grid(
        "Across the modalities: visible → infrared, and infrared → visible",
        tuple(names),
        ("image", "restored", "partner", "as partner", "and back"),
        [list(row) for row in zip(images, own, images[others], crossed, back)],
    )


def _parts(
    model: Any, images: Tensor, codes: Codes, donor: Sequence[int], names: Sequence[str]
) -> Grid:
    """Return for each image what another person's style, pose or illumination changes."""
    a, b = codes.attributes, codes.attributes[torch.tensor(donor, device=images.device)]
    mixes = [mixed(a, a, a), mixed(b, a, a), mixed(a, b, a), mixed(a, a, b), mixed(a, b, b)]
    made = [model.decode(codes.prototypes, mix) for mix in mixes]
    donors = images[torch.tensor(donor, device=images.device)]
    return Grid(
        "What another person's image (donor) changes: its style, pose or light alone",
        tuple(names),
        ("image", "donor", "restored", "style", "pose", "light", "pose, light"),
        [list(row) for row in zip(images, donors, *made)],
    )


def mosaic(grids: Sequence[Grid], mean: Tensor, deviation: Tensor) -> np.ndarray:
    """Return all grids side by side, (3, H, W) uint8; a row is one image; empty places are white.

    Args:
        mean, deviation: of the normalization, (1, 3, 1, 1), in 0..255.
    """
    pictures = [_picture(grid.cells, mean, deviation) for grid in grids]
    height = max(picture.shape[1] for picture in pictures)
    parts = []
    for picture in pictures:
        above = height - picture.shape[1]
        parts.append(np.pad(picture, ((0, 0), (above, 0), (0, _GAP)), constant_values=255))
    return np.concatenate(parts, axis=2)


def _picture(cells: Cells, mean: Tensor, deviation: Tensor) -> np.ndarray:
    shape = next(image.shape for row in cells for image in row if image is not None)
    blank = np.full(tuple(shape), 255, dtype=np.uint8)
    rows = [
        [blank if image is None else pixels(image, mean, deviation) for image in row]
        for row in cells
    ]
    return np.concatenate([np.concatenate(row, axis=2) for row in rows], axis=1)


def pixels(image: Tensor, mean: Tensor, deviation: Tensor) -> np.ndarray:
    """Return a normalized image (3, H, W) as uint8; values beyond black and white are cut off."""
    values = image.float() * deviation[0] + mean[0]
    found: np.ndarray = values.clamp(0, 255).round().to(torch.uint8).cpu().numpy()
    return found
