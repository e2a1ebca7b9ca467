"""Losses of Hi-CMD on images that are made again and on codes that are read again.

S. Choi et al., CVPR 2020; bismex/HiCMD, ``trainer.py``, ``gen_update``. B images, D the length of a
code.
"""

from torch import Tensor

from ..precision import at_least_float32


def distance(made: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean of |made - wanted| over all numbers, a scalar (``recon_criterion``).

    It is L1 of images, (B, 3, H, W), and of codes, (B, D); both sides get a gradient.
    """
    return (at_least_float32(made) - at_least_float32(wanted)).abs().mean()


def normal_code(code: Tensor) -> Tensor:
    """Return the mean of squares of a code (B, D), a scalar (``compute_kl``).

    It is twice the Kullback-Leibler divergence per number of N(code, 1) from N(0, 1): the code has
    no variance of its own.
    """
    return at_least_float32(code).square().mean()
