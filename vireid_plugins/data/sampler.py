"""Draw the images of each batch: P identities, K visible and K infrared images of each.

Shorthand: N identities in all, P identities in a batch, K images per identity and modality, B
batches in an epoch.
"""

import logging
from collections import defaultdict
from typing import Any, Dict, Hashable, Iterator, List, Sequence

import numpy as np
from torch.utils.data import Sampler

from vireid_plugins.errors import UserError
from vireid_plugins.keys import Key, between, check_unread, check_values, declare, one_of
from vireid_plugins.modality import Modality
from vireid_plugins.registry import SAMPLER_REGISTRY

from fastreid.config import CfgNode

from .draws import draw_images, draw_in_turn
from .item import Item
from .labels import first_few, sorted_labels
from .seeding import generator

logger = logging.getLogger(__name__)

IDENTITY_DRAWS = ("cycle", "independent")
IMAGE_DRAWS = ("distinct", "replacement")
#: keys of the rules by which this sampler draws
DRAW_KEYS = tuple(f"DATALOADER.{n}" for n in ("IDENTITY_DRAW", "IMAGE_DRAW", "EXTRA_BATCHES"))
#: keys that only ``EachModalitySampler`` reads
INFRARED_KEYS = ("DATALOADER.INFRARED_IDENTITIES",)
#: keys that only ``PairsAndNegativesSampler`` reads
PAIRS_KEYS = ("DATALOADER.NEGATIVES", "DATALOADER.EPOCH_BATCHES")

declare(
    "DATALOADER",
    Key(
        "IDENTITY_DRAW",
        "cycle",
        one_of(*IDENTITY_DRAWS),
        "identities of CrossModalityIdentitySampler come in turn, or each batch draws from all of "
        "them (AGW's code: independent)",
    ),
    Key(
        "IMAGE_DRAW",
        "distinct",
        one_of(*IMAGE_DRAWS),
        "CrossModalityIdentitySampler: images of an identity in a batch differ where there are "
        "enough, or are drawn with replacement (AGW's code)",
    ),
    Key(
        "EXTRA_BATCHES",
        0,
        between(0, 100000),
        "CrossModalityIdentitySampler: batches of an epoch beyond max(#visible, #infrared) // "
        "(P * K) (AGW's code: 1)",
    ),
)


@SAMPLER_REGISTRY.register()
class CrossModalityIdentitySampler(Sampler):
    """Yield epochs of batches of exactly P identities x (K visible + K infrared) images.

    An epoch has max(#visible, #infrared) // (P*K) batches. Identities are taken from shuffled lists
    of all N of them: an identity comes at most once in a batch, and over an epoch the numbers of
    visits of two identities differ by at most one. At each visit K images are drawn without
    repetition; an identity with fewer than K images in a modality repeats an image only after all
    of them have been drawn.

    That is the default. ``identity_draw``, ``image_draw`` and ``extra_batches`` give the rules of
    the public code of AGW (mangye16/Cross-Modal-Re-ID-baseline, ``IdentitySampler``): each batch
    draws its P identities from all N, whatever the batches before it held, each visit draws K
    images with replacement, and an epoch has one batch more.

    Everything is a function of (``seed``, epoch): no other generator is read or changed. Several
    ranks draw the same global batches and take disjoint identities of each, P / ``world_size``,
    so together they see exactly what one process would.
    """

    def __init__(
        self,
        items: Sequence[Sequence],
        num_identities: int,
        num_instances: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        identity_draw: str = "cycle",
        image_draw: str = "distinct",
        extra_batches: int = 0,
    ) -> None:
        """Index ``items`` by identity and modality.

        Args:
            items: tuples ``(path, pid, camid, modality)``; paths and cameras are not read.
            num_identities: P, over all ranks.
            num_instances: K, images per identity in each modality.
            seed: not negative.
            identity_draw: ``"cycle"`` or ``"independent"``.
            image_draw: ``"distinct"`` or ``"replacement"``.
            extra_batches: added to the batches of an epoch.

        Raises:
            UserError: P, K, seed, rank, world size or a rule is not valid; there are fewer than P
                identities; some lack a modality; or an epoch would have no batch.
        """
        check_numbers(num_identities, num_instances, seed, rank, world_size)
        check_values(
            "DATALOADER",
            IDENTITY_DRAW=identity_draw,
            IMAGE_DRAW=image_draw,
            EXTRA_BATCHES=extra_batches,
        )
        self.num_identities = num_identities
        self.num_instances = num_instances
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0
        self._independent = identity_draw == "independent"
        self._replacement = image_draw == "replacement"
        named = [Item.of(item) for item in items]
        self._pids: List[Hashable] = sorted_labels(item.pid for item in named)
        self._images = index_images(named, self._pids)
        self._check_identities()
        counts = [sum(map(len, self._images[modality])) for modality in Modality]
        #: B
        self.iterations_per_epoch = extra_batches + max(counts) // (num_identities * num_instances)
        if self.iterations_per_epoch == 0:
            raise UserError(
                f"An epoch would have no batch: {num_identities} identities x {num_instances} "
                f"images exceed the {max(counts)} images of the larger modality. Lower "
                "SOLVER.IMS_PER_BATCH or DATALOADER.NUM_INSTANCE, or set "
                "DATALOADER.EXTRA_BATCHES 1."
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, items: Sequence[Sequence], **ranks: int) -> "Sampler":
        """Build it from ``SOLVER.IMS_PER_BATCH`` = 2*P*K and ``DATALOADER``, NUM_INSTANCE = K.

        Args:
            ranks: ``seed``, ``rank`` and ``world_size``.

        Raises:
            UserError: the batch is not a multiple of 2*K*``world_size``, or the constructor
                raises it.
        """
        cls.check_config(cfg, ranks.get("world_size", 1))
        instances, batch = cfg.DATALOADER.NUM_INSTANCE, cfg.SOLVER.IMS_PER_BATCH
        if batch == 2 * instances and ranks.get("rank", 0) == 0:
            logger.warning(
                "A batch holds one identity (SOLVER.IMS_PER_BATCH %d = 2 * DATALOADER.NUM_INSTANCE "
                "%d): losses that compare identities have nothing to compare.",
                *(batch, instances),
            )
        arguments: Dict[str, Any] = {
            "identity_draw": cfg.DATALOADER.IDENTITY_DRAW,
            "image_draw": cfg.DATALOADER.IMAGE_DRAW,
            "extra_batches": cfg.DATALOADER.EXTRA_BATCHES,
            **ranks,
        }
        return cls(items, batch // (2 * instances), instances, **arguments)

    @staticmethod
    def check_config(cfg: CfgNode, world_size: int = 1) -> None:
        """Raise ``UserError`` if a batch is not a multiple of 2*K*``world_size``.

        Keys that only other samplers read must have their defaults.
        """
        chosen = f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN}"
        check_unread(cfg, INFRARED_KEYS, chosen, "EachModalitySampler")
        check_unread(cfg, PAIRS_KEYS, chosen, "PairsAndNegativesSampler")
        instances, batch = cfg.DATALOADER.NUM_INSTANCE, cfg.SOLVER.IMS_PER_BATCH
        unit = 2 * instances * world_size
        if instances < 1 or batch < unit or batch % unit:
            raise UserError(
                "SOLVER.IMS_PER_BATCH = 2*P*K over all processes, so it must be a multiple of "
                f"2 * DATALOADER.NUM_INSTANCE * processes = 2 * {instances} * {world_size} = "
                f"{unit}; got {batch}. Nearest: {nearest_multiple(batch, unit)}."
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch, from 0, the next iteration yields."""
        self._epoch = int(epoch)

    def __len__(self) -> int:
        share = self.num_identities // self._world_size
        return self.iterations_per_epoch * share * 2 * self.num_instances

    def __iter__(self) -> Iterator[int]:
        """Yield positions in ``items``: this rank's rows of one batch after the other."""
        rng = generator(self._seed, self._epoch)
        batches = self._draw_identities(rng)
        rows = np.stack(
            [
                draw_images(rng, self._images[m], batches, self.num_instances, self._replacement)
                for m in Modality
            ],
            axis=2,
        )
        share = self.num_identities // self._world_size
        mine = rows[:, self._rank * share : (self._rank + 1) * share]
        return iter(mine.reshape(-1).tolist())

    def _draw_identities(self, rng: np.random.Generator) -> np.ndarray:
        """Return (B, P) identity numbers, distinct within each row."""
        total = len(self._pids)
        if self._independent:
            draws = [
                rng.choice(total, self.num_identities, replace=False)
                for _ in range(self.iterations_per_epoch)
            ]
            return np.stack(draws)
        return draw_in_turn(rng, total, self.num_identities, self.iterations_per_epoch)

    def _check_identities(self) -> None:
        for modality in Modality:
            images = self._images[modality]
            without = [pid for pid, rows in zip(self._pids, images) if len(rows) == 0]
            if without:
                raise UserError(
                    f"{len(without)} training identit(ies) have no {modality.label} image: "
                    f"{first_few(without)}. CrossModalityIdentitySampler needs every identity in "
                    "both modalities: take them out of the training list, add images, or name "
                    "another sampler in DATALOADER.SAMPLER_TRAIN."
                )
        total = len(self._pids)
        if total < self.num_identities:
            raise UserError(
                f"A batch needs {self.num_identities} identities, the training set has {total}. "
                "Lower SOLVER.IMS_PER_BATCH (= 2*P*K) or raise DATALOADER.NUM_INSTANCE (K)."
            )


def index_images(
    items: Sequence[Item], pids: Sequence[Hashable]
) -> Dict[Modality, List[np.ndarray]]:
    """Return each modality's image positions, one array an identity, in the order of ``pids``."""
    positions: Dict[Modality, Dict[Hashable, List[int]]] = {m: defaultdict(list) for m in Modality}
    for position, item in enumerate(items):
        positions[Modality(item.modality)][item.pid].append(position)
    return {
        modality: [np.array(by_pid.get(pid, ()), dtype=np.int64) for pid in pids]
        for modality, by_pid in positions.items()
    }


def check_numbers(
    num_identities: int, num_instances: int, seed: int, rank: int, world_size: int
) -> None:
    for name, value, least in (
        ("num_identities", num_identities, 1),
        ("num_instances", num_instances, 1),
        ("world_size", world_size, 1),
        ("seed", seed, 0),
        ("rank", rank, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise UserError(f"{name} must be an integer of at least {least}; got {value!r}.")
    if rank >= world_size:
        raise UserError(f"rank must be below world_size = {world_size}; got {rank}.")
    if num_identities % world_size:
        raise UserError(
            f"num_identities counts over all ranks and must be a multiple of world_size = "
            f"{world_size}; got {num_identities}."
        )


def nearest_multiple(value: int, unit: int) -> int:
    return max(1, round(value / max(unit, 1))) * max(unit, 1)
