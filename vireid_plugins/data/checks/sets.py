"""Check before training and evaluation that training and test share no image and no person.

Datasets of this package check their own lists (``datasets/overlap.py``). This file applies the same
rules to FastReID's datasets, and to several datasets that are used together.
"""

import logging
from typing import List, Sequence

from fastreid.config import CfgNode
from fastreid.data.datasets.bases import ImageDataset
from fastreid.utils import comm

from ..datasets import CrossModalityDataset, DatasetError
from ..datasets.build import dataset_root
from ..datasets.files import FileKeys
from ..datasets.overlap import Source, examine_part, find_leaks
from ..datasets.stock import person_of
from ..item import Item, test_items

logger = logging.getLogger(__name__)


def check_training_sets(
    cfg: CfgNode, sources: Sequence[ImageDataset], tests: Sequence[ImageDataset]
) -> None:
    """Check the datasets of a training against their own test images and against each other.

    Args:
        cfg: the config.
        sources: the datasets to train on, in the order of ``DATASETS.NAMES``.
        tests: the datasets that are evaluated during training; may be empty.

    Raises:
        DatasetError: training and test share images or persons, or several datasets give a
            training image different labels, and ``DATASETS.ALLOW_OVERLAP`` is not set.
    """
    for source in (*sources, *tests):
        if isinstance(source, CrossModalityDataset):
            source.check_leaks()
    combined = bool(cfg.DATASETS.COMBINEALL)
    problems: List[str] = []
    for test in tests:
        own = [source for source in sources if type(source) is type(test)]
        if own and combined:
            _warn(
                "DATASETS.COMBINEALL: the model is trained on the test images of "
                f"{_name(test)}, so results on them say nothing."
            )
        elif own and not isinstance(test, CrossModalityDataset):
            problems += stock_leaks(own[0], test)
        others = [source for source in sources if type(source) is not type(test)]
        for source in others:
            together = _source(f"{_name(source)} and {_name(test)}")
            train, items = _train_items(source), test_items(test)
            problems += find_leaks(train, items, lambda part, item: None, together)
    if len(sources) > 1:
        joined = [
            item._replace(pid=f"{_name(source)}/{item.pid}")
            for source in sources
            for item in _train_items(source)
        ]
        names = " and ".join(map(_name, sources))
        problems += examine_part("training", joined, _source(names)).problems
    _forgive_or_raise(cfg, problems)


def check_test_set(cfg: CfgNode, source: ImageDataset) -> None:
    """Check a dataset that is evaluated against its own training images, if they are there.

    Raises:
        DatasetError: as :func:`check_training_sets`.
    """
    if isinstance(source, CrossModalityDataset):
        source.check_leaks()
        return
    try:
        problems = stock_leaks(source, source)
    except DatasetError:  # only the test images are on this machine
        return
    _forgive_or_raise(cfg, problems)


def stock_leaks(source: ImageDataset, test: ImageDataset) -> List[str]:
    """Return what the training images of one of FastReID's datasets share with its test images."""
    label = person_of(source)
    return find_leaks(_train_items(source), test_items(test), label, _source(_name(source)))


def _train_items(source: ImageDataset) -> List[Item]:
    return [Item.of(fields) for fields in source.train]


def _name(source: ImageDataset) -> str:
    return type(source).__name__


def _source(name: str) -> Source:
    return Source(name, dataset_root(), f"the lists or folders of {name}", FileKeys())


def _forgive_or_raise(cfg: CfgNode, problems: Sequence[str]) -> None:
    if problems and not cfg.DATASETS.ALLOW_OVERLAP:
        raise DatasetError("\n".join(problems))
    for problem in problems:
        _warn(problem)


def _warn(message: str) -> None:
    if comm.is_main_process():
        logger.warning("%s", message)
