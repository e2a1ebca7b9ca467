"""The loader of a training: batches of an epoch, which a seed and the epoch decide."""

import itertools
import logging
from typing import Any, Iterator, List, Sequence

from torch.utils.data import Sampler

from fastreid.data.datasets.bases import ImageDataset
from fastreid.utils import comm

from .dataset import ItemRequest, Loader, VIReIDDataset
from .pseudo_labels import pseudo_label_sampler
from .seeding import stream_seeds

logger = logging.getLogger(__name__)

_AUGMENTATION = 1  # keeps the seeds of augmentation apart from those of the sampler


class EpochBatchSampler(Sampler):
    """Batches of :class:`ItemRequest`: a sampler's positions, each with a seed and the epoch.

    The seed of a row is a function of (seed, epoch, rank, position in the epoch), so it does not
    matter which worker loads it. Incomplete batches are dropped.
    """

    def __init__(self, sampler: Any, batch_size: int, *, seed: int, rank: int) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self._seed = seed
        self._rank = rank
        self.epoch = 0
        self._skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch, from 0, the next iteration yields."""
        self.epoch = int(epoch)
        self._skipped = 0
        self.sampler.set_epoch(self.epoch)

    def skip(self, batches: int) -> None:
        """Leave out the first ``batches`` of the epoch that ``set_epoch`` has chosen."""
        self._skipped = int(batches)

    @property
    def skipped(self) -> int:
        """The number of batches at the beginning of the epoch that are left out."""
        return self._skipped

    def __len__(self) -> int:
        return len(self.sampler) // self.batch_size

    def __iter__(self) -> Iterator[List[ItemRequest]]:
        key = (self._seed, self.epoch, self._rank, _AUGMENTATION)
        seeds = stream_seeds(len(self) * self.batch_size, *key)
        requests = map(ItemRequest, self.sampler, seeds, itertools.repeat(self.epoch))
        for place in range(len(self)):
            batch = [next(requests) for _ in range(self.batch_size)]
            if place >= self._skipped:
                yield batch


class TrainLoader(Loader):
    """A ``Loader`` over one epoch, which ``set_epoch`` chooses.

    If there is an image cache, each epoch begins with a log line on its use in the last epoch.
    """

    dataset: VIReIDDataset
    batch_sampler: EpochBatchSampler
    #: the dataset objects that the items come from, in the order of DATASETS.NAMES
    sources: Sequence[ImageDataset] = ()

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch, from 0, the next iteration yields."""
        self.batch_sampler.set_epoch(epoch)

    def __iter__(self) -> Any:
        if self.dataset.cache is not None and comm.is_main_process():
            logger.info("Image cache %s", self.dataset.cache.describe())
        return super().__iter__()

    @property
    def iterations_per_epoch(self) -> int:
        """The number of batches in an epoch."""
        return len(self.batch_sampler)

    @property
    def num_classes(self) -> int:
        """The number of classes that a classifier needs: identities, or most clusters."""
        sampler = pseudo_label_sampler(self)
        return self.dataset.num_classes if sampler is None else sampler.most_labels
