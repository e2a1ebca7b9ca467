"""Make the images on which an ONNX graph and PyTorch are compared: random and test images.

Shapes: N images of H x W pixels.
"""

import random
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import build_dataset
from ..data.item import test_items
from ..data.keypoints import load_keypoints, needs_keypoints
from ..data.prepared import prepared, stacked
from ..data.reading import ImageReader
from ..errors import UserError
from ..keypoints import standing_person
from ..modality import Modality
from .graph import ExportError

COUNT = 7  # images of each source


class Pictures(NamedTuple):
    """Images of one source."""

    source: str
    images: Tensor  # (N, 3, H, W) float32 in 0..255
    modalities: Tensor  # (N,) int64
    keypoints: Tensor  # (N, 17, 3), in pixels of the images

    def rows(self) -> Tuple[Tensor, Tensor, Tensor]:
        """Return images, modalities and key points, in the order in which features take them."""
        return self.images, self.modalities, self.keypoints


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
    images = (torch.cat([noise, patches]) * 255).round()
    points = standing_person(COUNT, (size[0], size[1]))
    shift = torch.rand(COUNT, 1, 2, generator=generator) * 0.2 * points[..., :2].amax()
    points = torch.cat([points[..., :2] - shift, points[..., 2:]], dim=2)
    return Pictures("random", images, modalities, points)


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
        source = build_dataset(cfg, name, key="DATASETS.TESTS")
        items, reads = test_items(source), needs_keypoints(cfg, is_train=False)
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
        keypoints = load_keypoints(cfg, chosen, [(source, chosen)]) if reads else None
        pairs = [
            prepared(
                transforms,
                read(item.path, one),
                one,
                None if keypoints is None else keypoints.points[place],
            )
            for place, (item, one) in enumerate(zip(chosen, wanted))
        ]
    except UserError as error:
        raise ExportError(str(error)) from error
    images, points = stacked(pairs)
    if points is None:
        points = standing_person(len(images), (images.shape[2], images.shape[3]))
    return Pictures(name, images, torch.tensor([int(one) for one in wanted]), points)


def _in_turn(modality: Optional[Modality]) -> List[Modality]:
    both = list(Modality)
    return [both[i % 2] if modality is None else modality for i in range(COUNT)]
