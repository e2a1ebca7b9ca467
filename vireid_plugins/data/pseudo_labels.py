"""Draw batches by labels that are found during the training, such as clusters of the features.

The sampler that ``DATALOADER.SAMPLER_TRAIN`` names works on them as it does on identities. An epoch
always has the same number of batches, whatever the labels are, so that schedules and resumed runs
can count on it. N training images.
"""

import itertools
from typing import Any, Iterator, List, Optional, Sequence

import numpy as np
from torch.utils.data import Sampler

from vireid_plugins.errors import UserError
from vireid_plugins.keys import SWITCH, Key, at_least, declare

from fastreid.config import CfgNode

from .item import Item
from .named_sampler import build_sampler

declare(
    "CLUSTERS",
    Key("ENABLED", False, SWITCH, "train on clusters of the features; identities are not read"),
    Key("ITERATIONS", 0, at_least(0), "batches of an epoch; 0: as many as all images fill"),
    features=False,
)

_PASSES = 2**32  # keeps the passes of an epoch apart from other epochs


class PseudoLabelSampler(Sampler):
    """Yield epochs of a fixed number of batches, drawn by :meth:`set_labels`.

    Args:
        cfg: the config; ``DATALOADER.SAMPLER_TRAIN`` names the sampler.
        items: the N training items, of which identities are not read.
        seed: of the run.
        rank: number of this process.
        world_size: number of processes.

    Attributes:
        most_labels: how many labels there can be.

    Raises:
        UserError: the images do not fill a batch, or ``MODEL.HEADS.NUM_CLASSES`` is 1.
    """

    def __init__(
        self, cfg: CfgNode, items: Sequence[Item], *, seed: int, rank: int, world_size: int
    ) -> None:
        self._cfg, self._items = cfg, list(items)
        self._ranks = {"seed": seed, "rank": rank, "world_size": world_size}
        self._rows = cfg.SOLVER.IMS_PER_BATCH // world_size
        self._epoch = 0
        self._kept = np.zeros(0, np.int64)
        self._inner: Any = None
        batches = len(self._items) // cfg.SOLVER.IMS_PER_BATCH
        if batches == 0:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} is larger than the training set "
                f"of {len(self._items)} images; lower it."
            )
        self.iterations_per_epoch = cfg.CLUSTERS.ITERATIONS or batches
        self.most_labels = min(cfg.MODEL.HEADS.NUM_CLASSES or len(items), len(items))
        if self.most_labels < 2:
            raise UserError(
                f"MODEL.HEADS.NUM_CLASSES is {cfg.MODEL.HEADS.NUM_CLASSES}, and with CLUSTERS it "
                "is the greatest number of clusters: set it to 2 or more, or to 0 for as many as "
                "there are images."
            )

    def set_labels(self, labels: np.ndarray) -> str:
        """Draw by these labels from the next epoch on.

        Args:
            labels: (N,) from 0; -1: the image is left out.

        Returns:
            Why no batch can be drawn by them, as a sentence; empty if batches can be drawn.
        """
        self._inner, self._kept = None, np.flatnonzero(labels >= 0)
        found = len(np.unique(labels[self._kept]))
        if found < 2:
            return "At least two clusters are needed to tell persons apart."
        items = [self._items[place]._replace(pid=int(labels[place])) for place in self._kept]
        try:
            self._inner = build_sampler(self._cfg, items, **self._ranks)
        except UserError as error:
            return str(error)
        return ""

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch, from 0, the next iteration yields."""
        self._epoch = int(epoch)

    def __len__(self) -> int:
        return self.iterations_per_epoch * self._rows

    def __iter__(self) -> Iterator[int]:
        """Yield positions in the list of items: this rank's rows of one batch after the other.

        Raises:
            UserError: there are no labels by which batches can be drawn.
        """
        if self._inner is None:
            raise UserError(
                "CLUSTERS.ENABLED is True, and clusters are found when a training begins an epoch: "
                "there are none yet by which batches can be drawn. Use `vireid train`."
            )
        return itertools.islice(self._stream(self._inner), len(self))

    def _stream(self, inner: Any) -> Iterator[int]:
        """Yield whole batches, one pass over the labels after the other."""
        for number in itertools.count():
            inner.set_epoch(self._epoch + number * _PASSES)
            places: List[int] = list(inner)
            whole = len(places) // self._rows * self._rows
            if whole == 0:
                raise UserError(
                    f"{type(inner).__name__} drew {len(places)} images in an epoch, fewer than the "
                    f"{self._rows} of a batch. Lower SOLVER.IMS_PER_BATCH."
                )
            yield from self._kept[places[:whole]].tolist()


def pseudo_label_sampler(loader: Any) -> Optional[PseudoLabelSampler]:
    """Return the sampler of a loader, if it draws by pseudo-labels."""
    sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    return sampler if isinstance(sampler, PseudoLabelSampler) else None
