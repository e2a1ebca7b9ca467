"""Extract the features of a whole test set once, with any number of processes.

Shapes: N test images, D features, B rows of a batch, R local parts of S features.
"""

import logging
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.utils import comm

from ..errors import UserError
from ..keypoints import mirrored_batch
from ..keys import SWITCH, Key, declare
from .ranking.rescoring import Rescorer
from .relation import Relation

logger = logging.getLogger(__name__)

_LABELS = ("targets", "camids", "modalities", "index")
_SECONDS_BETWEEN_LINES = 10.0

declare(
    "TEST.FLIP",
    Key(
        "NORMALIZED",
        False,
        SWITCH,
        "flip: give the features of both images length 1 before their mean (CAJ's code)",
    ),
)


@dataclass(frozen=True)
class TestFeatures:
    """Features and labels of the test images, ordered by place in the test list."""

    __test__ = False  # tells pytest that this is not a test class

    features: Tensor  # (N, D) float32 on the CPU
    targets: np.ndarray  # (N,) int64
    camids: np.ndarray  # (N,) int64
    modalities: np.ndarray  # (N,) int64, -1 where the loader gives none (stock datasets)
    index: np.ndarray  # (N,) int64, ascending place in the test list
    flip: bool = False  # features are means over the image and its mirror image
    flip_normalized: bool = False  # of features of length 1
    feature: str = ""  # the model's words for its features; empty: it has none
    local: Optional[Tensor] = None  # (N, R, S) float32 on the CPU, if there is a rescorer
    rescorer: Optional[Rescorer] = None  # re-orders the nearest images by ``local``
    relation: Optional[Relation] = None  # makes features of a trial from those of all its images


def flip_options(cfg: Any) -> Dict[str, bool]:
    """Return the arguments of :func:`extract_features` that ``TEST.FLIP`` gives."""
    return {"flip": cfg.TEST.FLIP.ENABLED, "flip_normalized": cfg.TEST.FLIP.NORMALIZED}


def extract_features(
    model: nn.Module, loader: Iterable[Any], *, flip: bool = False, flip_normalized: bool = False
) -> TestFeatures:
    """Run ``model`` over ``loader`` once, without gradients, in evaluation mode.

    Each of several processes extracts its share. Rows are put in the order of ``index``, and
    images that a sampler repeated to fill its last batch are kept once. The batch is never changed,
    and the model's training mode is restored, also after an error.

    Args:
        model: ``model(batch)`` returns features (B, D), and ``model.test_feature``, if it exists,
            says in words what they are. If it has a ``rescorer`` (``ranking/rescoring.py``), its
            local features are kept, too. Its ``relation`` (``relation.py``) is kept for the trials.
        loader: batches with ``images`` (B, 3, H, W), ``targets``, ``camids`` and, as our loaders
            give them, ``modalities`` and ``index``.
        flip: average the features of each image and its mirror image.
        flip_normalized: with ``flip``, divide each of both features by its length before the
            average, as the public code of CAJ does (``testa.py``). Local features are not divided.

    Raises:
        UserError: the loader is empty, the batches of several processes have no ``index``, or the
            model does not return features.
    """
    rescorer = getattr(model, "rescorer", None)
    recording = rescorer.recording(model) if rescorer is not None else nullcontext()
    with evaluation_mode(model), torch.no_grad(), recording as local_of_last:
        parts = list(_run(model, loader, (flip, flip_normalized), local_of_last))
    if not parts and comm.get_world_size() == 1:
        raise UserError("The test loader is empty: no image to extract features from.")
    names = ("features",) + (("local",) if rescorer is not None else ()) + _LABELS
    columns = {name: [part[name] for part in parts] for name in names}
    own = {name: torch.cat(values) for name, values in columns.items() if values}
    joined = _gathered(own) if comm.get_world_size() > 1 else own
    order, keep = np.unique(joined["index"].numpy(), return_index=True)
    targets, camids, modalities = (joined[name].numpy()[keep] for name in _LABELS[:-1])
    rows = torch.from_numpy(keep)
    return TestFeatures(
        features=joined["features"][rows],
        targets=targets,
        camids=camids,
        modalities=modalities,
        index=order,
        flip=flip,
        flip_normalized=flip and flip_normalized,
        feature=getattr(model, "test_feature", ""),
        local=joined["local"][rows] if rescorer is not None else None,
        rescorer=rescorer,
        relation=getattr(model, "relation", None),
    )


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into evaluation mode, and every module back into its own mode at the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _run(
    model: nn.Module,
    loader: Iterable[Any],
    mirroring: Tuple[bool, bool],
    local_of_last: Optional[Callable[[], Tensor]],
) -> Iterator[Dict[str, Tensor]]:
    flip, normalized = mirroring
    done, begin = 0, time.perf_counter()
    last_line = begin
    for batch in loader:
        size = len(batch["targets"])
        outputs = _outputs(model, batch, local_of_last)
        if flip:
            others = _outputs(model, mirrored_batch(batch), local_of_last)
            if normalized:
                for found in (outputs, others):
                    found["features"] = F.normalize(found["features"])
            outputs = {name: (outputs[name] + others[name]) / 2 for name in outputs}
        yield {**{n: v.cpu() for n, v in outputs.items()}, **_labels_of(batch, size, done)}
        done += size
        now = time.perf_counter()
        if now - last_line > _SECONDS_BETWEEN_LINES:
            logger.info("Features of %d images, %.0f images/s", done, done / (now - begin))
            last_line = now
    seconds = max(time.perf_counter() - begin, 1e-9)
    logger.info(
        "Features of %d images in %.1f s (%.0f images/s)%s",
        done,
        seconds,
        done / seconds,
        ", each with its mirror image" if flip else "",
    )


def _outputs(
    model: nn.Module, batch: Dict[str, Any], local_of_last: Optional[Callable[[], Tensor]]
) -> Dict[str, Tensor]:
    """Return float32 features (B, D) and, if they are recorded, local ones (B, R, S)."""
    features = model(batch)
    _check_features(features, len(batch["targets"]))
    outputs = {"features": features.float()}
    if local_of_last is not None:
        outputs["local"] = local_of_last().float()
    return outputs


def _check_features(features: Any, size: int) -> None:
    shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    if not isinstance(features, Tensor) or features.dim() != 2 or len(features) != size:
        raise UserError(
            f"At test time the model must return features ({size}, D) for a batch of {size} "
            f"images; got {shape}."
        )


def _labels_of(batch: Dict[str, Any], size: int, done: int) -> Dict[str, Tensor]:
    labels: Dict[str, Tensor] = {}
    for name in _LABELS:
        if name in batch:
            labels[name] = torch.as_tensor(batch[name]).cpu().long()
        elif name == "modalities":
            labels[name] = torch.full((size,), -1)
        elif name == "index" and comm.get_world_size() == 1:
            labels[name] = torch.arange(done, done + size)
        else:
            raise UserError(
                f"The test batches have no {name!r}; they hold {sorted(batch)}. Build the loader "
                "with vireid_plugins.data."
            )
    return labels


def _gathered(own: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Return the rows of all processes, one process after the other, without empty shares."""
    comm.synchronize()
    shares: List[Dict[str, Tensor]] = [share for share in comm.all_gather(own) if share]
    if not shares:
        raise UserError("The test loader is empty on every process.")
    return {name: torch.cat([share[name] for share in shares]) for name in shares[0]}
