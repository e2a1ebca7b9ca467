"""Check what an encoder has seen: the same weights on resume, and no test image or person.

``encoder.py`` gives the second stage the split that the encoder was trained on. Two runs may differ
in more than a split: in the list of images (``DATASETS.CSV_FILE``), in ``DATASETS.COMBINEALL``, or
in the dataset. So where the training images of the two differ, the encoder's own are read again,
and compared with the test images.
"""

import logging
import os
from typing import Any, List, Mapping

import torch

from fastreid.config import CfgNode
from fastreid.utils import comm

from ..data.datasets import CrossModalityDataset, DatasetError
from ..data.datasets.build import build_dataset, dataset_root
from ..data.datasets.files import FileKeys
from ..data.datasets.overlap import Source, find_leaks
from ..data.datasets.stock import person_of
from ..data.item import Item, test_items
from ..errors import CheckpointError, UserError
from ..keys import value_of
from ..merge import flat_values
from ..readers.checkpoint import read_checkpoint
from ..readers.weights import tensors_in
from ..readers.yaml_file import parse_yaml
from .checkpoint import read_facts
from .encoder import ENCODER, encoder_path, has_encoder

logger = logging.getLogger(__name__)

_ENCODER = "encoder."  # the encoder's tensors in a checkpoint of the second stage


def check_same_encoder(cfg: CfgNode, path: str) -> None:
    """Raise ``CheckpointError`` if a run is resumed with another encoder than it began with.

    An encoder's file that is absent is not needed, and not compared.

    Args:
        cfg: the present config.
        path: the checkpoint that the run continues from.
    """
    named = encoder_path(cfg)
    if not has_encoder(cfg) or not os.path.isfile(named):
        return
    held = tensors_in(read_checkpoint(path, entries=["model"]))
    theirs = tensors_in(read_checkpoint(named, entries=["model"]))
    pairs = [
        (held[_ENCODER + name], one) for name, one in theirs.items() if _ENCODER + name in held
    ]
    if all(_are_equal(own, other) for own, other in pairs):
        return
    raise CheckpointError(
        f"{path} cannot be resumed with the encoder {named}, whose weights differ from those of "
        f"the encoder that the run began with. To continue, let {ENCODER} name that one, or a path "
        f"where no file is, since the run holds its encoder; to train on the features of {named}, "
        "choose another OUTPUT_DIR."
    )


def _are_equal(own: torch.Tensor, other: torch.Tensor) -> bool:
    return own.shape != other.shape or torch.equal(own, other)


def check_unseen(cfg: CfgNode, loader: Any) -> None:
    """Check that an encoder was not trained on what the second stage is tested on.

    Args:
        cfg: the config of the second stage.
        loader: its training images. If the encoder was trained on the same ones, the check of the
            dataset itself has found what training and test share.

    Raises:
        DatasetError: the encoder was trained on test images, or on persons of the same folder, and
            ``DATASETS.ALLOW_OVERLAP`` is not set.
    """
    path = encoder_path(cfg)
    if not has_encoder(cfg) or not os.path.isfile(path):
        return
    facts = read_facts(path) or {}
    if facts.get("fingerprint") == loader.dataset.fingerprint or cfg.DATASETS.COMBINEALL:
        return
    try:
        problems = _problems(cfg, _encoder_config(cfg, facts, path), path)
    except UserError as error:
        _warn(
            f"{path} was trained on other images than this second stage is, and they cannot be "
            f"read now ({error}). Make sure that no test image or person was among them."
        )
        return
    if problems and not cfg.DATASETS.ALLOW_OVERLAP:
        raise DatasetError("\n".join(problems))
    for problem in problems:
        _warn(problem)


def _encoder_config(cfg: CfgNode, facts: Mapping[str, Any], path: str) -> CfgNode:
    """Return ``cfg`` with the datasets of the encoder."""
    other = cfg.clone()
    other.defrost()
    held = flat_values(parse_yaml(str(facts.get("config", "")), f"the config in {path}"))
    for key, value in held.items():
        if key.startswith("DATASETS.") and value_of(other, key) is not None:
            other.merge_from_list([key, tuple(value) if isinstance(value, list) else value])
    return other


def _problems(cfg: CfgNode, held: CfgNode, path: str) -> List[str]:
    combined = bool(held.DATASETS.COMBINEALL)
    seen = [build_dataset(held, name, combineall=combined) for name in held.DATASETS.NAMES]
    found = []
    for name in cfg.DATASETS.TESTS:
        test = build_dataset(cfg, name, "DATASETS.TESTS", mode="query")
        for one in seen:
            names = f"The encoder {path}: {type(one).__name__} and {name}"
            source = Source(names, dataset_root(), "the lists of the two", FileKeys())
            items = [Item.of(fields) for fields in one.train]
            found += find_leaks(items, test_items(test), _person(one, test), source)
    return found


def _person(train: Any, test: Any) -> Any:
    """Return a function that names a person alike in both datasets, if they lie in one folder.

    Lists in different folders may number different persons alike.
    """
    folders = [os.path.realpath(getattr(one, "dataset_dir", "")) for one in (train, test)]
    same = type(train) is type(test) and folders[0] == folders[1]

    def person(part: str, item: Item) -> Any:
        dataset = train if part == "train" else test
        if not same:
            return None
        if not isinstance(dataset, CrossModalityDataset):
            return person_of(dataset)(part, item)
        known = dataset.person_of(part, item)
        return dataset.label_name(known) if known == item.pid else known

    return person


def _warn(message: str) -> None:
    if comm.is_main_process():
        logger.warning("%s", message)
