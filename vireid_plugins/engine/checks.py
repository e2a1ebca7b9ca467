"""Find mistakes in a config that would otherwise end in a bare assertion or ``KeyError``."""

import os
from typing import Any

import torch

from fastreid.layers import any_softmax, pooling
from fastreid.layers.batch_norm import SyncBatchNorm
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY
from fastreid.utils import comm

from ..errors import UserError
from ..registry import lookup, suggest

NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")


def check_model_names(cfg: Any) -> None:
    """Look up every name of ``MODEL.*`` that a model is built from.

    Raises:
        UnknownNameError: a name is not registered; the message names the nearest ones.
        UserError: a pooling, classifier or normalization layer is unknown.
    """
    model = cfg.MODEL
    lookup(META_ARCH_REGISTRY, model.META_ARCHITECTURE, "MODEL.META_ARCHITECTURE")
    lookup(BACKBONE_REGISTRY, model.BACKBONE.NAME, "MODEL.BACKBONE.NAME")
    lookup(REID_HEADS_REGISTRY, model.HEADS.NAME, "MODEL.HEADS.NAME")
    for key, name, valid in (
        ("MODEL.HEADS.POOL_LAYER", model.HEADS.POOL_LAYER, pooling.__all__),
        ("MODEL.HEADS.CLS_LAYER", model.HEADS.CLS_LAYER, any_softmax.__all__),
        ("MODEL.HEADS.NORM", model.HEADS.NORM, NORMS),
        ("MODEL.BACKBONE.NORM", model.BACKBONE.NORM, NORMS),
    ):
        if name not in valid:
            raise UserError(f"{key} is {name!r}. {suggest(name, valid)}")


def check_run(cfg: Any, num_classes: int) -> None:
    """Raise ``UserError`` if the training set or the processes do not suit the config."""
    if cfg.MODEL.HEADS.NUM_CLASSES < num_classes:
        raise UserError(
            f"MODEL.HEADS.NUM_CLASSES is {cfg.MODEL.HEADS.NUM_CLASSES} and the training set has "
            f"{num_classes} identities; leave it at 0 to take the number from the data."
        )
    if comm.get_world_size() > 1 and ":" in cfg.MODEL.DEVICE:
        raise UserError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r} for {comm.get_world_size()} processes, each of "
            "which needs its own GPU; leave the number out, and set CUDA_VISIBLE_DEVICES."
        )
    check_sync_norm(cfg)
    if cfg.TEST.PRECISE_BN.ENABLED:
        raise UserError("TEST.PRECISE_BN.ENABLED is not supported here; set it False.")


def check_sync_norm(cfg: Any) -> None:
    """Raise ``UserError`` if a ``NORM`` is ``syncBN`` and PyTorch cannot compute it here."""
    keys = [f"MODEL.{p}.NORM" for p in ("BACKBONE", "HEADS") if cfg.MODEL[p].NORM == "syncBN"]
    if not keys or not str(cfg.MODEL.DEVICE).startswith("cpu"):
        return
    try:  # some releases always refuse a CPU, others only in several processes
        SyncBatchNorm(1)(torch.zeros(2, 1, 1, 1))
    except ValueError as error:
        raise UserError(
            f"{' and '.join(keys)} syncBN: batch norm is synchronized on GPUs only "
            f"(PyTorch {torch.__version__}: {error}). With MODEL.DEVICE cpu set it to BN: each "
            "process then normalizes by its own images."
        ) from error


def make_output_folder(path: str, key: str = "OUTPUT_DIR") -> None:
    """Make the folder that ``key`` names.

    Raises:
        UserError: it cannot be made, or cannot be written to.
    """
    if not path.strip():
        raise UserError(f"{key} is empty; name the folder to write into.")
    shown = f"{key} is {path!r}, which"
    try:
        path.encode()  # TensorBoard and JSON take nothing else
        os.makedirs(path, exist_ok=True)
    except UnicodeEncodeError as error:
        raise UserError(f"{shown} is no name in UTF-8. Choose another folder.") from error
    except FileExistsError as error:
        raise UserError(f"{shown} cannot be made: it is a file. Choose another folder.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{shown} cannot be made: {reason}. Choose another folder.") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"{shown} cannot be written to. Choose another, or change its permissions.")
