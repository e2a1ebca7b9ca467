"""Key points of persons as tensors: how they move with the pixels, and Gaussian heat maps of them.

Key points are (..., 17, 3): x and y in pixels of the image, and a confidence from 0 to 1, for the
joints of :data:`~vireid_plugins.joints.JOINTS`. The middle of the upper left pixel is (0, 0), so
an image of W columns reaches from x = -0.5 to x = W - 0.5. A joint of confidence 0 is unknown: its
coordinates mean nothing, and its heat map is empty.
"""

from typing import Any, Dict, NamedTuple, Tuple, Union

import torch
from torch import Tensor

from .errors import UserError
from .joints import JOINTS, OTHER_SIDE

Size = Tuple[int, int]  # height and width, pixels

# Where the joints of a standing person are, as shares of the width and the height of an image; the
# person's left is on the right side.
_STANDING = {
    "nose": (0.50, 0.10),
    **{"left_eye": (0.54, 0.08), "right_eye": (0.46, 0.08)},
    **{"left_ear": (0.58, 0.10), "right_ear": (0.42, 0.10)},
    **{"left_shoulder": (0.68, 0.22), "right_shoulder": (0.32, 0.22)},
    **{"left_elbow": (0.75, 0.36), "right_elbow": (0.25, 0.36)},
    **{"left_wrist": (0.76, 0.50), "right_wrist": (0.24, 0.50)},
    **{"left_hip": (0.61, 0.52), "right_hip": (0.39, 0.52)},
    **{"left_knee": (0.60, 0.74), "right_knee": (0.40, 0.74)},
    **{"left_ankle": (0.60, 0.94), "right_ankle": (0.40, 0.94)},
}


class Motion(NamedTuple):
    """Where a geometric transform puts the pixels of an image.

    ``matrix`` maps (x, y, 1) of the old image to the new one. Its unit is a pixel, and (0, 0) is
    the outer corner of the upper left pixel, not its middle.
    """

    matrix: Tuple[Tuple[float, float, float], Tuple[float, float, float]]
    size: Size  # of the new image
    mirrored: bool = False  # left and right joints change places

    @classmethod
    def scale(cls, old: Size, new: Size) -> "Motion":
        """Return the motion of resizing an image from the size ``old`` to ``new``."""
        return cls(((new[1] / old[1], 0.0, 0.0), (0.0, new[0] / old[0], 0.0)), new)

    @classmethod
    def shift(cls, x: float, y: float, size: Size) -> "Motion":
        """Return the motion by ``x`` pixels to the right and ``y`` down; ``size`` is cut out."""
        return cls(((1.0, 0.0, x), (0.0, 1.0, y)), size)

    @classmethod
    def mirror(cls, size: Size) -> "Motion":
        """Return the motion of mirroring left and right."""
        return cls(((-1.0, 0.0, float(size[1])), (0.0, 1.0, 0.0)), size, mirrored=True)


def moved(keypoints: Tensor, motion: Motion) -> Tensor:
    """Return key points (..., 17, 3) after a motion; those that leave the image are unknown."""
    matrix = torch.tensor(motion.matrix, dtype=keypoints.dtype, device=keypoints.device)
    places = (keypoints[..., :2] + 0.5) @ matrix[:, :2].T + matrix[:, 2] - 0.5
    known = keypoints[..., 2] * inside(places, motion.size)
    found = torch.cat([places, known[..., None]], dim=-1)
    return found[..., list(OTHER_SIDE), :] if motion.mirrored else found


def inside(places: Tensor, size: Size) -> Tensor:
    """Return whether places (..., 2), x and y, lie in an image of ``size``."""
    limits = places.new_tensor([size[1], size[0]])
    return ((places >= -0.5) & (places < limits - 0.5)).all(dim=-1)


def mirrored_batch(batch: Dict[str, Any]) -> Dict[str, Any]:
    """Return a batch whose ``images`` and, if there are any, ``keypoints`` are mirrored.

    The batch itself is not changed.
    """
    images = batch["images"].flip(dims=[3])
    if "keypoints" not in batch:
        return dict(batch, images=images)
    height, width = images.shape[2:]
    points = moved(batch["keypoints"], Motion.mirror((height, width)))
    return dict(batch, images=images, keypoints=points)


def standing_person(count: int, size: Size) -> Tensor:
    """Return key points (count, 17, 3) of a person who stands in the middle of each image.

    They are for made-up batches, such as those that measure a model. All joints are known.

    Args:
        count: number of images.
        size: height and width of the images in pixels.
    """
    places = torch.tensor([_STANDING[name] for name in JOINTS])
    places = places * torch.tensor([float(size[1]), float(size[0])]) - 0.5
    person = torch.cat([places, torch.ones(len(JOINTS), 1)], dim=1)
    return person.repeat(count, 1, 1)


def keypoints_of(batch: Dict[str, Any], who: str, instead: str = "") -> Tensor:
    """Return the key points (B, 17, 3) of a batch, for a method that needs them.

    Args:
        batch: as :func:`vireid_plugins.data.dataset.collate` describes it.
        who: the name of the method, for the message.
        instead: a sentence about what needs no key points, for the message.

    Raises:
        UserError: the batch has none.
    """
    if "keypoints" not in batch:
        raise UserError(
            f"{who} needs key points, and this batch has none. In a training or an evaluation set "
            "INPUT.KEYPOINTS.READ to all; `vireid pose` makes the file that INPUT.KEYPOINTS.FILE "
            f"names (docs/keypoints.md).{' ' * bool(instead)}{instead}"
        )
    return batch["keypoints"]


def heat_maps(
    keypoints: Tensor,
    image_size: Size,
    map_size: Size,
    sigma: float = 1.0,
    *,
    least: float = 0.0,
    weighted: bool = True,
) -> Tensor:
    """Return a Gaussian heat map of each joint.

    The value of a cell is exp(-d^2 / (2 sigma^2)), where d is the distance between the middle of
    the cell and the joint, both measured in cells of the map.

    Args:
        keypoints: (..., 17, 3), x and y in pixels of an image of ``image_size``, and confidence.
        image_size: height and width of the image in pixels.
        map_size: height and width of the maps in cells; any size, larger or smaller.
        sigma: deviation of the Gaussian, in cells of the map.
        least: joints whose confidence is not above this have an empty map.
        weighted: multiply each map by the joint's confidence; otherwise a map that is not empty
            rises to 1.

    Returns:
        (..., 17, *map_size) on the device and in the type of ``keypoints``.

    Raises:
        UserError: a shape, a size or ``sigma`` is not allowed.
    """
    _check_heat_maps(keypoints, image_size, map_size, sigma)
    confidence = keypoints[..., 2]
    known = confidence > least
    # a place without confidence may be anything, also infinite
    places = torch.where(known[..., None], keypoints[..., :2], torch.zeros_like(keypoints[..., :2]))
    across = _bell(places[..., 0], image_size[1], map_size[1], sigma)
    down = _bell(places[..., 1], image_size[0], map_size[0], sigma)
    height = confidence if weighted else torch.ones_like(confidence)
    peaks = torch.where(known, height, torch.zeros_like(height))
    return (down * peaks[..., None])[..., :, None] * across[..., None, :]


def _bell(places: Tensor, pixels: int, cells: int, sigma: float) -> Tensor:
    """Return the Gaussian (..., cells) along one side, around places (...) in pixels."""
    at = (places + 0.5) * (cells / pixels) - 0.5
    numbers = torch.arange(cells, dtype=places.dtype, device=places.device)
    return torch.exp(-((numbers - at[..., None]) ** 2) / (2 * sigma**2))


def _check_heat_maps(
    keypoints: Tensor, image_size: Size, map_size: Size, sigma: Union[int, float]
) -> None:
    if keypoints.dim() < 2 or tuple(keypoints.shape[-2:]) != (len(JOINTS), 3):
        raise UserError(
            f"Key points have the shape (..., {len(JOINTS)}, 3); got {tuple(keypoints.shape)}."
        )
    if not keypoints.is_floating_point():
        raise UserError(f"Key points are floating-point numbers; got {keypoints.dtype}.")
    for what, size in (("image_size", image_size), ("map_size", map_size)):
        if len(size) != 2 or min(size) < 1:
            raise UserError(f"{what} is height and width, at least 1; got {tuple(size)}.")
    if not sigma > 0:
        raise UserError(f"sigma is above 0, in cells of the map; got {sigma}.")
