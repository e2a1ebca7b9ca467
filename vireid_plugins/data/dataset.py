"""Turn items into batches: read an image, transform it by its modality, and collate."""

from typing import Any, Dict, Hashable, List, NamedTuple, Optional, Protocol, Sequence, Union

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vireid_plugins.modality import Modality

from ..readers.image import read_image
from .cache import ImageCache
from .item import Item
from .labels import number_labels, sorted_labels
from .seeding import seeded

Sample = Dict[str, Any]


class ImageTransform(Protocol):
    """The interface of a transform from image to tensor, such as ``transforms.ModalityTransforms``.

    A call does the same as ``begin`` followed by ``end``. ``common`` says in words what ``begin``
    does, whose result a cache can keep.
    """

    def __call__(self, image: Image.Image, modality: Modality) -> Tensor: ...

    def begin(self, image: Image.Image, modality: Modality) -> Image.Image: ...

    def end(self, image: Image.Image, modality: Modality) -> Tensor: ...

    def common(self, modality: Modality) -> str: ...


class ItemRequest(NamedTuple):
    """A request of the batch sampler to the dataset."""

    position: int  # in the dataset's list
    seed: int  # of every random draw made for this item, 0 .. 2**64 - 1


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
        """
        self.items = [Item.of(item) for item in items]
        self.transform = transform
        self.relabel = relabel
        self.fingerprint = fingerprint
        self.cache = cache
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

        Raises:
            ImageError: the image cannot be read; the message names the file.
        """
        if isinstance(request, ItemRequest):
            with seeded(request.seed):
                return self._load(request.position)
        return self._load(int(request))

    def _load(self, index: int) -> Sample:
        item = self.items[index]
        return {
            "images": self._pixels(item.path, Modality(item.modality)),
            "targets": self._targets[item.pid],
            "camids": self._camids[item.camid],
            "modalities": item.modality,
            "index": index,
            "img_paths": item.path,
        }

    def _pixels(self, path: str, modality: Modality) -> Tensor:
        transform = self.transform
        assert transform is not None, "this dataset has no transform, so it has labels only"
        if self.cache is None:
            return transform(read_image(path), modality)
        image = self.cache.image(
            path,
            transform.common(modality),
            lambda: transform.begin(read_image(path), modality),
        )
        return transform.end(image, modality)


def collate(samples: Sequence[Sample]) -> Sample:
    """Return one batch of B rows: a row for each sample, or for each of its views.

    Returns:
        ``images`` (B, 3, H, W) float32 in 0..255; ``targets``, ``camids``, ``modalities`` and
        ``index`` (B,) int64; ``img_paths``, a list of B strings. If samples hold views
        (V, 3, H, W), whose V may differ, also ``views`` (B,) int64, counted from 0. Keys that
        transforms added hold tensors of one shape and are stacked.
    """
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
    return [dict(sample, images=image, views=view) for view, image in enumerate(sample["images"])]
