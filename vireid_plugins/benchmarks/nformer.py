"""Compare NFormer's pass over a test set with the dense form in which it was published.

The dense form is written here from the public code's definition (``modeling/nformer.py`` of
haochenheheda/NFormer, commit c78cb84): matrices of all pairs for the cosines, and for affinities
and masks of each layer, whose entries outside the mask are dropped before the softmax. Weights,
landmarks and features are the same; the largest difference of the results is shown. Each case runs
in a process of its own; its peak is the largest resident set of that process, Python and its
libraries included.
"""

import statistics
import time
from typing import Any, Dict, List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..comparison.measure import peak_memory
from ..errors import UserError
from ..evaluation.neighbors.mutual import mutual_neighbors
from ..modeling.layers.neighbor_transformer import NeighborTransformer
from .measures import Measure
from .measuring import MEASURES, in_own_process, markdown_table
from .rates import PRODUCT

HEADS, LANDMARKS, TOPK = 2, 5, 20
_IMAGES = 17  # of an identity


def make_features(items: int, size: int) -> Tensor:
    """Return (items, size) of length 1: some images of each identity."""
    random = torch.Generator().manual_seed(0)
    centers = torch.randn(max(1, items // _IMAGES), size, generator=random)
    rows = centers[torch.randint(0, len(centers), (items,), generator=random)]
    return F.normalize(rows.add_(torch.randn(items, size, generator=random)), dim=1)


def make_model(size: int, layers: int) -> NeighborTransformer:
    """Return a transformer with the same random weights each time."""
    torch.manual_seed(0)
    model = NeighborTransformer(size, layers, HEADS, LANDMARKS, dropout=0.0).eval()
    for parameter in model.parameters():  # the initial ones would let a row ignore its neighbors
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.06)
    return model


@torch.no_grad()
def sparse(model: NeighborTransformer, features: Tensor) -> Tensor:
    """Return what this package computes, (N, D)."""
    neighbors, kept = (one[None, None] for one in mutual_neighbors(features, TOPK))
    random = torch.Generator().manual_seed(0)
    return model(features[None], lambda agents, counterparts: (neighbors, kept), random)[0]


@torch.no_grad()
def dense(model: NeighborTransformer, features: Tensor) -> Tensor:
    """Return the same in the published form, (N, D)."""
    random, x = torch.Generator().manual_seed(0), features
    places = (features @ features.T).topk(TOPK, dim=1).indices
    block: Any  # a NeighborBlock
    for block in model.blocks:
        landmarks = torch.randperm(len(x), generator=random)[:LANDMARKS]
        query, key, value = (
            part.unflatten(1, (HEADS, -1)).transpose(0, 1)  # (h, N, d)
            for part in block.attention.project_in(x).chunk(3, dim=1)
        )
        left, right = query @ key[:, landmarks].transpose(1, 2), query[:, landmarks] @ key.mT
        affinities = left @ right
        affinities = affinities / query.shape[-1] ** 0.5
        own = places.expand(HEADS, -1, -1)
        mask = torch.zeros_like(affinities).scatter_(2, own, torch.ones_like(own, dtype=x.dtype))
        mask = mask * mask.transpose(1, 2)
        weights = torch.sparse.softmax((affinities * mask).to_sparse(), 2)
        taken = torch.bmm(weights, value).transpose(0, 1).flatten(1)
        x = block.norm_1(x + block.attention.project_out(taken))
        hidden = F.gelu(block.expand(x), approximate="tanh")
        x = block.norm_2(x + block.contract(hidden))
    return x


_BASE = "dense, as published"
FORMS = {_BASE: dense, "sparse": sparse}


def measure(form: str, items: int, size: int, layers: int, threads: int) -> Dict[str, Any]:
    """Run one form once, in a new process.

    Returns:
        seconds, those of the processor, which other programs disturb less, the peak in MiB, and
        numbers that tell whether two results agree.
    """
    torch.set_num_threads(threads)
    model, features = make_model(size, layers), make_features(items, size)
    begin, processor = time.perf_counter(), time.process_time()
    result = FORMS[form](model, features)
    return {
        "seconds": time.perf_counter() - begin,
        "processor_seconds": time.process_time() - processor,
        "peak_MiB": peak_memory(torch.device("cpu")),
        "sample": result[:: max(1, items // 50)].flatten().tolist(),
    }


def multiply_adds(items: int, size: int, layers: int) -> float:
    """Return those that no form can leave out.

    Each pair is compared once to find neighbors; each layer projects query, key, value and their
    sum, and widens and narrows each row. The attention itself is not counted.
    """
    (block,) = make_model(size, 1).blocks
    projections = sum(one.numel() for one in block.parameters() if one.dim() > 1)
    return items**2 / 2 * size + layers * items * projections


def _difference(one: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other))


def run(
    *,
    items: Sequence[int] = (2000, 5000),
    sparse_items: Sequence[int] = (),
    size: int = 256,
    layers: int = 4,
    repeats: int = 1,
    threads: int = 2,
    processor_time: bool = False,
) -> Dict[str, Any]:
    """Measure both forms, which take turns; the result has a table.

    Args:
        items: numbers of images for both forms; the dense one takes about 10 GB for 20,000.
        sparse_items: numbers of images for the sparse form alone.
        size: features of an image.
        layers: transformer blocks.
        repeats: runs of each.
        threads: of each process.
        processor_time: state seconds of the processor as fractions of the limit.

    Raises:
        UserError: a number is not allowed.
    """
    if min([*items, *sparse_items], default=0) < TOPK:
        raise UserError(f"Numbers of images (--items, --sparse-items) must be at least {TOPK}.")
    if size < HEADS or size % HEADS:
        raise UserError(f"--size is {size}; expected a multiple of {HEADS}, the attention heads.")
    if layers < 1 or repeats < 1:
        raise UserError(f"--layers is {layers} and --repeats {repeats}; expected 1 or more.")
    head = ["images", "form", "seconds", "times faster", "processor seconds", "times less work"]
    head += ["peak MiB", "times less memory", "difference"]
    rows: List[List[str]] = []
    measures: Dict[str, Any] = {}
    clock = "processor_seconds" if processor_time else "seconds"
    for count, forms in [(n, list(FORMS)) for n in items] + [(n, ["sparse"]) for n in sparse_items]:
        found: Dict[str, List[Dict[str, Any]]] = {form: [] for form in forms}
        for _ in range(repeats):
            for form in forms:
                words: Dict[str, Any] = {"form": form, "items": count, "size": size}
                words.update(layers=layers, threads=threads)
                found[form].append(in_own_process(measure, **words))
        rows += _rows(count, found)
        work = {PRODUCT: multiply_adds(count, size, layers)}
        seconds = {form: [one[clock] for one in of] for form, of in found.items()}
        base = seconds.get(_BASE, [])
        measures[f"{count:,} images"] = {
            MEASURES: [Measure(form, of, work, base) for form, of in seconds.items()]
        }
    return {
        **measures,
        "rows": [dict(zip(head, row)) for row in rows],
        "table": f"{markdown_table([head, *rows])}\n{layers} layers, {size} features, k = {TOPK}, "
        f"{LANDMARKS} landmarks, {threads} threads, CPU, PyTorch {torch.__version__}; median of "
        f"{repeats} (smallest to largest); peak: largest resident set of the process.\n",
    }


def _rows(count: int, found: Dict[str, List[Dict[str, Any]]]) -> List[List[str]]:
    """Return a row for each form: images, form, measurements and their ratios, difference."""
    (first, *_), rows = found.values(), []
    base = _middle(first)
    for form, of in found.items():
        middle, times = _middle(of), [one["seconds"] for one in of]
        alone = len(found) == 1
        ratios = ["–" if alone else f"{one / own:.1f}" for one, own in zip(base, middle)]
        rows.append(
            [
                *(f"{count:,}", form),
                *(f"{middle[0]:.2f} ({min(times):.2f} to {max(times):.2f})", ratios[0]),
                *(f"{middle[1]:.2f}", ratios[1], f"{middle[2]:.0f}", ratios[2]),
                "–" if alone else f"{_difference(first[0]['sample'], of[0]['sample']):.1e}",
            ]
        )
    return rows


def _middle(of: List[Dict[str, Any]]) -> Tuple[float, ...]:
    names = ("seconds", "processor_seconds", "peak_MiB")
    return tuple(statistics.median(one[name] or 0.0 for one in of) for name in names)
