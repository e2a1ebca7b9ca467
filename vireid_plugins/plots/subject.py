"""A trained model and its test set, which pictures are drawn from.

Shapes: N test images, D feature size.
"""

import logging
import os
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
from torch import Tensor, nn
from tqdm import tqdm

from ..data import build_test_loader
from ..data.item import Item, fingerprint_of, test_items
from ..data.keypoints import PathKeyPoints, file_of, folder_of, needs_keypoints
from ..engine.loading import named_weights, open_checkpoint
from ..errors import PlotError, UserError
from ..evaluation import Protocol, TestFeatures, build_protocols, extract_features, flip_options
from ..evaluation.left_out import left_out
from ..evaluation.result import ImageSet
from ..keypoints import Size
from ..runs.names import RESULTS
from ..runs.records import read_results

logger = logging.getLogger(__name__)

# KEY VALUE pairs whose keys begin so hold for the first model only, except the key in _OF_ALL.
_OF_ONE_MODEL, _OF_ALL = ("MODEL.", "INPUT."), ("MODEL.DEVICE",)


class Subject:
    """A model on the first dataset of ``DATASETS.TESTS``; everything is computed when first used.

    Args:
        label: what the model is called in pictures.
        cfg: the frozen config of the model.
        model: the model, in evaluation mode, on ``cfg.MODEL.DEVICE``.
        weights: path of its checkpoint.
        facts: what the checkpoint says about itself; None if it says nothing.
        progress: whether long work shows a progress bar, on the standard error stream.
    """

    def __init__(
        self,
        label: str,
        cfg: Any,
        model: nn.Module,
        weights: str,
        facts: Optional[Dict[str, Any]] = None,
        progress: bool = True,
    ) -> None:
        if not cfg.DATASETS.TESTS:
            raise PlotError("DATASETS.TESTS names no dataset to draw pictures of.")
        self.label, self.cfg, self.model, self.weights = label, cfg, model, weights
        self.facts, self.progress = facts, progress
        #: which images these are; None until the dataset is read
        self.images: Optional[ImageSet] = None

    @property
    def dataset_name(self) -> str:
        """Return the name of the test set, as in ``DATASETS.TESTS``."""
        return self.cfg.DATASETS.TESTS[0]

    @cached_property
    def _loader_and_dataset(self) -> Any:
        loader, dataset = build_test_loader(self.cfg, self.dataset_name)
        items = test_items(dataset)
        self.images = ImageSet(self.dataset_name, len(items), fingerprint_of(items))
        changed = _recorded_images_differ(self.weights, self.images)
        if changed:
            logger.warning("%s", changed)
        return loader, dataset

    @property
    def loader(self) -> Any:
        """Return a loader of all test images, in the order of ``items``."""
        return self._loader_and_dataset[0]

    @property
    def dataset(self) -> Any:
        """Return the dataset, which has ``query`` and ``gallery``."""
        return self._loader_and_dataset[1]

    @cached_property
    def items(self) -> List[Item]:
        """Return the N test images: the queries, then the gallery."""
        return test_items(self.dataset)

    @property
    def paths(self) -> np.ndarray:
        """Return the paths of the test images (N,)."""
        return np.array([item.path for item in self.items])

    @cached_property
    def keypoints(self) -> Optional[Callable[[str, Size], Tensor]]:
        """Return a function from path and size of an image to its key points (17, 3).

        None if the config reads none for test images. The file is ``INPUT.KEYPOINTS.FILE``; where
        it is a relative path, that of the test set.
        """
        if not needs_keypoints(self.cfg, is_train=False):
            return None
        own = Path(self.cfg.INPUT.KEYPOINTS.FILE).expanduser().is_absolute()
        folder = "" if own else folder_of(self.dataset)
        return PathKeyPoints(file_of(self.cfg, folder), folder).of

    @cached_property
    def protocols(self) -> List[Protocol]:
        """Return the protocol lines of the config; the first is the main one."""
        return build_protocols(self.cfg, self.dataset_name)

    @property
    def left_out(self) -> str:
        """Return what the evaluation does and pictures leave out, in sentences; empty: nothing."""
        return left_out(self.model)

    @cached_property
    def features(self) -> TestFeatures:
        """Return the features of all test images, in the order of ``items``.

        As in an evaluation, ``TEST.FLIP.ENABLED`` averages an image and its mirror image.
        """
        batches = tqdm(
            self.loader,
            desc=f"features of {self.label}",
            unit="batch",
            disable=not self.progress,
            file=sys.stderr,
        )
        return extract_features(self.model, batches, **flip_options(self.cfg))


def _recorded_images_differ(weights: str, images: ImageSet) -> str:
    """Return a sentence if the run of ``weights`` recorded results for other images."""
    record = Path(weights).parent / RESULTS
    if not record.is_file():
        return ""
    try:
        return read_results(record).changed_images(images)
    except UserError:  # a damaged record says nothing; the report lists it
        return ""


def load_subject(
    weights: str = "",
    config_file: Optional[str] = None,
    opts: Sequence[Any] = (),
    *,
    label: str = "",
    progress: bool = True,
) -> Subject:
    """Return the model of a checkpoint, and its test set, as an evaluation takes them.

    Args:
        weights: path of the checkpoint; empty: what ``MODEL.WEIGHTS`` names in ``opts`` or in the
            config.
        config_file: a path, or a file below ``configs/``; None: the config that the checkpoint
            carries.
        opts: KEY VALUE pairs that override the config.
        label: what the model is called in pictures; empty: the name of the checkpoint's folder.
        progress: whether long work shows a progress bar.

    Raises:
        UserError: no weights are named, or ``open_checkpoint`` refuses them.
    """
    weights = os.fspath(weights) or named_weights(config_file or "", opts)
    opened = open_checkpoint(weights, config_file or "", opts)
    label = label or folder_name(weights)
    subject = Subject(label, opened.cfg, opened.model, weights, opened.facts, progress)
    if subject.left_out:
        logger.warning("%s: %s", weights, subject.left_out)
    return subject


def load_subjects(
    config_file: Optional[str] = None,
    opts: Sequence[Any] = (),
    *,
    compare: Optional[Tuple[str, str]] = None,
    labels: Sequence[str] = (),
) -> List[Subject]:
    """Return a model and, with ``compare``, the model that it is compared with.

    Args:
        config_file: config of the first model; None: the config that its checkpoint carries.
        opts: KEY VALUE pairs, ``MODEL.WEIGHTS`` among them. They hold for both models, but
            ``MODEL.*`` (except ``MODEL.DEVICE``) and ``INPUT.*`` only for the first.
        compare: config and checkpoint of the other model; the config ``"-"``: the one that the
            checkpoint carries. None: there is no other model.
        labels: what each model is called in pictures; empty: the names of their folders.

    Raises:
        PlotError: the number of labels is not the number of models.
        UserError: ``load_subject`` refuses a model.
    """
    number = 2 if compare else 1
    names = list(labels) or [""] * number
    if len(names) != number:
        raise PlotError(f"--label is given once for each of {number} models; got {names}.")
    subjects = [load_subject("", config_file, opts, label=names[0])]
    if compare:
        other, weights = compare
        shared = _shared(opts)
        subjects.append(
            load_subject(weights, None if other == "-" else other, shared, label=names[1])
        )
        _tell_apart(subjects, bool(labels))
    return subjects


def _shared(opts: Sequence[Any]) -> List[Any]:
    """Return the KEY VALUE pairs that do not belong to one model."""
    pairs = zip(opts[0::2], opts[1::2])
    kept = [p for p in pairs if p[0] in _OF_ALL or not p[0].startswith(_OF_ONE_MODEL)]
    return [word for pair in kept for word in pair]


def _tell_apart(subjects: Sequence[Subject], chosen: bool) -> None:
    """Give models that have the same name, unless a user chose it, the folder above, or a number.

    ``agw/seed0`` and ``caj/seed0`` are two runs of a comparison; two checkpoints of one folder are
    numbered.
    """
    if not chosen and len({subject.label for subject in subjects}) < len(subjects):
        for subject in subjects:
            above = folder_name(os.path.dirname(os.path.abspath(subject.weights)))
            subject.label = f"{above}/{subject.label}" if above else subject.label
    if len({subject.label for subject in subjects}) < len(subjects):
        for number, subject in enumerate(subjects, start=1):
            subject.label = f"{subject.label} ({number})"


def folder_name(path: str) -> str:
    """Return the name of the folder that ``path`` lies in."""
    return os.path.basename(os.path.dirname(os.path.abspath(path)))


def check_same_images(subjects: Sequence[Subject]) -> None:
    """Raise ``PlotError`` unless all subjects are tested on the same images."""
    first = subjects[0]
    for other in subjects[1:]:
        if not np.array_equal(first.paths, other.paths):
            raise PlotError(
                f"{first.label} is tested on {first.dataset_name} ({len(first.items)} images) and "
                f"{other.label} on {other.dataset_name} ({len(other.items)} images), and they are "
                "not the same images. Name one test set for both: DATASETS.TESTS \"('NAME',)\""
            )
