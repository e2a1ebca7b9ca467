"""A memory of cluster centers, which images are contrasted with and which follows them.

C clusters or prototypes, T tables, B rows of a batch, D features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError
from ...keys import Key, above, at_least, check_values, declare
from ..precision import at_least_float32, without_autocast

#: ``rows``: each row of a batch in turn; ``hard``: the row that is least like its center;
#: ``hybrid``: the mean of the rows in the first table, the hardest row in the second
UPDATES = ("rows", "hard", "hybrid")
ANY = -1  # a group that every row belongs to

declare(
    "MODEL.CLUSTER_CONTRAST",
    Key("TEMPERATURE", 0.05, above(0), "of the softmax over centers (tau)"),
    Key("MOMENTUM", 0.1, at_least(0, below=1), "share of the old center that is kept (mu)"),
    features=False,
)


class ClusterMemory(nn.Module):
    """Centers of clusters, of length 1, in buffers.

    A fresh memory has as many random centers as it has room for, as a classifier has weights.

    Args:
        most: the most centers that it has room for.
        dim: D.
        temperature: of the softmax over the centers (tau).
        momentum: mu: a center becomes mu * center + (1 - mu) * feature, divided by its length.
        tables: 2 for the update ``"hybrid"``.

    Attributes:
        rows: (T, most, D) float32.
        groups: (most,) int64, which group each center is in; -1: in all of them.
        count: () int64, C.
    """

    rows: Tensor
    groups: Tensor
    count: Tensor

    def __init__(
        self,
        most: int,
        dim: int,
        *,
        temperature: float = 0.05,
        momentum: float = 0.1,
        tables: int = 1,
    ) -> None:
        super().__init__()
        check_values("MODEL.CLUSTER_CONTRAST", TEMPERATURE=temperature, MOMENTUM=momentum)
        self.temperature, self.momentum = temperature, momentum
        first = torch.randn(most, dim, generator=torch.Generator().manual_seed(0))
        self.register_buffer("rows", F.normalize(first, dim=1).repeat(tables, 1, 1))
        self.register_buffer("groups", torch.full((most,), ANY))
        self.register_buffer("count", torch.tensor(most))

    @torch.no_grad()
    def begin(self, centers: Tensor, groups: Tensor) -> None:
        """Hold these centers (C, D) from now on, in all tables, and their groups (C,).

        Raises:
            UserError: there are more than the memory has room for.
        """
        count = len(centers)
        if count > len(self.groups):
            raise UserError(
                f"A memory has room for {len(self.groups)} centers, and there are {count}: raise "
                "MODEL.HEADS.NUM_CLASSES."
            )
        self.rows.zero_()
        self.rows[:, :count] = centers.to(self.rows)
        self.groups.fill_(ANY)
        self.groups[:count] = groups.to(self.groups)
        self.count.fill_(count)

    def scores(self, features: Tensor) -> Tensor:
        """Return cosines of features with all centers, divided by the temperature, (T, B, C)."""
        features = at_least_float32(features)
        with without_autocast(features):
            rows = self.rows[:, : int(self.count)].to(features)
            return F.normalize(features, dim=1) @ rows.transpose(1, 2) / self.temperature

    def contrast(self, features: Tensor, targets: Tensor, group: int, margin: float) -> Tensor:
        """Compute -mean log softmax(scores)_target over the centers of a group, a scalar.

        With two tables, as in the public code of BMIL: half of the sum of that of the second table,
        and of what that of the first exceeds ``margin`` by.

        Args:
            features: (B, D), at least one row.
            targets: (B,) the center of each row, in the group.
            group: which centers are compared.
            margin: r.
        """
        groups = self.groups[: int(self.count)]
        others = (groups != group) & (groups != ANY)
        scores = self.scores(features).masked_fill(others, -torch.inf)
        terms = [F.cross_entropy(table, targets) for table in scores]
        return terms[0] if len(terms) == 1 else 0.5 * (terms[1] + F.relu(terms[0] - margin))

    def contrast_groups(self, features: Tensor, targets: Tensor, nearest: int) -> Tensor:
        """Compute the loss in which all centers of a row's group are positives, a scalar.

        -mean_b 1/|P_b| sum_p log softmax(scores)_p over P_b, the centers of the group of row b's
        center, and the other centers that are nearest to the row (Eq. of L_glb in BMIL;
        ``get_multi_pos_loss`` of its code). The mean over the tables.

        Args:
            features: (B, D), at least one row.
            targets: (B,) the center of each row.
            nearest: how many centers are compared, the positives included.
        """
        groups = self.groups[: int(self.count)]
        positive = groups[targets][:, None] == groups  # (B, C)
        terms = [_several_positives(table, positive, nearest) for table in self.scores(features)]
        return torch.stack(terms).mean()

    @torch.no_grad()
    def update(self, features: Tensor, targets: Tensor, kind: str) -> None:
        """Move the centers of a batch toward its features.

        Args:
            features: (B, D); the order of rows counts for ``"rows"``.
            targets: (B,) the center of each row.
            kind: one of ``UPDATES``.
        """
        features = F.normalize(features.to(self.rows), dim=1)
        if kind == "rows":
            turns = _turns(targets)
            sizes = turns.bincount().tolist()
            for own in turns.argsort(stable=True).split(sizes):
                self._move(0, targets[own], features[own])
            return
        present, places = targets.unique(return_inverse=True)
        hardest = self._hardest(features, targets, places, len(present))
        if kind == "hybrid":
            means = features.new_zeros(len(present), features.shape[1])
            means.index_add_(0, places, features)
            means /= places.bincount(minlength=len(present))[:, None]
            self._move(0, present, means)
        self._move(len(self.rows) - 1, present, features[hardest])

    def _move(self, table: int, targets: Tensor, features: Tensor) -> None:
        """Move distinct centers of a table toward one feature each."""
        old = self.rows[table, targets]
        moved = self.momentum * old + (1 - self.momentum) * features
        self.rows[table, targets] = F.normalize(moved, dim=1)

    def _hardest(self, features: Tensor, targets: Tensor, places: Tensor, count: int) -> Tensor:
        """Return for each center the first of its rows that is least like it in the first table."""
        cosines = (features * self.rows[0, targets]).sum(dim=1)
        least = cosines.new_full((count,), torch.inf)
        least.scatter_reduce_(0, places, cosines, "amin")
        rows = torch.arange(len(places), device=places.device)
        rows = torch.where(cosines == least[places], rows, len(places))
        return rows.new_full((count,), len(places)).scatter_reduce_(0, places, rows, "amin")

    def extra_repr(self) -> str:
        return f"{tuple(self.rows.shape)}, temperature={self.temperature}"


def _several_positives(scores: Tensor, positive: Tensor, nearest: int) -> Tensor:
    """Return the mean over rows of the loss of one table (B, C); see ``contrast_groups``."""
    ranked = scores.detach().masked_fill(positive, torch.inf)
    kept = ranked.topk(min(nearest, scores.shape[1]), dim=1).indices
    chosen, wanted = scores.gather(1, kept), positive.gather(1, kept).to(scores)
    each = (wanted * F.log_softmax(chosen, dim=1)).sum(dim=1) / wanted.sum(dim=1)
    return -each.mean()


def _turns(targets: Tensor) -> Tensor:
    """Return for each row how many rows before it have the same target, (B,)."""
    same = targets[:, None] == targets
    return same.tril(diagonal=-1).sum(dim=1)
