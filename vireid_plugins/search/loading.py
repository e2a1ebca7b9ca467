"""Features of many image files, read by worker processes, a batch at a time.

Shapes: B images of a batch, D features.
"""

import os
import signal
from itertools import islice
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..data.images import ImageError, read_image
from ..engine.feature_extractor import FeatureExtractor
from ..modality import Modality
from .folder import FoundImage

NOT_FINITE = "the model's features of it are NaN or infinite"


class LoadedImages(NamedTuple):
    """A batch: what could be read, and what could not."""

    images: List[FoundImage]  # B
    features: np.ndarray  # (B, D) float32
    broken: List[Tuple[bytes, str]]  # name and reason


def load_images(
    extractor: FeatureExtractor,
    modality: Modality,
    folder: Path,
    images: Iterator[FoundImage],
    workers: int,
) -> Iterator[LoadedImages]:
    """Features of ``images``, in their order; only what is being read is in memory.

    Args:
        extractor: the model; its ``batch_size`` is the greatest B.
        modality: of all images.
        folder: that their names are relative to.
        workers: processes that read; 0: this one.
    """
    batches = DataLoader(
        _ImageFiles(folder, extractor.transforms, modality),
        sampler=_Batches(images, extractor.batch_size),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=_prepare_worker,
    )
    for read, tensor, broken in batches:
        features = np.zeros((0, extractor.feature_size), np.float32)
        if tensor is not None:
            features = extractor.features_of(tensor, modality)
        finite = np.isfinite(features).all(axis=1)
        broken += [(image.name, NOT_FINITE) for image, good in zip(read, finite) if not good]
        kept = [image for image, good in zip(read, finite) if good]
        yield LoadedImages(kept, features[finite], broken)


class _ImageFiles(torch.utils.data.Dataset):
    """``files[images]`` reads a batch of images; those that cannot be read come as reasons."""

    def __init__(self, folder: Path, transforms: Any, modality: Modality) -> None:
        self._folder, self._transforms, self._modality = folder, transforms, modality

    def __getitem__(
        self, images: List[FoundImage]
    ) -> Tuple[List[FoundImage], Optional[Tensor], List[Tuple[bytes, str]]]:
        read, tensors, broken = [], [], []
        for image in images:
            path = str(self._folder / os.fsdecode(image.name))
            try:
                tensors.append(self._transforms(read_image(path), self._modality))
                read.append(image)
            except Exception as error:  # whatever it is, the other images can be read
                broken.append((image.name, reason_of(error, path)))
        return read, torch.stack(tensors) if tensors else None, broken


class _Batches(torch.utils.data.Sampler):
    """Lists of images as they come; nothing is counted or kept."""

    def __init__(self, images: Iterator[FoundImage], size: int) -> None:
        self._images, self._size = images, size

    def __iter__(self) -> Iterator[List[FoundImage]]:
        return iter(lambda: list(islice(self._images, self._size)), [])


def _prepare_worker(number: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process


def reason_of(error: Exception, path: str) -> str:
    """Why an image cannot be read, in one line without its path."""
    text = str(error)
    if isinstance(error, ImageError):
        text = text.replace(f"{path}: ", "", 1).split(" Replace the file")[0]
    else:
        text = f"{type(error).__name__}: {text}"
    return " ".join(text.replace(repr(path), "it").split())
