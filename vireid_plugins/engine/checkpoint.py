"""Write and read checkpoints. A kill during writing never leaves an incomplete checkpoint."""

import contextlib
import logging
import os
import re
from pathlib import Path
from typing import Any, ContextManager, Dict, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor

from fastreid.utils.checkpoint import Checkpointer

from ..errors import CheckpointError, MissingFileError, one_line
from ..files import write_atomically
from ..modeling.sizes import adapt_sizes
from ..pretrained import is_listed_name
from ..published import advice_about
from ..readers.checkpoint import read_checkpoint
from ..readers.checksum import CHECKSUM, leaves, tensor_sums
from ..readers.weights import WRAPPERS, check_kinds, check_weights, shapes_of, tensors_in
from ..runs.facts import best_metric, epochs_done, facts_in
from ..runs.last import last_checkpoint, naming_others
from ..runs.names import FACTS, LAST, UNFINISHED
from ..runs.writers import REMEDY
from ..solver import is_optimizer
from .old_names import with_new_names
from .optimizer_state import START_ANEW, check_has_state, check_optimizer_state

logger = logging.getLogger(__name__)

# Needed in training only: losses with parameters, and classifiers of FastReID's heads (also MGN's,
# and those of networks inside a model).
TRAINING_ONLY = re.compile(
    r"loss_terms\.|(\w+\.)*(heads|b\d+_head)\.weight$|.*num_batches_tracked$"
)

# ... and FastReID before 1.0 kept the values of MODEL.PIXEL_MEAN and MODEL.PIXEL_STD.
_NOT_FOR_FEATURES = re.compile(
    TRAINING_ONLY.pattern + r"|pixel_(mean|std)$|(heads|b\d+_head)\.classifier"
)


_USE_ITS_CONFIG = "Use the config that it was trained with: config.yaml in the same folder."


class AtomicCheckpointer(Checkpointer):
    """FastReID's checkpointer, which writes to another name first and then renames the file.

    So a file with its final name is always complete. The order is: write the checkpoint, name it in
    ``last_checkpoint`` (written in the same way), then delete ``model_resume.pth``, which holds an
    older state from inside an epoch or from before its evaluation.
    """

    _need, _path = "some", ""  # arguments of the ``load`` that is in progress
    _wanted: Sequence[str] = ()

    def save(self, name: str, resumable: bool = True, **kwargs: Any) -> None:
        """Write ``<name>.pth`` with the model, every checkpointable and ``kwargs``.

        A checksum of every tensor is added, see ``readers/checksum.py``.

        Args:
            name: name of the file, without its suffix.
            resumable: whether ``--resume`` continues from this file from now on.
            kwargs: other entries.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data: Dict[str, Any] = {"model": self.model.state_dict()}
        data.update({key: obj.state_dict() for key, obj in self.checkpointables.items()})
        data.update(kwargs)
        data[CHECKSUM] = tensor_sums(data)
        target = Path(self.save_dir) / f"{name}.pth"
        write_atomically(target, lambda file: torch.save(data, file), _size_words(data) + REMEDY)
        logger.info("Saved %s", target)
        if resumable:
            self.tag_last_checkpoint(target.name)
            if name != UNFINISHED:
                self.remove_unfinished()

    def remove_unfinished(self) -> None:
        """Delete the state from before the checkpoint that ``last_checkpoint`` names now."""
        if self.save_dir and self.save_to_disk:
            (Path(self.save_dir) / f"{UNFINISHED}.pth").unlink(missing_ok=True)

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
            CheckpointError: the file is not a checkpoint, a tensor that ``need`` asks for does not
                fit, is damaged or not finite, or the state of another object does not fit.
        """
        if not path:  # FastReID says "from scratch", also of a training from pretrained weights
            logger.info("A new training begins; it continues no checkpoint.")
            return {}
        check_weights_exist(path)
        wanted = list(self.checkpointables if checkpointables is None else checkpointables)
        self._need, self._path, self._wanted = need, path, wanted
        rest = super().load(path, checkpointables=[])
        for name in wanted:
            if name in rest:
                logger.info("Loading %s from %s", name, path)
                self._load_state(name, rest.pop(name))
            elif need == "all" and is_optimizer(self.checkpointables[name]):
                raise CheckpointError(
                    f"{path} cannot be resumed: it holds no state of the optimizer. {START_ANEW}"
                )
        return rest

    def _load_state(self, name: str, state: Any) -> None:
        """Load the state of an object other than the model, such as the optimizer."""
        known: Any = self.checkpointables[name]
        if is_optimizer(known):
            check_optimizer_state(state, known, self._path)
        try:
            known.load_state_dict(state)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{self._path} cannot be resumed: its {name!r} does not fit "
                f"({type(error).__name__}: {one_line(error)}). {START_ANEW}"
            ) from error

    def _load_file(self, f: Any) -> Any:
        """Load the file, without the states of objects that are not needed."""
        entries = ["model", *self._wanted]
        with self._naming_others():
            content = read_checkpoint(f, None if self._need == "all" else entries)
            if not isinstance(content.get("model"), dict):
                content = {"model": self._other_weights(read_checkpoint(f))}
        return content

    def _other_weights(self, content: Dict[str, Any]) -> Dict[str, Tensor]:
        """Return weights that are not under ``model``: under another entry, or at the top.

        Raises:
            CheckpointError: there are none that fit the model, or a run is resumed.
        """
        tensors = tensors_in(content)
        own = self.model.state_dict()
        if self._need == "all":
            raise CheckpointError(_no_model(content, self._path))
        if not any(name in own for name in with_new_names(tensors, own)):
            raise CheckpointError(_another_model(content, self._path))
        logger.info(
            "%s has no entry 'model'; its weights were found elsewhere in it.",
            self._path,
        )
        return tensors

    def _naming_others(self) -> ContextManager[None]:
        """Return a block in which an error names other checkpoints, if a run is resumed."""
        resumes = self._need == "all"
        return naming_others(Path(self._path)) if resumes else contextlib.nullcontext()

    def _load_model(self, checkpoint: Any) -> Any:
        with self._naming_others():
            weights = check_weights(checkpoint["model"], f"{self._path}: model")
        if CHECKSUM not in checkpoint:
            logger.info(
                "%s has no checksum of its tensors: another program or an older version wrote it.",
                self._path,
            )
        own = self.model.state_dict()
        checkpoint["model"] = with_new_names(weights, own)
        if self._need != "all":  # a run that is resumed has its own sizes
            adapt_sizes(self.model, checkpoint["model"])
        self._check_fit(own, checkpoint["model"])
        return super()._load_model(checkpoint)

    def _check_fit(self, own: Dict[str, Tensor], held: Dict[str, Tensor]) -> None:
        """Compare the shapes of the model's tensors and of the checkpoint's, by name."""
        fitting = [name for name in held if name in own and own[name].shape == held[name].shape]
        absent = [name for name in own if name not in held or own[name].shape != held[name].shape]
        unexpected = [name for name in held if name not in fitting]
        logger.info(
            "%s: %d tensors loaded, %d missing, %d unexpected.",
            *(self._path, len(fitting), len(absent), len(unexpected)),
        )
        if self._need == "features":
            parts = _parts_of_training(self.model)
            absent = [
                name
                for name in absent
                if not TRAINING_ONLY.match(name) and not name.startswith(parts)
            ]
        refused = absent + unexpected if self._need == "all" else absent
        if not fitting or (refused and self._need != "some"):
            advice = advice_about(shapes_of(held), self._path)
            raise CheckpointError(
                f"{self._path} belongs to another model: only {len(fitting)} of the {len(own)} "
                "tensors of this model fit. Others are missing or have another shape, such as "
                f"{', '.join(refused[:3])}. {advice or _USE_ITS_CONFIG}"
            )
        strange = [name for name in unexpected if not _NOT_FOR_FEATURES.match(name)]
        if strange and self._need == "features":
            logger.warning(
                "%s: the model has no place for %d of the tensors, such as %s. Check that the "
                "config is the one of its training.",
                *(self._path, len(strange), ", ".join(strange[:3])),
            )
        check_kinds(own, {name: held[name] for name in fitting}, self._path)

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


def _parts_of_training(model: Any) -> Tuple[str, ...]:
    """Return the beginnings of the names of tensors that a model and its head only train with."""
    head = getattr(getattr(model, "heads", None), "training_only", ())
    parts = (*getattr(model, "training_only", ()), *(f"heads.{part}" for part in head))
    return tuple(f"{part}." for part in parts)


def _another_model(checkpoint: Mapping[str, Any], path: str) -> str:
    """Return the message about a checkpoint of which no tensor has a name of this model's."""
    tensors = tensors_in(checkpoint)
    if not tensors or advice_about(shapes_of(tensors), path):
        return _no_model(checkpoint, path)
    first = ", ".join(list(tensors)[:3])
    return (
        f"{path} holds no 'model', and none of its {len(tensors)} tensors (the first: {first}) has "
        "a name of this model's: it belongs to another model. Give the config that it was trained "
        "with. Weights of an ordinary backbone belong in MODEL.BACKBONE.PRETRAIN_PATH, not in "
        "MODEL.WEIGHTS."
    )


def _no_model(checkpoint: Mapping[str, Any], path: str) -> str:
    """Return the message about a checkpoint without weights under the name ``model``."""
    advice = advice_about(shapes_of(tensors_in(checkpoint)), path)
    if advice:
        return f"{path} cannot be loaded into this model. {advice}"
    other = next((name for name in WRAPPERS if isinstance(checkpoint.get(name), dict)), "")
    if other:
        how = f"Its weights are under {other!r}; save them as torch.save({{'model': "
        how += f"torch.load(PATH)[{other!r}]}}, NEW_PATH)."
    else:
        how = "Save the weights of a model with torch.save({'model': state_dict}, PATH)."
    return (
        f"{path} holds no 'model'. {how} Weights of an ordinary backbone belong in "
        "MODEL.BACKBONE.PRETRAIN_PATH, not in MODEL.WEIGHTS."
    )


def _size_words(content: Dict[str, Any]) -> str:
    """Return a sentence that says how large a checkpoint is, for a remedy."""
    tensors = [one for _, one in leaves(content) if isinstance(one, torch.Tensor)]
    size = sum(one.numel() * one.element_size() for one in tensors)
    return f"A checkpoint of this run takes {size / 1e6:,.1f} MB. "


def remove_partial_files(folder: str) -> None:
    """Delete the incomplete files of a killed run."""
    for path in Path(folder).glob(".*.partial"):
        logger.info("Removing %s, which a killed run left incomplete.", path)
        path.unlink()


def check_weights_exist(path: str) -> None:
    """Raise ``MissingFileError`` unless ``path`` is a file."""
    if not os.path.isfile(path):
        listed = " weights:NAME belongs in MODEL.BACKBONE.PRETRAIN_PATH, with PRETRAIN True."
        raise MissingFileError(
            f"MODEL.WEIGHTS names {path!r}, which does not exist or is not a file. Train a model "
            f"first, or give the path of a .pth file.{listed if is_listed_name(path) else ''}"
        )


def read_facts(path: str) -> Optional[Dict[str, Any]]:
    """Return the facts in a checkpoint; None if another program wrote it.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file is not a complete checkpoint, or a fact is wrong.
    """
    check_weights_exist(path)
    return facts_in(read_checkpoint(path, entries=[]), path)


def load_to_resume(checkpointer: AtomicCheckpointer, optimizer: Any, path: str) -> Dict[str, Any]:
    """Load a checkpoint to resume from, and return its other entries.

    Learning rates and the kind of optimizer step come from the config, not from the checkpoint.

    Raises:
        CheckpointError: it belongs to another model, another program wrote it, or it is damaged.
    """
    configured = [
        {key: group[key] for key in ("initial_lr", "foreach", "fused") if key in group}
        for group in optimizer.param_groups
    ]
    rest = checkpointer.load(path, need="all")
    rest["epoch"] = epochs_done(rest, path) - 1
    rest["best_metric"] = best_metric(rest, path, default=float("-inf"))
    rest[FACTS] = facts_in(rest, path) or {}
    skipped = getattr(checkpointer.checkpointables.get("clusters"), "skipped", 0)
    if rest["epoch"] >= skipped:  # no step may have been made before
        check_has_state(optimizer, path)
    for group, own in zip(optimizer.param_groups, configured):
        group.update(own)
    return rest
