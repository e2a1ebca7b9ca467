"""Say, after the training on one trial of a dataset, how all of them are run."""

import os
import shlex
from typing import Any, Sequence

from fastreid.config import CfgNode

from ..data.datasets.trials import separate_trials
from ..keys import value_of
from ..runs.names import CONFIG

# Keys that ``vireid compare`` sets itself.
_OF_ONE_RUN = ("SEED", "OUTPUT_DIR", "TEST.EVAL_PERIOD")


def how_to_run_all(cfg: CfgNode, config_file: str, opts: Sequence[Any]) -> str:
    """Return a sentence with the command that runs all trials, each with a model of its own.

    Args:
        cfg: the config of the run.
        config_file: the file that it was made from; empty: none.
        opts: the KEY VALUE pairs that it was made from.

    Returns:
        An empty text if one model serves the dataset.
    """
    trials = separate_trials(cfg)
    if trials is None:
        return ""
    words = ["vireid", "compare", config_file or os.path.join(cfg.OUTPUT_DIR, CONFIG), "--trials"]
    given = dict(zip(opts[0::2], opts[1::2]))
    if "SEED" in given and cfg.SEED >= 0:
        words += ["--seeds", str(cfg.SEED)]
    kept = {k: v for k, v in given.items() if k not in (*_OF_ONE_RUN, trials.key)}
    words += ["--set"] if kept else []
    words += [str(word) for pair in kept.items() for word in pair]
    return (
        f"This was {trials.word} {value_of(cfg, trials.key)} of the {len(trials.numbers)} of "
        f"{trials.dataset}. Each needs a model of its own, and a published row is the mean over "
        f"all of them. To run all: {shlex.join(words)}"
    )
