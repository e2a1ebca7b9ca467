"""Apply the config keys for larger batches and less memory to a model."""

import logging
from typing import Any, List

from torch import nn

from fastreid.utils import comm

from ..errors import UserError
from ..keys import SWITCH, Key, at_least, declare
from ..modeling.backbones.dual_stream import USE_STAGES
from ..modeling.checkpointing import checkpoint_parts

logger = logging.getLogger(__name__)

declare(
    "SOLVER",
    Key("ACCUMULATION", 1, at_least(1), "batches whose gradients are averaged for an update"),
)
declare(
    "MODEL.LOSSES",
    Key("GATHER_FEATURES", False, SWITCH, "losses see the rows of all processes"),
)
declare(
    "MODEL.BACKBONE",
    Key("CHECKPOINT_ACTIVATIONS", False, SWITCH, "save memory for a third more time; same numbers"),
    features=False,
)


def apply_scaling_keys(cfg: Any, model: nn.Module) -> None:
    """Apply ``MODEL.LOSSES.GATHER_FEATURES`` and ``MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS``.

    Raises:
        UserError: the model cannot do what a key asks for.
    """
    gather = cfg.MODEL.LOSSES.GATHER_FEATURES
    if hasattr(model, "gather_features"):
        model.gather_features = gather
    elif gather:
        raise UserError(
            "MODEL.LOSSES.GATHER_FEATURES True needs a meta-architecture of vireid_plugins, which "
            f"passes its outputs to its losses by name; {type(model).__name__} does not. Set it "
            "False."
        )
    if cfg.MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS:
        parts: List[Any] = list(getattr(model, "students", [model]))
        own = [getattr(part, "backbone", None) for part in parts]
        if not all(hasattr(backbone, "checkpoint_activations") for backbone in own):
            raise UserError(
                "MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS True needs a network that is cut into "
                f"stages, which {cfg.MODEL.BACKBONE.NAME} is not. Set it False, or {USE_STAGES}."
            )
        for part in parts:
            checkpoint_parts(part)


def read_accumulation(cfg: Any, num_batches: int) -> int:
    """Return ``SOLVER.ACCUMULATION``, checked for an epoch of ``num_batches``.

    Raises:
        UserError: it is below 1, or above the number of batches.
    """
    accumulation, images = cfg.SOLVER.ACCUMULATION, cfg.SOLVER.IMS_PER_BATCH
    if not 1 <= accumulation <= max(num_batches, 1):
        raise UserError(
            f"SOLVER.ACCUMULATION is {accumulation}; expected 1 (an update for each batch) to "
            f"{num_batches}, the batches of {images} images of an epoch."
        )
    if accumulation > 1 and comm.is_main_process():
        logger.info(
            "SOLVER.ACCUMULATION: an update, which is an iteration, takes %d batches of %d images;"
            " %d updates an epoch, the last of %d batches.",
            *(accumulation, images, -(-num_batches // accumulation)),
            (num_batches - 1) % accumulation + 1,
        )
    return accumulation
