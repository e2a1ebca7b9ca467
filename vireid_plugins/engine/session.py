"""Train or evaluate what a config describes, in one process or in several."""

import contextlib
import json
import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Callable, Dict, Iterator, Optional, Sequence, Tuple

import torch
from torch import multiprocessing

from fastreid.utils import comm

from ..errors import is_foreseen, report
from ..evaluation import rehearse_tests
from ..files import append_line
from ..runs.log import close_log
from ..runs.names import METRICS
from ..runs.record import record_session
from .all_trials import how_to_run_all
from .checkpoint import read_facts
from .checks import make_output_folder
from .early_checks import check_training
from .encoder import check_encoder
from .interrupts import STOP_STATUSES, TrainingStopped, what_is_kept
from .launch import launch
from .loading import OpenedCheckpoint, check_not_foreign, named_weights, open_checkpoint
from .other_values import check_pixel_scale
from .run_folder import sole_training
from .setup import build_config, set_up_run
from .start_paths import start_path
from .start_split import WEIGHTS, check_start_splits
from .trainer import VIReIDTrainer
from .trial import check_size, try_model

logger = logging.getLogger(__name__)

REPORT_DELAY = 3.0  # seconds
_Processes = Tuple[int, int, int, str]  # per machine, machines, rank of this machine, URL


class ProcessFailedError(RuntimeError):
    """One of several processes has failed; ``is_reported`` says whether it has reported why."""

    def __init__(self, message: str, is_reported: bool) -> None:
        super().__init__(message)
        self.is_reported = is_reported


def train(
    config_file: str = "",
    opts: Sequence[str] = (),
    *,
    resume: bool = False,
    num_gpus: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
) -> Optional[Dict[str, float]]:
    """Train what a config describes, and evaluate it.

    Args:
        config_file: a path, or a file below ``configs/``.
        opts: ``KEY VALUE`` pairs, one after the other.
        resume: continue the run in ``OUTPUT_DIR``.
        num_gpus: processes per machine, also with ``MODEL.DEVICE cpu``.
        num_machines: machines that take part.
        machine_rank: the number of this machine, from 0.
        dist_url: ``tcp://ADDRESS:PORT`` of rank 0; ``"auto"``: a free port of this machine.

    Returns:
        The metrics in percent; None if several processes were started.

    Raises:
        UserError: a mistake in the config, the files or the arguments.
        ProcessFailedError: one of several processes has failed.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP has stopped the training. After the first
            step, it is a ``TrainingStopped``, whose message says what was saved.
    """
    processes = (num_gpus, num_machines, machine_rank, dist_url)
    cfg = build_config(config_file, opts)  # mistakes in it are found before processes are started
    check_encoder(cfg, resume)
    check_training(cfg, max(1, num_gpus * num_machines))
    if not resume:
        check_pixel_scale(cfg)
        check_start_splits(cfg)
    try_model(cfg)
    weights = start_path(cfg, WEIGHTS)
    if weights and not resume and read_facts(weights) is None:
        check_not_foreign(weights, only_convertible=True)
    try:
        return _launch(_train_here, (config_file, opts, resume), processes, cfg.MODEL.DEVICE)
    except TrainingStopped as stop:
        if str(stop):
            raise
        raise TrainingStopped(stop.number, what_is_kept(cfg.OUTPUT_DIR)) from None


def evaluate(
    config_file: str = "",
    opts: Sequence[str] = (),
    *,
    num_gpus: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
) -> Optional[Dict[str, float]]:
    """Evaluate ``MODEL.WEIGHTS``, and add a line to ``OUTPUT_DIR/metrics.json``.

    Without ``config_file``, the checkpoint's own config is used. The arguments and the result are
    otherwise those of :func:`train`.

    Raises:
        UserError: as for :func:`train`; or the model has seen the test identities in training.
        ProcessFailedError: one of several processes has failed.
    """
    processes = (num_gpus, num_machines, machine_rank, dist_url)
    device = _open_weights(config_file, opts).cfg.MODEL.DEVICE
    return _launch(_evaluate_here, (config_file, opts), processes, device)


def _launch(
    function: Callable, arguments: tuple, processes: _Processes, device: str
) -> Optional[Dict[str, float]]:
    """Call ``function(*arguments)`` in every process, each on a ``device``."""
    num_gpus, num_machines, _, _ = processes
    many = num_gpus * num_machines > 1 or "TORCHELASTIC_RUN_ID" in os.environ
    device = str(device).split(":")[0]
    if not many:
        return launch(function, *processes, args=arguments, device=device)
    try:
        return launch(_run_one_of_many, *processes, args=(function, arguments), device=device)
    except KeyboardInterrupt as stop:
        raise TrainingStopped(getattr(stop, "number", signal.SIGINT)) from None
    except multiprocessing.ProcessExitedException as error:
        if error.exit_code in STOP_STATUSES:  # only one of the processes got a signal
            raise TrainingStopped(error.exit_code - 128) from None
        raise ProcessFailedError(str(error), is_reported=error.exit_code == 1) from error


def _run_one_of_many(function: Callable, arguments: tuple) -> Dict[str, float]:
    """Call ``function`` in one of several processes; report an error once, and end all of them."""
    try:
        return function(*arguments)
    except KeyboardInterrupt as stop:
        if comm.is_main_process() and "TORCHELASTIC_RUN_ID" in os.environ:
            sys.stderr.write(f"Stopped. {stop} The same command with --resume continues.\n")
        logging.shutdown()
        os._exit(128 + getattr(stop, "number", signal.SIGINT))
    except Exception as error:
        foreseen = is_foreseen(error)
        # The process that caused an error reports it at once; when it ends, all others end. The
        # others wait before they report. So a mistake that all processes meet is reported only by
        # process 0, and a lost connection by no process.
        time.sleep(REPORT_DELAY * ((not comm.is_main_process()) + (not foreseen)))
        if foreseen:
            report(error)
        else:
            place = f"process {comm.get_rank()} of {comm.get_world_size()}"
            sys.stderr.write(f"error in {place}:\n{traceback.format_exc()}")
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        # A normal exit would close connections, and other processes would report that instead.
        os._exit(1)


def _train_here(config_file: str, opts: Sequence[str], resume: bool) -> Dict[str, float]:
    """Train in this process; return the metrics in percent."""
    cfg = build_config(config_file, opts)
    cfg.freeze()
    make_output_folder(cfg.OUTPUT_DIR)
    with sole_training(cfg.OUTPUT_DIR), _left_as_it_was():
        changed = set_up_run(cfg, resume=resume)
        if comm.is_main_process():
            record_session(cfg.OUTPUT_DIR, config_file, "train", changed)
        trainer = VIReIDTrainer(cfg)
        trainer.resume_or_load(resume=resume)
        results = trainer.train()
        hint = how_to_run_all(cfg, config_file, opts)
        if hint:
            logger.info(hint)
        return results


def _evaluate_here(config_file: str, opts: Sequence[str]) -> Dict[str, float]:
    """Evaluate in this process; return the metrics in percent."""
    checkpoint = _open_weights(config_file, opts)
    cfg = checkpoint.cfg
    with _left_as_it_was():
        set_up_run(cfg, eval_only=True)
        if comm.is_main_process():
            record_session(cfg.OUTPUT_DIR, config_file, "evaluate")
        rehearse_tests(cfg)
        logger.info("Model:\n%s", checkpoint.model)
        check_size(checkpoint.model, cfg.INPUT.SIZE_TEST, "INPUT.SIZE_TEST")
        results = VIReIDTrainer.test(cfg, checkpoint.model)
        if comm.is_main_process():
            line = json.dumps({**results, "weights": checkpoint.path}, sort_keys=True)
            append_line(Path(cfg.OUTPUT_DIR) / METRICS, line)
        return results


@contextlib.contextmanager
def _left_as_it_was() -> Iterator[None]:
    """Close the run's log at the end of the block, and restore the settings of the process.

    So a run does not affect the next one in the same process, even if it failed.
    """
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        close_log()
        torch.backends.cudnn.benchmark = benchmark


def _open_weights(config_file: str, opts: Sequence[str]) -> OpenedCheckpoint:
    """Open the checkpoint that ``MODEL.WEIGHTS`` names."""
    weights = named_weights(config_file, opts)
    return open_checkpoint(weights, config_file, opts, or_defaults=True)
