"""Paths of checkpoints that a config begins with, which may depend on its seed and its folder."""

import os

from fastreid.config import CfgNode

from ..data.datasets.trials import separate_trials
from ..keys import value_of


def start_path(cfg: CfgNode, key: str) -> str:
    """Return the path of a checkpoint that ``key`` names; empty: none is named."""
    return filled(cfg, str(value_of(cfg, key, "")))


def filled(cfg: CfgNode, path: str) -> str:
    """Return a path whose words in braces are replaced.

    ``{seed}`` is ``SEED``, ``{trial}`` the dataset's trial (RegDB's splits, which need a model
    each), and ``{output}`` is ``OUTPUT_DIR``. So one plan serves all seeds, and any folder of runs:
    ``{output}/../../other/seed{seed}`` is the run of the row ``other`` with the same seed.
    """
    path = os.path.expanduser(path)
    trials = separate_trials(cfg) if "{trial}" in path else None
    if trials is not None:
        path = path.replace("{trial}", str(value_of(cfg, trials.key)))
    path = path.replace("{seed}", str(cfg.SEED))
    if "{output}" in path:
        path = os.path.normpath(path.replace("{output}", cfg.OUTPUT_DIR))
    return path
