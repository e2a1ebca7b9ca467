"""Set random states from the seed, so that a resumed run continues as if never interrupted.

The trainer seeds once before anything is built and again before each epoch; items of a batch and
the evaluation have generators of their own (``data/dataset.py``, ``evaluation``). So only a
checkpoint from inside an epoch has to hold the states of the generators.
"""

import logging
import random
from typing import Any, Dict, Tuple

import numpy as np
import torch

from fastreid.utils import comm

from ..keys import Key, Rule, declare, is_number

logger = logging.getLogger(__name__)

_SEED = Rule("at most 2**63 - 1", lambda value: is_number(value) and value < 2**63)

declare("", Key("SEED", 0, _SEED, "decides all random choices; negative: drawn"))


def choose_seed(seed: int) -> int:
    """Return ``SEED``; if it is negative, draw one that all processes share, and log it."""
    if seed >= 0:
        return seed
    drawn = comm.all_gather(int(np.random.SeedSequence().generate_state(1)[0]))[0]
    logger.info("SEED is negative: drew %d. Set SEED %d to repeat this run.", drawn, drawn)
    return drawn


def with_seed(cfg: Any, seed: int) -> Any:
    """Return a copy of ``cfg`` with this ``SEED``."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SEED = seed
    return cfg


def seed_everything(*parts: int) -> None:
    """Seed Python's, NumPy's and PyTorch's global generators from all ``parts`` together."""
    python, numpy, torch_seed = _states(parts)
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(torch_seed)


def random_states() -> Dict[str, Any]:
    """Return the states of the global generators, as numbers and tensors for a checkpoint."""
    _, python, gauss = random.getstate()
    legacy: Any = np.random.get_state()
    _, numpy, place, has_gauss, numpy_gauss = legacy
    states = {
        "python": [torch.tensor(python), gauss],
        "numpy": [torch.from_numpy(numpy.astype(np.int64)), place, has_gauss, numpy_gauss],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: Dict[str, Any]) -> None:
    """Set the global generators to what :func:`random_states` returned, maybe elsewhere."""
    python, gauss = states["python"]
    random.setstate((3, tuple(python.tolist()), gauss))
    numpy, place, has_gauss, numpy_gauss = states["numpy"]
    np.random.set_state(("MT19937", numpy.numpy().astype(np.uint32), place, has_gauss, numpy_gauss))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _states(parts: Tuple[int, ...]) -> Tuple[int, int, int]:
    python, numpy, torch_seed = np.random.SeedSequence(list(parts)).generate_state(3)
    return int(python), int(numpy), int(torch_seed)
