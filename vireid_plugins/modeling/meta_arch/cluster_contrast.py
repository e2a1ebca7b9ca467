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
*Here*: ``ClusterContrast``: stages and terms. Memory and matching: ``modeling/clusters``.
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
- The codes also test these means, as ``TEST.FLIP.ENABLED`` with ``NORMALIZED`` does; no config here
  sets it.
- Images of a cluster differ in a batch where there are enough; the codes prefer other cameras.
- PGM and BMIL for SYSU-MM01: the codes jitter infrared images in the first stage and not in the
  second; here they never do.
- BMIL: an epoch of the first stage has as many updates as one of the second, 400; the code has 200.
  Where fewer than 50 prototypes exist, all are compared; the code stops with an error.

*Config*: ``configs/adca``, ``configs/pgm``, ``configs/bmil``; ``MODEL.CLUSTER_CONTRAST``,
``CLUSTERS``, ``DATALOADER.INFRARED_IDENTITIES``.

B rows, N images, D features, C clusters of one modality each.
"""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import SWITCH, Key, above, at_least, check_values, declare, each, one_of
from ...modality import Modality, modality_rows
from ..clusters import (
    UPDATES,
    ClusterMemory,
    FoundClusters,
    aggregated,
    centers_of,
    count_partners,
    graph_partners,
    modality_of_clusters,
    split_by_modality,
)
from ..gather import gather_rows
from ..losses import LossTerms
from ..losses.pairs import zero_of
from .base import DualStreamBaseline

MATCHES = ("none", "count", "graph")
CROSSES = ("none", "alternate", "both")
GLOBALS = ("none", "all", "balanced")
WITHIN, ACROSS, TO_INFRARED, TO_VISIBLE = "within", "across", "to_infrared", "to_visible"

declare(
    "MODEL.CLUSTER_CONTRAST",
    Key("TEMPERATURE", 0.05, above(0), "of the softmax over centers (tau)"),
    Key("MOMENTUM", 0.1, at_least(0, below=1), "share of the old center that is kept (mu)"),
    Key(
        "UPDATE",
        ("rows", "rows"),
        each(one_of(*UPDATES)),
        "how a center follows its rows, in each of both stages",
    ),
    Key("MEAN_MARGIN", 0.2, at_least(0), "hybrid: what the loss of the mean centers must exceed"),
    Key("FIRST_EPOCHS", 0, at_least(0), "epochs of the first stage, within each modality"),
    Key("WITHIN_SCALE", 1.0, at_least(0), "weight of the terms within a modality"),
    Key("MATCH", "none", one_of(*MATCHES), "how clusters of both modalities are matched"),
    Key("VOTE_COSINE", 0.5, at_least(-1), "count: the least cosine of two images that vote"),
    Key("AGGREGATION", 0.0, at_least(0), "share of the partner in a visible center (ADCA: 0.9)"),
    Key("CROSS", "none", one_of(*CROSSES), "which way images see centers of the other modality"),
    Key("CROSS_SCALE", 0.25, at_least(0), "weight of that term"),
    Key("GLOBAL", "none", one_of(*GLOBALS), "a clustering of all images in the second stage"),
    Key("GLOBAL_SCALE", 1.0, at_least(0), "weight of the terms of these clusters"),
    Key("SPLIT", True, SWITCH, "a center for each modality of such a cluster; False: one center"),
    Key("NEAREST", 50, at_least(2), "centers that an image is compared with there"),
    features=False,
)


@META_ARCH_REGISTRY.register()
class ClusterContrast(DualStreamBaseline):
    """A dual-stream network that is drawn to cluster centers.

    Phases: ``"within"``: DCL; ``"across"``: with what joins the modalities; where ``cross`` is
    ``"alternate"``: ``"to_infrared"`` and ``"to_visible"`` in its place, by turns.

    Args:
        most: how many clusters there can be.
        dim: D.
        temperature: tau.
        momentum: mu.
        update: of both stages, of ``UPDATES``.
        mean_margin: see ``ClusterMemory.contrast``.
        first_epochs: epochs of ``"within"``.
        within_scale: weight of its terms.
        match: one of ``MATCHES``.
        vote_cosine: see ``count_partners``.
        aggregation: share of the partner in a visible center, 0 to 1.
        cross: one of ``CROSSES``.
        cross_scale: weight.
        all_images: ``GLOBAL``, one of ``GLOBALS``.
        global_scale: weight.
        split: whether such a cluster has a center for each modality.
        nearest: see ``ClusterMemory.contrast_groups``.
        baseline: arguments of ``DualStreamBaseline``.

    Attributes:
        memory: the centers, by modality.
        prototypes: those of the clusters of all images; their group is the cluster. None without.
        links: ``partners`` (most,) int64, see ``FoundClusters``; ``prototypes`` (2, most) int64,
            of a cluster of all images, the center of its visible and of its infrared images.

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
        "loss_visible": "MODEL.CLUSTER_CONTRAST.WITHIN_SCALE",
        "loss_infrared": "MODEL.CLUSTER_CONTRAST.WITHIN_SCALE",
        "loss_cross": "MODEL.CLUSTER_CONTRAST.CROSS_SCALE",
        "loss_global_visible": "MODEL.CLUSTER_CONTRAST.GLOBAL_SCALE",
        "loss_global_infrared": "MODEL.CLUSTER_CONTRAST.GLOBAL_SCALE",
    }
    links: Any

    @configurable
    def __init__(
        self,
        *,
        most: int,
        dim: int,
        temperature: float = 0.05,
        momentum: float = 0.1,
        update: Sequence[str] = ("rows", "rows"),
        mean_margin: float = 0.2,
        first_epochs: int = 0,
        within_scale: float = 1.0,
        match: str = "none",
        vote_cosine: float = 0.5,
        aggregation: float = 0.0,
        cross: str = "none",
        cross_scale: float = 0.25,
        all_images: str = "none",
        global_scale: float = 1.0,
        split: bool = True,
        nearest: int = 50,
        **baseline: Any,
    ) -> None:
        super().__init__(**baseline)
        update = tuple(update)
        check_values(
            "MODEL.CLUSTER_CONTRAST",
            TEMPERATURE=temperature,
            MOMENTUM=momentum,
            UPDATE=update,
            MATCH=match,
            CROSS=cross,
            GLOBAL=all_images,
            NEAREST=nearest,
        )
        _check_parts(update, match, aggregation, cross)
        self.update, self.mean_margin, self.first_epochs = update, mean_margin, first_epochs
        self.within_scale, self.cross_scale = within_scale, cross_scale
        self.match, self.vote_cosine, self.aggregation = match, vote_cosine, aggregation
        self.cross, self.all_images, self.global_scale = cross, all_images, global_scale
        self.split, self.nearest = split, nearest
        joined = aggregation > 0 or cross != "none" or all_images != "none"
        later = (TO_INFRARED, TO_VISIBLE) if cross == "alternate" else (ACROSS,)
        self.phases = ((WITHIN,) if first_epochs or not joined else ()) + (later if joined else ())
        self.phase = self.phase_of(0)
        options: Dict[str, Any] = {
            "temperature": temperature,
            "momentum": momentum,
            "tables": 2 if "hybrid" in update else 1,
        }
        self.memory = ClusterMemory(most, dim, **options)
        self.prototypes: Optional[ClusterMemory] = None
        if all_images != "none":
            self.prototypes = ClusterMemory(2 * most, dim, **options)
            self.training_only = ("memory", "links", "prototypes")
        self.links = nn.Module()
        # until clusters are found, a class is its own partner, as it is in a fresh memory
        self.links.register_buffer("partners", torch.arange(most))
        self.links.register_buffer("prototypes", torch.arange(most).repeat(2, 1))
        # No gradient reaches the classifier. It shows the centers of the last clustering.
        self.heads.weight.requires_grad_(False)
        self._labeling = 0  # of the batch in progress
        self._seen: List[Dict[str, Any]] = []  # batches since the last update

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.CLUSTER_CONTRAST`` and those of the baseline."""
        parts = super().from_config(with_a_loss(cfg))
        node = cfg.MODEL.CLUSTER_CONTRAST
        names = "temperature momentum update mean_margin first_epochs within_scale match"
        names += " vote_cosine aggregation cross cross_scale global_scale split nearest"
        return {
            **parts,
            "loss_terms": LossTerms({}, {}),
            "most": max(1, cfg.MODEL.HEADS.NUM_CLASSES),
            "dim": parts["heads"].weight.shape[1],
            "all_images": node.GLOBAL,
            **{name: node[name.upper()] for name in names.split()},
        }

    # -------------------------------------------------------------------------- the schedule

    def phase_of(self, epoch: int) -> str:
        """Return ``"within"`` in the first stage; then another phase, by turns if there are two."""
        later = [phase for phase in self.phases if phase != WITHIN]
        if epoch < self.first_epochs or not later:
            return WITHIN
        return later[(epoch - self.first_epochs) % len(later)]

    def stage_of(self, phase: str) -> int:
        """Return 0 for the first stage, and 1 for the second."""
        return int(phase != WITHIN)

    def more_labelings(self, phase: str) -> Tuple[str, ...]:
        """Return the clustering of all images, in the second stage."""
        wanted = self.all_images != "none" and phase != WITHIN
        return (self.all_images,) if wanted else ()

    # -------------------------------------------------------------------------- the clusters

    def match_clusters(self, found: FoundClusters) -> Optional[Tensor]:
        """Return the partner of each cluster (C,), -1: none; None: nothing is matched."""
        if self.match == "none" or found.phase == WITHIN:
            return None
        labels, modalities = found.labels[0], found.modalities
        own = modality_of_clusters(labels, modalities)
        if self.match == "graph":
            return graph_partners(found.centers(), own)
        return count_partners(found.features, labels, modalities, own, self.vote_cosine)

    @torch.no_grad()
    def take_clusters(self, found: FoundClusters) -> None:
        """Fill the memories with the centers of new clusters.

        Raises:
            UserError: a cluster of the first labeling has images of both modalities.
        """
        centers = found.centers()
        own = modality_of_clusters(found.labels[0], found.modalities)
        self.links.partners.fill_(-1)
        if found.partners is not None:
            partners = found.partners
            self.links.partners[: len(partners)] = partners.to(self.links.partners)
            if self.aggregation > 0:
                centers = aggregated(centers, own, partners, self.aggregation)
        self.memory.begin(centers, own)
        if self.prototypes is not None and len(found.labels) > 1:
            self._take_prototypes(found, self.prototypes)

    def _take_prototypes(self, found: FoundClusters, memory: ClusterMemory) -> None:
        """Fill the memory of the clusters of all images, if there are any."""
        if not bool((found.labels[1] >= 0).any()):
            return  # no batch is drawn by them
        numbers, clusters = split_by_modality(found.labels[1], found.modalities, self.split)
        labels = torch.where(
            found.labels[1] >= 0, numbers[found.modalities, found.labels[1]], found.labels[1]
        )
        memory.begin(centers_of(found.features, labels), clusters)
        self.links.prototypes[:, : numbers.shape[1]] = numbers.to(self.links.prototypes)

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
            terms[f"loss_{modality.label}"] = self.within_scale * term
        if self.cross != "none" and self.phase != WITHIN:
            crossing = self._crossing(targets, modalities, self.phase)
            found = [self._contrast(features, *one) for one in crossing]
            terms["loss_cross"] = self.cross_scale * torch.stack(found).sum()
        return terms

    def _contrast(self, features: Tensor, rows: Tensor, targets: Tensor, group: int) -> Tensor:
        """Contrast some rows with the centers of a modality; without rows, return a zero."""
        if len(rows) == 0:
            return zero_of(features).float()
        return self.memory.contrast(features[rows], targets, int(group), self.mean_margin)

    def _crossing(
        self, targets: Tensor, modalities: Tensor, phase: str
    ) -> List[Tuple[Tensor, Tensor, int]]:
        """Return rows, their centers in the other modality, and that modality, for each way."""
        partners = self.links.partners[targets]
        found = []
        for modality, skipped in ((Modality.VISIBLE, TO_VISIBLE), (Modality.INFRARED, TO_INFRARED)):
            if phase != skipped:
                rows = torch.nonzero((modalities == modality) & (partners >= 0))[:, 0]
                found.append((rows, partners[rows], 1 - int(modality)))
        return found

    def _global(self, features: Tensor, targets: Tensor, modalities: Tensor) -> Dict[str, Tensor]:
        """Contrast the rows of each modality with all prototypes; each term has half a weight."""
        assert self.prototypes is not None
        own, terms = self.links.prototypes[modalities, targets], {}
        for modality, rows in zip(Modality, modality_rows(modalities)):
            term = zero_of(features).float()
            if len(rows):
                term = self.prototypes.contrast_groups(features[rows], own[rows], self.nearest)
            terms[f"loss_global_{modality.label}"] = 0.5 * self.global_scale * term
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
            kind = self.update[self.stage_of(batch["phase"])]
            if batch["labeling"]:
                assert self.prototypes is not None
                own = self.links.prototypes[modalities, targets]
                self.prototypes.update(features, own, kind)
                continue
            if self.cross != "none" and batch["phase"] != WITHIN:
                for own, others, _ in self._crossing(targets, modalities, batch["phase"]):
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


def _check_parts(update: Sequence[str], match: str, aggregation: float, cross: str) -> None:
    """Raise ``UserError`` if parts of the method do not fit each other."""
    key = "MODEL.CLUSTER_CONTRAST"
    if len(update) != 2 or ("hybrid" in update) != (set(update) == {"hybrid"}):
        raise UserError(
            f"{key}.UPDATE is {list(update)}; expected one word for each of the two stages, and "
            "hybrid for both or none of them."
        )
    if aggregation > 1:
        raise UserError(f"{key}.AGGREGATION is {aggregation}; expected a share from 0 to 1.")
    wanted = "AGGREGATION" if aggregation > 0 else "CROSS" if cross != "none" else ""
    if wanted and match == "none":
        raise UserError(
            f"{key}.{wanted} needs clusters that are matched: set {key}.MATCH count or graph."
        )
    if match != "none" and not wanted:
        raise UserError(
            f"{key}.MATCH is {match}, and nothing uses the matches: set {key}.AGGREGATION or "
            f"{key}.CROSS, or MATCH none."
        )
