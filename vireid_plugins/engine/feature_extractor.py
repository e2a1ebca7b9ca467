"""Compute features of your own images with a checkpoint of this package."""

import contextlib
import functools
from pathlib import Path
from typing import Any, ContextManager, Iterable, List, Optional, Set, Union

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..data.item import Item
from ..data.keypoints import PathKeyPoints
from ..data.prepared import Prepared, checked_points, prepared, stacked
from ..data.range_survey import check_ranges_suit
from ..data.reading import RANGE_KEYS, ImageReader
from ..data.transforms.chains import build_transforms
from ..errors import NonFiniteError, UserError
from ..keypoints import standing_person
from ..modality import Modality
from ..readers.image import ImageError
from .devices import check_device
from .loading import open_checkpoint

PRECISIONS = ("float32", "bfloat16", "float16")
CHANNEL_ORDERS = ("rgb", "bgr")
ImageLike = Union[str, Path, Image.Image, np.ndarray]


class FeatureExtractor:
    """``FeatureExtractor(weights)(images, modality) -> (N, D)`` float32 rows of length 1.

    The checkpoint carries its config, so no config file is needed. Compare rows of either
    modality by their inner product (cosine similarity). ``fingerprint`` tells models apart;
    ``facts`` is what the checkpoint says about itself.

    Args:
        weights: a checkpoint written by ``VIReIDTrainer``.
        device: such as ``"cpu"`` or ``"cuda"``.
        batch_size: images per forward pass.
        precision: number type of the forward pass: ``"float32"``, ``"bfloat16"`` or, on a GPU,
            ``"float16"``. The features are always returned as float32, and features of different
            precisions can be compared.
        channels: order in arrays: ``"rgb"``, or ``"bgr"`` as OpenCV and most trackers have it.
        infrared_range: gray values of infrared images of more than 8 bits that become 0 and 255,
            as in ``INPUT.INFRARED_RANGE``; empty: those that the model was trained with.
        visible_range: the same for visible images.
        keypoints: a file of key points (docs/keypoints.md), for a model that needs them; it is
            asked for the images that are given as paths.
        keypoints_folder: the folder of the images that the paths in that file are relative to;
            empty: the folder of the file.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file is damaged, its weights are not finite, or another program wrote
            it, so that it carries no config (``carry_config`` adds one).
        UserError: an argument has a value that is not allowed.
    """

    def __init__(
        self,
        weights: Union[str, Path],
        device: str = "cpu",
        batch_size: int = 64,
        *,
        precision: str = "float32",
        channels: str = "rgb",
        infrared_range: str = "",
        visible_range: str = "",
        keypoints: Union[str, Path] = "",
        keypoints_folder: Union[str, Path] = "",
    ) -> None:
        check_device(device, "device")
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1; got {batch_size}.")
        if precision not in PRECISIONS:
            raise UserError(f"precision must be one of {PRECISIONS}; got {precision!r}.")
        if precision == "float16" and str(device).startswith("cpu"):
            raise UserError("precision 'float16' needs a GPU; on a CPU use 'bfloat16'.")
        if channels not in CHANNEL_ORDERS:
            raise UserError(f"channels must be one of {CHANNEL_ORDERS}; got {channels!r}.")
        self.precision, self.channels = precision, channels
        # TEST.DEVICE says where an evaluation ranks. Nothing is ranked here, and this machine may
        # not have that device.
        opts = ["MODEL.DEVICE", device, "TEST.DEVICE", ""]
        ranges = {Modality.INFRARED: infrared_range, Modality.VISIBLE: visible_range}
        for modality, words in ranges.items():
            opts += [RANGE_KEYS[modality], words] if words else []
        self._checkpoint = open_checkpoint(str(weights), opts=opts)
        self.facts, self.cfg = self._checkpoint.facts or {}, self._checkpoint.cfg
        self.batch_size = batch_size
        self.transforms = build_transforms(self.cfg, is_train=False)
        self.reader = ImageReader.from_config(self.cfg)
        self._looked_at: Set[Modality] = set()
        self.model = self._checkpoint.model
        self.keypoints: Optional[PathKeyPoints] = None
        if str(keypoints):
            self._check_takes_keypoints()
            self.keypoints = PathKeyPoints(keypoints, keypoints_folder)

    def __call__(
        self,
        images: Iterable[ImageLike],
        modality: Union[str, Modality],
        keypoints: Optional[np.ndarray] = None,
    ) -> np.ndarray:
        """Return the features (N, D) of N images that are all visible or all infrared.

        Args:
            images: paths, PIL images and arrays, also mixed; an empty list is allowed. Arrays are
                (H, W, 3) uint8 in the order of ``channels``, (H, W, 4) with transparency, which is
                dropped, or gray (H, W) or (H, W, 1), uint8 or uint16. Pictures are turned upright
                by their EXIF data. Gray of more than 8 bits is scaled by the range that the model
                was trained with or, where there is none, by the image's own.
            modality: ``"visible"`` or ``"infrared"``.
            keypoints: (N, 17, 3), x and y in pixels of each image, and a confidence from 0 to 1,
                for a model that needs key points; None: the file of key points has them.

        Raises:
            FileContentError: the file of key points lacks an image, or has another size of it.
            UserError: the model needs key points and there are none, the modality is unknown, a
                single image was given instead of a list, or an array is not an image; the message
                says which.
            ImageError: a file cannot be read.
            NonFiniteError: a feature is NaN or infinite.
        """
        modality = modality if isinstance(modality, Modality) else Modality.parse(modality)
        pictures = _listed(images)
        points = self._given(keypoints, len(pictures))
        if pictures and points is None:
            self.check_keypoints()
        self._look_at_gray_values(pictures, modality)
        batches = []
        for start in range(0, len(pictures), self.batch_size):
            part = range(start, min(start + self.batch_size, len(pictures)))
            pairs = [
                self._tensors(pictures[n], n, modality, None if points is None else points[n])
                for n in part
            ]
            tensor, own = stacked(pairs)
            batches.append(self.features_of(tensor, modality, own))
            self._check_finite(batches[-1], start)
        if not batches:
            return np.zeros((0, self.feature_size), np.float32)
        return np.concatenate(batches)

    @torch.no_grad()
    def features_of(
        self, images: Tensor, modality: Modality, keypoints: Optional[Tensor] = None
    ) -> np.ndarray:
        """Return features (B, D) of a batch (B, 3, H, W) that ``transforms`` have made.

        Args:
            images: the batch.
            modality: of all images.
            keypoints: (B, 17, 3) in pixels of ``images``; None: the model needs none.
        """
        batch = {
            "images": images,
            "modalities": torch.full((len(images),), int(modality), dtype=torch.int64),
        }
        if keypoints is not None:
            batch["keypoints"] = keypoints
        with self._autocast():
            features = self.model(batch)
        return F.normalize(features.float(), dim=1).cpu().numpy()

    def _check_finite(self, features: np.ndarray, start: int) -> None:
        """Raise ``NonFiniteError`` if a row is not finite; ``start`` is the number of the first."""
        wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
        if len(wrong):
            hint = "" if self.precision == "float32" else ", or precision='float32'"
            raise NonFiniteError(
                f"The model's features of images[{start + wrong[0]}] are NaN or infinite. Use "
                f"another checkpoint{hint}."
            )

    def _autocast(self) -> ContextManager[Any]:
        if self.precision == "float32":
            return contextlib.nullcontext()
        kind = torch.device(self.cfg.MODEL.DEVICE).type
        return torch.autocast(kind, dtype=getattr(torch, self.precision))

    @property
    def needs_keypoints(self) -> bool:
        """Return whether the model needs key points of each image."""
        return getattr(self.model, "needs_keypoints", False)

    def check_keypoints(self) -> None:
        """Raise ``UserError`` if the model needs key points, and no file of them was given."""
        if self.needs_keypoints and self.keypoints is None:
            raise UserError(
                f"{type(self.model).__name__} needs key points of each image, and no file of them "
                "was given: add --keypoints FILE (in Python keypoints=). `vireid pose --images DIR "
                "--out FILE` makes it (docs/keypoints.md)."
            )

    def _check_takes_keypoints(self) -> None:
        if not self.needs_keypoints:
            raise UserError(
                f"{type(self.model).__name__} takes no key points: leave --keypoints (in Python "
                "keypoints=) out."
            )

    def _given(self, keypoints: Optional[np.ndarray], count: int) -> Optional[Tensor]:
        """Return the key points that a call was given, checked."""
        if keypoints is None:
            return None
        self._check_takes_keypoints()
        return checked_points(keypoints, count)

    def _tensors(
        self, image: ImageLike, number: int, modality: Modality, points: Optional[Tensor]
    ) -> Prepared:
        try:
            picture = self._picture(image, modality)
        except ImageError:  # its message names the file already
            raise
        except ValueError as error:
            raise UserError(f"images[{number}]: {error}") from None
        if points is None and self.keypoints is not None:
            if not isinstance(image, (str, Path)):
                raise UserError(
                    f"images[{number}] is no path, so the file of key points cannot be asked for "
                    "it: give the call keypoints (N, 17, 3)."
                )
            points = self.keypoints.of(image, (picture.height, picture.width))
        return prepared(self.transforms, picture, modality, points)

    def _look_at_gray_values(self, pictures: List[ImageLike], modality: Modality) -> None:
        """Warn once for each modality if files have more than 8 bits and the model has no range."""
        paths = [str(one) for one in pictures if isinstance(one, (str, Path))]
        if paths and modality not in self._looked_at:
            self._looked_at.add(modality)
            items = [Item(path, None, None, modality) for path in paths]
            check_ranges_suit(self.reader, items, "FeatureExtractor")

    def _picture(self, image: ImageLike, modality: Modality) -> Image.Image:
        if isinstance(image, (str, Path)):
            return self.reader(str(image), modality)
        if isinstance(image, np.ndarray):
            image = _array_to_pil(image, self.channels)
        if not isinstance(image, Image.Image):
            raise UserError(f"expected a path, a PIL image or a NumPy array; got {type(image)}.")
        return self.reader.convert(image, modality)

    @functools.cached_property
    def feature_size(self) -> int:
        """Return D, the length of a feature."""
        height, width = self.cfg.INPUT.SIZE_TEST
        points = standing_person(1, (height, width)) if self.needs_keypoints else None
        blank = torch.zeros(1, 3, height, width)
        return self.features_of(blank, Modality.VISIBLE, points).shape[1]

    @property
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of what decides a feature: weights, model and input.

        Features of two extractors can be compared if these are equal, whatever file or device
        the models come from. ``NearestNeighbors`` keeps it with an index.
        """
        return self._checkpoint.fingerprint


def _listed(images: Any) -> List[ImageLike]:
    one = isinstance(images, (str, Path, Image.Image))
    if one or (isinstance(images, np.ndarray) and images.ndim < 4 and images.dtype != object):
        raise UserError(
            f"images must be a list of images; got one {type(images).__name__}. Write [image]."
        )
    return list(images)


def _array_to_pil(array: np.ndarray, channels: str) -> Image.Image:
    gray = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    is_color = array.ndim == 3 and array.shape[2] in (3, 4)
    kind = array.dtype.newbyteorder("=")
    if array.size == 0 or not (
        (gray.ndim == 2 and kind in (np.uint8, np.uint16)) or (is_color and array.dtype == np.uint8)
    ):
        raise UserError(
            "expected an array (H, W, 3) or (H, W, 4) of uint8, or gray (H, W) of uint8 or "
            f"uint16, with at least one pixel; got shape {array.shape} of {array.dtype}."
        )
    if gray.ndim == 2:
        return Image.fromarray(np.ascontiguousarray(gray.astype(kind)))
    order = slice(2, None, -1) if channels == "bgr" else slice(3)
    return Image.fromarray(np.ascontiguousarray(array[..., order]))
