"""Features of one's own images from a checkpoint of this package."""

import functools
import hashlib
from pathlib import Path
from typing import Any, Sequence, Union

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from fastreid.modeling.meta_arch import build_model

from ..data.chains import build_transforms
from ..data.images import read_image
from ..modality import Modality
from .checkpoint import FACTS, AtomicCheckpointer, read_facts
from .setup import build_carried_config

ImageLike = Union[str, Path, Image.Image, np.ndarray]


class FeatureExtractor:
    """``FeatureExtractor(weights)(images, modality) -> (N, D)`` float32 rows of length 1.

    The checkpoint carries its config, so no config file is needed. Compare rows of either
    modality by their inner product (cosine similarity). ``fingerprint`` tells models apart.

    Args:
        weights: a checkpoint written by ``VIReIDTrainer``.
        device: such as ``"cpu"`` or ``"cuda"``.
        batch_size: images per forward pass.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the checkpoint is of another program and carries no config.
    """

    def __init__(self, weights: str, device: str = "cpu", batch_size: int = 64) -> None:
        facts = read_facts(str(weights))
        if facts is None:
            raise ValueError(
                f"{weights} says nothing about its model ({FACTS!r} is absent). Write it with "
                "VIReIDTrainer: train, or evaluate and save, in vireid_plugins."
            )
        self.cfg = cfg = build_carried_config(facts, ["MODEL.DEVICE", device])
        self.batch_size = batch_size
        self.transforms = build_transforms(cfg, is_train=False)
        self.model = build_model(cfg).eval()
        AtomicCheckpointer(self.model).load(str(weights), checkpointables=[], need="features")

    @torch.no_grad()
    def __call__(
        self, images: Sequence[ImageLike], modality: Union[str, Modality]
    ) -> np.ndarray:
        """Features of images that are all visible or all infrared.

        Args:
            images: paths, PIL images, or uint8 arrays (H, W, 3) in RGB or (H, W) grey.
            modality: ``"visible"`` or ``"infrared"``.

        Raises:
            ValueError: an unknown modality; OSError: an image that cannot be read.
        """
        modality = modality if isinstance(modality, Modality) else Modality.parse(modality)
        batches = [
            self._features(images[start : start + self.batch_size], modality)
            for start in range(0, len(images), self.batch_size)
        ]
        if not batches:
            return np.zeros((0, self.feature_size), np.float32)
        return torch.cat(batches).numpy()

    @property
    def feature_size(self) -> int:
        """D, the length of a feature."""
        height, width = self.cfg.INPUT.SIZE_TEST
        blank = Image.new("RGB", (width, height))
        return self._features([blank], Modality.VISIBLE).shape[1]

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of what decides a feature: the weights, the model, its input.

        Features of two extractors can be compared if these are equal, whatever file or device
        the models come from. ``NearestNeighbors`` keeps it with an index.
        """
        model = self.cfg.MODEL.clone()
        model.defrost()
        model.DEVICE = model.WEIGHTS = model.BACKBONE.PRETRAIN_PATH = ""
        size = list(self.cfg.INPUT.SIZE_TEST)
        digest = hashlib.sha256(f"{model.dump()}{size}{self.transforms.describe()}".encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()[:16]

    def _features(self, images: Sequence[ImageLike], modality: Modality) -> torch.Tensor:
        tensors = [self.transforms(_to_pil(image), modality) for image in images]
        batch = {
            "images": torch.stack(tensors),
            "modalities": torch.full((len(tensors),), int(modality), dtype=torch.int64),
        }
        return F.normalize(self.model(batch).float(), dim=1).cpu()


def _to_pil(image: Any) -> Image.Image:
    if isinstance(image, (str, Path)):
        return read_image(str(image))
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    return image.convert("RGB")
