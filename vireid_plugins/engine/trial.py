"""Build the model of a config and run it on two blank images, before any data are read.

What a config's parts make of each other is found in this way: a depth that a backbone does not
have, a map that has fewer rows than stripes, a pooling that does not pool.
"""

from typing import Any, Callable, Sequence, Tuple

import torch
from torch import nn

from ..data.seeding import seeded
from ..errors import UserError
from .checks import is_host_method
from .hooks import FreezeLayers
from .model import build_model
from .scaling import apply_scaling_keys

_TOO_SMALL = ("Output size is too small", "Kernel size can't be greater than actual input size")
_LARGEST = 1024  # pixels; the search for a size that works ends here


def try_model(cfg: Any) -> None:
    """Build the model on the CPU, from random weights, and run it on images of both sizes.

    Random states of the process stay as they are.

    Raises:
        UserError: the model cannot be built, or cannot take images of ``INPUT.SIZE_TRAIN`` or
            ``INPUT.SIZE_TEST``; the message has the smallest size that it can take.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.MODEL.HEADS.NUM_CLASSES = max(2, cfg.MODEL.HEADS.NUM_CLASSES)
    with seeded(0), torch.no_grad():
        model = build_model(cfg)
        apply_scaling_keys(cfg, model)
        FreezeLayers(model, cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS)
        model.eval()
        _watch_head(cfg, model)
        sizes = {key: tuple(cfg.INPUT[key]) for key in ("SIZE_TRAIN", "SIZE_TEST")}
        for key, size in sizes.items():
            if key == "SIZE_TRAIN" or size != sizes["SIZE_TRAIN"]:
                _check_size(model, size, f"INPUT.{key}")


def _watch_head(cfg: Any, model: Any) -> None:
    """Let the model raise ``UserError`` when its head gets, or pools, maps of unexpected shapes."""
    heads: Any = getattr(model, "heads", nn.Identity())  # FastReID's MGN has several
    expected = cfg.MODEL.BACKBONE.FEAT_DIM

    def check_channels(module: nn.Module, inputs: Tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[1] != expected:
            raise UserError(
                f"MODEL.BACKBONE.FEAT_DIM is {expected}, and {cfg.MODEL.BACKBONE.NAME} "
                f"{cfg.MODEL.BACKBONE.DEPTH} makes maps of {inputs[0].shape[1]} channels; set it "
                "to that."
            )

    def check_pooling(module: nn.Module, inputs: Any, pooled: torch.Tensor) -> None:
        rows, channels = inputs[0].shape[:2]
        if tuple(pooled.shape) != (rows, channels, 1, 1):
            raise UserError(
                f"MODEL.HEADS.POOL_LAYER {cfg.MODEL.HEADS.POOL_LAYER} makes "
                f"{tuple(pooled.shape[1:])} of a map {tuple(inputs[0].shape[1:])}, where the head "
                f"needs ({channels}, 1, 1). Set it to GlobalAvgPool or GeneralizedMeanPooling."
            )

    if is_host_method(type(model)):
        heads.register_forward_pre_hook(check_channels)
    if isinstance(getattr(heads, "pool_layer", None), nn.Module):
        heads.pool_layer.register_forward_hook(check_pooling)


def _check_size(model: nn.Module, size: Tuple[int, ...], key: str) -> None:
    reason = _refusal(model, size)
    if not reason:
        return
    smallest = _smallest_size(lambda height, width: not _refusal(model, (height, width)), size)
    advice = f" The smallest size that this model takes is {smallest}." if smallest else ""
    raise UserError(f"{key} {list(size)} does not suit this model. {reason}{advice}")


def _refusal(model: nn.Module, size: Sequence[int]) -> str:
    """Return why the model cannot take two images of a size; empty if it can."""
    rows = torch.tensor([0, 1])
    batch = {
        "images": torch.zeros(2, 3, *size),
        "targets": rows,
        "camids": rows,
        "modalities": rows,
        "index": rows,
    }
    try:
        model(batch)
    except UserError as error:
        return str(error)
    except RuntimeError as error:
        if not any(words in str(error) for words in _TOO_SMALL):
            raise
        return f"{str(error).splitlines()[0].rstrip('.')}."
    return ""


def _smallest_size(works: Callable[[int, int], bool], size: Sequence[int]) -> Any:
    """Return the smallest [height, width] that works, the height first; None if none is found."""
    wide = max(size[1], 64)
    height = _first(lambda height: works(height, wide))
    if height is None:
        return None
    return [height, _first(lambda width: works(height, width))]


def _first(works: Callable[[int], bool]) -> Any:
    """Return the first number for which ``works``, which then stays true; None up to a limit."""
    low, high = 0, 1
    while not works(high):
        low, high = high, 2 * high
        if high > _LARGEST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle, high)
    return high
