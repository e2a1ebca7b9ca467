"""Batches of features for a method that trains on a frozen encoder (``trains_on_features``).

Each epoch extracts the features of one pass over the training images, with the augmentation of the
config, and then trains on sequences of them: NFormer's code, ``data/datasets/nformer.py`` and
``engine/trainer.py`` of haochenheheda/NFormer, commit c78cb84.

R images of a pass, D features, S sequences of L rows.
"""

import logging
import time
from typing import Any, Dict, Iterator, List

import numpy as np
import torch
from torch import Tensor

from fastreid.utils import comm

from ..data.seeding import generator, seeded
from ..errors import UserError
from ..evaluation.features import evaluation_mode
from ..modality import Modality
from .clusters import cluster_batches
from .clusters.checks import check_model
from .step import to_device

logger = logging.getLogger(__name__)

_LABELS = ("targets", "modalities", "camids", "index")
_DRAWS = 0x5E9  # keeps these draws apart from those of sampler and augmentation


def training_batches(cfg: Any, loader: Any, model: Any, seed: int) -> Any:
    """Return the batches that ``model`` trains on.

    These are those of ``loader``, the same with clusters for targets, or sequences of features.

    Raises:
        UserError: the sequences of an update cannot be divided among the processes, or the model
            cannot be trained on clusters.
    """
    check_model(cfg, model)
    if cfg.CLUSTERS.ENABLED:
        return cluster_batches(cfg, loader, model)
    if not getattr(model, "trains_on_features", False):
        return loader
    node = cfg.MODEL.NFORMER
    if node.SEQUENCES % comm.get_world_size():
        raise UserError(
            f"MODEL.NFORMER.SEQUENCES is {node.SEQUENCES}, which {comm.get_world_size()} processes "
            "cannot share evenly. Set it to a multiple of their number."
        )
    return FeatureSequences(
        loader,
        model,
        length=node.SEQUENCE_LENGTH,
        sequences=node.SEQUENCES,
        images_per_sequence=node.IMAGES_PER_SEQUENCE,
        per_modality=node.SEQUENCE_PER_MODALITY,
        seed=seed,
    )


class FeatureSequences:
    """A loader whose batches hold ``features`` (S, L, D), and labels (S L,).

    A sequence belongs to a random center: of the ``int(L (1 + u))`` images nearest to it by inner
    product, u uniform in 0..1, it holds L at random. All draws follow from seed, epoch, rank and
    the number of the batch.

    Args:
        loader: batches of images, an epoch at a time.
        model: has ``encoder``, ``prepared`` and ``see``.
        length: L; at most R.
        sequences: S of all processes together.
        images_per_sequence: an epoch has one sequence for this many images.
        per_modality: half of the rows come from each modality, each half chosen as above.
        seed: of the run.
    """

    persistent_workers = False

    def __init__(
        self,
        loader: Any,
        model: Any,
        *,
        length: int,
        sequences: int,
        images_per_sequence: int,
        per_modality: bool,
        seed: int,
    ) -> None:
        self.loader, self.dataset = loader, loader.dataset
        self.batch_sampler = self  # it chooses the epoch, and skips batches
        self._model, self._length, self._per_modality = model, length, per_modality
        self._share = max(1, sequences // comm.get_world_size())
        images = len(loader) * loader.batch_sampler.batch_size * comm.get_world_size()
        self._batches = max(1, images // images_per_sequence // sequences)
        self._seed, self._epoch, self._skipped = seed, 0, 0

    def __len__(self) -> int:
        return self._batches

    @property
    def iterations_per_epoch(self) -> int:
        """The number of batches in an epoch."""
        return len(self)

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch, from 0, the next iteration yields."""
        self._epoch, self._skipped = int(epoch), 0
        self.loader.batch_sampler.set_epoch(self._epoch)

    def skip(self, batches: int) -> None:
        """Leave out the first ``batches`` of the epoch that ``set_epoch`` has chosen."""
        self._skipped = int(batches)

    def __iter__(self) -> Iterator[Dict[str, Tensor]]:
        epoch, skipped = self._epoch, self._skipped
        with seeded(self._seed):  # the generators of the training stay as they are
            rows = self._extract()
        for number in range(skipped, len(self)):
            random = generator(self._seed, epoch, comm.get_rank(), number, _DRAWS)
            places = [self._draw(rows, random) for _ in range(self._share)]
            labels = torch.cat(places)
            yield {
                "features": torch.stack([rows["features"][place] for place in places]),
                **{name: rows[name][labels] for name in _LABELS},
            }

    def _extract(self) -> Dict[str, Tensor]:
        """Return features (R, D) and labels (R,) of an epoch's images, those of all processes."""
        begin, parts = time.perf_counter(), []
        model, device = self._model, self._model.device
        with evaluation_mode(model), torch.no_grad():
            for batch in self.loader:
                features = model.encoder(to_device(batch, device)).float().cpu()
                parts.append({"features": features, **{name: batch[name] for name in _LABELS}})
        own = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        shares: List[Dict[str, Tensor]] = comm.all_gather(own)
        rows = {name: torch.cat([share[name] for share in shares]) for name in own}
        rows["features"] = model.prepared(rows["features"])
        model.see(rows["features"])
        seconds = time.perf_counter() - begin
        logger.info("Features of %d training images in %.1f s", len(rows["targets"]), seconds)
        return rows

    def _draw(self, rows: Dict[str, Tensor], random: np.random.Generator) -> Tensor:
        """Return the numbers (L,) of the rows of a sequence."""
        features = rows["features"]
        nearness = features @ features[int(random.integers(len(features)))]
        order = nearness.argsort(descending=True, stable=True)
        if not self._per_modality:
            return _some_of_the_nearest(order, min(self._length, len(order)), random)
        theirs = rows["modalities"][order]
        halves = [order[theirs == int(modality)] for modality in Modality]
        size = min(self._length // 2, *map(len, halves))
        if size == 0:
            raise UserError(
                "MODEL.NFORMER.SEQUENCE_PER_MODALITY is True, and the training images have one "
                "modality. Set it False."
            )
        return torch.cat([_some_of_the_nearest(half, size, random) for half in halves])


def _some_of_the_nearest(order: Tensor, length: int, random: np.random.Generator) -> Tensor:
    """Return ``length`` of the first ``int(length (1 + u))`` entries of ``order``, at random."""
    width = min(int(length * (1 + random.random())), len(order))
    return order[torch.from_numpy(random.permutation(width)[:length])]
