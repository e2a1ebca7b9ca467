"""Contrast with clusters of each modality, without a label: ADCA, PGM and BMIL.

*Papers*: B. Yang, M. Ye, J. Chen, Z. Wu, "Augmented Dual-Contrastive Aggregation Learning for
Unsupervised Visible-Infrared Person Re-Identification" (ADCA), ACM MM 2022, pp. 2843-2851; public
code yangbincv/ADCA. Z. Wu, M. Ye, "Unsupervised Visible-Infrared Person Re-Identification via
Progressive Graph Matching and Alternate Learning" (PGM), CVPR 2023; public code
zesenwu23/USL-VI-ReID. M. Wang, X. Gong, J. Li, G. Ji, "Modality-Aware Bias Mitigation and
Invariance Learning for Unsupervised Visible-Infrared Person Re-Identification" (BMIL), AAAI 2026,
arXiv 2512.07760; public code Terminator8758/BMIL.
*Idea*: the images of each modality are clustered, and each image is drawn to the center of its
cluster and away from the others of its modality; a visible image comes plain and with one of its
channels in all three. That is the first stage of all three papers (dual contrastive learning, DCL).
The second stage joins the modalities: ADCA matches clusters by votes of their images and puts the
infrared center into the visible memory; PGM matches them as a graph, and draws images of one
modality to the matched centers of the other, in odd epochs this way and in even ones that; BMIL
also clusters all images together, with neighbors of both modalities, and draws each image to both
modalities' centers of its cluster.
*Here*: ``ClusterContrast``: the terms. Memory, matching and stages: ``modeling/clusters``.
Clusters: ``engine/clusters``. Views: ``data/transforms/channels.py``.
*Departs*, or reads what is left open. The texts of the papers were not at hand, except for what the
code's documents say of BMIL; the code holds.

- Both stages are one training, and the second begins with the last weights of the first. The codes
  begin it with the weights that tested best, and with a new optimizer.
- The loss of a row sees the memory of the beginning of its step in its gradient, too. In the codes
  the gradient of a term may see what the rows of another term have moved already.
- PGM: the code for SYSU-MM01 matches only if there are at least as many visible clusters as
  infrared ones; here, as in that for RegDB, the larger side is matched with the smaller one,
  whichever it is. If one side has more than twice as many, the code stops with an error; here
  rounds go on until all have a partner.
- ADCA: the code's votes are of all pairs of images with a cosine of 0.5 or more.
- Features are divided by their length before they are clustered; the codes cluster the mean of an
  image's and its mirror image's feature of length 1, and ADCA's votes are products of these means.
- The codes also test these means, and so do the configs of SYSU-MM01 and RegDB (``TEST.FLIP``).
- Images of a cluster differ in a batch where there are enough; the codes prefer other cameras.
- PGM and BMIL for SYSU-MM01: the codes jitter infrared images in the first stage and not in the
  second; here they never do.
- BMIL: an epoch of the first stage has as many updates as one of the second, 400; the code has 200.
  Where fewer than 50 prototypes exist, all are compared; the code stops with an error.

*Config*: ``configs/adca``, ``configs/pgm``, ``configs/bmil``; ``MODEL.CLUSTER_CONTRAST``,
``CLUSTERS``, ``DATALOADER.INFRARED_IDENTITIES``.

B rows, N images, D features, C clusters of one modality each.
"""

from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...modality import Modality, modality_rows
from ..clusters import ClusterMemory, FoundClusters, Links, Stages, stage_of
from ..clusters.contrast import NODE, Contrast, check_parts
from ..clusters.links import NONE
from ..clusters.stages import TO_INFRARED, TO_VISIBLE, WITHIN
from ..gather import gather_rows
from ..losses import LossTerms
from ..losses.pairs import zero_of
from .base import DualStreamBaseline

_SKIPPED = {TO_VISIBLE: (Modality.VISIBLE,), TO_INFRARED: (Modality.INFRARED,)}


@META_ARCH_REGISTRY.register()
class ClusterContrast(DualStreamBaseline):
    """A dual-stream network that is drawn to cluster centers.

    Phases: ``"within"``: DCL; ``"across"``: with what joins the modalities; where ``cross`` is
    ``"alternate"``: ``"to_infrared"`` and ``"to_visible"`` in its place, by turns.

    Args:
        memory: the centers, by modality.
        prototypes: those of the clusters of all images; their group is the cluster. None without.
        links: which centers belong together.
        contrast: the terms.
        first_epochs: epochs of ``"within"``.
        baseline: arguments of ``DualStreamBaseline``.

    Raises:
        UserError: numbers or words do not fit each other.
    """

    config_nodes = ("MODEL.CLUSTER_CONTRAST", "MODEL.LOSSES.LABEL_SMOOTHING")
    takes_clusters = True
    has_own_losses = True
    needs_clusters = True
    clusters_within = "modality"
    training_only: Tuple[str, ...] = ("memory", "links")
    own_weight_keys = {
        "loss_visible": f"{NODE}.WITHIN_SCALE",
        "loss_infrared": f"{NODE}.WITHIN_SCALE",
        "loss_cross": f"{NODE}.CROSS_SCALE",
        "loss_global_visible": f"{NODE}.GLOBAL_SCALE",
        "loss_global_infrared": f"{NODE}.GLOBAL_SCALE",
    }

    @configurable
    def __init__(
        self,
        *,
        memory: ClusterMemory,
        prototypes: Optional[ClusterMemory],
        links: Links,
        contrast: Contrast,
        first_epochs: int = 0,
        **baseline: Any,
    ) -> None:
        super().__init__(**baseline)
        check_parts(contrast, links)
        self.contrast = contrast
        alternate, across = contrast.cross == "alternate", contrast.all_images != NONE
        joined = links.aggregation > 0 or contrast.cross != NONE or across
        self._stages = Stages(first_epochs, joined, alternate)
        self.phases = self._stages.phases
        self.phase = self.phase_of(0)
        self.memory, self.prototypes, self.links = memory, prototypes, links
        if prototypes is not None:
            self.training_only = ("memory", "links", "prototypes")
        # No gradient reaches the classifier. It shows the centers of the last clustering.
        self.heads.weight.requires_grad_(False)
        self._labeling = 0  # of the batch in progress
        self._seen: List[Dict[str, Any]] = []  # batches since the last update

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.CLUSTER_CONTRAST`` and those of the baseline."""
        parts = super().from_config(with_a_loss(cfg))
        node, most = cfg.MODEL.CLUSTER_CONTRAST, max(1, cfg.MODEL.HEADS.NUM_CLASSES)
        options: Dict[str, Any] = {
            "dim": parts["heads"].weight.shape[1],
            "temperature": node.TEMPERATURE,
            "momentum": node.MOMENTUM,
            "tables": 2 if "hybrid" in node.UPDATE else 1,
        }
        across = node.GLOBAL != NONE
        return {
            **parts,
            "loss_terms": LossTerms({}, {}),
            "memory": ClusterMemory(most, **options),
            "prototypes": ClusterMemory(2 * most, **options) if across else None,
            "links": Links(most, node.MATCH, node.VOTE_COSINE, node.AGGREGATION, node.SPLIT),
            "contrast": Contrast.from_config(node),
            "first_epochs": node.FIRST_EPOCHS,
        }

    # -------------------------------------------------------------------------- the schedule

    def phase_of(self, epoch: int) -> str:
        """Return ``"within"`` in the first stage; then another phase, by turns if there are two."""
        return self._stages.phase_of(epoch)

    def stage_of(self, phase: str) -> int:
        """Return 0 for the first stage, and 1 for the second."""
        return stage_of(phase)

    def more_labelings(self, phase: str) -> Tuple[str, ...]:
        """Return the clustering of all images, in the second stage."""
        wanted = self.contrast.all_images != NONE and phase != WITHIN
        return (self.contrast.all_images,) if wanted else ()

    # -------------------------------------------------------------------------- the clusters

    def match_clusters(self, found: FoundClusters) -> Optional[Tensor]:
        """Return the partner of each cluster (C,), -1: none; None: nothing is matched."""
        return None if found.phase == WITHIN else self.links.matched(found)

    def take_clusters(self, found: FoundClusters) -> None:
        """Fill the memories with the centers of new clusters.

        Raises:
            UserError: a cluster of the first labeling has images of both modalities.
        """
        self.memory.begin(*self.links.take(found))
        # Without a cluster of all images, no batch is drawn by them.
        has_more = len(found.labels) > 1 and bool((found.labels[1] >= 0).any())
        if self.prototypes is not None and has_more:
            self.prototypes.begin(*self.links.take_prototypes(found))

    # ------------------------------------------------------------------------------ the loss

    def objective(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute the terms, see :meth:`losses`; ``labeling`` says what the targets number."""
        self._labeling = int(batch.get("labeling", 0))
        return super().objective(outputs, batch)

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute the weighted terms of a batch.

        - of clusters within the modalities: L_v + L_r, and in the second stage the cross term;
        - of clusters of all images: 1/2 (L_glb of visible + of infrared images).
        """
        labels = self.labels(batch)
        features = outputs["bn_features"]
        targets, modalities = labels["targets"], labels["modalities"]
        seen = {"features": features.detach(), "targets": targets, "modalities": modalities}
        seen["views"] = labels.get("views", torch.zeros_like(targets))
        self._seen.append({**seen, "labeling": self._labeling, "phase": self.phase})
        if self._labeling:
            return self._global(features, targets, modalities)
        terms = {}
        for modality, rows in zip(Modality, modality_rows(modalities)):
            term = self._contrast(features, rows, targets[rows], modality)
            terms[f"loss_{modality.label}"] = self.contrast.within_scale * term
        if self.contrast.cross != NONE and self.phase != WITHIN:
            crossing = self.links.crossing(targets, modalities, _SKIPPED.get(self.phase, ()))
            found = [self._contrast(features, *one) for one in crossing]
            terms["loss_cross"] = self.contrast.cross_scale * torch.stack(found).sum()
        return terms

    def _contrast(self, features: Tensor, rows: Tensor, targets: Tensor, group: int) -> Tensor:
        """Contrast some rows with the centers of a modality; without rows, return a zero."""
        if len(rows) == 0:
            return zero_of(features).float()
        return self.memory.contrast(features[rows], targets, int(group), self.contrast.mean_margin)

    def _global(self, features: Tensor, targets: Tensor, modalities: Tensor) -> Dict[str, Tensor]:
        """Contrast the rows of each modality with all prototypes; each term has half a weight."""
        assert self.prototypes is not None
        own, terms = self.links.prototypes[modalities, targets], {}
        for modality, rows in zip(Modality, modality_rows(modalities)):
            term = zero_of(features).float()
            if len(rows):
                nearest = self.contrast.nearest
                term = self.prototypes.contrast_groups(features[rows], own[rows], nearest)
            terms[f"loss_global_{modality.label}"] = 0.5 * self.contrast.global_scale * term
        return terms

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the centers toward the rows of the batches of this step, those of all processes.

        Views come one after the other, as in the codes; cross terms move centers first.
        """
        super().after_step()
        seen, self._seen = self._seen, []
        for batch in seen:
            rows = batch if self.gather_features else gathered(batch)
            order = rows["views"].argsort(stable=True)
            features, targets, modalities = (
                rows[name][order] for name in ("features", "targets", "modalities")
            )
            phase, kind = batch["phase"], self.contrast.update[stage_of(batch["phase"])]
            if batch["labeling"]:
                assert self.prototypes is not None
                own = self.links.prototypes[modalities, targets]
                self.prototypes.update(features, own, kind)
                continue
            if self.contrast.cross != NONE and phase != WITHIN:
                skipped = _SKIPPED.get(phase, ())
                for own, others, _ in self.links.crossing(targets, modalities, skipped):
                    self.memory.update(features[own], others, kind)
            self.memory.update(features, targets, kind)


def with_a_loss(cfg: Any) -> Any:
    """Return a copy of a config that names a loss, as the baseline must have one."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.LOSSES.NAME = ("LabelSmoothingCrossEntropyLoss",)
    return cfg


def gathered(batch: Dict[str, Any]) -> Dict[str, Any]:
    """Return a batch with the rows of all processes, in the order of ranks."""
    return {n: gather_rows(v) if isinstance(v, Tensor) else v for n, v in batch.items()}
