"""Build the model of a config and run it on two blank images, before any data are read.

This finds parts of a config that do not work together: a depth that a backbone does not have, a
feature map with fewer rows than stripes, a pooling layer that does not pool.
"""

from typing import Any, Callable, Dict, Sequence, Tuple

import torch
from torch import nn

from ..data.seeding import seeded
from ..errors import SmallMapError, UserError
from ..keypoints import standing_person
from ..modality import Modality
from .checks import check_keypoints, is_host_method
from .clusters.checks import check_model
from .hooks import FreezeLayers
from .model import build_model
from .scaling import apply_scaling_keys

_TOO_SMALL = (
    "Output size is too small",
    "Kernel size can't be greater than actual input size",
    "Expected more than 1 spatial element",
    "Expected more than 1 value per channel",
)
_LARGEST = 1024  # pixels; the search for a size that works ends here


def try_model(cfg: Any) -> None:
    """Build the model on the CPU, from random weights, and run it on images of both sizes.

    The random states of the process do not change.

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
        check_model(cfg, model)
        check_keypoints(cfg, model)
        apply_scaling_keys(cfg, model)
        FreezeLayers(model, cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS)
        model.eval()
        _watch_head(cfg, model)
        check_size(model, cfg.INPUT.SIZE_TEST, "INPUT.SIZE_TEST")
        _check_training_size(cfg, model)


def check_size(model: nn.Module, size: Sequence[int], key: str) -> None:
    """Raise ``UserError``, which names ``key``, if the model, in evaluation, refuses a size."""
    _check_size(lambda size: _refusal(lambda: model(_blank_batch(size))), size, key)


def _check_training_size(cfg: Any, model: Any) -> None:
    """Run one training step's forward pass in each phase; only a size that is too small counts.

    Other errors may be caused by the artificial batch, so they are left to the training.
    """

    def refusal(size: Sequence[int]) -> str:
        batch = _blank_batch(size, [cfg.INPUT.NUM_VIEWS[modality.name] for modality in Modality])
        for phase in dict.fromkeys(phases):
            model.phase = phase
            try:
                reason = _refusal(lambda: model(batch))
            except Exception:
                return ""
            if reason:
                return reason
        return ""

    if not hasattr(model, "phase_of"):  # a model of FastReID
        return
    phases = [model.phase_of(epoch) for epoch in range(min(cfg.SOLVER.MAX_EPOCH, 1000))]
    model.train()
    _check_size(refusal, cfg.INPUT.SIZE_TRAIN, "INPUT.SIZE_TRAIN")


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


def _check_size(refusal: Callable[[Sequence[int]], str], size: Sequence[int], key: str) -> None:
    """Raise ``UserError`` with the smallest size that works, if ``refusal`` gives a reason."""
    reason = refusal(size)
    if not reason:
        return
    smallest = _smallest_size(lambda height, width: not refusal((height, width)), size)
    advice = f" The smallest size that this model takes is {smallest}." if smallest else ""
    raise UserError(f"{key} {list(size)} does not suit this model. {reason}{advice}")


def _refusal(run: Callable[[], Any]) -> str:
    """Return why ``run`` refuses a size; empty if it does not.

    Raises:
        UserError: there is another mistake.
    """
    try:
        run()
    except SmallMapError as error:
        return str(error)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, UserError) or not any(words in str(error) for words in _TOO_SMALL):
            raise
        return f"{str(error).splitlines()[0].rstrip('.')}."
    return ""


def _blank_batch(size: Sequence[int], views: Sequence[int] = (1, 1)) -> Dict[str, Any]:
    """Return black images of two identities: in each modality one of each, in all its views."""
    rows = [
        (pid, modality, view, modality * 2 + pid)
        for modality in Modality
        for view in range(views[modality])
        for pid in range(2)
    ]
    targets, modalities, view, index = torch.tensor(rows).T.contiguous()
    return {
        "images": torch.zeros(len(rows), 3, *size),
        "keypoints": standing_person(len(rows), (size[0], size[1])),
        "targets": targets,
        "camids": modalities + 1,
        "modalities": modalities,
        "views": view,
        "index": index,
    }


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
