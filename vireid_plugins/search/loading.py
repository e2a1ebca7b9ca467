"""Compute the features of many image files, read by worker processes, batch by batch.

Shapes: B images of a batch, D features.
"""

import os
import signal
from itertools import islice
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..data.prepared import prepared, stacked
from ..engine.feature_extractor import FeatureExtractor
from ..errors import FileContentError
from ..modality import Modality
from ..readers.image import ImageError
from .folder import FoundImage

NOT_FINITE = "the model's features of it are NaN or infinite"


_Made = Tuple[Tensor, Optional[Tensor]]  # images (B, 3, H, W) and key points (B, 17, 3)


class LoadedImages(NamedTuple):
    """A batch of images and their features, and what could not be read."""

    images: List[FoundImage]  # B
    features: np.ndarray  # (B, D) float32
    broken: List[Tuple[bytes, str]]  # names and reasons


def load_images(
    extractor: FeatureExtractor,
    modality: Modality,
    folder: Path,
    images: Iterator[FoundImage],
    workers: int,
) -> Iterator[LoadedImages]:
    """Yield the features of ``images`` in their order; memory holds only what is being read.

    Args:
        extractor: the model; its ``batch_size`` is the largest B.
        modality: the modality of all images.
        folder: the folder that their names are relative to.
        workers: number of processes that read; 0: this process reads.
    """
    batches = DataLoader(
        _ImageFiles(folder, extractor, modality),
        sampler=_Batches(images, extractor.batch_size),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=_prepare_worker,
    )
    for read, made, broken in batches:
        if made is None:
            features = np.zeros((0, extractor.feature_size), np.float32)
        else:
            features = extractor.features_of(made[0], modality, made[1])
        finite = np.isfinite(features).all(axis=1).reshape(-1)
        broken += [(image.name, NOT_FINITE) for image, good in zip(read, finite) if not good]
        kept = [image for image, good in zip(read, finite) if good]
        yield LoadedImages(kept, features[finite], broken)


class _ImageFiles(torch.utils.data.Dataset):
    """A dataset whose item ``files[images]`` is a batch: tensors, and why images are broken."""

    def __init__(self, folder: Path, extractor: FeatureExtractor, modality: Modality) -> None:
        self._folder, self._modality = folder, modality
        # not the extractor itself: where workers are spawned, its model would be copied to them
        self._reader, self._transforms = extractor.reader, extractor.transforms
        self._keypoints = extractor.keypoints

    def __getitem__(
        self, images: List[FoundImage]
    ) -> Tuple[List[FoundImage], Optional[_Made], List[Tuple[bytes, str]]]:
        read, pairs, broken = [], [], []
        for image in images:
            path = str(self._folder / os.fsdecode(image.name))
            try:
                pairs.append(self._prepared(path))
                read.append(image)
            except Exception as error:  # of whatever kind: the other images can still be read
                broken.append((image.name, reason_of(error, path)))
        return read, stacked(pairs) if pairs else None, broken

    def _prepared(self, path: str) -> Tuple[Tensor, Optional[Tensor]]:
        picture, points = self._reader(path, self._modality), None
        if self._keypoints is not None:
            points = self._keypoints.of(path, (picture.height, picture.width))
        return prepared(self._transforms, picture, self._modality, points)


class _Batches(torch.utils.data.Sampler):
    """A sampler that yields lists of images as they come, without counting or keeping them."""

    def __init__(self, images: Iterator[FoundImage], size: int) -> None:
        self._images, self._size = images, size

    def __iter__(self) -> Iterator[List[FoundImage]]:
        return iter(lambda: list(islice(self._images, self._size)), [])


def _prepare_worker(number: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process


def reason_of(error: Exception, path: str) -> str:
    """Return why an image cannot be read, in one line without its path."""
    text = str(error)
    if isinstance(error, FileContentError):  # of the key points; it names all that is needed
        return " ".join(text.split())
    if isinstance(error, ImageError):
        text = text.replace(f"{path}: ", "", 1).split(" Replace the file")[0]
    else:
        text = f"{type(error).__name__}: {text}"
    return " ".join(text.replace(repr(path), "it").split())
