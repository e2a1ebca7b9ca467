"""Configs small enough to train in seconds."""

from pathlib import Path

import pytest

from vireid_plugins.engine.setup import build_config

ROOT = Path(__file__).resolve().parents[2]

SMALL = {
    "INPUT.SIZE_TRAIN": "[32, 16]",
    "INPUT.SIZE_TEST": "[32, 16]",
    "MODEL.BACKBONE.WITH_NL": "False",
    "MODEL.BACKBONE.LAST_STRIDE": "2",
    "DATALOADER.NUM_INSTANCE": "2",
    "DATALOADER.NUM_WORKERS": "0",
    "SOLVER.IMS_PER_BATCH": "16",
    "SOLVER.MAX_EPOCH": "2",
    "SOLVER.STEPS": "[2, 3]",
    "SOLVER.CHECKPOINT_PERIOD": "1",
    "TEST.EVAL_PERIOD": "0",
    "TEST.PROTOCOL.TRIALS": "2",
    "TEST.RETRIEVAL_PICTURES": "0",
}


def small_words(folder, **overrides):
    """KEY VALUE words of a run of seconds in ``folder``; ``A__B`` overrides key ``A.B``."""
    options = {**SMALL, "OUTPUT_DIR": str(folder)}
    options.update({key.replace("__", "."): str(value) for key, value in overrides.items()})
    return [word for pair in options.items() for word in pair]


def small_cfg(folder, config="configs/agw/synthetic.yml", **overrides):
    """A config from :func:`small_words`."""
    cfg = build_config(str(ROOT / config), small_words(folder, **overrides))
    if cfg.MODEL.BACKBONE.TIMM_NAME:
        pytest.importorskip("timm", reason="timm is not installed: pip install timm")
    return cfg
