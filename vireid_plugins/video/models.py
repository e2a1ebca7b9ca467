"""The models that are measured: checkpoints, pretrained networks, and random ones.

An untrained network becomes a checkpoint of this package, so it is opened like every other one.
"""

import re
import tempfile
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence

import torch

from ..engine.carrying import carry_config
from ..engine.loading import open_checkpoint
from ..engine.model import build_model
from ..engine.seeding import seed_everything
from ..engine.setup import build_config
from ..errors import MissingFileError, UserError
from ..files import writing

RANDOM = "random:"
_HOW = (
    "expected the path of a checkpoint (.pth), or random:CHECKPOINT for its network with random "
    "weights"
)


class Model(NamedTuple):
    """A checkpoint, and the name of its index."""

    label: str
    path: Path


class _Recipe(NamedTuple):
    """How an untrained network is built: a config, or KEY VALUE words on top of a config file."""

    config_file: str
    opts: Sequence[Any]


def models_of(word: str, folder: Path, seeds: int) -> List[Model]:
    """Return the checkpoints that a word means; those of untrained networks are made.

    Args:
        word: path of a checkpoint; or ``random:CHECKPOINT``, its network with random weights.
        folder: where checkpoints are made.
        seeds: number of random networks; they have the seeds 0, 1, ...

    Raises:
        MissingFileError: there is no such checkpoint.
        CheckpointError: it is damaged.
    """
    if seeds < 1:
        raise UserError(f"--seeds must be 1 or more; got {seeds}.")
    if not word.startswith(RANDOM):
        return [Model(_label(word), _checkpoint(word))]
    name = word[len(RANDOM) :]
    return [_made(f"random-{seed}-{_label(name)}", name, seed, folder) for seed in range(seeds)]


def _checkpoint(word: str) -> Path:
    path = Path(word)
    if not path.is_file():
        raise MissingFileError(f"--weights names {word!r}, and there is no such file; {_HOW}.")
    return path


def _label(word: str) -> str:
    """Return a name for a folder; words that differ only in other characters are told apart."""
    return re.sub(r"[^\w.-]", lambda found: f"%{ord(found.group()):x}", word)


def _made(label: str, name: str, seed: Optional[int], folder: Path) -> Model:
    """Return the checkpoint of an untrained network; make it unless it is there.

    Args:
        seed: of random weights; None: the pretrained ones.
    """
    path = folder / f"{label}.pth"
    if path.is_file():
        return Model(label, path)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
            recipe = _recipe(name, seed is not None, Path(scratch))
            cfg = build_config(recipe.config_file, recipe.opts)
            seed_everything(seed or 0)
            plain = Path(scratch) / "model.pth"
            torch.save({"model": build_model(cfg).state_dict()}, plain)
            carry_config(plain, recipe.config_file, path, recipe.opts)
    return Model(label, path)


def _recipe(name: str, is_random: bool, scratch: Path) -> _Recipe:
    """Return how the network that ``name`` means is built."""
    opened = open_checkpoint(str(_checkpoint(name)), opts=["MODEL.DEVICE", "cpu"])
    config = scratch / "config.yaml"
    config.write_text(opened.cfg.dump(), encoding="utf-8")
    return _Recipe(str(config), ["MODEL.WEIGHTS", "", "MODEL.BACKBONE.PRETRAIN", "False"])
