"""Choose the photographs that a picture is drawn on, and find the match of each.

B images, N test images, D features.
"""

from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch

from ..data import Item, VIReIDDataset, build_transforms
from ..data.reading import ImageReader
from ..data.training_items import build_train_items
from ..drawing.photos import (
    Photo,
    batch_of,
    batches,
    choose_pairs,
    parse_images,
    photo_of,
    recognize,
)
from ..errors import PlotError
from ..evaluation import evaluation_mode
from ..evaluation.similarity import normalize
from .options import option
from .subject import Subject

_BATCH = 64
_MOST = 64  # largest number of images on a sheet


@dataclass(frozen=True)
class PhotoOptions:
    """Options that choose photographs; every kind that draws on photographs has them."""

    images: Tuple[str, ...] = option(
        (),
        "such as day.jpg:visible night.jpg:infrared; default: a seeded choice",
        metavar="PATH:MODALITY",
    )
    count: int = option(4, "identities to choose", metavar="N")
    seed: int = option(0, "seed of the choice", metavar="N")
    split: str = option("test", "images to choose from", choices=("test", "train"))

    def __post_init__(self) -> None:
        """Raise ``PlotError`` for a number that is out of range."""
        if self.count < 1 or self.seed < 0:
            raise PlotError(
                f"--count is {self.count} and --seed {self.seed}; expected 1 or more, and 0 or "
                "more."
            )


def chosen_photos(subject: Subject, options: PhotoOptions) -> Tuple[List[Photo], str]:
    """Return the photographs that the options ask for, and a sentence on how they were chosen.

    Raises:
        PlotError: a word has no modality, or there are too many images.
    """
    if options.images:
        photos, why = parse_images(options.images), f"{len(options.images)} given images."
        if options.split == "train":
            photos = recognize(photos, train_set(subject).items)
    else:
        train = options.split == "train"
        items = train_set(subject).items if train else subject.loader.dataset.items
        where = (
            f"training set of {', '.join(subject.cfg.DATASETS.NAMES)}"
            if train
            else (f"test set of {subject.dataset_name}")
        )
        photos = choose_pairs(items, options.count, options.seed)
        names = list(dict.fromkeys(str(photo.target) for photo in photos))
        word = "Identity" if len(names) == 1 else "Identities"
        why = f"{word} {', '.join(names)} drawn from the {where}, seed {options.seed}."
    if len(photos) > _MOST:
        raise PlotError(f"{len(photos)} images are asked for; a sheet has room for {_MOST}.")
    return photos, why


def train_set(subject: Subject) -> VIReIDDataset:
    """Return what the subject's config trains on. Its images are listed, not read."""
    transforms = build_transforms(subject.cfg, is_train=False)
    return VIReIDDataset(build_train_items(subject.cfg), transforms, relabel=True)


def features_of(subject: Subject, photos: Sequence[Photo]) -> torch.Tensor:
    """Return the features (B, D) of photographs."""
    with evaluation_mode(subject.model), torch.no_grad():
        return subject.model(batch_of_subject(subject, photos))


def batch_of_subject(subject: Subject, photos: Sequence[Photo]) -> Dict[str, Any]:
    """Return photographs as the batch that the subject's model gets at test, see ``batch_of``."""
    transforms = build_transforms(subject.cfg, is_train=False)
    return batch_of(photos, transforms, ImageReader.from_config(subject.cfg), subject.keypoints)


class Matched(NamedTuple):
    """Photographs and their matches."""

    photos: List[Photo]
    matches: List[Photo]  # one for each photo
    notes: List[str]  # which photographs were left out


def with_matches(subject: Subject, photos: Sequence[Photo]) -> Matched:
    """Return the photographs that have a match, and their matches.

    A match is the nearest other test image, by the model's own features, of the same person; if
    the person is unknown, of anybody. It is of the other modality, unless the test set has only
    one. Pairs that the first protocol never compares are left out.

    Raises:
        PlotError: no photograph has a match.
    """
    items = subject.loader.dataset.items
    photos = recognize(photos, items)
    found = nearest_matches(subject, photos, items)
    missing = [photo.path for photo, row in zip(photos, found) if row < 0]
    if len(missing) == len(photos):
        raise PlotError(
            f"None of {len(photos)} images has a match in the test set of {subject.dataset_name}: "
            "another image of the same person in the other modality, from a camera that is "
            "compared with its own."
        )
    kept = [(photo, photo_of(items[row])) for photo, row in zip(photos, found) if row >= 0]
    return Matched(
        [photo for photo, _ in kept],
        [match for _, match in kept],
        [f"{path} has no match in the test set, and is left out." for path in missing],
    )


def nearest_matches(subject: Subject, photos: Sequence[Photo], items: Sequence[Item]) -> np.ndarray:
    """Return the row (B,) of each photograph's match among the test ``items``; -1: none."""
    features = torch.cat([features_of(subject, part) for _, part in batches(photos, _BATCH)])
    everyone = normalize(subject.features.features.float())
    scores = (normalize(features.float().cpu()) @ everyone.T).numpy()
    names = np.array([str(item.pid) for item in items])
    cameras = np.array([item.camid for item in items], dtype=object)  # numbers or words
    modalities = np.array([item.modality for item in items])
    if len(set(modalities.tolist())) > 1:
        own = np.array([photo.modality for photo in photos])[:, None]
        scores[modalities[None] == own] = -np.inf
    paths = np.array([item.path for item in items])
    scores[paths[None] == np.array([photo.path for photo in photos])[:, None]] = -np.inf
    known = np.array([photo.target is not None for photo in photos])
    same = names[None] == np.array([str(photo.target) for photo in photos])[:, None]
    scores[known[:, None] & ~same] = -np.inf
    own_cameras = np.array([photo.camid for photo in photos], dtype=object)[:, None]
    # A photograph may be a query or a gallery image of the protocol. What is hidden from it in
    # either role is left out.
    rules = subject.protocols[0].rules()
    scores[rules.hides(same, own_cameras, cameras[None])] = -np.inf
    scores[rules.hides(same, cameras[None], own_cameras)] = -np.inf
    best = scores.argmax(axis=1)
    return np.where(np.isfinite(scores[np.arange(len(best)), best]), best, -1)
