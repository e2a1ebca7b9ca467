"""Build the sampler that a config names."""

from typing import Any, Sequence

from vireid_plugins.registry import SAMPLER_REGISTRY, lookup

from fastreid.config import CfgNode

from . import host_samplers  # noqa: F401  registers FastReID's samplers by name
from . import modality_sampler as _modality_sampler  # noqa: F401  registers this package's
from . import pairs_sampler as _pairs_sampler  # noqa: F401  likewise
from . import sampler as _sampler  # noqa: F401


def build_sampler(cfg: CfgNode, items: Sequence[Sequence], **ranks: int) -> Any:
    """Return the sampler that ``DATALOADER.SAMPLER_TRAIN`` names.

    Args:
        ranks: ``seed``, ``rank`` and ``world_size``.

    Raises:
        UnknownNameError: there is no such sampler; the message has the nearest names.
        UserError: the items or the batch size do not suit the sampler.
    """
    name = cfg.DATALOADER.SAMPLER_TRAIN
    kind = lookup(SAMPLER_REGISTRY, name, "DATALOADER.SAMPLER_TRAIN")
    return kind.from_config(cfg, items, **ranks)
