"""Write and read checkpoints. A kill during writing never leaves an incomplete checkpoint."""

import logging
import os
import re
from pathlib import Path
from typing import Any, Dict, Optional

import torch

from fastreid.utils.checkpoint import Checkpointer

from ..errors import CheckpointError, MissingFileError
from ..files import write_atomically
from ..runs.last import last_checkpoint
from ..runs.names import FACTS, LAST
from ..safe_load import load_weights_only

logger = logging.getLogger(__name__)

# Needed in training only: losses with parameters, and classifiers of FastReID's heads (also MGN's).
_TRAINING_ONLY = re.compile(r"loss_terms\.|(heads|b\d+_head)\.weight$|.*num_batches_tracked$")


class AtomicCheckpointer(Checkpointer):
    """FastReID's checkpointer, which writes to another name first and then renames the file.

    So a file under its final name is always complete. Only after that is it named in
    ``last_checkpoint``, which is written in the same way.
    """

    _need, _path = "some", ""  # arguments of the ``load`` that is in progress

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<name>.pth`` with the model, every checkpointable and ``kwargs``."""
        if not self.save_dir or not self.save_to_disk:
            return
        data: Dict[str, Any] = {"model": self.model.state_dict()}
        data.update({key: obj.state_dict() for key, obj in self.checkpointables.items()})
        data.update(kwargs)
        target = Path(self.save_dir) / f"{name}.pth"
        write_atomically(target, lambda file: torch.save(data, file))
        logger.info("Saved %s", target)
        self.tag_last_checkpoint(target.name)

    def load(self, path: str, checkpointables: Any = None, need: str = "some") -> Any:
        """Load weights, log how many tensors fit, and refuse the weights of another model.

        FastReID's own checkpointer leaves what does not fit at its random values.

        Args:
            path: the file to load; if it is empty, nothing is loaded.
            checkpointables: names of the other objects to load, such as ``"optimizer"``; None: all.
            need: which tensors must fit. ``"some"``: at least one (to fine-tune); ``"features"``:
                all that features are computed from (to evaluate); ``"all"``: all of both sides (to
                resume).

        Returns:
            The entries of the checkpoint that were not loaded into an object, by name.

        Raises:
            MissingFileError: there is no such file.
            CheckpointError: the file is no checkpoint, or a tensor that ``need`` asks for does not
                fit.
            ValueError: the optimizer's groups differ.
        """
        if path:
            check_weights_exist(path)
            self._need, self._path = need, path
        return super().load(path, checkpointables)

    def _load_file(self, f: Any) -> Any:
        """Load the file; an optimizer's state stays on the disk where features are the aim."""
        return load_weights_only(f, mapped=self._need == "features")

    def _load_model(self, checkpoint: Any) -> Any:
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), dict):
            raise CheckpointError(
                f"{self._path} holds no 'model'. Weights of an ordinary backbone belong in "
                "MODEL.BACKBONE.PRETRAIN_PATH, not in MODEL.WEIGHTS. Weights of a whole model "
                "under another name: save them by torch.save({'model': state_dict}, PATH)."
            )
        self._check_fit(
            {name: tuple(value.shape) for name, value in self.model.state_dict().items()},
            {
                re.sub(r"^module\.", "", name): tuple(value.shape)
                for name, value in checkpoint["model"].items()
            },
        )
        return super()._load_model(checkpoint)

    def _check_fit(self, own: Dict[str, Any], held: Dict[str, Any]) -> None:
        """Compare the shapes of the model's tensors and of the checkpoint's, by name."""
        fitting = [name for name, shape in held.items() if own.get(name) == shape]
        absent = [name for name in own if held.get(name) != own[name]]
        unexpected = [name for name in held if name not in fitting]
        logger.info(
            "%s: %d tensors loaded, %d missing, %d unexpected.",
            *(self._path, len(fitting), len(absent), len(unexpected)),
        )
        if self._need == "features":
            parts = tuple(f"{part}." for part in getattr(self.model, "training_only", ()))
            absent = [
                name
                for name in absent
                if not _TRAINING_ONLY.match(name) and not name.startswith(parts)
            ]
        refused = absent + unexpected if self._need == "all" else absent
        if not fitting or (refused and self._need != "some"):
            raise CheckpointError(
                f"{self._path} belongs to another model: only {len(fitting)} of the {len(own)} "
                "tensors of this model fit. Others are missing or have another shape, such as "
                f"{', '.join(refused[:3])}. Use the config that it was trained with (the "
                "config.yaml beside it)."
            )

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write into ``last_checkpoint`` which file ``--resume`` continues from."""
        text = last_filename_basename.encode()
        write_atomically(Path(self.save_dir) / LAST, lambda file: file.write(text))

    def has_checkpoint(self) -> bool:
        """Return whether there is a checkpoint to resume from.

        Raises:
            UserError: ``last_checkpoint`` is damaged, or names a file that does not exist any more.
        """
        return last_checkpoint(Path(self.save_dir)) is not None

    def get_checkpoint_file(self) -> str:
        """Return the path of the checkpoint to resume from; empty if there is none."""
        return str(last_checkpoint(Path(self.save_dir)) or "")


def remove_partial_files(folder: str) -> None:
    """Delete what a killed run left half-written."""
    for path in Path(folder).glob(".*.partial"):
        logger.info("Removing %s, left half-written by an earlier run.", path)
        path.unlink()


def check_weights_exist(path: str) -> None:
    """Raise ``MissingFileError`` unless ``path`` is a file."""
    if not os.path.isfile(path):
        raise MissingFileError(
            f"MODEL.WEIGHTS names {path!r}, which does not exist or is no file. Train a model "
            "first, or give the path of a .pth file."
        )


def read_facts(path: str) -> Optional[Dict[str, Any]]:
    """Return what a checkpoint says about itself; None if another program wrote it.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file is no whole checkpoint.
    """
    check_weights_exist(path)
    state = load_weights_only(path, mapped=True)
    return state.get(FACTS) if isinstance(state, dict) else None


def load_to_resume(checkpointer: AtomicCheckpointer, optimizer: Any, path: str) -> Dict[str, Any]:
    """Load a checkpoint to resume from, and return what it holds besides the training's state.

    The config decides the rates and the kind of step, not the checkpoint: ``SOLVER.BASE_LR`` may
    be changed between two sessions.

    Raises:
        CheckpointError: it belongs to another model, or another program wrote it.
    """
    configured = [
        {key: group[key] for key in ("initial_lr", "foreach", "fused") if key in group}
        for group in optimizer.param_groups
    ]
    try:
        rest = checkpointer.load(path, need="all")
    except CheckpointError:
        raise
    except ValueError as error:  # the optimizer's groups differ
        raise CheckpointError(
            f"{path} cannot be resumed: {error}. It belongs to another model, or FastReID's own "
            "trainer wrote it. To start from its weights, name it by MODEL.WEIGHTS, choose another "
            "OUTPUT_DIR, and leave --resume out."
        ) from error
    for group, own in zip(optimizer.param_groups, configured):
        group.update(own)
    return rest
