"""Make weights that are not published: render people, train on them, keep the network.

``vireid weights make NAME`` calls :func:`make`. Whatever is done stays in the cache, so that the
same call continues where it was stopped.
"""

import contextlib
import logging
import os
from pathlib import Path
from typing import Callable, Dict, Iterator, NamedTuple

from torch import Tensor

from .engine.checkpoint import read_facts
from .engine.same_run import differences_to
from .engine.session import train
from .engine.setup import build_config
from .errors import CheckpointError, MissingLibraryError, UserError
from .files import cache_folder, write_atomically, writing
from .modeling.backbones.vit.loading import ordinary_names
from .pretrained import Entry, lookup, weights_folder
from .pretrained.made import Made, Recipe
from .pretrained.source import sha256_of
from .readers.checkpoint import read_checkpoint
from .runs.last import last_checkpoint
from .synthvi import render_dataset

logger = logging.getLogger(__name__)


class MadeFile(NamedTuple):
    """A file of weights that was made, or that was there."""

    path: Path
    sha256: str
    recorded: str  # that of the file in this package's tables; empty: not recorded

    @property
    def is_recorded(self) -> bool:
        """Return whether it is, byte for byte, the file of the tables."""
        return bool(self.recorded) and self.sha256 == self.recorded


def make(name: str) -> MadeFile:
    """Make the weights of an entry of the catalog, unless the cache has them.

    Raises:
        UnknownNameError: no weights of this name are listed.
        UserError: they are fetched and not made; or a part of it failed, with the reason.
    """
    entry = lookup(name)
    source = entry.source
    if not isinstance(source, Made):
        raise UserError(
            f"weights:{entry.name} are fetched, and not made: vireid weights fetch {entry.name}."
        )
    path = weights_folder() / entry.file
    if not path.is_file():
        _make(entry, source, path)
    return MadeFile(path, sha256_of(path), source.recorded)


def _make(entry: Entry, source: Made, path: Path) -> None:
    as_safetensors = _writer()  # what is missing is said before hours of work
    recipe, folder = source.recipe, cache_folder() / "made" / entry.name
    images, run = folder / "images", folder / "run"
    render_dataset("sysu", images, recipe.preset, recipe.seed, ids=recipe.identities)
    final = run / "model_final.pth"
    begun = final if final.is_file() else last_checkpoint(run)
    if begun is not None:
        _check_recipe(begun, recipe, folder)
    if not final.is_file():
        with _datasets_in(images):
            train(recipe.config, ["OUTPUT_DIR", str(run)], resume=begun is not None)
    state = ordinary_state(read_checkpoint(str(final), entries=["model"])["model"])
    content = as_safetensors(state)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(content))


def _check_recipe(begun: Path, recipe: Recipe, folder: Path) -> None:
    """Raise ``CheckpointError`` if an earlier version trained a checkpoint by another recipe."""
    facts = read_facts(str(begun))
    if facts is None:  # it does not say by which recipe
        return
    found = differences_to(facts["config"], build_config(recipe.config, []), str(begun))
    others = [one.words for one in found if not one.free]
    if others:
        raise CheckpointError(
            f"{begun} was trained by another recipe than this version's ({', '.join(others[:3])}). "
            f"Remove the folder {folder}, and give the same command again."
        )


def ordinary_state(model: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Return the tensors of a vision transformer inside a model, by timm's names.

    Args:
        model: the tensors of a whole model whose backbone is a ``DualStreamViT`` without separate
            stages.

    Raises:
        CheckpointError: the backbone is another one.
    """
    prefix = "backbone."
    held = {n[len(prefix) :]: tensor for n, tensor in model.items() if n.startswith(prefix)}
    names = ordinary_names(held)
    strange = [name for name in held if name not in names]
    if strange or not held:
        raise CheckpointError(
            "Expected a vision transformer that both modalities share (UNSHARED_STAGES 0, "
            f"MODALITY_EMBEDDING none); found {', '.join(strange[:3]) or 'no backbone'}."
        )
    return {names[name]: held[name].contiguous() for name in sorted(held)}


def _writer() -> Callable[[Dict[str, Tensor]], bytes]:
    """Return the function that writes tensors as a file of safetensors.

    Raises:
        MissingLibraryError: there is none.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise MissingLibraryError(
            f"The file is written by safetensors, which cannot be imported ({error}). Install it: "
            "pip install 'vireid_plugins[vit]'."
        ) from error
    return save


@contextlib.contextmanager
def _datasets_in(folder: Path) -> Iterator[None]:
    before = os.environ.get("FASTREID_DATASETS")
    os.environ["FASTREID_DATASETS"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["FASTREID_DATASETS"]
        else:
            os.environ["FASTREID_DATASETS"] = before
