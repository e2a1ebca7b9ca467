"""Build a registered dataset from a config, and keep its split in checkpoints."""

import os
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from vireid_plugins.errors import CheckpointError, UserError
from vireid_plugins.keys import check_ranges, value_of
from vireid_plugins.registry import lookup, registered_names

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY

from .base import CrossModalityDataset
from .stock import build_stock


def dataset_root() -> str:
    """Return ``$FASTREID_DATASETS``, or ``datasets``; the variable is read at each call."""
    return os.environ.get("FASTREID_DATASETS") or "datasets"


def build_dataset(cfg: CfgNode, name: str, key: str = "DATASETS.NAMES", **kwargs: Any) -> Any:
    """Return the dataset registered as ``name``, read from below :func:`dataset_root`.

    Args:
        key: the config key that names the dataset, for messages.
        kwargs: for the dataset's constructor, such as ``combineall``.

    Raises:
        UnknownNameError: there is no such dataset; the message has the nearest names.
        DatasetError: the dataset is absent, or not as documented.
    """
    kind = lookup(DATASET_REGISTRY, name, key)
    for argument, source in getattr(kind, "config_keys", {}).items():
        kwargs[argument] = value_of(cfg, source)
    if not issubclass(kind, CrossModalityDataset):
        return build_stock(kind, dataset_root(), **kwargs)
    allow_overlap = bool(value_of(cfg, "DATASETS.ALLOW_OVERLAP"))
    return kind(root=dataset_root(), allow_overlap=allow_overlap, **kwargs)


def check_is_there(cfg: CfgNode, name: str, key: str = "DATASETS.NAMES") -> None:
    """Raise ``DatasetError`` if a dataset of this package, or one of its lists, is absent.

    No image is read. FastReID's own datasets are not checked.
    """
    if issubclass(lookup(DATASET_REGISTRY, name, key), CrossModalityDataset):
        build_dataset(cfg, name, key, deferred=True)


class SplitFact(NamedTuple):
    """An argument that chooses a dataset's split, as a checkpoint remembers it."""

    name: str  # in the checkpoint, such as "regdb_trial"
    argument: str  # of the dataset's constructor, such as "trial"
    key: str  # of the config, such as "DATASETS.REGDB_TRIAL"


def split_facts(cfg: CfgNode) -> Dict[str, Any]:
    """Return the splits of all registered datasets that ``cfg`` chooses, for its checkpoints."""
    return {
        fact.name: value_of(cfg, fact.key)
        for dataset in registered_names(DATASET_REGISTRY)
        for fact in _facts_of(dataset)
    }


def restore_splits(
    cfg: CfgNode,
    facts: Mapping[str, Any],
    weights: str,
    given: Sequence[str] = (),
    *,
    datasets: Optional[Iterable[str]] = None,
) -> None:
    """Set the splits of the test sets to those that a checkpoint was trained on.

    Args:
        cfg: changed in place.
        facts: what the checkpoint says about itself.
        weights: path of the checkpoint, for the message.
        given: config keys that the user set; they must agree with the checkpoint and are not
            replaced.
        datasets: names of the datasets whose splits are set; None: the test sets.

    Raises:
        UserError: the user chose another split, whose test identities the model has seen.
    """
    # A script that only extracts features may not have registered the dataset. Then there is
    # nothing to set; if the dataset is needed after all, loading it raises its own error.
    trained_on = set(facts.get("train_datasets", ())) & set(registered_names(DATASET_REGISTRY))
    for dataset in cfg.DATASETS.TESTS if datasets is None else datasets:
        for fact in _facts_of(dataset) if dataset in trained_on else ():
            trained, asked = facts.get(fact.name), value_of(cfg, fact.key)
            if type(trained) is not type(asked):
                raise CheckpointError(
                    f"{weights} was trained on {dataset} and does not say on which "
                    f"{fact.argument}: its fact {fact.name!r} is {trained!r}. The file was "
                    "changed, or damaged; use an intact copy."
                )
            if fact.key in given and asked != trained:
                raise UserError(
                    f"{weights} was trained on {dataset} {fact.argument} {trained}: it "
                    f"has seen test identities of {fact.argument} {asked}. Each {fact.argument} "
                    f"needs a model of its own; leave {fact.key} out to take this one."
                )
            cfg.merge_from_list([fact.key, trained])
            try:
                check_ranges(cfg, [fact.key])
            except UserError as error:
                raise CheckpointError(f"{weights}, {fact.name}: {error}") from error


class SplitDifference(NamedTuple):
    """A dataset of which a checkpoint was trained on another split than a config chooses."""

    dataset: str
    argument: str  # such as "trial"
    key: str  # of the config
    trained: Any
    asked: Any


def split_differences(cfg: CfgNode, facts: Mapping[str, Any]) -> List[SplitDifference]:
    """Return the datasets that ``cfg`` trains or tests on, and a checkpoint on another split of.

    Args:
        cfg: a config.
        facts: what the checkpoint says about itself. What it does not say is not judged.
    """
    theirs = set(facts.get("train_datasets", ())) & set(registered_names(DATASET_REGISTRY))
    found = []
    for dataset in dict.fromkeys([*cfg.DATASETS.NAMES, *cfg.DATASETS.TESTS]):
        for fact in _facts_of(dataset) if dataset in theirs else ():
            trained, asked = facts.get(fact.name), value_of(cfg, fact.key)
            if trained not in (None, asked):
                found.append(SplitDifference(dataset, fact.argument, fact.key, trained, asked))
    return found


def _facts_of(dataset: str) -> Iterator[SplitFact]:
    kind = lookup(DATASET_REGISTRY, dataset, "DATASETS.TESTS")
    for argument in getattr(kind, "split_arguments", ()):
        yield SplitFact(f"{dataset.lower()}_{argument}", argument, kind.config_keys[argument])
