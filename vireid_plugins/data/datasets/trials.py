"""Datasets whose published result is the mean over several models, one for each split."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from vireid_plugins.registry import lookup, registered_names

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY

from ..labels import first_few
from .base import CrossModalityDataset
from .build import build_dataset
from .errors import DatasetError

_MOST = 12  # how many numbers a message names


class SeparateTrials(NamedTuple):
    """The trials of a dataset, each of which is a split that needs a model of its own."""

    dataset: str  # registered name
    word: str  # what a trial is called: the argument of the dataset's constructor
    key: str  # of the config, such as "DATASETS.REGDB_TRIAL"
    numbers: Tuple[int, ...]  # all of them, in order


def separate_trials(cfg: CfgNode) -> Optional[SeparateTrials]:
    """Return the trials of the dataset that ``cfg`` trains on; None if one model serves it.

    With several training datasets, the first one that has trials counts.

    Raises:
        UnknownNameError: a training dataset is not registered.
    """
    for name in cfg.DATASETS.NAMES:
        kind = lookup(DATASET_REGISTRY, name, "DATASETS.NAMES")
        for argument, numbers in getattr(kind, "separate_trials", {}).items():
            return SeparateTrials(name, argument, kind.config_keys[argument], tuple(numbers))
    return None


def trial_keys() -> Set[str]:
    """Return the keys that choose a trial of some registered dataset."""
    kinds = map(DATASET_REGISTRY.get, registered_names(DATASET_REGISTRY))
    return {kind.config_keys[one] for kind in kinds for one in getattr(kind, "separate_trials", {})}


def check_trials(
    cfg: CfgNode, trials: SeparateTrials, numbers: Sequence[int], asked: Sequence[int] = ()
) -> None:
    """Read the lists of some trials, of training and test, so that a fault is known in advance.

    Args:
        cfg: a config that trains on the dataset.
        trials: its trials.
        numbers: those whose lists are read.
        asked: all that the user asked for, of which some may be done; empty: ``numbers``.

    Raises:
        DatasetError: a list is absent or wrong. The message names each trial that has a fault.
    """
    found: Dict[str, List[int]] = {}
    for number in numbers:
        other = cfg.clone()
        other.defrost()
        other.merge_from_list([trials.key, number])
        for message in _faults(build_dataset(other, trials.dataset, deferred=True)):
            found.setdefault(message, []).append(number)
    bad = sorted({number for of in found.values() for number in of})
    if not bad:
        return
    told = " ".join(
        f"{trials.word.capitalize()} {first_few(of, _MOST)}: {message}"
        for message, of in found.items()
    )
    rest = [number for number in (asked or numbers) if number not in bad]
    instead = f", or ask for the others: {' '.join(map(str, rest))}" if rest else ""
    raise DatasetError(
        f"{trials.dataset}: {len(bad)} of {len(asked or numbers)} {trials.word}s cannot be used. "
        f"Mend their lists{instead}. {told}"
    )


def _faults(dataset: Any) -> List[str]:
    """Return what is wrong with the lists of a dataset."""
    if not isinstance(dataset, CrossModalityDataset):
        return []
    try:
        for split in ("train", "query", "gallery"):
            getattr(dataset, split)
    except DatasetError as error:
        return [str(error)]
    return []
