"""Make the images on which an ONNX graph and PyTorch are compared: random and test images.

Shapes: N images of H x W pixels.
"""

import random
from typing import Any, List, NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import build_dataset
from ..data.item import test_items
from ..data.reading import ImageReader
from ..errors import UserError
from ..modality import Modality
from .graph import ExportError

COUNT = 7  # images of each source


class Pictures(NamedTuple):
    """Images of one source."""

    source: str
    images: Tensor  # (N, 3, H, W) float32 in 0..255
    modalities: Tensor  # (N,) int64


def random_pictures(
    size: Sequence[int], modality: Optional[Modality] = None, seed: int = 0
) -> Pictures:
    """Return random images of ``size`` (H, W), of one modality or of both in turn.

    Some are noise, and all noise looks alike to a network; the others are colored patches, which
    look different.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(COUNT // 2, 3, *size, generator=generator)
    patches = torch.rand(COUNT - COUNT // 2, 3, 6, 3, generator=generator)
    patches = F.interpolate(patches, size=tuple(size), mode="bilinear", align_corners=False)
    modalities = torch.tensor([int(one) for one in _in_turn(modality)])
    return Pictures("random", (torch.cat([noise, patches]) * 255).round(), modalities)


def real_pictures(
    cfg: Any, transforms: Any, modality: Optional[Modality] = None, seed: int = 0
) -> Pictures:
    """Return images drawn from the test set of ``cfg``, of one modality or of both in turn.

    Args:
        transforms: those of the evaluation: a PIL image and its modality become (3, H, W).

    Raises:
        ExportError: there are no images; the message says why.
    """
    if not cfg.DATASETS.TESTS:
        raise ExportError("the model's config names no test set (DATASETS.TESTS)")
    name = cfg.DATASETS.TESTS[0]
    try:
        items = test_items(build_dataset(cfg, name, key="DATASETS.TESTS"))
    except UserError as error:
        raise ExportError(f"{name}: {str(error).splitlines()[0]}") from error
    generator = random.Random(seed)
    wanted = _in_turn(modality)
    chosen = []
    for one in wanted:
        of_modality = [item for item in items if item.modality == one]
        if not of_modality:
            raise ExportError(f"{name} has no {one.label} test images")
        chosen.append(generator.choice(of_modality))
    try:
        read = ImageReader.from_config(cfg)
        tensors = [transforms(read(item.path, one), one) for item, one in zip(chosen, wanted)]
    except UserError as error:
        raise ExportError(str(error)) from error
    return Pictures(name, torch.stack(tensors), torch.tensor([int(one) for one in wanted]))


def _in_turn(modality: Optional[Modality]) -> List[Modality]:
    both = list(Modality)
    return [both[i % 2] if modality is None else modality for i in range(COUNT)]
