"""The batches of a training on clusters, and when the clusters are found anew.

The labels are in every checkpoint: a run that continues inside an epoch, or between two
clusterings, takes them from there. At the beginning of an epoch that clusters, they are found again
from the weights, which gives the same labels bit for bit.

N images, D features, C clusters.
"""

import logging
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch

from fastreid.utils import comm

from ...data.build import build_unlabeled_loader
from ...data.pseudo_labels import pseudo_label_sampler
from ...errors import UserError
from ...modeling.heads.classes import set_classes
from ...solver import optimizers_of
from ..parallel import synchronize_buffers
from .checks import check_modalities, check_model, classifiers_of
from .finding import Found, Search, find_clusters
from .labels import Clusterer, Clustering
from .report import measurements, sentences

logger = logging.getLogger(__name__)

_REMEDY = (
    "If the clusters are few and large, lower CLUSTERS.RADIUS; if nearly all images are outliers, "
    "raise it, or lower CLUSTERS.MIN_SAMPLES. A model that tells nobody apart needs better weights "
    "to start from."
)


def cluster_batches(cfg: Any, loader: Any, model: Any) -> "ClusterBatches":
    """Return the batches of ``loader`` with clusters for targets, as ``CLUSTERS`` says.

    Raises:
        UserError: the model cannot be trained on clusters, a modality that it needs has no image,
            or the loader is one of the user's own.
    """
    check_model(cfg, model)
    if pseudo_label_sampler(loader) is None:
        raise UserError(
            "CLUSTERS.ENABLED is True, and the training loader does not draw by pseudo-labels. "
            "Build it with vireid_plugins.data.build_train_loader."
        )
    check_modalities(model, loader.dataset.items)
    return ClusterBatches(
        loader,
        build_unlabeled_loader(cfg, loader),
        Clusterer.from_config(cfg),
        period=cfg.CLUSTERS.PERIOD,
        visible_share=cfg.CLUSTERS.VISIBLE_SHARE,
        new_optimizer=cfg.CLUSTERS.NEW_OPTIMIZER,
    )


class ClusterBatches:
    """A loader whose targets are clusters, which :meth:`begin_epoch` finds.

    Args:
        loader: batches of training images, drawn by a ``PseudoLabelSampler``.
        images: batches of all training images, each once, without augmentation.
        clusterer: finds the clusters.
        period: epochs between two clusterings.
        visible_share: of the visible images, which is clustered.
        new_optimizer: whether the optimizer forgets its state at each clustering.

    Attributes:
        skips_epoch: whether this epoch is skipped, because no batch can be drawn by the clusters.
        skipped: epochs that were skipped so far.
    """

    def __init__(
        self,
        loader: Any,
        images: Any,
        clusterer: Clusterer,
        *,
        period: int,
        new_optimizer: bool,
        visible_share: float = 1.0,
    ) -> None:
        self.loader, self.dataset = loader, loader.dataset
        self.batch_sampler = loader.batch_sampler
        self.sources, self.num_classes = loader.sources, loader.num_classes
        self._images, self._clusterer = images, clusterer
        self._period, self._new_optimizer = period, new_optimizer
        self._visible_share = visible_share
        self._sampler: Any = pseudo_label_sampler(loader)
        self._clustering: Optional[Clustering] = None
        self._targets = torch.zeros(0, dtype=torch.int64)
        self._stage = 0  # of the method, for which the clusters were found
        self._kinds: Tuple[str, ...] = (clusterer.within,)  # of the labelings
        self._reason = ""  # why no batch can be drawn
        self.skips_epoch, self.skipped = False, 0

    # --------------------------------------------------------------------------- as a loader

    def __len__(self) -> int:
        return len(self.loader)

    @property
    def iterations_per_epoch(self) -> int:
        """The number of batches in an epoch."""
        return len(self)

    @property
    def persistent_workers(self) -> bool:
        """Whether the workers of the loader stay alive."""
        return bool(self.loader.persistent_workers)

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        others = self._clustering.others if self._clustering is not None else ()
        if not others:
            for batch in self.loader:
                yield {**batch, "targets": self._targets[batch["index"]]}
            return
        labels = [self._targets, *map(torch.from_numpy, others)]
        turns = self._sampler.labelings
        for place, batch in enumerate(self.loader, self.batch_sampler.skipped):
            number = turns[place % len(turns)]
            yield {**batch, "targets": labels[number][batch["index"]], "labeling": number}

    # ------------------------------------------------------------------------ between epochs

    def begin_epoch(self, trainer: Any) -> None:
        """Find the clusters, if this epoch does; every process calls it.

        The global generators stay as they are. A skipped epoch counts as done: the trainer's place
        is at its end, and the learning rate is that of the next epoch.
        """
        model = trainer.unwrapped_model
        phase = model.phase_of(trainer.epoch) if hasattr(model, "phase_of") else ""
        stage = model.stage_of(phase) if hasattr(model, "stage_of") else 0
        if trainer.steps_done == 0 and self._is_due(trainer.epoch, stage):
            more = model.more_labelings(phase) if hasattr(model, "more_labelings") else ()
            self._kinds, self._stage = (self._clusterer.within, *more), stage
            self._take(self._found(model, trainer, phase), model)
            if not self._reason and self._new_optimizer:
                for optimizer in optimizers_of(trainer.optimizer):
                    optimizer.state.clear()
        elif self._clustering is not None:
            self._limit(model)
        self.skips_epoch = bool(self._reason)
        if self.skips_epoch:
            self._skip(trainer)

    def _is_due(self, epoch: int, stage: int) -> bool:
        return self._clustering is None or epoch % self._period == 0 or stage != self._stage

    def _skip(self, trainer: Any) -> None:
        self.skipped += 1
        logger.warning(
            "Epoch %d of %d is skipped, and the weights stay as they are: no batch can be drawn by "
            "its clusters. %s %s",
            *(trainer.epoch + 1, trainer.max_epoch, self._reason, _REMEDY),
        )
        trainer.pass_epoch()

    def end_run(self) -> None:
        """Say how many epochs were skipped, if any."""
        if self.skipped:
            logger.warning("%d epoch(s) were skipped in this run, see above.", self.skipped)

    def _found(self, model: Any, trainer: Any, phase: str) -> Found:
        """Return the clusters, which all processes get, and log them."""
        search = self._search((trainer.seed, trainer.epoch), phase)
        synchronize_buffers(trainer.model)
        found = find_clusters(model, self._images, search)
        if comm.is_main_process():
            self._report(found, trainer)
        return found

    def _search(self, draw: Tuple[int, int], phase: str) -> Search:
        return Search(
            self._clusterer,
            self._kinds,
            self._visible_share,
            draw,
            self._clustering.radii if self._clustering is not None else [],
            self.num_classes,
            phase,
        )

    def _report(self, found: Found, trainer: Any) -> None:
        identities = [item.pid for item in self.dataset.items]
        measured = measurements(found.clustering, found.modalities, identities)
        by_rule = not self._clusterer.radius
        said = sentences(found.clustering, found.modalities, self._kinds, measured, by_rule)
        logger.info(
            "Epoch %d: %s; features %.1f s, clustering %.1f s.",
            *(trainer.epoch + 1, "; ".join(said), *found.seconds),
        )
        trainer.storage.iter = trainer.iter  # what belongs to an earlier one is written already
        trainer.storage.put_scalars(smoothing_hint=False, **measured)

    def _take(self, found: Found, model: Any) -> None:
        """Train on these clusters from now on; classifiers begin as their centers."""
        self._clustering = clustering = found.clustering
        self._targets = torch.from_numpy(clustering.labels)
        self._reason = self._sampler.set_labels(clustering.labels, *clustering.others)
        if self._reason:
            return
        for place, reason in self._sampler.unused.items():
            logger.warning(
                "The clustering %r is not used in this epoch: no batch can be drawn by it. %s %s",
                *(self._kinds[place], reason, _REMEDY),
            )
        if clustering.partners is not None and not bool((clustering.partners >= 0).any()):
            logger.warning(
                "No cluster has a partner in the other modality: what matched clusters are for is "
                "left out of this epoch."
            )
        centers = found.handed.centers()
        for head in classifiers_of(model):
            set_classes(head, clustering.num_clusters, centers)
        if hasattr(model, "begin_clusters"):
            model.begin_clusters(centers, self._targets)
        if hasattr(model, "take_clusters"):
            model.take_clusters(found.handed)

    def _limit(self, model: Any) -> None:
        assert self._clustering is not None
        for head in classifiers_of(model) if not self._reason else ():
            set_classes(head, self._clustering.num_clusters)

    # --------------------------------------------------------------------------- checkpoints

    def state_dict(self) -> Dict[str, Any]:
        """Return the clusters for a checkpoint, and the radii if the rule gave them."""
        if self._clustering is None:
            return {"labels": torch.zeros(0, dtype=torch.int64), "radii": [], "skipped": 0}
        radii: List[float] = [] if self._clusterer.radius else list(self._clustering.radii)
        state = {"labels": self._targets, "radii": radii, "skipped": self.skipped}
        if self._clustering.others:
            state["others"] = torch.from_numpy(np.stack(self._clustering.others))
        if self._stage:
            state["stage"] = self._stage
        return state

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Take the clusters of a checkpoint.

        Raises:
            ValueError: they are not those of this run's images.
        """
        labels = state["labels"]
        if len(labels) == 0:
            return
        if labels.shape != (len(self.dataset),) or int(labels.max()) >= self.num_classes:
            raise ValueError(
                f"it labels {len(labels)} images with up to {int(labels.max()) + 1} clusters; "
                f"there are {len(self.dataset)} images and {self.num_classes} clusters at most"
            )
        self._targets = labels.long()
        others = tuple(row.numpy() for row in state.get("others", torch.zeros(0)).long())
        radii = [float(one) for one in state["radii"]]
        self._clustering = Clustering(self._targets.numpy(), radii, others)
        self._reason = self._sampler.set_labels(self._clustering.labels, *others)
        self.skipped, self._stage = int(state["skipped"]), int(state.get("stage", 0))
