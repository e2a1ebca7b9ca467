"""``python -m vireid_plugins.train``: FastReID's command line, unchanged.

python -m vireid_plugins.train --config-file agw/sysu.yml [--num-gpus N] [--resume]
    [--eval-only MODEL.WEIGHTS model_final.pth] [KEY VALUE ...]
"""

import argparse
import json
import logging
import os
import sys
import time
import traceback
from typing import Any, Dict, Optional, Sequence

from torch import multiprocessing, nn

from fastreid.utils import comm

from .engine import VIReIDTrainer
from .engine.checkpoint import AtomicCheckpointer, read_facts
from .engine.launch import launch
from .engine.setup import build_config, set_up_run
from .errors import is_foreseen, report
from .runs.record import evaluation_of, record_session

logger = logging.getLogger(__name__)

REPORT_DELAY = 3.0  # seconds


def argument_parser() -> argparse.ArgumentParser:
    """The words of FastReID's ``tools/train_net.py``."""
    parser = argparse.ArgumentParser(
        prog="train_net.py", description="Train or evaluate what a config describes."
    )
    parser.add_argument(
        "--config-file", default="", metavar="FILE", help="a path, or a file below configs/"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    parser.add_argument(
        "--num-gpus", type=int, default=1, help="processes per machine (also with MODEL.DEVICE cpu)"
    )
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0)
    parser.add_argument("--dist-url", default="auto", help="tcp://ADDRESS:PORT of rank 0, or auto")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs")
    return parser


def run(args: argparse.Namespace) -> Dict[str, float]:
    """What one process does; returns metrics in percent."""
    cfg = build_config(args.config_file, args.opts)
    if args.eval_only:
        return evaluate_only(cfg, args)
    cfg.freeze()
    set_up_run(cfg)
    if comm.is_main_process():
        record_session(cfg.OUTPUT_DIR, args.config_file, "train")
    trainer = VIReIDTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def evaluate_only(cfg: Any, args: argparse.Namespace) -> Dict[str, float]:
    """Evaluate ``MODEL.WEIGHTS``, and add a line to ``OUTPUT_DIR/metrics.json``.

    Raises:
        ValueError: no weights are named, or they have seen the identities they are tested on.
    """
    if not cfg.MODEL.WEIGHTS:
        raise ValueError("--eval-only needs the weights to evaluate: MODEL.WEIGHTS PATH")
    facts = read_facts(cfg.MODEL.WEIGHTS)
    if facts is not None:
        apply_facts(cfg, facts, explicit_trial="DATASETS.REGDB_TRIAL" in args.opts)
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.freeze()
    set_up_run(cfg, eval_only=True)
    if comm.is_main_process():
        record_session(cfg.OUTPUT_DIR, args.config_file, "evaluate")
    model = load_model(cfg)
    with evaluation_of(cfg.MODEL.WEIGHTS):
        results = VIReIDTrainer.test(cfg, model)
    if comm.is_main_process():
        with open(os.path.join(cfg.OUTPUT_DIR, "metrics.json"), "a", encoding="utf-8") as file:
            file.write(json.dumps({**results, "weights": cfg.MODEL.WEIGHTS}, sort_keys=True) + "\n")
    return results


def load_model(cfg: Any) -> nn.Module:
    """The model of ``cfg`` with the weights of ``MODEL.WEIGHTS``, all that features need."""
    model = VIReIDTrainer.build_model(cfg)
    AtomicCheckpointer(model).load(cfg.MODEL.WEIGHTS, checkpointables=[], need="features")
    return model


def apply_facts(cfg: Any, facts: Dict[str, Any], explicit_trial: bool) -> None:
    """Take from a checkpoint what belongs to it: number of classes and RegDB trial.

    Raises:
        ValueError: the model of one RegDB trial would be tested on another.
    """
    cfg.MODEL.HEADS.NUM_CLASSES = facts["num_classes"]
    if "RegDB" not in facts["train_datasets"] or "RegDB" not in cfg.DATASETS.TESTS:
        return
    trial = facts["regdb_trial"]
    if explicit_trial and cfg.DATASETS.REGDB_TRIAL != trial:
        raise ValueError(
            f"{cfg.MODEL.WEIGHTS} was trained on RegDB trial {trial}: it has seen test identities "
            f"of trial {cfg.DATASETS.REGDB_TRIAL}. A row of ten trials needs ten models."
        )
    cfg.DATASETS.REGDB_TRIAL = trial


def run_one_of_many(args: argparse.Namespace) -> Dict[str, float]:
    """``run`` in one of several processes: what goes wrong in one is told once, and all end."""
    try:
        return run(args)
    except Exception as error:
        foreseen = is_foreseen(error)
        # Who caused it speaks first, and that ends the others meanwhile: the same mistake is told
        # by process 0 alone, and a lost connection by none of those that lost it.
        time.sleep(REPORT_DELAY * ((not comm.is_main_process()) + (not foreseen)))
        if foreseen:
            report(error)
        else:
            place = f"process {comm.get_rank()} of {comm.get_world_size()}"
            sys.stderr.write(f"error in {place}:\n{traceback.format_exc()}")
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        # Unwinding closes connections, and the others would report that instead of the error.
        os._exit(1)


def main(words: Optional[Sequence[str]] = None) -> int:
    """Run the command line; foreseeable mistakes end with one line and exit status 1."""
    args = argument_parser().parse_args(words)
    many = args.num_gpus * args.num_machines > 1 or "TORCHELASTIC_RUN_ID" in os.environ
    try:
        cfg = build_config(args.config_file, args.opts)
        launch(
            run_one_of_many if many else run,
            args.num_gpus,
            args.num_machines,
            args.machine_rank,
            args.dist_url,
            args=(args,),
            device=str(cfg.MODEL.DEVICE).split(":")[0],
        )
    except multiprocessing.ProcessExitedException as error:
        if error.exit_code != 1:  # 1: the process has said why
            sys.stderr.write(f"error: {error}\n")
        return 1
    except Exception as error:
        if not is_foreseen(error):
            raise
        report(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
