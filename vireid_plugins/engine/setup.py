"""Build the config of a run from files and overrides, and prepare its folder and its log."""

import logging
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import torch

from fastreid.config import CfgNode, get_cfg
from fastreid.utils import comm

from ..config import add_vireid_config, check_ranges
from ..errors import UserError
from ..files import find_config
from ..keys import value_of
from ..merge import flat_keys, merge_config, merge_text
from ..runs.environment import environment
from ..runs.log import open_log
from ..runs.names import CONFIG
from .allocator import forget_what_was_said, keep_freed_memory
from .checks import make_output_folder
from .devices import check_devices
from .encoder import take_encoder
from .run_folder import (
    check_resumable,
    keep_training_apart,
    log_move,
    move_earlier_run,
    write_config,
)
from .same_run import Difference

logger = logging.getLogger(__name__)


def build_config(config_file: str, opts: Sequence[str], base_file: str = "") -> CfgNode:
    """Return FastReID's defaults with this package's keys, a file and ``KEY VALUE`` pairs.

    Args:
        config_file: a path, or a file below ``configs/``; empty: none.
        opts: keys and values in turn.
        base_file: a file that replaces the one that ``config_file`` inherits from; empty: none.

    Raises:
        UserError: a key, a value, a device or a file is wrong.
    """
    if len(opts) % 2 and (os.path.sep in opts[0] or opts[0].endswith(".pth")):
        raise UserError(
            f"{opts[0]!r} stands where a KEY was expected. --resume and --eval-only take no path: "
            "--resume continues the run in OUTPUT_DIR; weights are given by MODEL.WEIGHTS PATH."
        )
    cfg = get_cfg()
    add_vireid_config(cfg)
    merge_config(cfg, find_config(config_file), opts, find_config(base_file))
    check_ranges(cfg)
    take_encoder(cfg, carried_config, opts[0::2])
    cfg.OUTPUT_DIR = os.path.expanduser(cfg.OUTPUT_DIR)
    check_devices(cfg)
    return cfg


def carried_config(facts: Dict[str, Any], path: str) -> CfgNode:
    """Return the config of a checkpoint, without a check of its device."""
    return build_carried_config(facts, ("MODEL.DEVICE", "cpu"), f"the config in {path}")


def build_carried_config(
    facts: Dict[str, Any], opts: Sequence[str] = (), source: str = "the config in the checkpoint"
) -> CfgNode:
    """Return the config that a checkpoint carries, with ``KEY VALUE`` pairs.

    Args:
        facts: what the checkpoint says about itself, see ``read_facts``.
        opts: keys and values in turn.
        source: what messages call the config.

    Raises:
        UserError: a key, a value or a device is wrong.
    """
    cfg = get_cfg()
    add_vireid_config(cfg)
    merge_text(cfg, facts["config"], source)
    merge_config(cfg, "", opts)
    check_ranges(cfg, opts[0::2])  # an older version may have allowed the carried values
    cfg.OUTPUT_DIR = os.path.expanduser(cfg.OUTPUT_DIR)
    check_devices(cfg)
    return cfg


def set_up_run(
    cfg: CfgNode, *, resume: Optional[bool] = None, eval_only: bool = False
) -> List[Difference]:
    """Make ``OUTPUT_DIR``, open its log, write the config into it and log the environment.

    A training that starts from the beginning in the folder of an earlier run first moves that run's
    files to a subfolder. An evaluation that does not belong to the run in the folder writes into
    ``OUTPUT_DIR/evaluation``.

    Args:
        cfg: the config; the paths in it are changed in place, also if it is frozen.
        resume: whether the run in ``OUTPUT_DIR`` is continued, if there is a checkpoint. None: this
            is decided later, by the trainer's ``resume_or_load``, which then does this work.
        eval_only: whether weights are evaluated and nothing is trained.

    Returns:
        The keys whose values differ from those of the checkpoint that is resumed.

    Raises:
        UserError: the folder cannot be written, or its checkpoint belongs to another run.
    """
    make_output_folder(cfg.OUTPUT_DIR)
    changed = check_resumable(cfg) if resume else None
    if eval_only:
        keep_training_apart(cfg)
    starts_anew = resume is not None and changed is None and not eval_only
    moved = move_earlier_run(cfg) if starts_anew else ""
    open_log(cfg.OUTPUT_DIR, comm.get_rank())
    forget_what_was_said()
    log_move(cfg, moved)
    logger.info("Environment: %s", ", ".join(f"{k} {v}" for k, v in environment().items()))
    logger.info("Differs from the defaults:\n%s", "\n".join(differences(cfg)))
    if starts_anew:  # a resumed run writes it when the checkpoint is loaded
        write_config(cfg)
        logger.info("The complete config: %s", Path(cfg.OUTPUT_DIR) / CONFIG)
    keep_freed_memory(cfg)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not eval_only
    return changed or []


def differences(cfg: CfgNode) -> List[str]:
    """Return a line ``KEY: value`` for every key that is not at its default."""
    plain = get_cfg()
    add_vireid_config(plain)
    defaults = set(flat_keys(plain))
    return [
        f"  {key}: {value_of(cfg, key)}"
        for key in flat_keys(cfg)
        if key not in defaults or value_of(cfg, key) != value_of(plain, key)
    ]
