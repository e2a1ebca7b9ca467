"""Compute the statistics of batch norm again (``TEST.PRECISE_BN``).

This is done before each evaluation of a training and, if there is none, for the last weights.

During a training they are running averages over weights that change, and over everything that the
training shows to the network: in MRDA, masked images are half of it. FastReID's ``PreciseBN``
averages again over training steps. Here the network sees the training images as the evaluation
shows them to it, so MRDA's statistics are those of the original images (or of what
``MODEL.MRDA.TEST_VIEW`` tests).
"""

import itertools
import logging
from typing import Any, Iterable

from torch import nn

from fastreid.utils import comm
from fastreid.utils.precision_bn import get_bn_modules, update_bn_stats

from ..errors import UserError
from .parallel import unwrap
from .seeding import seed_everything

logger = logging.getLogger(__name__)

_HOST_DATASET = "Market1501"  # FastReID's default of DATASET, which nobody has chosen


def check_config(cfg: Any) -> None:
    """Raise ``UserError`` if ``TEST.PRECISE_BN`` asks for what is never done."""
    node = cfg.TEST.PRECISE_BN
    if not node.ENABLED:
        return
    if node.DATASET != _HOST_DATASET and [node.DATASET] != list(cfg.DATASETS.NAMES):
        raise UserError(
            f"TEST.PRECISE_BN.DATASET is {node.DATASET!r}: the statistics are always those of the "
            f"training images, DATASETS.NAMES {list(cfg.DATASETS.NAMES)}. Leave the key out."
        )


def recompute_statistics(trainer: Any) -> None:
    """Compute the statistics of a trainer's model from its training images, if the config says so.

    The batches are the first ones of the epoch that was just trained, so a resumed run gets the
    same statistics. Several processes compute them each from their own images; the evaluation
    and the checkpoints then take those of process 0.
    """
    node = trainer.cfg.TEST.PRECISE_BN
    if not node.ENABLED:
        return
    if getattr(trainer.data_loader, "skips_epoch", False):
        logger.info("TEST.PRECISE_BN: the epoch was skipped, and the statistics stay as they are.")
        return
    epoch = max(0, getattr(trainer, "epoch", trainer.start_epoch - 1))
    seed_everything(trainer.seed, epoch, comm.get_rank())
    trainer._trainer.start_epoch(epoch)
    number = min(node.NUM_ITER, len(trainer.data_loader))
    average_over(unwrap(trainer.model), trainer._trainer._data_loader_iter, number)


def average_over(model: nn.Module, batches: Iterable[Any], number: int) -> None:
    """Set the statistics of each batch norm to the mean of those of ``number`` batches.

    The forward pass is that of an evaluation. A batch norm that does not train, such as one of a
    frozen stage, keeps its statistics.

    Args:
        model: in training mode; each of its modules keeps its mode.
        batches: at least ``number`` batches of training images.
        number: batches to average over.
    """
    modes = {module: module.training for module in model.modules()}
    parts = get_bn_modules(model)
    if not parts:
        logger.warning("TEST.PRECISE_BN: the model has no batch norm that trains.")
        return
    logger.info("Statistics of %d batch norms from %d batches.", len(parts), number)
    try:
        model.eval()
        for part in parts:
            part.train()
        update_bn_stats(model, itertools.islice(batches, number), number)
    finally:
        for module, mode in modes.items():
            module.training = mode
