"""Add a config to a checkpoint of another program, such as FastReID."""

import os
import re
from pathlib import Path
from typing import Any, Dict, Sequence, Union

import torch

from ..data.reading import range_facts
from ..errors import ExistingFileError
from ..files import write_atomically
from ..readers.checkpoint import read_checkpoint
from ..readers.checksum import CHECKSUM, tensor_sums
from ..readers.weights import check_weights, tensors_in
from ..runs.names import FACTS
from ..version import __version__
from .loading import open_checkpoint
from .old_names import with_new_names

_CLASSIFIER = re.compile(r"(heads|b\d+_head)\.weight")  # a row for each identity


def carry_config(
    weights: Union[str, Path], config_file: str, out: Union[str, Path], opts: Sequence[Any] = ()
) -> None:
    """Write a copy of a checkpoint of another program, such as FastReID, that contains its config.

    ``FeatureExtractor`` and the commands that take no config can open the new file.

    Args:
        weights: path of the checkpoint.
        config_file: the config that it was trained with, a path or a file below ``configs/``.
        out: path of the new file, which must not exist.
        opts: KEY VALUE pairs that override the config.

    Raises:
        MissingFileError: there is no such checkpoint, or no such config.
        ExistingFileError: ``out`` exists.
        CheckpointError: the weights belong to another model.
        UserError: the config is wrong.
    """
    if os.path.exists(out):
        raise ExistingFileError(f"{out} exists and is not replaced. Name a new file.")
    opened = open_checkpoint(str(weights), config_file, opts)
    own = opened.model.state_dict()  # this loads the weights, and raises if they do not fit
    held = check_weights(tensors_in(read_checkpoint(str(weights))), str(weights))
    tensors = {name: one for name, one in with_new_names(held, own).items() if name in own}
    cfg = opened.cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = cfg.MODEL.BACKBONE.PRETRAIN_PATH = ""
    rows = [len(one) for name, one in tensors.items() if _CLASSIFIER.fullmatch(name)]
    content: Dict[str, Any] = {
        "model": tensors,
        FACTS: {
            "version": __version__,
            **(opened.facts or {}),
            **range_facts(cfg),
            "num_classes": max([1, cfg.MODEL.HEADS.NUM_CLASSES, *rows]),
            "config": cfg.dump(),
        },
    }
    content[CHECKSUM] = tensor_sums(content)
    write_atomically(Path(out), lambda file: torch.save(content, file))
