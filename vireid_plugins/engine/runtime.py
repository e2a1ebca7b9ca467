"""Change how a model is computed, not what it computes: memory format and compilation.

Neither changes the names or shapes in a checkpoint: one that was trained with them loads where
they are off, and the other way around. They change the low-order bits of a run.
"""

import contextlib
import importlib.util
import os
import platform
import shutil
from typing import Any, ContextManager, List

import torch
from torch import nn

from ..errors import UserError
from ..keys import SWITCH, Key, declare

_CPU_COMPILERS = ("g++", "clang++", "cl")

declare(
    "RUNTIME",
    Key("CHANNELS_LAST", False, SWITCH, "images and maps in NHWC order; changes low-order bits"),
    Key("COMPILE", False, SWITCH, "compile the backbone for training; changes low-order bits"),
)


def apply_memory_format(cfg: Any, model: nn.Module) -> nn.Module:
    """Return ``model``, its convolutions in NHWC order if ``RUNTIME.CHANNELS_LAST`` says so.

    A map takes the order of its convolution's weights, so no input has to be changed.
    """
    if cfg.RUNTIME.CHANNELS_LAST:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stub
    return model


def compile_backbone(cfg: Any, model: nn.Module) -> None:
    """Compile the backbone in place if ``RUNTIME.COMPILE`` says so.

    A dual-stream backbone is compiled stage by stage. The code between the stages, which sorts
    rows by modality and records maps, is not compiled. Neither are heads and losses, whose shapes
    depend on the labels of a batch.

    Raises:
        UserError: this PyTorch or this machine cannot compile (the message says what is missing),
            or activations are checkpointed, with which PyTorch silently compiles nothing.
    """
    check_config(cfg)
    if cfg.RUNTIME.COMPILE:
        for network in getattr(model, "students", [model]):
            for part in _parts(network.backbone):
                part.compile()


def check_config(cfg: Any) -> None:
    """Raise ``UserError`` if the backbone is to be compiled and cannot be; says what is missing."""
    if not cfg.RUNTIME.COMPILE:
        return
    if cfg.MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS:
        raise UserError(
            "RUNTIME.COMPILE and MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS are both True: nothing "
            "would be compiled. Set one of them False."
        )
    missing = _missing_for_compilation(str(cfg.MODEL.DEVICE))
    if missing:
        raise UserError(
            f"RUNTIME.COMPILE is True, and {missing}. Set RUNTIME.COMPILE False: nothing but the "
            "speed changes."
        )


def uncompiled_calls() -> ContextManager[Any]:
    """Return a context in which compiled modules run uncompiled.

    An evaluation needs it: its batches have other sizes, and PyTorch would compile for each size.
    """
    stance = getattr(torch.compiler, "set_stance", None) if hasattr(torch, "compiler") else None
    return stance("force_eager") if stance else contextlib.nullcontext()


def _parts(backbone: Any) -> List[nn.Module]:
    """Return what is compiled: the stages of a dual-stream backbone, or any other backbone."""
    streams = [getattr(backbone, name, None) for name in ("visible", "infrared", "shared")]
    stages = [list(one.values()) for one in streams if isinstance(one, nn.ModuleDict)]
    return sum(stages, []) if len(stages) == len(streams) else [backbone]


def _missing_for_compilation(device: str) -> str:
    """Return in words what ``torch.compile`` lacks on ``device``; empty if nothing."""
    if not hasattr(nn.Module, "compile") or not hasattr(torch.compiler, "set_stance"):
        return f"it needs PyTorch 2.6 or newer; this is {torch.__version__}"
    try:
        torch.compile(lambda: None)
    except RuntimeError as error:  # a Python newer than this PyTorch knows
        return f"PyTorch {torch.__version__} on Python {platform.python_version()} says: {error}"
    if device.startswith("cuda"):
        known = importlib.util.find_spec("triton") is not None
        return "" if known else "compiling for a GPU needs the package triton"
    own = os.environ.get("CXX")
    compilers = (own,) if own else _CPU_COMPILERS
    if not any(map(shutil.which, compilers)):
        return f"compiling for a CPU needs a C++ compiler; there is no {' or '.join(compilers)}"
    return ""
