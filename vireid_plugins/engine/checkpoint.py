"""Checkpoints that a kill at any moment leaves whole, and that say what they belong to."""

import logging
import os
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import torch

from fastreid.utils.checkpoint import Checkpointer

from ..compat import load_weights_only

logger = logging.getLogger(__name__)

FACTS = "vireid"  # the key of what a checkpoint says about itself
LAST = "last_checkpoint"


class AtomicCheckpointer(Checkpointer):
    """FastReID's checkpointer, writing beside the target and renaming.

    A file under its final name is always complete: it is written under another name, flushed to
    the disk, then renamed, and only then named in ``last_checkpoint``, itself written so.
    """

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

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the file that ``--resume`` continues from."""
        text = last_filename_basename.encode()
        write_atomically(Path(self.save_dir) / LAST, lambda file: file.write(text))

    def has_checkpoint(self) -> bool:
        """Whether ``last_checkpoint`` names a file that is there.

        Raises:
            FileNotFoundError: it names a file that is gone.
        """
        if not super().has_checkpoint():
            return False
        path = self.get_checkpoint_file()
        if not os.path.isfile(path):
            others = sorted(p.name for p in Path(self.save_dir).glob("*.pth"))
            raise FileNotFoundError(
                f"{os.path.join(self.save_dir, LAST)} names {os.path.basename(path)!r}, which is "
                f"gone. Write one of {others} into it, or delete it to start anew."
            )
        return True


def write_atomically(target: Path, write: Callable[[Any], Any]) -> None:
    """Call ``write(file)`` on a new file and put it in the place of ``target`` once it is whole."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        if partial.exists():
            partial.unlink()


def remove_partial_files(folder: str) -> None:
    """Delete what a killed run left half-written."""
    for path in Path(folder).glob(".*.partial"):
        logger.info("Removing %s, left half-written by an earlier run.", path)
        path.unlink()


def read_facts(path: str) -> Optional[Dict[str, Any]]:
    """What a checkpoint of this package says about itself; None for any other checkpoint.

    Raises:
        FileNotFoundError: no such file; RuntimeError: no whole checkpoint.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"MODEL.WEIGHTS names {path!r}, which does not exist. Train a model first, or give "
            "the path of a .pth file."
        )
    state = load_weights_only(path)
    return state.get(FACTS) if isinstance(state, dict) else None
