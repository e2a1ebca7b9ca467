"""Measure the gradient of each loss term, at one batch of a training.

T terms of the objective, each already multiplied by its weight.
"""

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

#: parts of a model in which gradients are measured; the first three are the backbone
BACKBONE = ("shared", "visible", "infrared")
ELSEWHERE = "elsewhere"
PARTS = (*BACKBONE, ELSEWHERE)


@dataclass(frozen=True)
class Term:
    """One loss term at one moment."""

    value: float  # with its weight
    #: length of its gradient in each of ``PARTS``; None: it does not reach any weight there
    norms: Dict[str, Optional[float]]
    trains: Tuple[str, ...]  # the model's parts outside the backbone that it trains

    @property
    def gradient(self) -> Optional[float]:
        """Return the length of its gradient on the backbone; None: it does not reach it."""
        reached = [norm for name in BACKBONE if (norm := self.norms[name]) is not None]
        return sum(norm**2 for norm in reached) ** 0.5 if reached else None


@dataclass(frozen=True)
class Moment:
    """All loss terms of one batch."""

    update: int  # number of the update, from 1
    epoch: int  # from 0
    phase: str
    terms: Dict[str, Term]
    #: (T, T) cosines of the gradients on the backbone; None where one of both is zero
    cosines: List[List[Optional[float]]]
    objective: float  # length of the gradient of the sum of all terms, on the backbone

    @property
    def gradients(self) -> Dict[str, float]:
        """Return the length of the gradient of each term that reaches the backbone."""
        found = {name: term.gradient for name, term in self.terms.items()}
        return {name: length for name, length in found.items() if length is not None}

    def share(self, name: str) -> Optional[float]:
        """Return the gradient's length divided by the sum of all lengths; None: all are zero."""
        lengths = self.gradients
        total = sum(lengths.values())
        return lengths[name] / total if name in lengths and total > 0 else None

    def ratio(self, name: str) -> Optional[float]:
        """Return the gradient's length divided by the median of the others that are not zero.

        The result is None if there are no others, or if the term does not reach the backbone.
        """
        lengths = self.gradients
        others = sorted(value for other, value in lengths.items() if other != name and value > 0)
        if name not in lengths or not others:
            return None
        middle = len(others) // 2
        median = (others[middle] + others[-1 - middle]) / 2
        return lengths[name] / median

    def cosine(self, name: str, other: str) -> Optional[float]:
        """Return the cosine of two terms' gradients; None if one is absent or zero."""
        names = list(self.terms)
        if name not in names or other not in names:
            return None
        return self.cosines[names.index(name)][names.index(other)]


def weights_of(model: nn.Module) -> Dict[str, Dict[str, nn.Parameter]]:
    """Return the weights that train, by the part of the model and their name.

    A backbone with streams has the parts ``shared``, ``visible`` and ``infrared``. Any other
    backbone, or a model without weights of its own in one (``NFormer``), is ``shared``.
    """
    found: Dict[str, Dict[str, nn.Parameter]] = {part: {} for part in PARTS}
    backbones = [f"{part}." for part in getattr(model, "backbones", ("backbone",))]
    inside = {name: _below(name, backbones) for name, _ in model.named_parameters()}
    has_backbone = any(name.startswith("backbone.") for name in inside.values())
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            found[_part_of(inside[name], has_backbone)][name] = weight
    return found


def trains_backbone(weights: Mapping[str, Mapping[str, nn.Parameter]]) -> bool:
    """Return whether a weight of the backbone can get a gradient now.

    Args:
        weights: what ``weights_of`` returned.
    """
    return any(one.requires_grad for part in BACKBONE for one in weights[part].values())


def _below(name: str, backbones: Sequence[str]) -> str:
    """Return the name of a weight as if its backbone were the model's only one."""
    for part in backbones:
        if name.startswith(part):
            return f"backbone.{name[len(part) :]}"
    return name


def _part_of(name: str, has_backbone: bool) -> str:
    if not has_backbone:
        return BACKBONE[0]
    first, _, rest = name.partition(".")
    if first != "backbone":
        return ELSEWHERE
    stream = rest.partition(".")[0]
    return stream if stream in BACKBONE else BACKBONE[0]


def measure(
    terms: Mapping[str, Tensor], weights: Mapping[str, Mapping[str, nn.Parameter]]
) -> Tuple[Dict[str, Term], List[List[Optional[float]]], float]:
    """Compute the gradient of each term by one backward pass each, and compare them.

    The graph is kept, and no ``.grad`` is touched: the training goes on as if nobody had looked.

    Args:
        terms: scalars by name.
        weights: what ``weights_of`` returns.

    Returns:
        The terms, the (T, T) cosines between their gradients on the backbone, and the length of
        the gradient of their sum there.
    """
    names = {part: list(weights[part]) for part in PARTS}
    flat = [weight for part in PARTS for weight in weights[part].values()]
    split = sum(len(names[part]) for part in BACKBONE)
    found, on_backbone = {}, []
    for name, term in terms.items():
        gradients = _gradients(term, flat)
        on_backbone.append(gradients[:split])
        outside = [n for n, g in zip(names[ELSEWHERE], gradients[split:]) if g is not None]
        trains = tuple(dict.fromkeys(one.partition(".")[0] for one in outside))
        lengths, begin = {}, 0
        for part in PARTS:
            lengths[part] = _length(gradients[begin : begin + len(names[part])])
            begin += len(names[part])
        found[name] = Term(float(term.detach()), lengths, trains)
    products = _products(on_backbone)
    return found, _cosines(products), float(products.sum().clamp(min=0).sqrt())


def _gradients(term: Tensor, weights: Sequence[nn.Parameter]) -> List[Optional[Tensor]]:
    if not term.requires_grad:  # a constant
        return [None] * len(weights)
    able = [weight for weight in weights if weight.requires_grad]  # in a turn: some of them
    found = torch.autograd.grad(term, able, retain_graph=True, allow_unused=True)
    gradients = dict(zip(map(id, able), found))
    return [gradients.get(id(weight)) for weight in weights]


def _length(gradients: Sequence[Optional[Tensor]]) -> Optional[float]:
    squares = [gradient.double().square().sum() for gradient in gradients if gradient is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else None


def _products(gradients: Sequence[Sequence[Optional[Tensor]]]) -> Tensor:
    """Return the inner products (T, T) of the terms' gradients, in float64."""
    products = torch.zeros(len(gradients), len(gradients), dtype=torch.float64)
    for of_weight in zip(*gradients):
        known = [number for number, one in enumerate(of_weight) if one is not None]
        if known:
            rows: Any = [of_weight[number] for number in known]
            stacked = torch.stack([row.double().flatten() for row in rows])
            place = torch.tensor(known)
            products[place[:, None], place] += (stacked @ stacked.T).cpu()
    return products


def _cosines(products: Tensor) -> List[List[Optional[float]]]:
    lengths = products.diagonal().clamp(min=0).sqrt()
    lengths = torch.outer(lengths, lengths)
    cosines = (products / lengths).clamp(-1, 1)
    return [
        [cosine if length > 0 else None for cosine, length in zip(*lines)]
        for lines in zip(cosines.tolist(), lengths.tolist())
    ]
