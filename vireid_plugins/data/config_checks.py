"""Find the mistakes of ``DATASETS``, ``INPUT`` and ``DATALOADER`` that need no data to be seen."""

from typing import List

from vireid_plugins.errors import UserError
from vireid_plugins.registry import SAMPLER_REGISTRY, lookup

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY

from . import host_samplers  # noqa: F401  registers FastReID's samplers by name
from .thin import describe_thinning
from .transforms import build_transforms


def check_config(cfg: CfgNode, processes: int = 1) -> None:
    """Raise ``UserError`` if no training set can be loaded by ``cfg``.

    Args:
        cfg: the whole config.
        processes: the number of processes that share the batches.
    """
    for name in training_names(cfg):
        lookup(DATASET_REGISTRY, name, "DATASETS.NAMES")
    for is_train in (True, False):
        build_transforms(cfg, is_train)
    describe_thinning(cfg)
    name = cfg.DATALOADER.SAMPLER_TRAIN
    sampler = lookup(SAMPLER_REGISTRY, name, "DATALOADER.SAMPLER_TRAIN")
    if hasattr(sampler, "check_config"):  # a sampler of the user's own may have none
        sampler.check_config(cfg, processes)


def training_names(cfg: CfgNode) -> List[str]:
    """Return ``DATASETS.NAMES``; raise ``UserError`` if it is empty or names a dataset twice."""
    names = list(cfg.DATASETS.NAMES)
    if not names or len(set(names)) < len(names):
        raise UserError(f"DATASETS.NAMES must name datasets, each once; got {names}.")
    return names
