"""Compare an ONNX graph with the model that it was recorded from: features and speed.

Shapes: N images of H x W pixels, D features.
"""

import statistics
import time
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor, nn

from ..keypoints import standing_person
from .graph import (
    IMAGES,
    KEYPOINTS,
    MODALITIES,
    ExportError,
    needs_keypoints,
    unit_features,
)
from .pictures import Pictures

BATCHES = (1, 7)  # the graph was recorded with another number of images
SMALLEST_COSINE = 0.9999  # below it, features count as different
LARGEST_DIFFERENCE = 1e-4  # rounding stays below it
_FEWEST_RUNS = 3


class Agreement(NamedTuple):
    """How close the features of the graph and of PyTorch are."""

    source: str
    batch: int
    difference: float  # largest absolute difference of two elements
    cosine: float  # smallest cosine of the two features of an image

    @property
    def good(self) -> bool:
        """Return whether they count as equal; NaN does not."""
        return self.cosine >= SMALLEST_COSINE


class Speed(NamedTuple):
    """Images per second with batches in memory, medians."""

    batch: int
    pytorch: float
    onnxruntime: float


def open_session(content: bytes, threads: int) -> Any:
    """Return an onnxruntime session of the graph, on the CPU.

    Raises:
        ExportError: onnxruntime refuses the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(
            f"onnxruntime {onnxruntime.__version__} refuses the graph: {_one_line(error)}"
        ) from error


def pytorch_features(
    model: nn.Module, images: Tensor, modalities: Tensor, keypoints: Optional[Tensor] = None
) -> np.ndarray:
    """Return PyTorch's features (N, D), float32 of length 1.

    ``keypoints`` (N, 17, 3) are those of a model that needs them; None: a standing person.
    """
    if needs_keypoints(model) and keypoints is None:
        keypoints = _standing(images)
    with torch.no_grad():
        return unit_features(model, images, modalities, keypoints).numpy()


def onnx_features(
    session: Any, images: Tensor, modalities: Tensor, keypoints: Optional[Tensor] = None
) -> np.ndarray:
    """Return the graph's features (N, D), from the inputs that it has.

    Raises:
        ExportError: onnxruntime cannot run the graph, for example because it takes a fixed number
            of images.
    """
    points = _standing(images) if keypoints is None else keypoints
    given = {IMAGES: images.numpy(), MODALITIES: modalities.numpy(), KEYPOINTS: points.numpy()}
    feeds = {one.name: given[one.name] for one in session.get_inputs()}
    try:
        return session.run(None, feeds)[0]
    except Exception as error:
        raise ExportError(
            f"onnxruntime cannot run the graph on {len(images)} images: {_one_line(error)}"
        ) from error


def _standing(images: Tensor) -> Tensor:
    return standing_person(len(images), (images.shape[2], images.shape[3]))


def compare(model: nn.Module, session: Any, pictures: Pictures) -> List[Agreement]:
    """Compare the graph's features with PyTorch's, in batches of one and of seven.

    Raises:
        ExportError: a feature of ``model`` is not finite, or depends on the other images of the
            batch; or as
            :func:`onnx_features`.
    """
    expected = {size: _in_batches(pytorch_features, model, pictures, size) for size in BATCHES}
    if not all(np.isfinite(features).all() for features in expected.values()):
        raise ExportError(
            f"{type(model).__name__} gives features that are NaN or infinite. Use another "
            "checkpoint."
        )
    for size in BATCHES[1:]:
        if not _agreement("", size, expected[size], expected[BATCHES[0]]).good:
            raise ExportError(
                f"{type(model).__name__} gives an image another feature alone than in a batch of "
                f"{size}: its head looks at the whole batch. Only a network that treats every "
                "image by itself can be exported."
            )
    return [
        _agreement(
            pictures.source,
            size,
            _in_batches(onnx_features, session, pictures, size),
            expected[size],
        )
        for size in BATCHES
    ]


def _in_batches(
    function: Callable[..., np.ndarray], network: Any, pictures: Pictures, size: int
) -> np.ndarray:
    parts = zip(*(rows.split(size) for rows in pictures.rows()))
    return np.concatenate([function(network, *part) for part in parts])


def _agreement(source: str, size: int, found: np.ndarray, expected: np.ndarray) -> Agreement:
    if found.shape != expected.shape:
        raise ExportError(
            f"The graph returns features {found.shape} where PyTorch returns {expected.shape}."
        )
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = (found * expected).sum(axis=1) / np.maximum(lengths, 1e-12)
    difference = np.abs(found - expected).max()
    return Agreement(source, size, float(difference), float(cosines.min()))


def measure_speeds(
    model: nn.Module, session: Any, pictures: Pictures, seconds: float
) -> Iterator[Speed]:
    """Measure both on the first images of ``pictures``, about ``seconds`` each per batch size."""
    for size in BATCHES:
        rows = tuple(row[:size] for row in pictures.rows())
        rates: Dict[str, float] = {}
        for name, function, network in (
            ("pytorch", pytorch_features, model),
            ("onnxruntime", onnx_features, session),
        ):
            rates[name] = size / _median_seconds(partial(function, network, *rows), seconds)
        yield Speed(size, **rates)


def _median_seconds(run: Callable[[], Any], seconds: float) -> float:
    run()  # the first run allocates memory and starts threads
    times: List[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _FEWEST_RUNS or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
