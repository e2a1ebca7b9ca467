"""Build the optimizer and the learning-rate schedule from a config."""

from .build import build_optimizer
from .schedule import EpochSchedule, build_lr_scheduler

__all__ = ["EpochSchedule", "build_lr_scheduler", "build_optimizer"]
