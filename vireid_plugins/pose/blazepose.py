"""BlazePose: 33 points of one person, of which 17 are the joints of COCO.

V. Bazarevsky et al., "BlazePose: On-device Real-time Body Pose Tracking", CVPR workshop 2020,
https://arxiv.org/abs/2006.10204. The weights are those of MediaPipe (Apache-2.0), the model "full";
one file is taken out of its wheel, and nothing of it is installed.

MediaPipe first looks for a person in a photograph, with a second network. Here an image is taken to
show one person already, upright, as a crop of re-identification does.
"""

import importlib
from functools import lru_cache
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from ..errors import MissingLibraryError
from ..joints import JOINTS
from ..pretrained import fetch_from
from ..pretrained.wheels import Wheel
from .estimator import ESTIMATORS, Estimator, place

FILE = "pose_landmark_full.tflite"
SHA256 = "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f"
SOURCE = Wheel(
    package="mediapipe",
    version="0.10.21",
    file="mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl",
    sha256="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
    size=35_622_638,
    member=f"mediapipe/modules/pose_landmark/{FILE}",
    # One of the wheels is named, whatever runs here: its SHA-256 is known, and no code of it runs.
    platform=(
        *("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11"),
        *("--implementation", "cp", "--abi", "cp311"),
    ),
)
SIDE = 256  # pixels of the square that the network sees
MARGIN = 1 / 8
POINTS, VALUES = 39, 5  # points of the output; x, y, z, visibility, presence

#: the number of each joint of COCO among BlazePose's points
NUMBERS = {
    "nose": 0,
    "left_eye": 2,
    "right_eye": 5,
    "left_ear": 7,
    "right_ear": 8,
    "left_shoulder": 11,
    "right_shoulder": 12,
    "left_elbow": 13,
    "right_elbow": 14,
    "left_wrist": 15,
    "right_wrist": 16,
    "left_hip": 23,
    "right_hip": 24,
    "left_knee": 25,
    "right_knee": 26,
    "left_ankle": 27,
    "right_ankle": 28,
}
_ROWS = [NUMBERS[name] for name in JOINTS]


class BlazePose(Estimator):
    """BlazePose "full" on an interpreter of TensorFlow Lite.

    The confidence of a joint is the probability that it is visible, times that of a person.
    """

    name = "blazepose"

    def __init__(self, interpreter: Any) -> None:
        """Keep an ``Interpreter`` of ``ai_edge_litert`` that has read the file."""
        self._interpreter = interpreter
        self._batch = 0

    @classmethod
    def open(cls, threads: Optional[int] = None) -> "BlazePose":
        """Return the estimator; its file is fetched if the cache does not have it.

        Raises:
            MissingLibraryError: ``ai-edge-litert`` is not installed.
            CheckpointError: the file cannot be fetched.
        """
        interpreter = _interpreter_class()  # before 36 MB are fetched
        path = fetch_from(SOURCE, FILE, SHA256, "The network of BlazePose")
        return cls(interpreter(model_path=str(path), num_threads=threads))

    def find(self, images: Sequence[Image.Image]) -> np.ndarray:
        placed, raw, score = self._run(images, "Identity", "Identity_1")
        points = raw.reshape(len(images), POINTS, VALUES)[:, _ROWS]
        found = np.empty((len(images), len(JOINTS), 3), np.float32)
        for row, one in enumerate(placed):
            found[row, :, :2] = one.back(points[row, :, :2])
        found[..., 2] = np.clip(_sigmoid(points[..., 3]) * score.reshape(-1, 1), 0, 1)
        return found

    def masks(self, images: Sequence[Image.Image]) -> List[np.ndarray]:
        """Return where the person is: the probability of each pixel, times that of a person."""
        placed, raw, score = self._run(images, "Identity_2", "Identity_1")
        shares = _sigmoid(raw[..., 0]) * score.reshape(-1, 1, 1)
        return [one.cut(own, *image.size) for one, own, image in zip(placed, shares, images)]

    def _run(self, images: Sequence[Image.Image], *outputs: str) -> Tuple[Any, ...]:
        """Return where the images lie in the squares, and outputs of the network by name.

        ``Identity`` (B, 195): the points; ``Identity_1`` (B, 1): whether there is a person;
        ``Identity_2`` (B, 256, 256, 1): the logit of each pixel of the square to be the person's.
        """
        placed = [place(image, SIDE, SIDE, MARGIN) for image in images]
        pixels = np.stack([one.pixels for one in placed]).astype(np.float32) / 255
        network = self._interpreter
        enter = network.get_input_details()[0]["index"]
        if len(pixels) != self._batch:
            network.resize_tensor_input(enter, list(pixels.shape))
            network.allocate_tensors()
            self._batch = len(pixels)
        network.set_tensor(enter, pixels)
        network.invoke()
        places = {one["name"]: one["index"] for one in network.get_output_details()}
        return (placed, *(np.array(network.get_tensor(places[name])) for name in outputs))


ESTIMATORS[BlazePose.name] = BlazePose.open


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -60, 60)))


@lru_cache(maxsize=1)
def _interpreter_class() -> Any:
    """Return the class ``Interpreter`` of the first of two libraries that is installed.

    Raises:
        MissingLibraryError: neither is.
    """
    for name in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
        try:
            return importlib.import_module(name).Interpreter
        except ImportError:
            continue
    raise MissingLibraryError(
        "BlazePose needs ai-edge-litert, which is not installed. Install it with: pip install "
        "'vireid_plugins[pose]' (or: pip install ai-edge-litert)."
    )
