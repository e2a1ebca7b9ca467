"""Turn items into batches: read an image, transform it by its modality, and collate."""

from typing import Any, Dict, Hashable, List, NamedTuple, Optional, Protocol, Sequence, Tuple, Union

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from vireid_plugins.errors import UserError
from vireid_plugins.keypoints import Size
from vireid_plugins.modality import Modality

from .cache import ImageCache
from .item import Item
from .keypoints import KeyPoints
from .labels import number_labels, sorted_labels
from .reading import ImageReader
from .seeding import seeded

Sample = Dict[str, Any]
_ERROR = "error"  # the only key of a sample that a worker could not load


class ImageTransform(Protocol):
    """The interface of a transform from image to tensor, such as ``transforms.ModalityTransforms``.

    A call does the same as ``begin`` followed by ``end``. ``common`` says in words what ``begin``
    does, whose result a cache can keep. A transform that depends on the epoch also has
    ``at_epoch(epoch)``, which returns the transform of that epoch. ``end_with_points`` is needed
    only where there are key points.
    """

    def __call__(self, image: Image.Image, modality: Modality) -> Tensor: ...

    def begin(self, image: Image.Image, modality: Modality) -> Image.Image: ...

    def end(self, image: Image.Image, modality: Modality) -> Tensor: ...

    def end_with_points(
        self, image: Image.Image, modality: Modality, points: Tensor, size: Size
    ) -> Tuple[Tensor, Tensor]: ...

    def common(self, modality: Modality) -> str: ...


class ItemRequest(NamedTuple):
    """A request of the batch sampler to the dataset."""

    position: int  # in the dataset's list
    seed: int  # of every random draw made for this item, 0 .. 2**64 - 1
    epoch: int = 0  # on which augmentations with INPUT.<node>.EPOCHS depend


class VIReIDDataset(Dataset):
    """A PyTorch dataset that returns a sample for each item.

    Camera numbers stay as they are; only cameras named by words, as in FastReID's Market1501, are
    numbered, in natural order.
    """

    def __init__(
        self,
        items: Sequence[Sequence],
        transform: Optional[ImageTransform],
        relabel: bool,
        fingerprint: str = "",
        cache: Optional[ImageCache] = None,
        reader: Optional[ImageReader] = None,
        keypoints: Optional[KeyPoints] = None,
    ) -> None:
        """Keep ``items`` in their order.

        Args:
            items: :class:`Item`, or plain tuples of its fields; see ``Item.of``.
            transform: called with the image (PIL, RGB) and its modality; returns (3, H, W), or the
                views (V, 3, H, W) of each image. None: only labels are used, no image is read.
            relabel: if True (training), targets are class numbers 0..N-1, identities in natural
                order; otherwise the identities' own numbers.
            fingerprint: fingerprint of the items, the same on every machine; checkpoints hold it.
            cache: keeps the result of ``transform.begin`` for each image; it changes no pixel.
            reader: reads the images; None: one without a range, see ``ImageReader``.
            keypoints: those of ``items``; samples then have ``keypoints``, (17, 3), or (V, 17, 3)
                for views: x and y in pixels of ``images``, and confidence.
        """
        self.items = [Item.of(item) for item in items]
        self.transform = transform
        self.relabel = relabel
        self.fingerprint = fingerprint
        self.cache = cache
        self.reader = reader or ImageReader()
        self.keypoints = keypoints
        #: identity of each class, in order: ``class_ids[target]`` is the dataset's own number
        self.class_ids: List[Hashable] = sorted_labels(item.pid for item in self.items)
        classes = {pid: target for target, pid in enumerate(self.class_ids)}
        self._targets = classes if relabel else number_labels(self.class_ids)
        self._camids = number_labels(item.camid for item in self.items)

    @property
    def num_classes(self) -> int:
        """The number of identities."""
        return len(self.class_ids)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, request: Union[int, ItemRequest]) -> Sample:
        """Return one sample; an :class:`ItemRequest` fixes its random draws, an integer does not.

        An integer gets the transform of epoch 0.

        Raises:
            ImageError: the image cannot be read; the message names the file.
        """
        try:
            if isinstance(request, ItemRequest):
                with seeded(request.seed):
                    return self._load(request.position, request.epoch)
            return self._load(int(request), epoch=0)
        except UserError as error:
            if get_worker_info() is None:
                raise
            return {_ERROR: error}  # see ``Loader``

    def _load(self, index: int, epoch: int) -> Sample:
        item = self.items[index]
        return {
            **self._pixels(index, epoch),
            "targets": self._targets[item.pid],
            "camids": self._camids[item.camid],
            "modalities": item.modality,
            "index": index,
            "img_paths": item.path,
        }

    def _pixels(self, index: int, epoch: int) -> Dict[str, Tensor]:
        """Return ``images`` and, if there are any, ``keypoints`` of an item."""
        assert self.transform is not None, "this dataset has no transform, so it has labels only"
        at_epoch = getattr(self.transform, "at_epoch", None)
        transform: ImageTransform = at_epoch(epoch) if at_epoch is not None else self.transform
        modality = Modality(self.items[index].modality)
        if self.cache is None and self.keypoints is None:
            return {"images": transform(self._read(index), modality)}
        image = self._begun(index, transform)
        if self.keypoints is None:
            return {"images": transform.end(image, modality)}
        images, points = transform.end_with_points(image, modality, *self.keypoints.of(index))
        return {"images": images, "keypoints": points}

    def _begun(self, index: int, transform: ImageTransform) -> Image.Image:
        """Return what ``transform.begin`` makes of an image, from the cache if it is there."""
        path, modality = self.items[index].path, Modality(self.items[index].modality)
        if self.cache is None:
            return transform.begin(self._read(index), modality)
        return self.cache.image(
            path,
            f"{transform.common(modality)}, gray values {self.reader.describe(modality)}",
            lambda: transform.begin(self._read(index), modality),
        )

    def _read(self, index: int) -> Image.Image:
        item = self.items[index]
        image = self.reader(item.path, Modality(item.modality))
        if self.keypoints is not None:
            self.keypoints.check_size(index, item.path, (image.height, image.width))
        return image


class Loader(DataLoader):
    """A ``DataLoader`` that raises a ``UserError`` of a worker unchanged in the main process.

    PyTorch would add the worker's traceback to the message. It needs the dataset and the
    ``collate`` function of this module.
    """

    def __iter__(self) -> Any:
        return map(_checked, super().__iter__())


def _checked(batch: Sample) -> Sample:
    """Return a batch; raise the error that a worker met instead."""
    if _ERROR in batch:
        raise batch[_ERROR]
    return batch


def collate(samples: Sequence[Sample]) -> Sample:
    """Return one batch of B rows: a row for each sample, or for each of its views.

    Returns:
        ``images`` (B, 3, H, W) float32 in 0..255; ``targets``, ``camids``, ``modalities`` and
        ``index`` (B,) int64; ``img_paths``, a list of B strings. If samples hold views
        (V, 3, H, W), whose V may differ, also ``views`` (B,) int64, counted from 0. If samples
        hold key points, also ``keypoints`` (B, 17, 3) float32: x and y in pixels of ``images``,
        and confidence. Keys that transforms added hold tensors of one shape and are stacked.
    """
    for sample in samples:
        if _ERROR in sample:
            return {_ERROR: sample[_ERROR]}
    if samples[0]["images"].dim() == 4:
        samples = [row for sample in samples for row in _rows_of_views(sample)]
    batch: Sample = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        if isinstance(values[0], Tensor):
            batch[key] = torch.stack(values)
        elif isinstance(values[0], str):
            batch[key] = values
        else:
            batch[key] = torch.tensor(values, dtype=torch.int64)
    return batch


def _rows_of_views(sample: Sample) -> List[Sample]:
    split = [key for key in ("images", "keypoints") if key in sample]
    rows = zip(*(sample[key] for key in split))
    return [dict(sample, **dict(zip(split, row)), views=view) for view, row in enumerate(rows)]
