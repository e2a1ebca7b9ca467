"""The hooks of a training, in their order."""

from typing import Any, List

from fastreid.engine import hooks as host_hooks
from fastreid.utils import comm

from ..keys import Key, at_least, declare
from . import hooks
from .parallel import unwrap
from .pictures import MethodPictures

declare(
    "SOLVER",
    Key("LOG_PERIOD", 50, at_least(1), "iterations between two progress lines"),
)


def training_hooks(trainer: Any) -> List[host_hooks.HookBase]:
    """Return the hooks in order: time, phase, rate, freezing, evaluation, checkpoint, log.

    Args:
        trainer: a ``VIReIDTrainer``, which is told what ends an epoch, and asks for the last
            iteration whose measurements are written.
    """
    cfg = trainer.cfg
    result = [
        host_hooks.IterationTimer(),
        hooks.ModelHook(),
        host_hooks.LRScheduler(trainer.optimizer, trainer.scheduler),
    ]
    if cfg.MODEL.FREEZE_LAYERS and cfg.SOLVER.FREEZE_ITERS > 0:
        model = unwrap(trainer.model)
        result.append(hooks.FreezeLayers(model, cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS))
    events = hooks.WriteEvents(trainer.build_writers, cfg.SOLVER.LOG_PERIOD)
    trainer.last_write = events.last_write
    end = hooks.EvaluateAndSave(
        trainer._evaluate,
        trainer.save,
        events.write,
        trainer._renew_statistics,
        cfg.TEST.EVAL_PERIOD,
        cfg.SOLVER.CHECKPOINT_PERIOD,
    )
    trainer.finish_epoch = end.after_epoch
    result.append(end)
    if comm.is_main_process():
        if cfg.DATASETS.TESTS:
            result.append(MethodPictures(cfg, cfg.SOLVER.PICTURE_PERIOD))
        result.append(events)
    return result
