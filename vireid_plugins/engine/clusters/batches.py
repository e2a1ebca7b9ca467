"""The batches of a training on clusters, and when the clusters are found anew.

The labels are in every checkpoint: a run that continues inside an epoch, or between two
clusterings, takes them from there. At the beginning of an epoch that clusters, they are found again
from the weights, which gives the same labels bit for bit.

N images, D features, C clusters.
"""

import logging
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.utils import comm

from ...data.build import build_unlabeled_loader
from ...data.pseudo_labels import pseudo_label_sampler
from ...errors import UserError
from ...evaluation import extract_features
from ...modeling.heads.classes import set_classes
from .. import runtime
from ..parallel import synchronize_buffers
from .checks import check_model, classifiers_of
from .labels import Clusterer, Clustering, centers_of, largest
from .report import agreement, describe

logger = logging.getLogger(__name__)

_REMEDY = (
    "If the clusters are few and large, lower CLUSTERS.RADIUS; if nearly all images are outliers, "
    "raise it, or lower CLUSTERS.MIN_SAMPLES. A model that tells nobody apart needs better weights "
    "to start from."
)


def cluster_batches(cfg: Any, loader: Any, model: Any) -> "ClusterBatches":
    """Return the batches of ``loader`` with clusters for targets, as ``CLUSTERS`` says.

    Raises:
        UserError: the model cannot be trained on clusters, or the loader is one of the user's own.
    """
    check_model(cfg, model)
    if pseudo_label_sampler(loader) is None:
        raise UserError(
            "CLUSTERS.ENABLED is True, and the training loader does not draw by pseudo-labels. "
            "Build it with vireid_plugins.data.build_train_loader."
        )
    return ClusterBatches(
        loader,
        build_unlabeled_loader(cfg, loader),
        Clusterer.from_config(cfg),
        period=cfg.CLUSTERS.PERIOD,
        new_optimizer=cfg.CLUSTERS.NEW_OPTIMIZER,
    )


class ClusterBatches:
    """A loader whose targets are clusters, which :meth:`begin_epoch` finds.

    Args:
        loader: batches of training images, drawn by a ``PseudoLabelSampler``.
        images: batches of all training images, each once, without augmentation.
        clusterer: finds the clusters.
        period: epochs between two clusterings.
        new_optimizer: whether the optimizer forgets its state at each clustering.

    Attributes:
        skips_epoch: whether this epoch is skipped, because no batch can be drawn by the clusters.
        skipped: epochs that were skipped so far.
    """

    def __init__(
        self, loader: Any, images: Any, clusterer: Clusterer, *, period: int, new_optimizer: bool
    ) -> None:
        self.loader, self.dataset = loader, loader.dataset
        self.batch_sampler = loader.batch_sampler
        self.sources, self.num_classes = loader.sources, loader.num_classes
        self._images, self._clusterer = images, clusterer
        self._period, self._new_optimizer = period, new_optimizer
        self._sampler: Any = pseudo_label_sampler(loader)
        self._clustering: Optional[Clustering] = None
        self._targets = torch.zeros(0, dtype=torch.int64)
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
        for batch in self.loader:
            yield {**batch, "targets": self._targets[batch["index"]]}

    # ------------------------------------------------------------------------ between epochs

    def begin_epoch(self, trainer: Any) -> None:
        """Find the clusters, if this epoch does; every process calls it.

        The global generators stay as they are. A skipped epoch counts as done: the trainer's place
        is at its end, and the learning rate is that of the next epoch.
        """
        model = trainer.unwrapped_model
        if trainer.steps_done == 0 and self._is_due(trainer.epoch):
            clustering = self._found_by_main_process(model, trainer)
            self._take(clustering, model)
            if not self._reason and self._new_optimizer:
                trainer.optimizer.state.clear()
        elif self._clustering is not None:
            self._limit(model)
        self.skips_epoch = bool(self._reason)
        if self.skips_epoch:
            self._skip(trainer)

    def _is_due(self, epoch: int) -> bool:
        return self._clustering is None or epoch % self._period == 0

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

    def _found_by_main_process(self, model: Any, trainer: Any) -> Tuple[Clustering, Tensor]:
        """Return clusters and centers (C, D), which process 0 finds and all processes get."""
        begin = time.perf_counter()
        synchronize_buffers(trainer.model)
        with runtime.uncompiled_calls():
            found = extract_features(_ClusterFeatures(model), self._images)
        features = F.normalize(found.features.float(), dim=1)
        extracted = time.perf_counter()
        result: Any = None
        if comm.is_main_process():
            result = self._cluster(features, found.modalities)
        result = comm.all_gather(result)[0]
        if isinstance(result, UserError):
            raise result
        if comm.is_main_process():
            seconds = extracted - begin, time.perf_counter() - extracted
            self._report(result, trainer, seconds)
        return result, centers_of(features, result.labels)

    def _cluster(self, features: Tensor, modalities: np.ndarray) -> Any:
        """Return the clusters, or the error that every process then raises."""
        radii = self._clustering.radii if self._clustering is not None else []
        try:
            result = self._clusterer(features, modalities, radii)
        except UserError as error:
            return error
        labels = largest(result.labels, self.num_classes)
        if labels is not result.labels:
            logger.warning(
                "%d clusters were found: the %d largest are kept (MODEL.HEADS.NUM_CLASSES), and "
                "the images of the others count as outliers.",
                *(result.num_clusters, self.num_classes),
            )
        return Clustering(labels, result.radii)

    def _report(self, found: Clustering, trainer: Any, seconds: Tuple[float, float]) -> None:
        measured = agreement(found.labels, [item.pid for item in self.dataset.items])
        by_rule = not self._clusterer.radius
        logger.info(
            "Epoch %d: %s; features %.1f s, clustering %.1f s.",
            *(trainer.epoch + 1, describe(found.labels, found.radii, by_rule, measured), *seconds),
        )
        numbers = {
            "clusters": float(found.num_clusters),
            "outliers": float((found.labels < 0).sum()),
            **{f"clusters_{name}": value for name, value in measured.items()},
        }
        trainer.storage.iter = trainer.iter  # what belongs to an earlier one is written already
        trainer.storage.put_scalars(smoothing_hint=False, **numbers)

    def _take(self, found: Tuple[Clustering, Tensor], model: Any) -> None:
        """Train on these clusters from now on; classifiers begin as their centers."""
        clustering, centers = found
        self._clustering = clustering
        self._targets = torch.from_numpy(clustering.labels)
        self._reason = self._sampler.set_labels(clustering.labels)
        if not self._reason:
            for head in classifiers_of(model):
                set_classes(head, clustering.num_clusters, centers)
            if hasattr(model, "begin_clusters"):
                model.begin_clusters(centers, self._targets)

    def _limit(self, model: Any) -> None:
        assert self._clustering is not None
        for head in classifiers_of(model) if not self._reason else ():
            set_classes(head, self._clustering.num_clusters)

    # --------------------------------------------------------------------------- checkpoints

    def state_dict(self) -> Dict[str, Any]:
        """Return the clusters for a checkpoint."""
        if self._clustering is None:
            return {"labels": torch.zeros(0, dtype=torch.int64), "radii": [], "skipped": 0}
        radii: List[float] = list(self._clustering.radii)
        return {"labels": self._targets, "radii": radii, "skipped": self.skipped}

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
        self._clustering = Clustering(self._targets.numpy(), [float(one) for one in state["radii"]])
        self._reason = self._sampler.set_labels(self._clustering.labels)
        self.skipped = int(state["skipped"])


class _ClusterFeatures(nn.Module):
    """A model that returns the features by which its images are clustered."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Dict[str, Any]) -> Tensor:
        own = getattr(self.model, "cluster_features", self.model)
        features: Tensor = own(batch)
        return features
