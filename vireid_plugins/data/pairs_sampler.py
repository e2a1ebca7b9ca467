"""Draw batches of a few identities in both modalities, and of images of other identities.

The sampling of Hi-CMD (Choi et al., CVPR 2020; bismex/HiCMD, ``data_sampler.py``, P_PAIR and
N_PAIR). P identities with K images of each modality, and M images of each modality of 2 M further
identities, are in a batch.
"""

from typing import Any, Dict, Iterator, List, Sequence

import numpy as np
from torch.utils.data import Sampler

from vireid_plugins.errors import UserError
from vireid_plugins.keys import Key, between, check_unread, check_values, declare
from vireid_plugins.modality import Modality
from vireid_plugins.registry import SAMPLER_REGISTRY

from fastreid.config import CfgNode

from .draws import draw_images, draw_in_turn
from .item import Item
from .labels import sorted_labels
from .sampler import DRAW_KEYS, INFRARED_KEYS, check_numbers, index_images, nearest_multiple
from .seeding import generator

declare(
    "DATALOADER",
    Key(
        "NEGATIVES",
        2,
        between(0, 10000),
        "PairsAndNegativesSampler: images of each modality that show other identities",
    ),
    Key(
        "EPOCH_BATCHES",
        0,
        between(0, 10**7),
        "PairsAndNegativesSampler: batches of an epoch; 0: max(#visible, #infrared) // (P * K)",
    ),
    features=False,
)


@SAMPLER_REGISTRY.register()
class PairsAndNegativesSampler(Sampler):
    """Yield epochs of batches of P identities x 2 K images, and 2 M images of other identities.

    Identities that have both modalities are drawn in turn, as by ``CrossModalityIdentitySampler``;
    the 2 M others are drawn from all, each with one image, M of them visible. No identity comes
    twice in a batch. Everything is a function of (``seed``, epoch). Several ranks take disjoint
    identities of the same global batches.

    Args:
        items: tuples ``(path, pid, camid, modality)``; paths and cameras are not read.
        num_identities: P, over all ranks.
        num_instances: K.
        num_negatives: M, over all ranks.
        epoch_batches: batches of an epoch; 0: max(#visible, #infrared) // (P * K).
        seed: not negative.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        UserError: a number is not valid, or there are fewer identities than a batch needs.
    """

    def __init__(
        self,
        items: Sequence[Sequence],
        num_identities: int,
        num_instances: int = 1,
        num_negatives: int = 2,
        *,
        epoch_batches: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_numbers(num_identities, num_instances, seed, rank, world_size)
        check_values("DATALOADER", NEGATIVES=num_negatives, EPOCH_BATCHES=epoch_batches)
        if num_negatives % world_size:
            raise UserError(
                f"DATALOADER.NEGATIVES is {num_negatives}; expected a multiple of the "
                f"{world_size} processes."
            )
        self._identities, self._instances = num_identities, num_instances
        self._negatives, self._seed, self._epoch = num_negatives, seed, 0
        self._rank, self._world_size = rank, world_size
        named = [Item.of(item) for item in items]
        self._images = index_images(named, sorted_labels(item.pid for item in named))
        self._having = {
            modality: np.flatnonzero([len(rows) > 0 for rows in self._images[modality]])
            for modality in Modality
        }
        both = self._having[Modality.VISIBLE], self._having[Modality.INFRARED]
        self._paired = np.intersect1d(*both)
        self._check_identities()
        most = max(sum(map(len, self._images[modality])) for modality in Modality)
        by_data = max(1, most // (num_identities * num_instances))
        self.iterations_per_epoch = epoch_batches or by_data

    @classmethod
    def from_config(cls, cfg: CfgNode, items: Sequence[Sequence], **ranks: int) -> "Sampler":
        """Build it from ``SOLVER.IMS_PER_BATCH`` = 2 * (P * K + M), K = ``NUM_INSTANCE``.

        Raises:
            UserError: the numbers do not fit each other, or the constructor raises it.
        """
        cls.check_config(cfg, ranks.get("world_size", 1))
        node = cfg.DATALOADER
        identities = (cfg.SOLVER.IMS_PER_BATCH // 2 - node.NEGATIVES) // node.NUM_INSTANCE
        arguments: Dict[str, Any] = {"epoch_batches": node.EPOCH_BATCHES, **ranks}
        return cls(items, identities, node.NUM_INSTANCE, node.NEGATIVES, **arguments)

    @classmethod
    def check_config(cls, cfg: CfgNode, world_size: int = 1) -> None:
        """Raise ``UserError`` if a batch does not divide into identities and processes.

        Keys that only other samplers read must have their defaults, too.
        """
        chosen = f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN}"
        check_unread(cfg, DRAW_KEYS, chosen, "CrossModalityIdentitySampler")
        check_unread(cfg, INFRARED_KEYS, chosen, "EachModalitySampler")
        instances, batch = cfg.DATALOADER.NUM_INSTANCE, cfg.SOLVER.IMS_PER_BATCH
        negatives = cfg.DATALOADER.NEGATIVES
        rest, unit = batch - 2 * negatives, 2 * instances * world_size
        if instances < 1 or rest < unit or rest % unit or negatives % world_size:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH {batch} leaves {rest} images beside 2 * DATALOADER."
                f"NEGATIVES {negatives}; they must be a multiple of 2 * DATALOADER.NUM_INSTANCE * "
                f"processes = {unit}, and NEGATIVES a multiple of the processes ({world_size}). "
                f"Nearest IMS_PER_BATCH: {nearest_multiple(rest, unit) + 2 * negatives}."
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch, from 0, the next iteration yields."""
        self._epoch = int(epoch)

    def __len__(self) -> int:
        rows = self._identities * self._instances + self._negatives
        return self.iterations_per_epoch * 2 * rows // self._world_size

    def __iter__(self) -> Iterator[int]:
        """Yield positions in ``items``: this rank's rows of one batch after the other."""
        rng = generator(self._seed, self._epoch)
        wanted = self._identities, self.iterations_per_epoch
        drawn = draw_in_turn(rng, len(self._paired), *wanted)
        pairs = [
            draw_images(rng, [images[one] for one in self._paired], drawn, self._instances)
            for images in (self._images[modality] for modality in Modality)
        ]
        others = [self._draw_others(rng, self._paired[identities]) for identities in drawn]
        share = self._identities // self._world_size
        own = slice(self._rank * share, (self._rank + 1) * share)
        part = self._negatives // self._world_size
        less = slice(self._rank * part, (self._rank + 1) * part)
        for batch, negatives in enumerate(others):
            yield from np.stack([one[batch, own] for one in pairs], axis=1).reshape(-1).tolist()
            for rows in negatives:
                yield from rows[less]

    def _draw_others(self, rng: np.random.Generator, used: np.ndarray) -> List[List[int]]:
        """Return M images of each modality; no two images of a batch show one of them."""
        taken, found = set(used.tolist()), []
        for modality in Modality:
            having = self._having[modality]
            chosen: List[int] = []
            for identity in having[rng.permutation(len(having))].tolist():
                if len(chosen) == self._negatives:
                    break
                if identity not in taken:
                    chosen.append(identity)
            taken.update(chosen)
            images = [self._images[modality][identity] for identity in chosen]
            found.append([int(rows[rng.integers(len(rows))]) for rows in images])
        return found

    def _check_identities(self) -> None:
        needed = self._identities + 2 * self._negatives
        everyone = min(len(having) for having in self._having.values())
        if len(self._paired) < self._identities or everyone < needed:
            raise UserError(
                f"A batch needs {self._identities} identities with images of both modalities, and "
                f"{2 * self._negatives} others; the training set has {len(self._paired)} with "
                f"both, and at least {everyone} in each modality. Lower SOLVER.IMS_PER_BATCH or "
                "DATALOADER.NEGATIVES."
            )
