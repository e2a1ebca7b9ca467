"""Make sure that a folder holds one run: move an earlier run, and refuse a second one."""

import contextlib
import logging
import os
from pathlib import Path
from typing import ContextManager, Iterator, List, Optional

import torch.distributed as dist

from fastreid.config import CfgNode
from fastreid.utils import comm

from ..data.reading import RANGE_KEYS
from ..errors import UserError
from ..files import write_atomically
from ..locks import sole_use
from ..readers.text import read_text
from ..runs.earlier import EVALUATION, move_earlier_files, moved_path
from ..runs.last import last_checkpoint, naming_others
from ..runs.log import reopen_log
from ..runs.names import CONFIG, FINAL, LAST
from .checkpoint import read_facts
from .checks import make_output_folder
from .same_run import Difference, check_same_config, differences_to

logger = logging.getLogger(__name__)

# Keys of TEST that decide how an evaluation is computed or shown, and not its numbers.
_OF_COMPUTING = (
    "TEST.DEVICE",
    "TEST.EVAL_PERIOD",
    "TEST.IMS_PER_BATCH",
    "TEST.RETRIEVAL_PICTURES",
)
WAIT = 30.0  # seconds; the loading processes of a killed run end, and give up its lock, after 5


def sole_training(folder: str) -> ContextManager[None]:
    """Let no other process train in ``OUTPUT_DIR``, which exists, inside the block.

    Raises:
        UserError: another process is still training there after ``WAIT`` seconds.
    """
    if not comm.is_main_process():
        return contextlib.nullcontext()
    return sole_use(
        Path(folder),
        UserError(
            f"OUTPUT_DIR is {folder!r}, where another process is training. Wait for it, or choose "
            "another OUTPUT_DIR."
        ),
        WAIT,
    )


def check_resumable(cfg: CfgNode) -> Optional[List[Difference]]:
    """Compare the config with that of the checkpoint to resume from, before anything is written.

    Returns:
        The keys whose values differ and may differ; None if there is no checkpoint to resume from.

    Raises:
        UserError: the checkpoint is missing, damaged, or belongs to another run.
    """
    path = last_checkpoint(Path(cfg.OUTPUT_DIR))
    if path is None:
        return None
    with naming_others(path):
        facts = read_facts(str(path)) or {}
    return check_same_config(facts, cfg, str(path))


def move_earlier_run(cfg: CfgNode) -> str:
    """Move an earlier run's files to a subfolder, before a run starts from the beginning.

    If ``MODEL.WEIGHTS`` names one of these files, the config gets its new path.

    Args:
        cfg: changed in place, also if it is frozen.

    Returns:
        The folder that they were moved to; empty if there was no earlier run.
    """
    folder, target = Path(cfg.OUTPUT_DIR), ""
    if comm.is_main_process():
        target = str(move_earlier_files(folder) or "")
    if comm.get_world_size() > 1:
        shared = [target]
        dist.broadcast_object_list(shared, src=0)
        target = shared[0]
    if not target:
        return ""
    reopen_log()
    with _thawed(cfg):
        for node, key in ((cfg.MODEL, "WEIGHTS"), (cfg.MODEL.BACKBONE, "PRETRAIN_PATH")):
            node[key] = moved_path(node[key], folder, Path(target))
    return target


def log_move(cfg: CfgNode, target: str) -> None:
    """Log where an earlier run was moved to, unless ``target`` is empty."""
    if target and comm.is_main_process():
        logger.info(
            "%s held another run, which was moved to %s. Continue it with --resume OUTPUT_DIR %s",
            *(cfg.OUTPUT_DIR, target, target),
        )


def keep_training_apart(cfg: CfgNode) -> None:
    """Let an evaluation write into ``OUTPUT_DIR/evaluation`` if ``OUTPUT_DIR`` holds a training.

    An evaluation of the training's own last checkpoint, with its own protocol, is recorded as the
    last one of that training. Any other would replace the numbers and pictures of the run.

    Args:
        cfg: its ``OUTPUT_DIR`` is changed in place, also if it is frozen.

    Raises:
        UserError: the folder cannot be made.
    """
    folder = Path(cfg.OUTPUT_DIR)
    if not is_training(folder) or evaluates_itself(folder, cfg):
        return
    with _thawed(cfg):
        cfg.OUTPUT_DIR = str(folder / EVALUATION)
    make_output_folder(cfg.OUTPUT_DIR)


def is_training(folder: Path) -> bool:
    """Return whether ``folder`` holds a training, finished or not."""
    return any((folder / name).is_file() for name in (LAST, FINAL, CONFIG))


def evaluates_itself(folder: Path, cfg: CfgNode) -> bool:
    """Return whether an evaluation has the weights and protocol of the training in ``folder``."""
    own = folder / FINAL
    with contextlib.suppress(UserError):
        own = last_checkpoint(folder) or own
    if not own.is_file() or not os.path.samefile(own, cfg.MODEL.WEIGHTS):
        return False
    try:
        held = read_text(folder / CONFIG)
        differing = differences_to(held, cfg, str(folder / CONFIG))
    except UserError:  # without an intact config, the protocol of the run is unknown
        return False
    return not any(_decides_numbers(one.key) for one in differing)


def _decides_numbers(key: str) -> bool:
    """Return whether a key changes the numbers of an evaluation of given weights."""
    if key.startswith("TEST."):
        return key not in _OF_COMPUTING
    if key.startswith("DATASETS."):
        return key != "DATASETS.NAMES"
    return key in ("INPUT.INTERPOLATION", "INPUT.SIZE_TEST", *RANGE_KEYS.values())


def write_config(cfg: CfgNode) -> None:
    """Write the config of the run into ``config.yaml``.

    Raises:
        UnwritableError: the system refused to write.
    """
    if comm.is_main_process() and cfg.OUTPUT_DIR:
        content = cfg.dump().encode()
        write_atomically(Path(cfg.OUTPUT_DIR) / CONFIG, lambda file: file.write(content))


@contextlib.contextmanager
def _thawed(cfg: CfgNode) -> Iterator[None]:
    """Let ``cfg`` be changed inside the block; it is as frozen afterwards as before."""
    frozen = cfg.is_frozen()
    cfg.defrost()
    try:
        yield
    finally:
        if frozen:
            cfg.freeze()
