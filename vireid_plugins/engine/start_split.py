"""Refuse to begin with a model that was trained on another split of the same dataset.

The test persons of one trial of RegDB are training persons of others. A model of trial 3 that is
trained further on trial 1 has seen the persons that it is then tested on.
"""

import logging
import os
from typing import Any, Iterable, Mapping

from fastreid.config import CfgNode
from fastreid.utils import comm

from ..data.datasets.build import split_differences, split_facts
from ..errors import CheckpointError, UserError
from ..keys import value_of
from ..pretrained import is_listed_name
from ..readers.yaml_file import parse_yaml
from .checkpoint import read_facts
from .encoder import has_encoder
from .start_paths import start_path

logger = logging.getLogger(__name__)

WEIGHTS, _PRETRAINED = "MODEL.WEIGHTS", "MODEL.BACKBONE.PRETRAIN_PATH"
#: keys of every method that name a model to begin with
START_KEYS = (WEIGHTS, _PRETRAINED)


def names_model(cfg: CfgNode) -> bool:
    """Return whether a run begins with a model, or is built upon one."""
    return has_encoder(cfg) or any(value_of(cfg, key) for key in START_KEYS)


def check_start_splits(cfg: CfgNode, keys: Iterable[str] = START_KEYS) -> None:
    """Check that no model that a new run begins with was trained on another split.

    A file that is absent, or does not say what it was trained on, is not judged.

    Args:
        cfg: the config of the run.
        keys: keys that name the files.

    Raises:
        UserError: one was, and ``DATASETS.ALLOW_OVERLAP`` is not set; then it is a warning.
    """
    for key in keys:
        path = start_path(cfg, key)
        if not os.path.isfile(path) or is_listed_name(path):
            continue
        if key == _PRETRAINED and not cfg.MODEL.BACKBONE.PRETRAIN:
            continue
        for one in split_differences(cfg, _facts(path)):
            message = (
                f"{key} names {path}, which was trained on {one.dataset} {one.argument} "
                f"{one.trained}, and this run is on {one.argument} {one.asked}, whose test persons "
                f"that model has seen: set {one.key} {one.trained}, or begin with other weights."
            )
            if not cfg.DATASETS.ALLOW_OVERLAP:
                raise UserError(message)
            if comm.is_main_process():
                logger.warning("%s", message)


def _facts(path: str) -> Mapping[str, Any]:
    """Return what a file says about its training; what only its config says, too."""
    try:
        facts = read_facts(path) or {}
    except CheckpointError:  # weights of another kind; whoever loads them says what is wrong
        return {}
    text = facts.get("config")
    if not isinstance(text, str):
        return facts
    held = parse_yaml(text, f"the config in {path}")
    names = value_of(held, "DATASETS.NAMES", ())
    return {"train_datasets": names, **split_facts(held), **facts}
