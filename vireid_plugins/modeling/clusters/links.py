"""Which centers belong together: partners in the other modality, and the prototypes of a cluster.

B rows of a batch, N images, C clusters, D features.
"""

from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...keys import SWITCH, Key, at_least, check_values, declare, one_of
from ...modality import Modality
from .found import FoundClusters, centers_of, modality_of_clusters
from .matching import count_partners, graph_partners
from .prototypes import aggregated, split_by_modality

NONE = "none"
MATCHES = (NONE, "count", "graph")

declare(
    "MODEL.CLUSTER_CONTRAST",
    Key("MATCH", NONE, one_of(*MATCHES), "how clusters of both modalities are matched"),
    Key("VOTE_COSINE", 0.5, at_least(-1), "count: the least cosine of two images that vote"),
    Key("AGGREGATION", 0.0, at_least(0), "share of the partner in a visible center (ADCA: 0.9)"),
    Key("SPLIT", True, SWITCH, "a center for each modality of such a cluster; False: one center"),
    features=False,
)


class Links(nn.Module):
    """Match clusters, and number the prototypes of clusters of all images, in buffers.

    Until clusters are found, a class is its own partner, as it is in a fresh memory.

    Args:
        most: how many clusters there can be.
        match: one of ``MATCHES``.
        vote_cosine: see ``count_partners``.
        aggregation: share of the partner in a visible center, 0 to 1.
        split: whether a cluster of all images has a prototype for each modality.

    Attributes:
        partners: (most,) int64, see ``FoundClusters``.
        prototypes: (2, most) int64: of a cluster of all images, the prototype of its visible and of
            its infrared images.

    Raises:
        UserError: a value is not allowed.
    """

    partners: Tensor
    prototypes: Tensor

    def __init__(
        self,
        most: int,
        match: str = NONE,
        vote_cosine: float = 0.5,
        aggregation: float = 0.0,
        split: bool = True,
    ) -> None:
        super().__init__()
        check_values("MODEL.CLUSTER_CONTRAST", MATCH=match, VOTE_COSINE=vote_cosine, SPLIT=split)
        if not 0 <= aggregation <= 1:
            raise UserError(
                f"MODEL.CLUSTER_CONTRAST.AGGREGATION is {aggregation}; expected a share from 0 to "
                "1."
            )
        self.match, self.vote_cosine = match, vote_cosine
        self.aggregation, self.split = aggregation, split
        self.register_buffer("partners", torch.arange(most))
        self.register_buffer("prototypes", torch.arange(most).repeat(2, 1))

    def matched(self, found: FoundClusters) -> Optional[Tensor]:
        """Return the partner of each cluster (C,), -1: none; None: nothing is matched."""
        if self.match == NONE:
            return None
        labels, modalities = found.labels[0], found.modalities
        own = modality_of_clusters(labels, modalities)
        if self.match == "graph":
            return graph_partners(found.centers(), own)
        return count_partners(found.features, labels, modalities, own, self.vote_cosine)

    @torch.no_grad()
    def take(self, found: FoundClusters) -> Tuple[Tensor, Tensor]:
        """Take up the partners, and return centers (C, D) for a memory, and their modalities (C,).

        Raises:
            UserError: a cluster has images of both modalities.
        """
        centers, own = found.centers(), modality_of_clusters(found.labels[0], found.modalities)
        self.partners.fill_(-1)
        if found.partners is not None:
            partners = found.partners
            self.partners[: len(partners)] = partners.to(self.partners)
            if self.aggregation > 0:
                centers = aggregated(centers, own, partners, self.aggregation)
        return centers, own

    @torch.no_grad()
    def take_prototypes(self, found: FoundClusters) -> Tuple[Tensor, Tensor]:
        """Number the prototypes of the clusters of all images, of which there is at least one.

        Returns:
            Their centers (P, D), and the cluster (P,) of each.
        """
        labels, modalities = found.labels[1], found.modalities
        numbers, clusters = split_by_modality(labels, modalities, self.split)
        labels = torch.where(labels >= 0, numbers[modalities, labels], labels)
        self.prototypes[:, : numbers.shape[1]] = numbers.to(self.prototypes)
        return centers_of(found.features, labels), clusters

    def crossing(
        self, targets: Tensor, modalities: Tensor, skipped: Sequence[Modality] = ()
    ) -> List[Tuple[Tensor, Tensor, int]]:
        """Return rows, their centers in the other modality, and that modality, for each way.

        Args:
            targets: (B,) the cluster of each row.
            modalities: (B,).
            skipped: modalities whose rows see no center of the other one.
        """
        partners = self.partners[targets]
        found = []
        for modality in (one for one in Modality if one not in skipped):
            rows = torch.nonzero((modalities == modality) & (partners >= 0))[:, 0]
            found.append((rows, partners[rows], 1 - int(modality)))
        return found
