"""The photographs that a picture is asked for, and what each of them is like.

B images, N test images, D features.
"""

import argparse
import logging
from typing import Any, List, Sequence, Tuple

import numpy as np
import torch

from ..data import Item, VIReIDDataset, build_transforms
from ..data.build import build_train_items
from ..drawing.photos import Photo, batch_of, batches, draw_pairs, parse_images, photo_of, recognize
from ..errors import PlotError
from ..evaluation import evaluation_mode
from ..evaluation.similarity import normalise
from .subject import Subject

logger = logging.getLogger(__name__)

_BATCH = 64
_MOST = 64  # images on a sheet


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """The words that choose photographs, of every kind that draws on them."""
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="PATH:MODALITY",
        help="such as day.jpg:visible night.jpg:infrared; default: a seeded choice",
    )
    parser.add_argument(
        "--count", type=int, default=4, metavar="N", help="identities to choose; default 4"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice; default 0")
    parser.add_argument(
        "--split", choices=("test", "train"), default="test", help="to choose from; default test"
    )


def chosen_photos(subject: Subject, args: argparse.Namespace) -> Tuple[List[Photo], str]:
    """The photographs that the words ask for, and how they were chosen.

    Raises:
        PlotError: a number is out of range, or a word has no modality.
    """
    if args.count < 1 or args.seed < 0:
        raise PlotError(
            f"--count is {args.count} and --seed {args.seed}; expected 1 or more, and 0 or more."
        )
    if args.images:
        photos, why = parse_images(args.images), f"{len(args.images)} given images."
        if args.split == "train":
            photos = recognize(photos, train_set(subject).items)
    else:
        train = args.split == "train"
        items = train_set(subject).items if train else subject.loader.dataset.items
        where = (
            f"training set of {', '.join(subject.cfg.DATASETS.NAMES)}"
            if train
            else (f"test set of {subject.dataset_name}")
        )
        photos = draw_pairs(items, args.count, args.seed)
        names = ", ".join(str(name) for name in dict.fromkeys(photo.target for photo in photos))
        why = f"Identities {names} drawn from the {where}, seed {args.seed}."
    if len(photos) > _MOST:
        raise PlotError(f"{len(photos)} images are asked for; a sheet has room for {_MOST}.")
    return photos, why


def train_set(subject: Subject) -> VIReIDDataset:
    """What the subject's config trains on; it is not read, only listed."""
    return VIReIDDataset(build_train_items(subject.cfg), None, relabel=True)


def features_of(model: Any, photos: Sequence[Photo], transforms: Any) -> torch.Tensor:
    """Features (B, D) of photographs."""
    with evaluation_mode(model), torch.no_grad():
        return model(batch_of(photos, transforms))


def with_matches(subject: Subject, photos: Sequence[Photo]) -> Tuple[List[Photo], List[Photo]]:
    """The photos that have a match, and their matches: by the model's own features.

    A match is the nearest other test image of the same person, or of anybody where the person is
    unknown; of the other modality, unless the test set has one; pairs that the first protocol never
    compares are left out.
    """
    items = subject.loader.dataset.items
    photos = recognize(photos, items)
    found = nearest_matches(subject, photos, items)
    missing = [photo.path for photo, row in zip(photos, found) if row < 0]
    for path in missing:
        logger.warning("%s has no match in the test set, and is left out.", path)
    if len(missing) == len(photos):
        raise PlotError(
            f"None of {len(photos)} images has a match in the test set of {subject.dataset_name}: "
            "another image of the same person in the other modality, from a camera that is "
            "compared with its own."
        )
    kept = [(photo, photo_of(items[row])) for photo, row in zip(photos, found) if row >= 0]
    return [photo for photo, _ in kept], [match for _, match in kept]


def nearest_matches(subject: Subject, photos: Sequence[Photo], items: Sequence[Item]) -> np.ndarray:
    """Row of each photo's match among the test ``items``: (B,), -1 where there is none."""
    transforms = build_transforms(subject.cfg, is_train=False)
    features = torch.cat(
        [features_of(subject.model, part, transforms) for _, part in batches(photos, _BATCH)]
    )
    everyone = normalise(subject.features.features.float())
    scores = (normalise(features.float().cpu()) @ everyone.T).numpy()
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
    # A photograph may be of either side of the protocol: it is taken for a query and for a gallery
    # image, and what is hidden in either role is left out.
    rules = subject.protocols[0].rules()
    scores[rules.hides(same, own_cameras, cameras[None])] = -np.inf
    scores[rules.hides(same, cameras[None], own_cameras)] = -np.inf
    best = scores.argmax(axis=1)
    return np.where(np.isfinite(scores[np.arange(len(best)), best]), best, -1)
