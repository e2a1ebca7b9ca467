"""Pretrained weights of ordinary networks, from a file or downloaded if the user asks for it."""

import logging
import os
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Tuple
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from fastreid.utils import comm

from ...errors import CheckpointError, MissingFileError
from ...readers.checkpoint import read_checkpoint

logger = logging.getLogger(__name__)


def read_weights(path: str) -> Dict[str, Tensor]:
    """Read the tensors of an ordinary checkpoint, under the network's own names.

    It may be a bare state dict (torchvision), FastReID's ``{"model": ...}`` with names that
    start with ``backbone.``, other wrappers named ``state_dict``, and ``module.`` of DDP.

    Raises:
        MissingFileError: no such file.
        CheckpointError: the file is not a checkpoint of tensors.
    """
    if not os.path.isfile(path):
        raise MissingFileError(
            f"MODEL.BACKBONE.PRETRAIN_PATH names {path!r}, which does not exist."
        )
    state: Any = read_checkpoint(path)
    for wrapper in ("model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)} if state else {}
    for prefix in ("module.", "backbone."):
        inside = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        tensors = inside or tensors
    return tensors


def fetch_pretrained(key: str, urls: Mapping[str, str]) -> Dict[str, Tensor]:
    """Load ImageNet weights by FastReID's name for them, from PyTorch's cache or the network.

    Raises:
        CheckpointError: the download failed; the message names the file and the key to set.
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
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(target), progress=False)
        except Exception as error:
            raise CheckpointError(
                f"Pretrained weights could not be fetched ({type(error).__name__}: {error}). "
                f"Fetch {url} on a machine with a network, and either put it at {target} or set "
                "MODEL.BACKBONE.PRETRAIN_PATH to it. To train from random weights set "
                "MODEL.BACKBONE.PRETRAIN False."
            ) from error
    comm.synchronize()
    logger.info("Pretrained weights: %s", target)
    return read_checkpoint(str(target))


class LoadReport(NamedTuple):
    """Which tensors of a checkpoint were loaded, by the names of the network and of the file."""

    loaded: Tuple[str, ...]
    missing: Tuple[str, ...]  # in the network, not in the file
    unexpected: Tuple[str, ...]  # in the file, without a place or of another shape


def fill(network: nn.Module, places: Mapping[str, Tuple[str, ...]], state: Mapping) -> LoadReport:
    """Copy tensors into ``network``; one tensor of the file may fill several places.

    Args:
        places: for each name in the file, the names in the network.
        state: for each name in the file, the tensor.

    Raises:
        CheckpointError: no tensor fits, so the file belongs to another network.
    """
    own = network.state_dict()
    loaded, unexpected = [], []
    for name, tensor in state.items():
        fits = [p for p in places.get(name, ()) if p in own and own[p].shape == tensor.shape]
        if fits:
            loaded += fits
            own.update({place: tensor for place in fits})
        else:
            unexpected.append(name)
    if not any(name.endswith("weight") for name in loaded):
        raise CheckpointError(
            f"None of the checkpoint's {len(state)} tensors fits this backbone (the first: "
            f"{', '.join(list(state)[:3]) or 'none'}). Does MODEL.BACKBONE.DEPTH fit the file?"
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
