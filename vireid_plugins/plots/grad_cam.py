"""Find where on an image a score comes from: Grad-CAM on a named map of any model.

*Papers*: R. R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization", ICCV 2017; R. L. Draelos, L. Carin, "Use HiResCAM instead of Grad-CAM
for faithful explanations of convolutional neural networks", 2020, arXiv 2011.08891.
*Why no library*: pytorch-grad-cam, the best-maintained one, calls ``model(tensor)``, but our models
take a batch that says which images are infrared. It hooks one module per layer, but an unshared
stage has two. It stretches every map between its own minimum and maximum, which shows noise as
heat. A :class:`~vireid_plugins.modeling.maps.Tap` gives the map with rows in the order of the
batch, and the rest is five lines.

B images, C x h x w a map, N training identities, D features.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import PlotError
from ..evaluation import evaluation_mode
from ..modeling.maps import CLASS_SCORES, FEATURE_MAP, map_names, recorded_maps
from ..registry import suggest

# A map whose positive parts add up to less than this share of the score does not explain the score:
# it holds nothing, or only rounding errors.
_LEAST_SHARE = 1e-3


class Activation(NamedTuple):
    """Which parts of the images raise a score."""

    maps: np.ndarray  # (B, h, w) float32, 0 or more, in parts of the score
    scores: np.ndarray  # (B,) float32; NaN: the maps explain no score
    layer: str  # name of the map that they were computed from
    classes: Optional[np.ndarray] = None  # (B,) int64, if the target is a ClassScore


class ClassScore:
    """The score of a training identity, without margin and scale.

    Args:
        classes: (B,) class numbers; -1: the class that scores highest. None: -1 for all images.
    """

    maps: Tuple[str, ...] = (CLASS_SCORES,)

    def __init__(self, classes: Optional[np.ndarray] = None) -> None:
        self.classes = classes

    def __call__(self, features: Tensor, maps: Dict[str, Tensor]) -> Tuple[Tensor, Any]:
        """Return scores (B,) of features (B, D) and recorded maps, and the classes (B,)."""
        scores = maps[CLASS_SCORES].float()
        chosen = scores.argmax(dim=1)
        if self.classes is not None:
            given = torch.as_tensor(self.classes, device=scores.device)
            if len(given) and int(given.max()) >= scores.shape[1]:
                raise PlotError(
                    f"Class {int(given.max())} is asked for, and the model knows "
                    f"{scores.shape[1]}: it was trained on other identities."
                )
            chosen = torch.where(given < 0, chosen, given)
        return scores.gather(1, chosen[:, None])[:, 0], chosen.cpu().numpy()


class Similarity:
    """The cosine similarity of each image to one other image.

    The length of the image's own feature is held fixed. Otherwise a derivative along the map
    itself would vanish, as a cosine does not change with length, and maps would show only what
    differs between two similar images. The value is the cosine in either case.

    Args:
        features: (B, D) features of the other images.
    """

    maps: Tuple[str, ...] = ()

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def __call__(self, features: Tensor, maps: Dict[str, Tensor]) -> Tuple[Tensor, Any]:
        """Return scores (B,) of features (B, D), and None."""
        others = F.normalize(self.features.to(features).float(), dim=1)
        lengths = features.detach().float().norm(dim=1).clamp(min=1e-12)
        return (features.float() * others).sum(dim=1) / lengths, None


def grad_cam(
    model: nn.Module,
    batch: Dict[str, Any],
    target: Any,
    layer: str = "",
    per_position: bool = False,
) -> Activation:
    """Return the sum of a map's channels, weighted by the mean of the score's gradient.

    Negative values become 0.

    Args:
        model: a model of this package; its mode and the gradients of its weights do not change.
        batch: ``images`` (B, 3, H, W) and ``modalities`` (B,).
        target: :class:`ClassScore`, :class:`Similarity`, or any function of features and
            recorded maps; its attribute ``maps`` holds the names of the maps that it reads.
        layer: a name of ``map_names(model)``; empty: ``feature_map``, the backbone's, or, if that
            has no positions, the last map that has.
        per_position: weigh by the gradient at each position, not by its mean: HiResCAM.

    Raises:
        PlotError: there is no such map, it has no positions or no gradient, or the score needs
            what the model does not give.
    """
    names = map_names(model)
    check_layer(model, layer)
    _check_target(model, target)
    # The input asks for gradients, so that frozen weights do not cut the graph.
    images = batch["images"].detach().float().clone().requires_grad_(True)
    wanted = [layer, *target.maps] if layer else list(names)
    with evaluation_mode(model), torch.enable_grad(), recorded_maps(model, wanted) as maps:
        features = model({**batch, "images": images})
        layer = _choose_layer(model, maps, layer)
        scores, classes = target(features, maps)
        activation = maps[layer]
        gradient = _gradient(scores, activation)
    weights = gradient if per_position else gradient.mean(dim=(2, 3), keepdim=True)
    parts = (weights * activation).sum(dim=1).clamp(min=0).detach().float()
    if not bool(torch.isfinite(parts).all() and torch.isfinite(scores).all()):
        raise PlotError(f"The map {layer!r} or its score holds NaN or infinity: a diverged model?")
    return Activation(parts.cpu().numpy(), scores.detach().cpu().numpy(), layer, classes)


def relative_heat(activation: Activation) -> Tuple[np.ndarray, np.ndarray]:
    """Return maps in parts of their own largest value, as they are drawn.

    A map that explains next to nothing of its score is flat: it becomes 0 everywhere. It is not
    stretched, so that rounding errors are not shown as heat.

    Returns:
        Heat (B, h, w) float32 in 0..1, and which maps are flat (B,).
    """
    maps, scores = activation.maps, np.abs(activation.scores)
    largest = maps.max(axis=(1, 2))
    known = np.where(np.isnan(scores), 0.0, scores)
    flat = (largest <= 0) | (maps.sum(axis=(1, 2)) < _LEAST_SHARE * known)
    heat = maps / np.where(flat, 1.0, largest)[:, None, None]
    return np.where(flat[:, None, None], 0.0, heat).astype(np.float32), flat


def join_activations(parts: List[Activation]) -> Activation:
    """Return the activations of several batches as one."""
    classes = [part.classes for part in parts if part.classes is not None]
    return Activation(
        np.concatenate([part.maps for part in parts]),
        np.concatenate([part.scores for part in parts]),
        parts[0].layer,
        np.concatenate(classes) if classes else None,
    )


def check_layer(model: nn.Module, layer: str) -> None:
    """Raise ``PlotError`` if ``model`` has no map ``layer``; an empty name is allowed."""
    names = map_names(model)
    if layer and layer not in names:
        raise PlotError(
            f"{type(model).__name__} has no map {layer!r} to take. {suggest(layer, names)}"
        )


def _check_target(model: nn.Module, target: Any) -> None:
    for name in target.maps:
        if name not in map_names(model):
            head = type(getattr(model, "heads", model)).__name__
            raise PlotError(
                f"{head} of {type(model).__name__} does not show its scores of training identities "
                f"({name!r}); use --target match."
            )


def _choose_layer(model: nn.Module, maps: Dict[str, Tensor], layer: str) -> str:
    usable = [name for name, value in maps.items() if _has_positions(value)]
    if layer and layer not in usable:
        what = f"of shape {tuple(maps[layer].shape)}" if layer in maps else "not computed at test"
        raise PlotError(
            f"The map {layer!r} of {type(model).__name__} is {what}; Grad-CAM needs (B, C, h, w) "
            "with a gradient. Leave --layer out to take the backbone's."
        )
    if not usable:
        raise PlotError(
            f"{type(model).__name__} shows no map (B, C, h, w) with a gradient; it shows "
            f"{', '.join(map_names(model)) or 'none'}. Mark one with a Tap "
            "(vireid_plugins.modeling.maps)."
        )
    return layer or (FEATURE_MAP if FEATURE_MAP in usable else usable[-1])


def _has_positions(value: Tensor) -> bool:
    return value.dim() == 4 and value.requires_grad and value.shape[2] * value.shape[3] > 1


def _gradient(scores: Tensor, activation: Tensor) -> Tensor:
    """Return the gradient of the sum of scores, which at test is that of each image's own score.

    It is 0 if the scores do not depend on the map.
    """
    if not scores.requires_grad:
        return torch.zeros_like(activation)
    (gradient,) = torch.autograd.grad(scores.sum(), activation, allow_unused=True)
    return torch.zeros_like(activation) if gradient is None else gradient
