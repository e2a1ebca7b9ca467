"""Choose the photographs that pictures show: the user names them, or a seed draws them.

B images, N items of a list.
"""

import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch

from ..data.item import Item
from ..data.prepared import prepared, stacked
from ..data.reading import ImageReader
from ..errors import PlotError
from ..keypoints import Size
from ..modality import Modality
from ..readers.image import check_file


class Photo(NamedTuple):
    """One photograph, and what is known of it."""

    path: str
    target: Optional[Union[int, str]] = None  # identity; None: unknown
    camid: Optional[Union[int, str]] = None  # None: unknown
    modality: int = -1  # -1: unknown

    @property
    def caption(self) -> str:
        """Return camera and identity, or the file name of an unknown person, and the modality."""
        known = self.target is not None
        words = f"cam {self.camid}, id {self.target}" if known else os.path.basename(self.path)
        return f"{words}\n{self.modality_label}" if self.modality_label else words

    @property
    def modality_label(self) -> str:
        """Return ``"visible"`` or ``"infrared"``; empty if it is unknown."""
        known = self.modality in tuple(Modality)
        return Modality(self.modality).label if known else ""


def parse_images(words: Sequence[str]) -> List[Photo]:
    """Return the photographs that words ``PATH:visible`` and ``PATH:infrared`` name.

    Raises:
        PlotError: a word has no modality.
        ImageError: a file is absent or empty.
    """
    photos = []
    for word in words:
        path, colon, modality = word.rpartition(":")
        if not colon or modality.strip().lower() not in [m.label for m in Modality]:
            raise PlotError(
                f"--images: {word!r} does not end with :visible or :infrared. Write --images "
                "day.jpg:visible night.jpg:infrared, and put KEY VALUE pairs such as MODEL.WEIGHTS "
                "... before --images or after another option."
            )
        check_file(path)
        photos.append(Photo(path, modality=int(Modality.parse(modality))))
    return photos


def choose_pairs(items: Sequence[Item], count: int, seed: int) -> List[Photo]:
    """Choose ``count`` identities at random, and one photograph of each in each modality.

    Photographs of one identity follow each other. Identities with both modalities are taken before
    those with one.

    Args:
        items: N images to draw from.
        count: number of identities; if there are fewer, all are taken.
        seed: seed of the draw.
    """
    generator = np.random.default_rng(seed)
    names = np.array([str(item.pid) for item in items])
    modalities = np.array([item.modality for item in items])
    order = generator.permutation(len(items))
    first: Dict[Modality, Dict[str, int]] = {}
    for modality in Modality:
        rows = order[modalities[order] == modality]
        identities, place = np.unique(names[rows], return_index=True)
        first[modality] = dict(zip(identities.tolist(), rows[place].tolist()))
    everyone = generator.permutation(np.unique(names)).tolist()
    full = set(first[Modality.VISIBLE]) & set(first[Modality.INFRARED])
    chosen = sorted(everyone, key=lambda name: name not in full)[:count]
    rows = [first[m][name] for name in chosen for m in Modality if name in first[m]]
    return [photo_of(items[row]) for row in rows]


def photo_of(item: Item) -> Photo:
    """Return the photograph of an item."""
    return Photo(*item)


def recognize(photos: Sequence[Photo], items: Sequence[Item]) -> List[Photo]:
    """Return the photographs, with identity and camera if they are among ``items``.

    Raises:
        PlotError: a photograph is among ``items``, but with the other modality.
    """
    known = {os.path.realpath(item.path): item for item in items}
    found = []
    for photo in photos:
        item = known.get(os.path.realpath(photo.path))
        if item is not None and item.modality != photo.modality:
            raise PlotError(
                f"--images: {photo.path} is {Modality(item.modality).label} in the dataset, not "
                f"{photo.modality_label}."
            )
        found.append(photo if item is None else photo_of(item)._replace(path=photo.path))
    return found


def batch_of(
    photos: Sequence[Photo],
    transforms: Any,
    read: Optional[ImageReader] = None,
    keypoints: Optional[Callable[[str, Size], torch.Tensor]] = None,
) -> Dict[str, Any]:
    """Return a test batch: ``images`` (B, 3, H, W) in 0..255 and ``modalities`` (B,).

    With ``keypoints`` it also has ``keypoints`` (B, 17, 3), in pixels of ``images``.

    Args:
        photos: B photographs whose modalities are known.
        transforms: the test transforms of ``build_transforms``.
        read: reads the images; None: one without a range.
        keypoints: returns the key points (17, 3) of an image by its path and its size in pixels.

    Raises:
        ImageError: a file cannot be read.
        FileContentError: an image has no key points.
    """
    read = read or ImageReader()
    known = [Modality(photo.modality) for photo in photos]
    modalities = torch.tensor(known, dtype=torch.int64)
    pictures = [read(photo.path, one) for photo, one in zip(photos, known)]
    pairs = [
        prepared(
            transforms,
            picture,
            one,
            keypoints(photo.path, (picture.height, picture.width)) if keypoints else None,
        )
        for photo, picture, one in zip(photos, pictures, known)
    ]
    images, points = stacked(pairs)
    batch = {"images": images, "modalities": modalities}
    return batch if points is None else {**batch, "keypoints": points}


def batches(photos: Sequence[Photo], size: int) -> List[Tuple[int, Sequence[Photo]]]:
    """Return ``photos`` in parts of at most ``size``, each with the index of its first photo."""
    return [(begin, photos[begin : begin + size]) for begin in range(0, len(photos), size)]
