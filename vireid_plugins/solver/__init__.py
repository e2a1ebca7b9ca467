"""Build the optimizer and the learning-rate schedule from a config."""

from types import SimpleNamespace
from typing import Any

import torch

from ..errors import UserError
from .amp import AUTO, amp_name, check_amp
from .build import build_optimizer, optimizer_options
from .schedule import EpochSchedule, build_lr_scheduler
from .several import Optimizers, is_optimizer, optimizers_of

__all__ = [
    "EpochSchedule",
    "Optimizers",
    "build_lr_scheduler",
    "build_optimizer",
    "check_config",
    "is_optimizer",
    "optimizers_of",
]


def check_config(cfg: Any) -> None:
    """Raise ``UserError`` if no optimizer or no schedule can be built from ``cfg.SOLVER``."""
    optimizer_options(cfg)
    # A schedule reads nothing but the groups.
    blank: Any = SimpleNamespace(param_groups=[{"lr": cfg.SOLVER.BASE_LR}])
    build_lr_scheduler(cfg, blank, iters_per_epoch=1)
    solver = cfg.SOLVER
    if solver.SCHED != "MultiStepLR" and solver.ETA_MIN_LR > solver.BASE_LR:
        raise UserError(
            f"SOLVER.ETA_MIN_LR is {solver.ETA_MIN_LR:g}, above SOLVER.BASE_LR "
            f"{solver.BASE_LR:g}: the learning rate would rise."
        )
    name = amp_name(cfg)
    check_amp(None if name == AUTO else name, torch.device(cfg.MODEL.DEVICE))
