"""The models that are measured: checkpoints, pretrained networks, and random ones.

An untrained network becomes a checkpoint of this package, so it is opened like every other one.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import torch

from ..engine.carrying import carry_config
from ..engine.loading import open_checkpoint
from ..engine.model import build_model
from ..engine.seeding import seed_everything
from ..engine.setup import build_config
from ..engine.trial import check_size
from ..errors import MissingFileError
from ..files import find_config, writing
from ..pretrained import PREFIX, lookup

RANDOM = "random:"
_CONFIG = "Base-vireid.yml"  # of networks that are not a checkpoint's
INPUT_SIZE = (288, 144)  # their input, height and width
_NOT_PRETRAINED = ["MODEL.BACKBONE.PRETRAIN", "False", "MODEL.BACKBONE.PRETRAIN_PATH", ""]
_HOW = (
    "expected the path of a checkpoint (.pth); weights:NAME, a network with pretrained weights "
    "(`vireid weights` lists the names); or random:NAME or random:CHECKPOINT, the same network "
    "with random weights"
)


class Model(NamedTuple):
    """A checkpoint, and a short name for it."""

    label: str
    path: Path


class _Recipe(NamedTuple):
    """How an untrained network is built: the text of a config, and KEY VALUE words."""

    config: str
    opts: Sequence[Any]


def models_of(
    word: str, folder: Path, seeds: int, size: Tuple[int, int] = INPUT_SIZE
) -> List[Model]:
    """Return the checkpoints that a word means; those of untrained networks are made.

    Args:
        word: path of a checkpoint; ``weights:NAME``, an entry of the list of pretrained weights; or
            ``random:NAME`` or ``random:CHECKPOINT``, the same network with random weights.
        folder: where checkpoints are made.
        seeds: number of random networks; they have the seeds 0, 1, ...
        size: height and width of the input of the networks that NAME names.

    Raises:
        MissingFileError: there is no such checkpoint.
        UnknownNameError: the list has no such name.
        CheckpointError: the checkpoint is damaged, or the weights cannot be fetched.
        UserError: a network that NAME names does not take images of that size.
    """
    check_word(word)
    if word.startswith(PREFIX):
        return [_made(lookup(word).name, None, folder, size)]
    if not word.startswith(RANDOM):
        path = _checkpoint(word)
        return [Model(path.stem, path)]
    return [_made(word[len(RANDOM) :], seed, folder, size) for seed in range(seeds)]


def check_word(word: str) -> None:
    """Raise the errors of ``models_of`` that need no checkpoint to be opened and no network."""
    name = word[len(RANDOM) :] if word.startswith(RANDOM) else word
    if word.startswith(PREFIX) or (name != word and not _is_file_name(name)):
        lookup(name)
    else:
        _checkpoint(name)


def _is_file_name(name: str) -> bool:
    return name.endswith(".pth") or Path(name).is_file()


def _checkpoint(word: str) -> Path:
    path = Path(word)
    if not path.is_file():
        raise MissingFileError(f"--weights names {word!r}, and there is no such file; {_HOW}.")
    return path


def _made(name: str, seed: Optional[int], folder: Path, size: Tuple[int, int]) -> Model:
    """Return the checkpoint of an untrained network; make it unless it is there.

    Args:
        name: of the list of pretrained weights, or a checkpoint.
        seed: of random weights; None: the pretrained ones.
        size: height and width of the input, unless it is a checkpoint.
    """
    is_random = seed is not None
    recipe = _recipe(name, is_random, size)
    kind = f"random{seed}" if is_random else "weights"
    digest = hashlib.sha256(f"{recipe.config}{recipe.opts}".encode()).hexdigest()[:8]
    model = Model(f"{kind}-{Path(name).stem}", folder / f"{kind}-{Path(name).stem}-{digest}.pth")
    if model.path.is_file():
        return model
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
            config = Path(scratch) / "config.yaml"
            config.write_text(recipe.config, encoding="utf-8")
            seed_everything(seed or 0)
            network = build_model(build_config(str(config), recipe.opts)).eval()
            if not _is_file_name(name):
                check_size(network, size, "--size")
            plain = Path(scratch) / "model.pth"
            torch.save({"model": network.state_dict()}, plain)
            carry_config(plain, str(config), model.path, recipe.opts)
    return model


def _recipe(name: str, is_random: bool, size: Tuple[int, int]) -> _Recipe:
    """Return how the network that ``name`` means is built."""
    if is_random and _is_file_name(name):
        config = open_checkpoint(name, opts=["MODEL.DEVICE", "cpu"]).cfg.dump()
        return _Recipe(config, ["MODEL.WEIGHTS", "", *_NOT_PRETRAINED])
    config = Path(find_config(_CONFIG)).read_text(encoding="utf-8")
    words = [*lookup(name).keys, "MODEL.DEVICE", "cpu", "MODEL.HEADS.NUM_CLASSES", "1"]
    words += ["INPUT.SIZE_TEST", f"[{size[0]}, {size[1]}]"]
    return _Recipe(config, words + (_NOT_PRETRAINED if is_random else []))
