"""Least-squares adversarial losses and a penalty on the discriminator's gradient.

*LSGAN*: X. Mao et al., "Least Squares Generative Adversarial Networks", ICCV 2017. *Penalty*: L.
Mescheder et al., "Which Training Methods for GANs do actually Converge?", ICML 2018, R1. As in
bismex/HiCMD, ``networks.py``, ``Discriminator``. A discriminator returns several maps of scores,
(B, 1, H', W') each, for images in several sizes; their losses are summed.
"""

from typing import Any, List, Sequence, Tuple

import torch
from torch import Tensor

from ..precision import at_least_float32, without_autocast


def discriminator_loss(made: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Return the sum over maps of mean(made^2) + mean((real - 1)^2), a scalar.

    Args:
        made: scores of images that a generator made.
        real: scores of real images.
    """
    terms = [m.square().mean() + (r - 1).square().mean() for m, r in zip(_sure(made), _sure(real))]
    return torch.stack(terms).sum()


def generator_loss(made: Sequence[Tensor]) -> Tensor:
    """Return the sum over maps of mean((made - 1)^2), a scalar."""
    return torch.stack([(scores - 1).square().mean() for scores in _sure(made)]).sum()


def scores_and_penalty(discriminator: Any, images: Tensor) -> Tuple[List[Tensor], Tensor]:
    """Return the scores of real images, and the penalty on their gradients, a scalar.

    The penalty is the sum over maps of mean_b sum_pixels (d sum(scores) / d image_b)^2. Both are
    computed in float32: squares of half-precision gradients vanish. It is also defined where no
    gradient is wanted, as under ``torch.no_grad``.

    Args:
        discriminator: returns a list of score maps.
        images: (B, 3, H, W).
    """
    keeps = torch.is_grad_enabled()
    with torch.enable_grad(), without_autocast(images):
        images = at_least_float32(images.detach()).requires_grad_()
        scores = discriminator(images)
        squares = []
        for one in scores:
            (slope,) = torch.autograd.grad(one.sum(), images, create_graph=keeps, retain_graph=True)
            squares.append(slope.square().flatten(1).sum(dim=1).mean())
        penalty = torch.stack(squares).sum()
    if not keeps:
        return [one.detach() for one in scores], penalty.detach()
    return scores, penalty


def _sure(scores: Sequence[Tensor]) -> List[Tensor]:
    return [at_least_float32(one) for one in scores]
