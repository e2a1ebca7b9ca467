"""Load the networks of a model that begin as trained models, such as the students of MMT.

A method names them in ``starts``: the config key of each path, and the part that it fills.
"""

import os
from typing import Any

from ..errors import CheckpointError
from .checkpoint import AtomicCheckpointer
from .start_paths import start_path


def load_networks(cfg: Any, model: Any) -> None:
    """Load the checkpoint that each key of ``model.starts`` names into its part.

    Raises:
        CheckpointError: a checkpoint is absent, or belongs to another model.
    """
    starts = getattr(model, "starts", {})
    for key, part in starts.items():
        path = start_path(cfg, key)
        if not path:
            continue
        if not os.path.isfile(path):  # the message about a missing file would name MODEL.WEIGHTS
            raise CheckpointError(
                f"{key} names {path!r}, which does not exist or is not a file. Train that network "
                "first; its checkpoint is OUTPUT_DIR/model_final.pth."
            )
        AtomicCheckpointer(part).load(path, checkpointables=[], need="features")
    if starts:
        model.took_starts()
