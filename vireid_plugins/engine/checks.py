"""Find mistakes in a config that would otherwise end in a bare assertion or ``KeyError``."""

import os
from contextlib import contextmanager
from typing import Any, Iterator, List

import torch

from fastreid.layers import any_softmax, pooling
from fastreid.layers.batch_norm import SyncBatchNorm
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY
from fastreid.utils import comm

from ..data.keypoints import ALL, NONE
from ..errors import NoKeyPointsError, UserError
from ..keys import changed, check_unread
from ..modeling.backbones import (
    build_crossvit_backbone,
    build_dual_stream_backbone,
    build_dual_stream_timm_backbone,
)
from ..modeling.losses import check_loss_names
from ..modeling.meta_arch import DualStreamBaseline
from ..readers.text import is_text
from ..registry import LOSS_REGISTRY, lookup, suggest

NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")
HEAD_NORMS = ("BN", "syncBN", "GhostBN", "GN")  # FastReID cannot initialize a neck of FrozenBN
#: the backbones that read keys which others do not
_READERS = (
    build_dual_stream_backbone,
    build_dual_stream_timm_backbone,
    build_crossvit_backbone,
)
HOST_LOSSES = ("CrossEntropyLoss", "TripletLoss", "CircleLoss", "Cosface")


def check_model_names(cfg: Any) -> None:
    """Look up every name of ``MODEL.*`` that a model is built from.

    Raises:
        UnknownNameError: a name is not registered; the message names the nearest ones.
        UserError: a pooling, classifier or normalization layer is unknown.
    """
    model = cfg.MODEL
    method = lookup(META_ARCH_REGISTRY, model.META_ARCHITECTURE, "MODEL.META_ARCHITECTURE")
    backbone = lookup(BACKBONE_REGISTRY, model.BACKBONE.NAME, "MODEL.BACKBONE.NAME")
    head = lookup(REID_HEADS_REGISTRY, model.HEADS.NAME, "MODEL.HEADS.NAME")
    for key, name, valid in (
        ("MODEL.HEADS.POOL_LAYER", model.HEADS.POOL_LAYER, pooling.__all__),
        ("MODEL.HEADS.CLS_LAYER", model.HEADS.CLS_LAYER, any_softmax.__all__),
        ("MODEL.HEADS.NORM", model.HEADS.NORM, HEAD_NORMS),
        ("MODEL.BACKBONE.NORM", model.BACKBONE.NORM, NORMS),
    ):
        if name not in valid:
            raise UserError(f"{key} is {name!r}. {suggest(name, valid)}")
    _check_network(cfg, backbone)
    if is_host_method(method):
        _check_host_method(cfg, method, backbone, head)


def _check_network(cfg: Any, backbone: Any) -> None:
    """Raise ``UserError`` where ``MODEL.BACKBONE.NETWORK`` is wrong, or a key would not be read.

    A backbone of the user's own may read any key.
    """
    name = f"MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME}"
    of_host = backbone.__module__.partition(".")[0] == "fastreid"
    if hasattr(backbone, "check_names"):
        backbone.check_names(cfg)
    if getattr(backbone, "takes_modalities", False) or of_host:
        read = getattr(backbone, "own_keys", ())
        own = {one.__name__: getattr(one, "own_keys", ()) for one in _READERS}
        keys = dict.fromkeys(key for of in own.values() for key in of if key not in read)
        unread = changed(cfg, [f"MODEL.BACKBONE.{key}" for key in keys])
        wanted = {full.rpartition(".")[2] for full in unread}
        readers = [one for one, of in own.items() if wanted <= {*of}] or own  # of all, or of some
        check_unread(cfg, unread, name, " or ".join(readers))
    if of_host:
        reader = "build_dual_stream_resnet_backbone"
        check_unread(cfg, ["MODEL.BACKBONE.STEM_POOL"], name, reader)


def is_host_method(method: type) -> bool:
    """Return whether a meta-architecture is FastReID's own, which knows no modalities."""
    return method.__module__.partition(".")[0] == "fastreid"


def _check_host_method(cfg: Any, method: type, backbone: Any, head: Any) -> None:
    """Raise ``UserError`` where a method of FastReID is given parts that it cannot use."""
    name = f"MODEL.META_ARCHITECTURE is {method.__name__}, FastReID's own,"
    ours = "Set MODEL.META_ARCHITECTURE DualStreamBaseline, or"
    if getattr(backbone, "takes_modalities", False):
        raise UserError(
            f"{name} which does not say which images are infrared; {cfg.MODEL.BACKBONE.NAME} needs "
            f"to know it. {ours} MODEL.BACKBONE.NAME to one of FastReID's own, such as "
            "build_resnet_backbone."
        )
    if hasattr(head, "outputs"):
        raise UserError(
            f"{name} and takes FastReID's heads only; MODEL.HEADS.NAME is {cfg.MODEL.HEADS.NAME}. "
            f"{ours} MODEL.HEADS.NAME EmbeddingHead."
        )
    strange = [loss for loss in cfg.MODEL.LOSSES.NAME if loss not in HOST_LOSSES]
    if strange:
        raise UserError(
            f"{name} and would ignore {', '.join(strange)} in MODEL.LOSSES.NAME; it computes "
            f"{', '.join(HOST_LOSSES)}. {ours} name those only."
        )


def check_losses(cfg: Any) -> None:
    """Look up ``MODEL.LOSSES.NAME``.

    Raises:
        UserError: no loss is named, one is named twice or is not registered, or the weights of
            all terms are 0.
    """
    names: List[str] = list(cfg.MODEL.LOSSES.NAME)
    method = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    if is_host_method(method):
        return
    if getattr(method, "has_own_losses", False):
        if names:
            raise UserError(
                f"{cfg.MODEL.META_ARCHITECTURE} has its own terms only, and MODEL.LOSSES.NAME is "
                f"{names}; set MODEL.LOSSES.NAME ()."
            )
        return
    check_loss_names(names)
    losses = [lookup(LOSS_REGISTRY, name, "MODEL.LOSSES.NAME") for name in names]
    if getattr(method, "losses", None) is not DualStreamBaseline.losses:
        return  # it has terms of its own
    if all(loss.node(cfg).SCALE == 0 for loss in losses):
        raise UserError(
            f"The SCALE of every loss of MODEL.LOSSES.NAME ({', '.join(names)}) is 0: there is "
            "nothing to learn."
        )


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


def check_keypoints(cfg: Any, model: Any) -> None:
    """Raise ``UserError`` if the model needs key points, and the config reads none."""
    if getattr(model, "needs_keypoints", False) and cfg.INPUT.KEYPOINTS.READ != ALL:
        raise UserError(
            f"{type(model).__name__} needs key points of training and of test images, and "
            f"INPUT.KEYPOINTS.READ is {cfg.INPUT.KEYPOINTS.READ}. Set it to all; `vireid pose` "
            f"makes the file that INPUT.KEYPOINTS.FILE names (docs/keypoints.md). "
            f"{model.without_keypoints}".rstrip()
        )
    if getattr(model, "learns_keypoints", False) and cfg.INPUT.KEYPOINTS.READ == NONE:
        raise UserError(
            f"{type(model).__name__} learns key points, and INPUT.KEYPOINTS.READ is none. Set it "
            "to train; `vireid pose` makes the file that INPUT.KEYPOINTS.FILE names "
            f"(docs/keypoints.md). {model.without_keypoints}".rstrip()
        )


@contextmanager
def naming_what_needs_no_keypoints(cfg: Any) -> Iterator[None]:
    """Add to an error about a missing file of key points what the method says for this case."""
    try:
        yield
    except NoKeyPointsError as error:
        method = META_ARCH_REGISTRY._obj_map.get(cfg.MODEL.META_ARCHITECTURE)
        instead = getattr(method, "without_keypoints", "")
        if not instead:
            raise
        raise NoKeyPointsError(f"{str(error).rstrip('.')}. {instead}") from error


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
    if not is_text(path):
        raise UserError(f"{shown} is not a valid UTF-8 path. Choose another folder.")
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{shown} cannot be made: it is a file. Choose another folder.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{shown} cannot be made: {reason}. Choose another folder.") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"{shown} cannot be written to. Choose another, or change its permissions.")
