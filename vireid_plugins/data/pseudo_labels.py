"""Draw batches by labels that are found during the training, such as clusters of the features.

The sampler that ``DATALOADER.SAMPLER_TRAIN`` names works on them as it does on identities. An epoch
always has the same number of batches, whatever the labels are, so that schedules and resumed runs
can count on it. There may be several labelings, such as clusters of each modality and clusters of
all images: their batches take turns. N training images.
"""

import itertools
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

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
_LABELINGS = 2**48  # keeps those of several labelings apart


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
        unused: why no batch can be drawn by a labeling, by its place; see :meth:`set_labels`.

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
        self._drawn: Dict[int, Tuple[Any, np.ndarray]] = {}  # sampler and rows, by labeling
        self.unused: Dict[int, str] = {}
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

    def set_labels(self, labels: np.ndarray, *others: np.ndarray) -> str:
        """Draw by these labels from the next epoch on.

        Args:
            labels: (N,) from 0; -1: the image is left out.
            others: further labelings, (N,) each. Those by which no batch can be drawn are left out,
                and ``unused`` says why.

        Returns:
            Why no batch can be drawn by ``labels``, as a sentence; empty if batches can be drawn.
        """
        self._drawn, self.unused = {}, {}
        for place, own in enumerate((labels, *others)):
            kept = np.flatnonzero(own >= 0)
            inner, reason = self._inner_sampler(own, kept)
            if reason:
                self.unused[place] = reason
            else:
                self._drawn[place] = (inner, kept)
        return self.unused.get(0, "")

    @property
    def labelings(self) -> List[int]:
        """Return the places of the labelings whose batches take turns, ascending."""
        return list(self._drawn)

    def _inner_sampler(self, labels: np.ndarray, kept: np.ndarray) -> Tuple[Any, str]:
        """Return a sampler of the images with a label, or None and why there is none."""
        if len(np.unique(labels[kept])) < 2:
            return None, "At least two clusters are needed to tell persons apart."
        items = [self._items[place]._replace(pid=int(labels[place])) for place in kept]
        try:
            return build_sampler(self._cfg, items, **self._ranks), ""
        except UserError as error:
            return None, str(error)

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
        if 0 not in self._drawn:
            raise UserError(
                "CLUSTERS.ENABLED is True, and clusters are found when a training begins an epoch: "
                "there are none yet by which batches can be drawn. Use `vireid train`."
            )
        return itertools.islice(self._in_turn(), len(self))

    def _in_turn(self) -> Iterator[int]:
        """Yield a batch of each labeling in turn."""
        streams = [self._stream(inner, kept, place) for place, (inner, kept) in self._drawn.items()]
        for stream in itertools.cycle(streams):
            yield from itertools.islice(stream, self._rows)

    def _stream(self, inner: Any, kept: np.ndarray, place: int) -> Iterator[int]:
        """Yield whole batches of a labeling, one pass over the labels after the other."""
        for number in itertools.count():
            inner.set_epoch(self._epoch + number * _PASSES + place * _LABELINGS)
            places: List[int] = list(inner)
            whole = len(places) // self._rows * self._rows
            if whole == 0:
                raise UserError(
                    f"{type(inner).__name__} drew {len(places)} images in an epoch, fewer than the "
                    f"{self._rows} of a batch. Lower SOLVER.IMS_PER_BATCH."
                )
            yield from kept[places[:whole]].tolist()


def pseudo_label_sampler(loader: Any) -> Optional[PseudoLabelSampler]:
    """Return the sampler of a loader, if it draws by pseudo-labels."""
    sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    return sampler if isinstance(sampler, PseudoLabelSampler) else None
