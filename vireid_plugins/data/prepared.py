"""Make what a model gets of single pictures at test: pixels and, if there are any, key points.

B pictures of H x W pixels.
"""

from typing import Any, Optional, Sequence, Tuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vireid_plugins.errors import UserError
from vireid_plugins.joints import JOINTS
from vireid_plugins.modality import Modality

from .transforms.chains import ModalityTransforms

Prepared = Tuple[Tensor, Optional[Tensor]]  # (3, H, W), and key points (17, 3)


def prepared(
    transforms: ModalityTransforms,
    picture: Image.Image,
    modality: Modality,
    points: Optional[Tensor],
) -> Prepared:
    """Return what a model gets of a picture, (3, H, W), and its key points there, if there are any.

    Args:
        transforms: those of a test.
        picture: RGB.
        modality: of the picture.
        points: key points (17, 3) in pixels of the picture.
    """
    if points is None:
        return transforms(picture, modality), None
    size = (picture.height, picture.width)
    return transforms.end_with_points(transforms.begin(picture, modality), modality, points, size)


def stacked(pairs: Sequence[Prepared]) -> Tuple[Tensor, Optional[Tensor]]:
    """Return the images (B, 3, H, W) and key points (B, 17, 3) of B prepared pictures."""
    points = [own for _, own in pairs if own is not None]
    return torch.stack([image for image, _ in pairs]), torch.stack(points) if points else None


def checked_points(keypoints: Any, count: int) -> Tensor:
    """Return the key points of ``count`` pictures, (count, 17, 3) float32, that a user gave.

    Raises:
        UserError: they are not finite numbers of this shape, or a confidence is not in 0..1.
    """
    points = np.asarray(keypoints)
    if points.shape != (count, len(JOINTS), 3) or points.dtype.kind not in "fiu":
        raise UserError(
            f"keypoints must be numbers ({count}, {len(JOINTS)}, 3), one row for each image; "
            f"got {points.shape} of {points.dtype}."
        )
    points = points.astype(np.float32)
    sure = points[..., 2]
    if not (np.isfinite(points).all() and ((sure >= 0) & (sure <= 1)).all()):
        raise UserError("keypoints must be finite, with confidences from 0 to 1.")
    return torch.from_numpy(points)
