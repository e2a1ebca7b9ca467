"""Draw the visible and the infrared images of a batch apart, each by the labels of its modality.

Clusters of one modality are not those of the other, so no identity joins both. P identities of each
modality are in a batch, with K images each.
"""

from typing import Any, Dict, Iterator, List, Sequence

import numpy as np
from torch.utils.data import Sampler

from vireid_plugins.errors import UserError
from vireid_plugins.keys import Key, between, check_unread, declare
from vireid_plugins.modality import Modality
from vireid_plugins.registry import SAMPLER_REGISTRY

from fastreid.config import CfgNode

from .draws import draw_images, draw_in_turn
from .item import Item
from .labels import sorted_labels
from .sampler import DRAW_KEYS, PAIRS_KEYS, check_numbers, index_images, nearest_multiple
from .seeding import generator

declare(
    "DATALOADER",
    Key(
        "INFRARED_IDENTITIES",
        0,
        between(0, 100000),
        "EachModalitySampler: infrared identities of a batch; 0: as many as visible ones",
    ),
    features=False,
)


@SAMPLER_REGISTRY.register()
class EachModalitySampler(Sampler):
    """Yield epochs of batches of P visible x K images and Q infrared x K images.

    An identity may lack a modality: visible identities are those with a visible image, infrared
    ones those with an infrared image. Each list is drawn in turn, as that of
    ``CrossModalityIdentitySampler``, and an epoch has max(#visible // P, #infrared // Q) // K
    batches, at least one.

    Everything is a function of (``seed``, epoch). Several ranks take disjoint identities of the
    same global batches.

    Args:
        items: tuples ``(path, pid, camid, modality)``; paths and cameras are not read.
        num_visible: P, over all ranks.
        num_infrared: Q, over all ranks.
        num_instances: K.
        seed: not negative.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        UserError: a number is not valid, or a modality has fewer identities than a batch needs.
    """

    def __init__(
        self,
        items: Sequence[Sequence],
        num_visible: int,
        num_infrared: int,
        num_instances: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._wanted = {Modality.VISIBLE: num_visible, Modality.INFRARED: num_infrared}
        for wanted in self._wanted.values():
            check_numbers(wanted, num_instances, seed, rank, world_size)
        self._instances, self._seed, self._epoch = num_instances, seed, 0
        self._rank, self._world_size = rank, world_size
        named = [Item.of(item) for item in items]
        by_modality = index_images(named, sorted_labels(item.pid for item in named))
        self._images: Dict[Modality, List[np.ndarray]] = {
            modality: [images for images in found if len(images)]
            for modality, found in by_modality.items()
        }
        self._check_identities()
        batches = [
            sum(map(len, self._images[modality])) // (wanted * num_instances)
            for modality, wanted in self._wanted.items()
        ]
        self.iterations_per_epoch = max(1, *batches)

    @classmethod
    def from_config(cls, cfg: CfgNode, items: Sequence[Sequence], **ranks: int) -> "Sampler":
        """Build it from ``SOLVER.IMS_PER_BATCH`` = (P + Q) * K, with K = ``NUM_INSTANCE``.

        Raises:
            UserError: the numbers do not fit each other, or the constructor raises it.
        """
        cls.check_config(cfg, ranks.get("world_size", 1))
        visible, infrared = _identities(cfg)
        arguments: Dict[str, Any] = dict(ranks)
        return cls(items, visible, infrared, cfg.DATALOADER.NUM_INSTANCE, **arguments)

    @classmethod
    def check_config(cls, cfg: CfgNode, world_size: int = 1) -> None:
        """Raise ``UserError`` if a batch does not divide into identities and processes.

        The rules of ``CrossModalityIdentitySampler`` must have their defaults, too.
        """
        chosen = f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN}"
        check_unread(cfg, DRAW_KEYS, chosen, "CrossModalityIdentitySampler")
        check_unread(cfg, PAIRS_KEYS, chosen, "PairsAndNegativesSampler")
        instances, batch = cfg.DATALOADER.NUM_INSTANCE, cfg.SOLVER.IMS_PER_BATCH
        infrared = cfg.DATALOADER.INFRARED_IDENTITIES
        if infrared:
            rest = batch - infrared * instances
            unit = instances * world_size
            if rest < unit or rest % unit or infrared % world_size:
                raise UserError(
                    f"SOLVER.IMS_PER_BATCH {batch} leaves {rest} visible images beside "
                    f"DATALOADER.INFRARED_IDENTITIES {infrared} x NUM_INSTANCE {instances}; they "
                    f"must be a multiple of {unit} (NUM_INSTANCE x processes), and "
                    f"INFRARED_IDENTITIES a multiple of the {world_size} process(es)."
                )
            return
        unit = 2 * instances * world_size
        if instances < 1 or batch < unit or batch % unit:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH must be a multiple of 2 * DATALOADER.NUM_INSTANCE * "
                f"processes = 2 * {instances} * {world_size} = {unit}; got {batch}. Nearest: "
                f"{nearest_multiple(batch, unit)}."
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch, from 0, the next iteration yields."""
        self._epoch = int(epoch)

    def __len__(self) -> int:
        rows = sum(self._wanted.values()) // self._world_size * self._instances
        return self.iterations_per_epoch * rows

    def __iter__(self) -> Iterator[int]:
        """Yield positions in ``items``: this rank's rows of one batch after the other."""
        rng, batches, parts = generator(self._seed, self._epoch), self.iterations_per_epoch, []
        for modality, wanted in self._wanted.items():
            images = self._images[modality]
            numbers = draw_in_turn(rng, len(images), wanted, batches)
            rows = draw_images(rng, images, numbers, self._instances)
            share = wanted // self._world_size
            mine = rows[:, self._rank * share : (self._rank + 1) * share]
            parts.append(mine.reshape(batches, -1))
        return iter(np.concatenate(parts, axis=1).reshape(-1).tolist())

    def _check_identities(self) -> None:
        for modality, wanted in self._wanted.items():
            found = len(self._images[modality])
            if found < wanted:
                raise UserError(
                    f"A batch needs {wanted} {modality.label} identities or clusters, and there "
                    f"are {found}. Lower SOLVER.IMS_PER_BATCH or raise DATALOADER.NUM_INSTANCE."
                )


def _identities(cfg: CfgNode) -> Sequence[int]:
    """Return P and Q."""
    total = cfg.SOLVER.IMS_PER_BATCH // cfg.DATALOADER.NUM_INSTANCE
    infrared = cfg.DATALOADER.INFRARED_IDENTITIES or total // 2
    return total - infrared, infrared
