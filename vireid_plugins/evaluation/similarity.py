"""Scores between queries and a gallery: the greater a score, the nearer the images.

Shapes: Q queries, G gallery rows, D features. Two promises hold on any machine: identical gallery
rows get identical scores (a matrix product alone does not promise this, since blocks at the edge
of a matrix may be summed in another order), and features that are not finite are refused, with
the number of the row.
"""

from typing import Optional, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .arguments import check_magnitudes, on_device, real_tensor, word

METRICS = ("cosine", "euclidean")
Array = Union[np.ndarray, Tensor]
_FEW_COLUMNS = 64  # in so many columns, two images of a test set hardly ever agree
_BLOCK_ELEMENTS = 1 << 18  # small enough to stay in a CPU's cache


def as_features(features: Array, name: str, device: torch.device) -> Tensor:
    """Return features (N, D) on ``device`` as float32, or as float64 if they are float64.

    Half precision is raised to float32, integers to float64.

    Args:
        features: (N, D), an array, a tensor or a list of lists; N may be 0, D may not.
        name: the name of the argument, for messages.

    Raises:
        UserError: they are not two-dimensional real numbers, a row holds NaN or infinity, or
            float64 values are too large or too small to be squared.
    """
    tensor = real_tensor(features, name)
    if tensor.shape[1] == 0:
        raise UserError(
            f"{name} {tuple(tensor.shape)} has no columns; each row must have features."
        )
    tensor = on_device(tensor, device)
    if not all_finite(tensor):
        row = int((~torch.isfinite(tensor)).any(1).nonzero()[0])
        raise UserError(
            f"{name} row {row} holds NaN or infinity; ranks would mean nothing. "
            "Look for a diverged model or a broken image."
        )
    check_magnitudes(tensor, name)
    return tensor


def features_pair(query: Array, gallery: Array, device: torch.device) -> Tuple[Tensor, Tensor]:
    """Return ``query_features`` (Q, D) and ``gallery_features`` (G, D) as :func:`as_features`.

    Raises:
        UserError: as :func:`as_features`; or D differs.
    """
    asked = as_features(query, "query_features", device)
    found = as_features(gallery, "gallery_features", device)
    if asked.shape[1] != found.shape[1]:
        raise UserError(
            f"query_features {tuple(asked.shape)} and gallery_features {tuple(found.shape)} "
            "differ in their second size (D)."
        )
    return asked, found


def all_finite(values: Tensor) -> bool:
    """Return whether ``values`` holds neither NaN nor infinity, at the cost of one sum.

    NaN and infinity survive a sum. A sum that is not finite may also be an overflow, so in that
    case every value is examined.
    """
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def check_metric(metric: str) -> None:
    """Raise ``UserError`` unless ``metric`` is one of ``METRICS``."""
    word(metric, "metric", METRICS)


def normalize(features: Tensor) -> Tensor:
    """Return ``features`` (N, D) with every row at length 1; a zero row stays zero.

    Lengths are computed in float64, so that neither huge nor tiny features lose their direction.
    """
    norms = features.new_empty((len(features), 1))
    step = _rows_per_block(features)
    for part, block in zip(norms.split(step), features.split(step)):
        part.copy_(torch.linalg.vector_norm(block.double(), dim=1, keepdim=True))
    return features / norms.masked_fill_(norms == 0, 1.0)


def _rows_per_block(features: Tensor) -> int:
    return max(1, _BLOCK_ELEMENTS // max(1, features.shape[1]))


def first_equal_rows(features: Tensor) -> Tensor:
    """Return for each row (N, D) the number of the first row that equals it: (N,) int64.

    Rows are compared by an integer hash of their bits; rows of the same hash are then compared
    value by value. If rows differ in a few columns already, only these are hashed.
    """
    rows = torch.arange(len(features), device=features.device)
    few = features[:, :: -(-features.shape[1] // _FEW_COLUMNS)].contiguous()
    if few.shape[1] < features.shape[1] and len(_hashes(few).unique()) == len(features):
        return rows
    values, inverse = torch.unique(_hashes(features), return_inverse=True)
    if len(values) == len(features):
        return rows
    order = torch.argsort(inverse, stable=True)
    starts = torch.searchsorted(inverse[order], torch.arange(len(values), device=rows.device))
    first = order[starts][inverse]
    repeated = (first != rows).nonzero(as_tuple=True)[0]
    for part in repeated.split(_rows_per_block(features)):
        same = (features[part] == features[first[part]]).all(1)
        first[part[~same]] = part[~same]
    return first


def _hashes(features: Tensor) -> Tensor:
    """Return an integer hash (N,) of the bits of each row; equal rows have equal hashes."""
    bits = torch.int64 if features.dtype == torch.float64 else torch.int32
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (features.shape[1],), generator=generator)
    weights = (weights * 2 + 1).to(features.device)  # odd: every bit of a feature counts
    hashes = torch.empty(len(features), dtype=torch.int64, device=features.device)
    step = _rows_per_block(features)
    for begin in range(0, len(features), step):
        block = features[begin : begin + step] + 0.0  # minus zero becomes zero
        hashes[begin : begin + step] = (block.view(bits).long() * weights).sum(1)
    return hashes


def products(a: Tensor, b: Tensor, out: Optional[Tensor] = None) -> Tensor:
    """Return ``a @ b.T`` (R, N) of rows (R, D) and (N, D), written into ``out`` if it is given.

    On a CPU it is computed by NumPy, which multiplies few rows with many up to twice as fast as
    PyTorch does.
    """
    if a.device.type != "cpu":
        return torch.mm(a, b.T, out=out)
    out = a.new_empty((len(a), len(b))) if out is None else out
    np.matmul(a.numpy(), b.numpy().T, out=out.numpy())
    return out


class Scorer:
    """Scores queries against a fixed gallery.

    Cosine scores are computed in the features' own precision; Euclidean ones are
    q·g − ½‖g‖² in float64, which orders a query's gallery as the distance does, without the
    cancellation of squared lengths. On float32 features cosine ranks can differ from float64's
    where two scores are nearer than about 1e-6.

    Args:
        gallery: (G, D) finite features from ``as_features``.
        metric: ``"cosine"`` or ``"euclidean"``.
    """

    def __init__(self, gallery: Tensor, metric: str = "cosine") -> None:
        check_metric(metric)
        self.metric = metric
        gallery = normalize(gallery) if metric == "cosine" else gallery
        first = first_equal_rows(gallery)
        kept, self.columns = torch.unique(first, return_inverse=True)
        if len(kept) < len(gallery):
            gallery = gallery[kept]
        self._gallery = gallery if metric == "cosine" else gallery.double()
        self._half_square: Optional[Tensor] = None
        self._memory: Optional[Tensor] = None
        if metric == "euclidean":
            self._half_square = 0.5 * self._gallery.square().sum(1)

    @property
    def num_columns(self) -> int:
        """The number U of distinct gallery rows, which is the width of the scores."""
        return len(self._gallery)

    @property
    def itemsize(self) -> int:
        """The bytes of one score."""
        return self._gallery.element_size()

    def scores(self, query: Tensor) -> Tensor:
        """Return scores (Q, U) of queries (Q, D) against the *distinct* gallery rows.

        The score of gallery row j stands in column ``self.columns[j]``. The next call writes into
        the same memory: fresh memory for each block costs as much as the product.
        """
        if self._half_square is None:
            query = normalize(query).to(self._gallery.dtype)
        else:
            query = query.double()
        if self._memory is None or len(self._memory) < len(query):
            self._memory = query.new_empty((len(query), len(self._gallery)))
        scores = products(query, self._gallery, out=self._memory[: len(query)])
        return scores if self._half_square is None else scores.sub_(self._half_square)
