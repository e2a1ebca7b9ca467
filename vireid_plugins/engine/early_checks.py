"""Find every mistake that can be seen in a config alone, before anything is logged, read or built.

``check_training`` needs no data and builds nothing. ``trial.py`` then builds the model once, before
any data are read. Mistakes that need the data are found while the loaders are built.
"""

import logging
import re
from typing import Any, List

from .. import data, evaluation, solver
from ..errors import UserError
from ..keys import check_ranges
from ..modeling.backbones.start import check_start, odd_start
from ..registry import LOSS_REGISTRY
from . import precise_bn, runtime
from .checks import check_losses, check_model_names
from .devices import check_devices

logger = logging.getLogger(__name__)

#: features of FastReID that this package does not have, and what to do instead
REFUSED = {
    "KD.EMA": "no method here reads it",
}


def check_training(cfg: Any, processes: int = 1) -> None:
    """Raise ``UserError`` if a training with ``cfg`` cannot start with any data.

    Args:
        cfg: the whole config.
        processes: the number of processes that share the batches.
    """
    check_ranges(cfg)
    check_devices(cfg)
    _check_refused(cfg)
    check_model_names(cfg)
    check_losses(cfg)
    data.check_config(cfg, processes)
    solver.check_config(cfg)
    runtime.check_config(cfg)
    _check_freezing(cfg)
    _check_evaluation(cfg)
    precise_bn.check_config(cfg)
    check_start(cfg)


def odd_values(cfg: Any) -> List[str]:
    """Return a sentence for each value that is allowed but probably not intended."""
    node, found = cfg.SOLVER, []
    if node.WARMUP_EPOCHS >= node.MAX_EPOCH:
        found.append(
            f"SOLVER.WARMUP_EPOCHS is {node.WARMUP_EPOCHS} of {node.MAX_EPOCH} epochs: the "
            f"learning rate never stays at SOLVER.BASE_LR {node.BASE_LR:g}."
        )
    if node.SCHED == "CosineAnnealingLR" and node.DELAY_EPOCHS >= node.MAX_EPOCH:
        found.append(
            f"SOLVER.DELAY_EPOCHS is {node.DELAY_EPOCHS} of {node.MAX_EPOCH} epochs: the learning "
            "rate never falls."
        )
    for name, part in cfg.INPUT.items():
        epochs = part.get("EPOCHS", ()) if isinstance(part, dict) and part.get("ENABLED") else ()
        if epochs and epochs[1] > node.MAX_EPOCH:
            found.append(
                f"INPUT.{name}.EPOCHS is {list(epochs)} and SOLVER.MAX_EPOCH is {node.MAX_EPOCH}: "
                "the last of these epochs never come."
            )
    if node.FREEZE_ITERS and not cfg.MODEL.FREEZE_LAYERS:
        found.append(
            f"SOLVER.FREEZE_ITERS is {node.FREEZE_ITERS} and MODEL.FREEZE_LAYERS names nothing: "
            "nothing is frozen."
        )
    if node.AMP.DTYPE != "float16" and not node.AMP.ENABLED:  # float16 is the default
        found.append(
            f"SOLVER.AMP.DTYPE is {node.AMP.DTYPE} and SOLVER.AMP.ENABLED is False: no mixed "
            "precision is used."
        )
    names = cfg.MODEL.LOSSES.NAME
    pulls = [getattr(LOSS_REGISTRY._obj_map.get(name), "only_pulls", False) for name in names]
    if names and all(pulls):
        found.append(
            f"MODEL.LOSSES.NAME: {' and '.join(names)} only pulls features together; nothing keeps "
            "identities apart."
        )
    return found + odd_start(cfg)


def _check_refused(cfg: Any) -> None:
    for node, why in REFUSED.items():
        part = cfg
        for name in node.split("."):
            part = part[name]
        if part.ENABLED:
            raise UserError(f"{node}.ENABLED is not supported here ({why}); set it False.")


def _check_freezing(cfg: Any) -> None:
    names, iterations = cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS
    if names and not iterations:
        raise UserError(
            f"MODEL.FREEZE_LAYERS names {list(names)} and SOLVER.FREEZE_ITERS is 0, so nothing "
            "would be frozen. Set SOLVER.FREEZE_ITERS to the number of iterations for which they "
            "are frozen, or MODEL.FREEZE_LAYERS to []. MODEL.BACKBONE.FROZEN_STAGES freezes "
            "stages for the whole training."
        )
    for name in names:
        try:
            re.compile(name)
        except re.error as error:
            raise UserError(
                f"MODEL.FREEZE_LAYERS names {name!r}, which is not a pattern: {error}. Write the "
                "beginning of a parameter's name, such as 'backbone'."
            ) from error


def _check_evaluation(cfg: Any) -> None:
    names = list(cfg.DATASETS.TESTS)
    if not names and cfg.TEST.EVAL_PERIOD > 0:
        raise UserError(
            f"DATASETS.TESTS is empty and TEST.EVAL_PERIOD is {cfg.TEST.EVAL_PERIOD}: there is "
            "nothing to evaluate. Name a test set, or set TEST.EVAL_PERIOD 0."
        )
    if len(set(names)) < len(names):
        raise UserError(f"DATASETS.TESTS must name each test set once; got {names}.")
    for name in names:
        evaluation.build_evaluator(cfg, name, dataset=None)
