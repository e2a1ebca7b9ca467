"""Pretrained weights of ordinary networks, from a file or downloaded if the user asks for it."""

import logging
import os
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from torch import Tensor, nn

from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.utils import comm

from ...errors import CheckpointError, MissingFileError, UserError
from ...pretrained import (
    CATALOG,
    PREFIX,
    entries_for,
    fetch,
    fetch_url,
    is_listed_name,
    lookup,
)
from ...readers.checkpoint import read_checkpoint
from ...readers.weights import WRAPPERS, check_kinds, check_weights

logger = logging.getLogger(__name__)


def read_weights(path: str) -> Dict[str, Tensor]:
    """Read the tensors of an ordinary checkpoint, under the network's own names.

    It may be a bare state dict (torchvision), FastReID's ``{"model": ...}`` with names that
    start with ``backbone.``, other wrappers named ``state_dict``, and ``module.`` of DDP.

    Args:
        path: of the file, or a name of the catalog such as ``weights:mobilenetv2``.

    Raises:
        MissingFileError: no such file.
        CheckpointError: the file is not a checkpoint of tensors, is damaged, or cannot be fetched.
    """
    if is_listed_name(path):
        return _tensors_in(_fetched_once(lambda: fetch(path)))
    check_exists(path)
    return _tensors_in(path)


def check_exists(path: str) -> None:
    """Raise ``MissingFileError`` if a value of ``PRETRAIN_PATH`` is a path to no file."""
    if not is_listed_name(path) and not os.path.isfile(path):
        named = next((one.name for one in CATALOG if one.name == path.strip().lower()), "")
        hint = f" Did you mean {PREFIX}{named}?" if named else ""
        raise MissingFileError(
            f"MODEL.BACKBONE.PRETRAIN_PATH names {path!r}, which does not exist or is not a file."
            f"{hint}"
        )


def check_start(cfg: Any) -> None:
    """Check the file that a backbone starts from, and fetch it, before anything is built.

    Raises:
        MissingFileError: there is no such file.
        UnknownNameError: it is called ``weights:NAME``, and no such weights are listed.
        UserError: the listed weights are those of another network.
        CheckpointError: the listed weights cannot be fetched.
    """
    path = cfg.MODEL.BACKBONE.PRETRAIN_PATH
    if not (cfg.MODEL.BACKBONE.PRETRAIN and path):
        return
    check_exists(path)
    if is_listed_name(path):
        check_fit(path, cfg.MODEL.BACKBONE)
        _fetched_once(lambda: fetch(path))


def odd_start(cfg: Any) -> List[str]:
    """Return a sentence for each key of pretrained weights that probably is not as intended."""
    node, model = cfg.MODEL.BACKBONE, cfg.MODEL
    if not node.PRETRAIN_PATH:
        return []
    if not node.PRETRAIN:
        return [
            f"MODEL.BACKBONE.PRETRAIN_PATH {node.PRETRAIN_PATH} is not read, because "
            "MODEL.BACKBONE.PRETRAIN is False: the training starts from random weights."
        ]
    if not is_listed_name(node.PRETRAIN_PATH):
        return []
    entry = lookup(node.PRETRAIN_PATH)
    given = (tuple(model.PIXEL_MEAN), tuple(model.PIXEL_STD))
    near = all(abs(a - b) < 1 for ours, own in zip(given, entry.input) for a, b in zip(ours, own))
    if near:
        return []
    mean, std = (list(values) for values in entry.input)
    return [
        f"{PREFIX}{entry.name} was trained with MODEL.PIXEL_MEAN {mean} and MODEL.PIXEL_STD {std}; "
        f"the config has {list(given[0])} and {list(given[1])}."
    ]


def check_fit(path: str, node: Any) -> None:
    """Check that listed weights are those of the network that ``node``, a config node, names.

    Raises:
        UnknownNameError: no weights of this name are listed.
        UserError: they are those of another network.
    """
    entry, network = lookup(path), _network_of(node)
    if not network or (network == entry.network and entry.depth in ("", node.DEPTH)):
        return
    others = [PREFIX + one.name for one in entries_for(network, node.DEPTH)]
    instead = f", or use weights of that network: {', '.join(others)}" if others else ""
    raise UserError(
        f"MODEL.BACKBONE.PRETRAIN_PATH is {PREFIX}{entry.name}, weights of {entry.title}, and the "
        f"backbone is {network}, MODEL.BACKBONE.DEPTH {node.DEPTH}. Set "
        f"{' '.join(entry.keys)}{instead}."
    )


def _network_of(node: Any) -> str:
    """Return the network's name of a backbone of ours or of FastReID; empty for another one."""
    builder = BACKBONE_REGISTRY._obj_map.get(node.NAME)
    ours = getattr(builder, "__module__", "").startswith(("vireid_plugins.", "fastreid."))
    found = re.fullmatch(r"build_(dual_stream_)?(?:(\w+)_)?backbone", node.NAME)
    if not (ours and found):
        return ""
    return found[2] or str(node.get("NETWORK", ""))


def _tensors_in(path: str) -> Dict[str, Tensor]:
    state: Any = read_checkpoint(path)
    for wrapper in WRAPPERS:
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{path} holds no tensors, neither at its top nor under one of {', '.join(WRAPPERS)}. "
            "Expected the weights of an ordinary network: torch.save(network.state_dict(), PATH)."
        )
    tensors = check_weights(tensors, path)
    for prefix in ("module.", "backbone."):
        inside = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        tensors = inside or tensors
    return tensors


def build_with_file(build: Callable[[Any], nn.Module], cfg: Any) -> nn.Module:
    """Return a backbone of FastReID, with the weights in ``MODEL.BACKBONE.PRETRAIN_PATH`` if named.

    Args:
        build: FastReID's function, which takes the config.
        cfg: the config.

    Raises:
        MissingFileError: no such file.
        CheckpointError: the file is not a complete checkpoint, or belongs to another network.
    """
    node = cfg.MODEL.BACKBONE
    if not (node.PRETRAIN and node.PRETRAIN_PATH):
        return build(cfg)
    plain = cfg.clone()
    plain.defrost()
    state = read_start(cfg)  # before FastReID opens it
    if is_listed_name(node.PRETRAIN_PATH):
        plain.MODEL.BACKBONE.PRETRAIN_PATH = str(fetch(node.PRETRAIN_PATH))
    try:
        backbone = build(plain)  # which may adapt weights, such as positions of a transformer
    except (KeyError, RuntimeError):  # it expects another wrapper, or another shape
        plain.MODEL.BACKBONE.PRETRAIN = False
        backbone = build(plain)
    fill(backbone, {name: (name,) for name in state}, state, node.PRETRAIN_PATH)
    return backbone


def read_start(cfg: Any) -> Dict[str, Tensor]:
    """Read the weights that ``MODEL.BACKBONE.PRETRAIN_PATH`` names; see ``read_weights``.

    Raises:
        UserError: listed weights are those of another network than the config's.
    """
    path = cfg.MODEL.BACKBONE.PRETRAIN_PATH
    if is_listed_name(path):
        check_fit(path, cfg.MODEL.BACKBONE)
    return read_weights(path)


def fetch_pretrained(key: str, urls: Mapping[str, str]) -> Dict[str, Tensor]:
    """Load ImageNet weights by FastReID's name for them, from the cache or the network.

    The name of such a file holds the beginning of its SHA-256, which is checked.

    Raises:
        CheckpointError: the download failed, or the file is not the one that its name promises;
            the message names the file and the key to set.
    """
    if key not in urls:
        raise CheckpointError(
            f"No pretrained weights are published for {key!r} (only for {', '.join(urls)}). Set "
            "MODEL.BACKBONE.PRETRAIN False, or MODEL.BACKBONE.PRETRAIN_PATH to a file of yours."
        )
    return _tensors_in(_fetched_once(lambda: fetch_url(urls[key])))


def _fetched_once(fetched: Callable[[], Path]) -> str:
    """Call ``fetched`` in one process on each machine first; return the path in every process.

    Raises:
        UserError: it failed in one of them; all processes raise, so that none waits for another.
    """
    problem: Optional[UserError] = None
    if comm.get_local_rank() == 0:
        try:
            fetched()
        except UserError as error:
            problem = error
    for found in comm.all_gather(problem):
        if found is not None:
            raise CheckpointError(
                f"{found} To train from random weights set MODEL.BACKBONE.PRETRAIN False; to use a "
                "file of yours, set MODEL.BACKBONE.PRETRAIN_PATH to it."
            ) from found
    return str(fetched())


class LoadReport(NamedTuple):
    """Which tensors of a checkpoint were loaded, by the names of the network and of the file."""

    loaded: Tuple[str, ...]
    missing: Tuple[str, ...]  # in the network, not in the file
    unexpected: Tuple[str, ...]  # in the file, without a place or of another shape


def fill(
    network: nn.Module,
    places: Mapping[str, Tuple[str, ...]],
    state: Mapping[str, Tensor],
    source: str = "the checkpoint",
) -> LoadReport:
    """Copy tensors into ``network``; one tensor of the file may fill several places.

    Args:
        places: for each name in the file, the names in the network.
        state: for each name in the file, the tensor.
        source: what messages call the file.

    Raises:
        CheckpointError: no tensor fits, so the file belongs to another network; or one holds
            numbers of another kind.
    """
    own = network.state_dict()
    loaded, unexpected = [], []
    for name, tensor in state.items():
        fits = [p for p in places.get(name, ()) if p in own and own[p].shape == tensor.shape]
        if fits:
            check_kinds({name: own[fits[0]]}, {name: tensor}, source)
            loaded += fits
            own.update({place: tensor for place in fits})
        else:
            unexpected.append(name)
    if not any(name.endswith("weight") for name in loaded):
        raise CheckpointError(
            f"None of the {len(state)} tensors of {source} fits this backbone (the first: "
            f"{', '.join(list(state)[:3]) or 'none'}). Does MODEL.BACKBONE.DEPTH fit the file? The "
            "weights of a whole model belong in MODEL.WEIGHTS."
        )
    network.load_state_dict(own)
    done = set(loaded)
    missing = tuple(n for n in own if n not in done and not n.endswith("num_batches_tracked"))
    report = LoadReport(tuple(loaded), missing, tuple(unexpected))
    logger.info(
        "Pretrained weights: %d tensors loaded, %d missing%s, %d unexpected%s.",
        len(report.loaded),
        len(report.missing),
        _first(report.missing),
        len(report.unexpected),
        _first(report.unexpected),
    )
    return report


def _first(names: Tuple[str, ...]) -> str:
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
