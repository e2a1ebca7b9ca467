"""RTMPose from an ONNX file: one distribution along each axis for each joint (SimCC).

T. Jiang et al., "RTMPose: Real-Time Multi-Person Pose Estimation based on MMPose", 2023,
https://arxiv.org/abs/2303.07399. The user brings the file, as MMDeploy exports it: the input is
(B, 3, H, W), the outputs are ``simcc_x`` (B, 17, W * split) and ``simcc_y`` (B, 17, H * split).
"""

import os
from typing import Any, List, Optional, Sequence

import numpy as np
from PIL import Image

from ..errors import FileContentError, MissingFileError, MissingLibraryError
from ..joints import JOINTS
from ..readers.text import shown
from .estimator import Estimator, place

MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # of RGB, as MMPose's configs of RTMPose
STD = np.array([58.395, 57.12, 57.375], np.float32)
MARGIN = 1 / 8  # MMPose makes the box of a person 1.25 times as large


class RTMPose(Estimator):
    """RTMPose, or another SimCC network of 17 joints, on ONNX Runtime.

    A joint is where the two distributions are largest: cell k stands for the middle of the pixel
    k / split, as in MMPose. Its confidence is the smaller one of both
    maxima, at most 1.

    Raises:
        MissingLibraryError: ``onnxruntime`` is not installed.
        MissingFileError: there is no such file.
        FileContentError: it is no such network.
    """

    def __init__(self, path: str, threads: Optional[int] = None) -> None:
        self.name = os.path.basename(path)
        self._path = path
        self._session = _session(path, threads)
        enter = self._session.get_inputs()[0]
        sides = enter.shape[2:]
        if len(enter.shape) != 4 or not all(isinstance(side, int) for side in sides):
            raise self._other(f"its input is {enter.shape}; expected (B, 3, height, width)")
        self._input, (self._height, self._width) = enter.name, sides
        self._one_by_one = enter.shape[0] == 1

    def find(self, images: Sequence[Image.Image]) -> np.ndarray:
        placed = [place(image, self._height, self._width, MARGIN) for image in images]
        pixels = np.stack([(one.pixels - MEAN) / STD for one in placed]).transpose(0, 3, 1, 2)
        across, down = self._run(np.ascontiguousarray(pixels, np.float32))
        found = np.empty((len(images), len(JOINTS), 3), np.float32)
        places = np.stack(
            [
                across.argmax(-1) * (self._width / across.shape[-1]) + 0.5,
                down.argmax(-1) * (self._height / down.shape[-1]) + 0.5,
            ],
            axis=-1,
        )
        for row, one in enumerate(placed):
            found[row, :, :2] = one.back(places[row])
        found[..., 2] = np.clip(np.minimum(across.max(-1), down.max(-1)), 0, 1)
        return found

    def _run(self, pixels: np.ndarray) -> List[np.ndarray]:
        parts = np.split(pixels, len(pixels)) if self._one_by_one else [pixels]
        results = [self._session.run(None, {self._input: part}) for part in parts]
        outputs = [np.concatenate(one) for one in zip(*results)]
        expected = (len(pixels), len(JOINTS))
        if len(outputs) != 2 or any(o.ndim != 3 or o.shape[:2] != expected for o in outputs):
            shapes = [one.shape for one in outputs]
            raise self._other(f"its outputs are {shapes}; expected two of {(*expected, 'cells')}")
        return outputs

    def _other(self, what: str) -> FileContentError:
        return FileContentError(
            f"{shown(self._path)} is not an RTMPose network of {len(JOINTS)} joints: {what}."
        )


def _session(path: str, threads: Optional[int]) -> Any:
    if not os.path.isfile(path):
        raise MissingFileError(f"There is no file {shown(path)}.")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingLibraryError(
            f"{shown(path)} needs onnxruntime, which is not installed. Install it with: pip "
            "install 'vireid_plugins[onnx]'."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    wrong = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (wrong.InvalidProtobuf, wrong.Fail, wrong.InvalidGraph, wrong.NoSuchFile) as error:
        raise FileContentError(f"{shown(path)} is not an ONNX file: {error}") from error
