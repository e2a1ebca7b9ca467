"""Pretrained weights of ordinary networks, from a file or downloaded if the user asks for it."""

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, NamedTuple, Tuple
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from fastreid.utils import comm

from ...errors import CheckpointError, MissingFileError
from ...readers.checkpoint import read_checkpoint
from ...readers.weights import WRAPPERS, check_kinds, check_weights

logger = logging.getLogger(__name__)


def read_weights(path: str) -> Dict[str, Tensor]:
    """Read the tensors of an ordinary checkpoint, under the network's own names.

    It may be a bare state dict (torchvision), FastReID's ``{"model": ...}`` with names that
    start with ``backbone.``, other wrappers named ``state_dict``, and ``module.`` of DDP.

    Raises:
        MissingFileError: no such file.
        CheckpointError: the file is not a checkpoint of tensors, or is damaged.
    """
    if not os.path.isfile(path):
        raise MissingFileError(
            f"MODEL.BACKBONE.PRETRAIN_PATH names {path!r}, which does not exist or is not a file."
        )
    return _tensors_in(path)


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
    state = read_weights(node.PRETRAIN_PATH)  # before FastReID opens it
    try:
        backbone = build(cfg)  # which may adapt weights, such as positions of a transformer
    except (KeyError, RuntimeError):  # it expects another wrapper, or another shape
        plain = cfg.clone()
        plain.defrost()
        plain.MODEL.BACKBONE.PRETRAIN = False
        backbone = build(plain)
    fill(backbone, {name: (name,) for name in state}, state, node.PRETRAIN_PATH)
    return backbone


def fetch_pretrained(key: str, urls: Mapping[str, str]) -> Dict[str, Tensor]:
    """Load ImageNet weights by FastReID's name for them, from PyTorch's cache or the network.

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
    url = urls[key]
    target = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not target.exists() and comm.get_local_rank() == 0:  # one process on each machine
        logger.info("Fetching pretrained weights from %s to %s", url, target)
        try:
            _download(url, target)
        except Exception as error:  # of the network, of the disk, of an unknown server
            raise CheckpointError(
                f"Pretrained weights could not be fetched ({type(error).__name__}: {error}). "
                f"Fetch {url} on a machine with a network, and either put it at {target} or set "
                "MODEL.BACKBONE.PRETRAIN_PATH to it. To train from random weights set "
                "MODEL.BACKBONE.PRETRAIN False."
            ) from error
    comm.synchronize()
    logger.info("Pretrained weights: %s", target)
    _check_hash(target, f"Move it away to have it fetched again from {url}.")
    return _tensors_in(str(target))


def _download(url: str, target: Path) -> None:
    """Download a file; it gets its name once it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{os.getpid()}.partial.{target.name}")
    try:
        torch.hub.download_url_to_file(url, str(partial), progress=False)
        _check_hash(partial, "Was the connection closed early?")
        read_checkpoint(str(partial))
        os.replace(partial, target)
    finally:
        if partial.exists():
            partial.unlink()


def _check_hash(path: Path, remedy: str) -> None:
    """Raise ``CheckpointError`` if the SHA-256 of a file does not begin as its name says."""
    promised = re.search(r"-([0-9a-f]{8,64})\.[^.]+$", path.name)
    if promised is None:
        return
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not digest.hexdigest().startswith(promised[1]):
        raise CheckpointError(
            f"{path} is not the file that its name promises: its SHA-256 begins with "
            f"{digest.hexdigest()[:8]}, not {promised[1]}. {remedy}"
        )


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
