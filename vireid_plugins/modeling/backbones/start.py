"""What a backbone starts from: ``MODEL.BACKBONE.PRETRAIN`` and ``PRETRAIN_PATH``."""

import re
import shlex
import sys
from typing import Any, Callable, Dict, List, Mapping

from torch import Tensor, nn

from fastreid.modeling.backbones import BACKBONE_REGISTRY

from ...errors import CheckpointError, UserError
from ...pretrained import PREFIX, entries_for, fetch, is_listed_name, lookup
from ...registry import NETWORK_REGISTRY
from .pretrained import check_exists, fetched_once, fill, read_weights


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
        fetched_once(lambda: fetch(path))


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
    plain = network.partition(".")[0]  # without the tag of timm's weights
    if not network or (plain == entry.network and entry.depth in ("", node.DEPTH)):
        return
    others = [PREFIX + one.name for one in entries_for(plain, node.DEPTH)]
    depth = "" if plain.startswith("timm/") else f", MODEL.BACKBONE.DEPTH {node.DEPTH}"
    instead = f", or use weights of that network: {', '.join(others)}" if others else ""
    raise UserError(
        f"MODEL.BACKBONE.PRETRAIN_PATH is {PREFIX}{entry.name}, weights of {entry.title}, and the "
        f"backbone is {network}{depth}. Set "
        f"{shlex.join(entry.keys)}{instead}."
    )


def _network_of(node: Any) -> str:
    """Return the network's name of a backbone of ours or of FastReID; empty for another one."""
    builder: Any = BACKBONE_REGISTRY._obj_map.get(node.NAME)
    if hasattr(builder, "network_of"):
        return builder.network_of(node)
    ours = getattr(builder, "__module__", "").startswith(("vireid_plugins.", "fastreid."))
    found = re.fullmatch(r"build_(dual_stream_)?(?:(\w+)_)?backbone", node.NAME)
    if not (ours and found):
        return ""
    return found[2] or ""


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
    if not node.PRETRAIN:
        return build(cfg)
    if not node.PRETRAIN_PATH:
        if hasattr(sys.modules[build.__module__], "model_urls"):
            return build(cfg)  # which downloads them
        return _filled(
            _without_weights(build, cfg),
            fetch_listed(_network_of(node), node.DEPTH),
            "the listed weights",
            node,
        )
    state = read_start(cfg)  # before FastReID opens it
    if is_listed_name(node.PRETRAIN_PATH):
        return _filled(_without_weights(build, cfg), state, node.PRETRAIN_PATH, node)
    try:
        backbone = build(cfg)  # which may adapt weights, such as positions of a transformer
    except (KeyError, RuntimeError):  # it expects another wrapper, or another shape
        backbone = _without_weights(build, cfg)
    return _filled(backbone, state, node.PRETRAIN_PATH, node)


def _without_weights(build: Callable[[Any], nn.Module], cfg: Any) -> nn.Module:
    plain = cfg.clone()
    plain.defrost()
    plain.MODEL.BACKBONE.PRETRAIN = False
    return build(plain)


def _filled(backbone: nn.Module, state: Mapping[str, Tensor], source: str, node: Any) -> nn.Module:
    """Fill an ordinary backbone with a file that may name tensors as other programs do."""
    network: Any = NETWORK_REGISTRY._obj_map.get(_network_of(node))
    own = network.fastreid_names(state) if network else {name: name for name in state}
    fill(backbone, {name: (own[name],) for name in state}, state, source)
    return backbone


def fetch_listed(network: str, depth: str) -> Dict[str, Tensor]:
    """Return the weights that the catalog has for a network and ``MODEL.BACKBONE.DEPTH``.

    Raises:
        CheckpointError: it has none, or they cannot be fetched.
    """
    listed = entries_for(network, depth)
    if listed:
        return read_weights(PREFIX + listed[0].name)
    raise CheckpointError(
        f"No download of pretrained weights is known for the network {network}, "
        f"MODEL.BACKBONE.DEPTH {depth}. Set MODEL.BACKBONE.PRETRAIN_PATH to a file, or "
        "MODEL.BACKBONE.PRETRAIN False to train from random weights."
    )


def read_start(cfg: Any) -> Dict[str, Tensor]:
    """Read the weights that ``MODEL.BACKBONE.PRETRAIN_PATH`` names; see ``read_weights``.

    Raises:
        UserError: listed weights are those of another network than the config's.
    """
    path = cfg.MODEL.BACKBONE.PRETRAIN_PATH
    if is_listed_name(path):
        check_fit(path, cfg.MODEL.BACKBONE)
    return read_weights(path)
