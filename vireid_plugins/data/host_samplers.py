"""FastReID's own samplers, cut into epochs that are a function of (seed, epoch).

FastReID's samplers are endless streams over items of three fields; they seed NumPy's global
generator when iterated. Here each epoch starts a new stream with its own seed, restores the global
generators, and ends after a known number of batches.
"""

import itertools
from collections import defaultdict
from typing import Any, ClassVar, Dict, Iterator, List, Sequence

import numpy as np
from torch.utils.data import Sampler

from vireid_plugins.errors import UserError
from vireid_plugins.keys import check_unread
from vireid_plugins.registry import SAMPLER_REGISTRY

from fastreid.config import CfgNode
from fastreid.data import samplers as host
from fastreid.utils import comm

from .labels import sorted_labels
from .sampler import DRAW_KEYS, INFRARED_KEYS, PAIRS_KEYS
from .seeding import seeded, stream_seeds

_HOST_SEED_LIMIT = 2**31  # the host seeds NumPy with one 32-bit number


class HostSampler(Sampler):
    """One of FastReID's samplers, in epochs of ``iterations_per_epoch`` batches.

    An epoch has as many batches as the images fill; an incomplete one at the end is left out, as
    FastReID counts. A subclass names the sampler.
    """

    #: whether a batch is made of identities with ``DATALOADER.NUM_INSTANCE`` images each
    by_identity: ClassVar[bool] = True

    def __init__(self, cfg: CfgNode, items: Sequence[Sequence], seed: int, world_size: int) -> None:
        """Check that the items fill a batch; otherwise FastReID's samplers would loop forever.

        Raises:
            UserError: they do not fill a batch; the message names the config keys.
        """
        self._items = [tuple(item[:3]) for item in items]  # the host unpacks exactly three
        self._seed = seed
        self._epoch = 0
        self.check_config(cfg, world_size)
        self._num_instances = cfg.DATALOADER.NUM_INSTANCE
        self._rows = cfg.SOLVER.IMS_PER_BATCH // world_size
        self._set_weight = list(cfg.DATALOADER.SET_WEIGHT)
        if self.by_identity:
            self._check_identities(world_size)
        self.iterations_per_epoch = len(items) // cfg.SOLVER.IMS_PER_BATCH
        if self.iterations_per_epoch == 0:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} is larger than the training set "
                f"of {len(items)} images; lower it."
            )

    @classmethod
    def from_config(
        cls, cfg: CfgNode, items: Sequence[Sequence], *, seed: int, rank: int, world_size: int
    ) -> "HostSampler":
        """Build it from ``SOLVER.IMS_PER_BATCH`` and ``DATALOADER.{NUM_INSTANCE,SET_WEIGHT}``.

        FastReID's samplers ask the process group for ``rank`` themselves.
        """
        return cls(cfg, items, seed, world_size)

    @classmethod
    def check_config(cls, cfg: CfgNode, world_size: int = 1) -> None:
        """Raise ``UserError`` if a batch cannot be shared among processes and identities.

        The rules of ``CrossModalityIdentitySampler`` must have their defaults, too.
        """
        chosen = f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN}"
        check_unread(cfg, DRAW_KEYS, chosen, "CrossModalityIdentitySampler")
        check_unread(cfg, INFRARED_KEYS, chosen, "EachModalitySampler")
        check_unread(cfg, PAIRS_KEYS, chosen, "PairsAndNegativesSampler")
        batch, instances = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
        if batch < 1 or batch % world_size:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH must be a positive multiple of the {world_size} "
                f"process(es); got {batch}."
            )
        if cls.by_identity and (instances < 1 or batch // world_size % instances):
            raise UserError(
                f"A process's batch of {batch // world_size} images must be a multiple of "
                f"DATALOADER.NUM_INSTANCE = {instances}; change it or SOLVER.IMS_PER_BATCH."
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch, from 0, the next iteration yields."""
        self._epoch = int(epoch)

    def __len__(self) -> int:
        return self.iterations_per_epoch * self._rows

    def __iter__(self) -> Iterator[int]:
        """Yield positions in the list of items: this rank's rows of one batch after the other."""
        (seed,) = stream_seeds(1, self._seed, self._epoch)
        with seeded(seed):
            stream = iter(self._make(seed % _HOST_SEED_LIMIT))
            rows = [int(index) for index in itertools.islice(stream, len(self))]
        return iter(rows)

    def _make(self, seed: int) -> Any:
        """Return FastReID's sampler with this seed."""
        raise NotImplementedError

    def _check_identities(self, world_size: int) -> None:
        instances = self._num_instances
        needed = self._rows // instances * world_size
        identities = len({pid for _, pid, _ in self._items})
        if identities < needed:
            raise UserError(
                f"{type(self).__name__} needs {needed} identities for a batch, the training set "
                f"has {identities}. Lower SOLVER.IMS_PER_BATCH or raise DATALOADER.NUM_INSTANCE."
            )


@SAMPLER_REGISTRY.register()
class TrainingSampler(HostSampler):
    """Draw every image once, in random order."""

    by_identity = False

    def _make(self, seed: int) -> Any:
        return host.TrainingSampler(len(self._items), seed=seed)


@SAMPLER_REGISTRY.register()
class ImbalancedDatasetSampler(HostSampler):
    """Draw images with replacement, so that all identities are equally likely."""

    by_identity = False

    def _make(self, seed: int) -> Any:
        return host.ImbalancedDatasetSampler(self._items, seed=seed)


@SAMPLER_REGISTRY.register()
class NaiveIdentitySampler(HostSampler):
    """Draw identities with NUM_INSTANCE images each."""

    def _make(self, seed: int) -> Any:
        return host.NaiveIdentitySampler(self._items, self._rows, self._num_instances, seed=seed)


@SAMPLER_REGISTRY.register()
class BalancedIdentitySampler(HostSampler):
    """Draw identities with NUM_INSTANCE images each, from different cameras where possible."""

    def _make(self, seed: int) -> Any:
        return host.BalancedIdentitySampler(self._items, self._rows, self._num_instances, seed=seed)


@SAMPLER_REGISTRY.register()
class SetReWeightSampler(HostSampler):
    """Draw identities camera by camera: ``DATALOADER.SET_WEIGHT[i]`` of them from the i-th camera.

    An identity is drawn with a probability proportional to its images in the camera. FastReID's
    class fails at its first batch: it adds an array to a list, and its constructor and its loop ask
    for different batch sizes. So the draw is implemented here, under the same name and keys.
    Batches are filled with whole groups of sum(SET_WEIGHT) identities.
    """

    by_identity = False  # groups are checked instead

    def __init__(self, cfg: CfgNode, items: Sequence[Sequence], seed: int, world_size: int) -> None:
        super().__init__(cfg, items, seed, world_size)
        self._world_size = world_size
        self._rank = comm.get_rank()
        self._group = sum(self._set_weight) * self._num_instances
        #: positions of images, by camera and identity, both in natural order
        self._cameras = _by_camera(self._items)
        self._check_weights()

    def _make(self, seed: int) -> Iterator[int]:
        rng = np.random.default_rng(seed)
        while True:
            group: List[int] = []
            for people, weight in zip(self._cameras, self._set_weight):
                sizes = np.array([len(images) for images in people])
                chosen = rng.choice(len(people), weight, replace=False, p=sizes / sizes.sum())
                for person in chosen:
                    few = sizes[person] < self._num_instances
                    group += rng.choice(people[person], self._num_instances, replace=few).tolist()
            yield from rng.permutation(group).tolist()[self._rank :: self._world_size]

    def _check_weights(self) -> None:
        weights = self._set_weight
        if len(weights) != len(self._cameras) or min(weights) < 0 or sum(weights) == 0:
            raise UserError(
                f"DATALOADER.SET_WEIGHT needs one number of identities per camera, "
                f"{len(self._cameras)} in all, not all 0; got {weights}."
            )
        for place, (people, weight) in enumerate(zip(self._cameras, weights)):
            if len(people) < weight:
                raise UserError(
                    f"DATALOADER.SET_WEIGHT[{place}] asks for {weight} identities of a camera "
                    f"that has {len(people)}."
                )
        if self._group % self._world_size or (self._rows * self._world_size) % self._group:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH must be a multiple of sum(DATALOADER.SET_WEIGHT) * "
                f"DATALOADER.NUM_INSTANCE = {self._group}, which must be a multiple of the "
                f"{self._world_size} process(es); got {self._rows * self._world_size}."
            )


def _by_camera(items: Sequence[Sequence]) -> List[List[List[int]]]:
    positions: Dict[Any, Dict[Any, List[int]]] = defaultdict(lambda: defaultdict(list))
    for position, (_, pid, camid) in enumerate(items):
        positions[camid][pid].append(position)
    return [
        [positions[camid][pid] for pid in sorted_labels(positions[camid])]
        for camid in sorted_labels(positions)
    ]
