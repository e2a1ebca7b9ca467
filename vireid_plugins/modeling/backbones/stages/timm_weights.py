"""Fetch pretrained weights by timm's own download, once on each machine."""

import logging
import socket
import urllib.parse
import urllib.request
from typing import Any, Callable, Mapping

import torch
from torch import Tensor

from ....errors import CheckpointError, MissingLibraryError
from ..pretrained import fetched_once
from .cutting import first_sentence
from .timm_library import network_name

logger = logging.getLogger(__name__)


def fetch(name: str, about: Any, build: Callable[..., Any]) -> Mapping[str, Tensor]:
    """Return the weights that timm publishes for a network, from its cache or the network.

    Args:
        name: timm's name of the network.
        about: what timm knows about the weights, a ``PretrainedCfg`` or None.
        build: builds the network, with further options of ``timm.create_model``.

    Raises:
        CheckpointError: there are no such weights, or the download failed, or it needs a library
            that is not installed.
    """
    if about is None or not about.has_weights:
        raise CheckpointError(
            f"timm publishes no pretrained weights for {name}. Set MODEL.BACKBONE.PRETRAIN_PATH to "
            "a file of yours, or MODEL.BACKBONE.PRETRAIN False."
        )
    return fetched_once(lambda: _fetch(name, about, build))


def _fetch(name: str, about: Any, build: Callable[..., Any]) -> Mapping[str, Tensor]:
    try:
        cached = _cached(about)
        if not cached:
            _check_host(about)
        options = {"pretrained_cfg_overlay": {"file": cached}} if cached else {}
        with torch.random.fork_rng(devices=[]):  # the rest of the model draws the same numbers
            return build(pretrained=True, **options).state_dict()
    except ModuleNotFoundError as error:  # timm was installed without what it needs
        raise MissingLibraryError(
            f"timm's pretrained weights of {name} are fetched with {error.name}, which is not "
            f"installed: pip install {error.name}."
        ) from error
    except Exception as error:  # of the network, of the disk, of an unknown server
        where = f"https://huggingface.co/{about.hf_hub_id}" if about.hf_hub_id else about.url
        raise CheckpointError(
            f"timm's pretrained weights of {name} could not be fetched ({type(error).__name__}: "
            f"{first_sentence(error)}). On a machine with a network, fetch the file of weights "
            f"from {where}."
        ) from error


def _cached(about: Any) -> str:
    """Return the path of the weights in the cache of the Hugging Face Hub; empty: not there."""
    if not about.hf_hub_id or about.custom_load:
        return ""
    from huggingface_hub import try_to_load_from_cache

    names = [about.hf_hub_filename or "model.safetensors", "pytorch_model.bin"]
    found = [try_to_load_from_cache(about.hf_hub_id, name) for name in names]
    return next((path for path in found if isinstance(path, str)), "")


def _check_host(about: Any) -> None:
    """Raise ``OSError`` if the weights' host has no address; the Hub's code tries it for 47 s."""
    if urllib.request.getproxies():  # then the proxy looks up the address
        return
    if about.hf_hub_id:
        from huggingface_hub import constants

        url = constants.ENDPOINT
    else:
        url = about.url
    host = urllib.parse.urlparse(url).hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        raise OSError(f"{host}: {error.strerror or error}") from error


def compare_pixels(cfg: Any, about: Any) -> None:
    """Warn if the weights were trained on images that were normalized with other numbers."""
    ours = [list(cfg.MODEL.PIXEL_MEAN), list(cfg.MODEL.PIXEL_STD)]
    own = [[round(255 * value, 3) for value in values] for values in (about.mean, about.std)]
    if any(abs(a - b) > 1 for pair in zip(ours, own) for a, b in zip(*pair)):
        logger.warning(
            "timm's weights of %s were trained with MODEL.PIXEL_MEAN %s and MODEL.PIXEL_STD %s; "
            "the config has %s and %s.",
            network_name(cfg),
            *own,
            *ours,
        )
