"""Turn a checkpoint that others published into one of this package, which carries its config."""

import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY

from ..data.datasets.build import split_facts
from ..data.datasets.trials import trial_keys
from ..data.reading import range_facts
from ..errors import CheckpointError, ExistingFileError, UserError
from ..files import check_can_write, write_atomically
from ..published import (
    SOURCES,
    NameMap,
    Network,
    describe,
    map_names,
    read_file_name,
    recognize,
    usual_source,
)
from ..readers.checkpoint import read_checkpoint
from ..readers.checksum import CHECKSUM, tensor_sums
from ..readers.safetensors_file import is_safetensors, read_safetensors
from ..readers.text import shown
from ..readers.weights import check_weights, shapes_of, tensors_in
from ..runs.names import FACTS
from ..version import __version__
from .checkpoint import TRAINING_ONLY
from .converted import Converted, assumed_words, result_words
from .model import build_model
from .setup import build_config
from .trained_on import dataset_of, short_name, trial_of

#: keys that are no matter of taste: who says them
_SAID_BY = {
    "DATASETS.NAMES": "--dataset says what the model was trained on",
    "MODEL.HEADS.NUM_CLASSES": "the file says it",
    **{
        f"MODEL.{name}": "the weights are those of the file"
        for name in ("WEIGHTS", "BACKBONE.PRETRAIN", "BACKBONE.PRETRAIN_PATH")
    },
}


def convert(
    weights: Union[str, Path],
    out: Union[str, Path],
    source: str = "",
    *,
    dataset: str = "",
    trial: Optional[int] = None,
    opts: Sequence[Any] = (),
) -> Converted:
    """Write a checkpoint of this package from one that a published program has trained.

    The new file carries its config and what it was trained on, so that every command opens it.

    Args:
        weights: path of the published checkpoint.
        out: path of the new file, which must not exist.
        source: a word of ``published.SOURCES``; empty: the file is recognized.
        dataset: a registered dataset, ``sysu``, ``regdb`` or ``llcm``; empty: found out from the
            name of the file, or from the number of identities.
        trial: the split of RegDB, 1 to 10; None: found out from the name of the file.
        opts: KEY VALUE pairs that override the config.

    Raises:
        MissingFileError: there is no such file.
        ExistingFileError: ``out`` exists.
        CheckpointError: the file is of another program, or not complete.
        UserError: an argument is wrong, or must be given.
    """
    path = os.fspath(weights)
    _check_arguments(source, out, opts)
    content = _read(path)
    check_can_write(Path(out))
    found = _find_out(content, path, source, dataset, trial)
    cfg = _config(found, opts)
    mapped = {place: found.tensors[name] for name, place in found.mapping.names.items()}
    _check_complete(cfg, mapped, shown(path))
    entries = {"model": mapped, FACTS: _facts(found, cfg)}
    if isinstance(content.get("epoch"), int) and content["epoch"] >= 0:
        entries["epoch"] = content["epoch"]
    entries[CHECKSUM] = tensor_sums(entries)
    write_atomically(Path(out), lambda file: torch.save(entries, file))
    return Converted(
        out=os.fspath(out),
        source=found.source,
        title=SOURCES[found.source].title,
        dataset=found.dataset,
        trial=found.trial,
        num_classes=found.mapping.num_classes,
        config=SOURCES[found.source].config,
        used=len(found.tensors) - len(found.mapping.dropped),
        dropped=len(found.mapping.dropped),
        assumed=assumed_words(cfg, found.network),
        results=result_words(content),
    )


class _Found(NamedTuple):
    """What is known of a published checkpoint before a network is built."""

    tensors: Dict[str, Tensor]
    network: Network
    mapping: NameMap
    source: str
    dataset: str
    trial: Optional[int]


def _check_arguments(source: str, out: Union[str, Path], opts: Sequence[Any]) -> None:
    if source and source not in SOURCES:
        raise UserError(f"--from is {source!r}; expected one of {', '.join(SOURCES)}.")
    _check_pairs(opts)
    if os.path.lexists(out):
        raise ExistingFileError(f"{shown(out)} exists and is not replaced. Name a new file.")


def _read(path: str) -> Dict[str, Any]:
    if os.path.isfile(path) and is_safetensors(path):
        return {**read_safetensors(path)}
    return read_checkpoint(path)


def _find_out(
    content: Dict[str, Any], path: str, source: str, dataset: str, trial: Optional[int]
) -> _Found:
    """Return what a file holds; ``source``, ``dataset`` and ``trial`` are the user's words."""
    where = shown(path)
    tensors = check_weights(_tensors(content, where), where)
    shapes = shapes_of(tensors)
    network = _checked_network(recognize(shapes), source, tensors, path)
    mapping = map_names(shapes, where)
    said = read_file_name(os.path.basename(path))
    source = source or usual_source(network, shapes, said)
    dataset = dataset_of(dataset, said, mapping.num_classes, where)
    return _Found(tensors, network, mapping, source, dataset, trial_of(trial, dataset, said, where))


def _tensors(content: Dict[str, Any], where: str) -> Dict[str, Tensor]:
    if FACTS in content:
        raise CheckpointError(
            f"{where} is a checkpoint of this package already, and carries its config. Nothing has "
            "to be converted; name it as it is."
        )
    tensors = tensors_in(content)
    if not tensors:
        raise CheckpointError(
            f"{where} holds no tensors of a network; its entries are: "
            f"{', '.join(map(shown, list(content)[:6])) or 'none'}. Expected a checkpoint as the "
            "training has written it, such as {'net': weights}."
        )
    return tensors


def _check_pairs(opts: Sequence[Any]) -> None:
    """Raise ``UserError`` if a value is missing, or a key is set that something else decides."""
    if len(opts) % 2:
        raise UserError(
            f"Overrides come as KEY VALUE pairs; got {' '.join(map(str, opts))}. Add the value "
            "that is missing."
        )
    said_by = {**_SAID_BY, **dict.fromkeys(trial_keys(), "--trial says it")}
    for key in opts[::2]:
        if key in said_by:
            raise UserError(f"{key} cannot be set here: {said_by[key]}. Leave the pair out.")


def _checked_network(
    network: Optional[Network], source: str, tensors: Dict[str, Tensor], path: str
) -> Network:
    """Return the network if it can be converted and, where one is named, belongs to the source."""
    where = shown(path)
    if network is None:
        raise CheckpointError(
            f"{where} is of no network that is known here; its first tensors are: "
            f"{', '.join(map(shown, list(tensors)[:4]))}. Converted are the checkpoints of: "
            f"{'; '.join(f'{one.title}, {one.repository}' for one in SOURCES.values())}."
        )
    if not network.is_converted:
        raise CheckpointError(describe(network, path, where))
    if source and network not in SOURCES[source].networks:
        fitting = [word for word, one in SOURCES.items() if network in one.networks]
        raise CheckpointError(
            f"{where} is not of --from {source}: it is a checkpoint of {network.title}. Leave "
            f"--from out, or write --from {' or '.join(fitting)}."
        )
    return network


def _config(found: _Found, opts: Sequence[Any]) -> CfgNode:
    """Return the config that builds the network and tests it as the published program does."""
    source, dataset = SOURCES[found.source], found.dataset
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pairs: List[Any] = ["MODEL.DEVICE", device]
    pairs += ["DATASETS.NAMES", (dataset,), "DATASETS.TESTS", (dataset,)]
    if found.trial is not None:
        pairs += [DATASET_REGISTRY.get(dataset).config_keys["trial"], found.trial]
    pairs += [*found.mapping.opts, *source.opts, *dict(found.network.opts_on).get(dataset, ())]
    pairs += ["OUTPUT_DIR", f"logs/{short_name(dataset).lower()}/{found.source}_converted", *opts]
    cfg = build_config(source.config, pairs)
    cfg.MODEL.HEADS.NUM_CLASSES = found.mapping.num_classes
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.MODEL.WEIGHTS = cfg.MODEL.BACKBONE.PRETRAIN_PATH = ""
    return cfg


def _facts(found: _Found, cfg: CfgNode) -> Dict[str, Any]:
    """Return what the new checkpoint says about itself."""
    source = SOURCES[found.source]
    return {
        "version": __version__,
        "config": cfg.dump(),
        "num_classes": found.mapping.num_classes,
        "train_datasets": [found.dataset],
        **split_facts(cfg),
        **range_facts(cfg),
        "converted": f"{source.title}, {source.repository}",
    }


def _check_complete(cfg: CfgNode, mapped: Dict[str, Tensor], where: str) -> None:
    """Raise an error unless the network of the config has exactly these tensors."""
    own = build_model(_on_cpu(cfg)).state_dict()
    wanted = {name for name in own if not TRAINING_ONLY.match(name)}
    problems: List[Tuple[str, str]] = [(name, "missing") for name in sorted(wanted - set(mapped))]
    problems += [(name, "without a place") for name in sorted(set(mapped) - set(own))]
    problems += [
        (name, f"{tuple(mapped[name].shape)} instead of {tuple(own[name].shape)}")
        for name in sorted(set(mapped) & set(own))
        if mapped[name].shape != own[name].shape
    ]
    if problems:
        name, how = problems[0]
        raise CheckpointError(
            f"{where} does not fill the network: of {len(own)} tensors, {len(problems)} do not "
            f"fit. The first is {name}, which is {how}. Use an intact copy of the file; if a key "
            "after the options has changed the network, leave it out."
        )


def _on_cpu(cfg: CfgNode) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    return cfg
