"""Record the network of a model as an ONNX graph: images in, features of length 1 out.

PyTorch's TorchScript exporter records one forward pass; of its two exporters it is the one that
every version from 1.13 to 2.13 has, and it needs no further package. A recorded pass must not
decide anything by looking at the batch; ``modality.fixed_path`` removes such decisions.

Shapes: N images of H x W pixels, D features.
"""

import contextlib
import inspect
import io
import warnings
from typing import Any, Dict, Iterator, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..keypoints import standing_person
from ..modality import Modality, fixed_path, known_modality_mask

OPSET = 17  # the newest that PyTorch 1.13 writes; onnxruntime reads it from 1.12 on
IMAGES, MODALITIES, KEYPOINTS, FEATURES = "images", "modalities", "keypoints", "features"
_RECORDED_ROWS = 2  # one of each modality; exporters simplify a batch of a single image


class ExportError(UserError):
    """An export that is not possible: the message says why, and what to change."""


def unit_features(
    model: nn.Module, images: Tensor, modalities: Tensor, keypoints: Optional[Tensor] = None
) -> Tensor:
    """Return features (N, D), float32 of length 1, as ``FeatureExtractor`` computes them.

    Args:
        model: in evaluation mode.
        images: (N, 3, H, W) in 0..255.
        modalities: (N,).
        keypoints: (N, 17, 3) in pixels of ``images``, for a model that needs them.

    Raises:
        ExportError: the model returns something other than features.
    """
    batch = {IMAGES: images, MODALITIES: modalities}
    features = model(batch if keypoints is None else {**batch, KEYPOINTS: keypoints})
    if not isinstance(features, Tensor) or features.dim() != 2:
        shape = getattr(features, "shape", None)
        raise ExportError(
            f"{type(model).__name__} returns no features (N, D) in evaluation mode, but "
            f"{type(features).__name__}{'' if shape is None else f' {tuple(shape)}'}; a graph can "
            "hold nothing else."
        )
    return F.normalize(features.float(), dim=1)


def needs_keypoints(model: nn.Module) -> bool:
    """Return whether the model needs key points of each image."""
    return bool(getattr(model, "needs_keypoints", False))


class FeatureGraph(nn.Module):
    """The module that is recorded as a graph.

    Args:
        model: ``model({"images", "modalities"})`` returns features (N, D) in evaluation mode. If
            it needs key points, they are an input after the images.
        modality: the modality of all images; None: the modality of each image is an input.
    """

    def __init__(self, model: nn.Module, modality: Optional[Modality] = None) -> None:
        super().__init__()
        self.model = model
        self.modality = modality

    def forward(self, images: Tensor, *others: Tensor) -> Tensor:
        """Return features (N, D), float32 of length 1; NaN where the modality is unknown.

        Args:
            images: (N, 3, H, W) in 0..255.
            others: key points (N, 17, 3) if the model needs them, then modalities (N,) unless the
                module has a fixed modality.
        """
        rest = list(others)
        keypoints = rest.pop(0) if needs_keypoints(self.model) else None
        if self.modality is not None:
            fixed = torch.full_like(images[:, 0, 0, 0], int(self.modality)).long()
            return unit_features(self.model, images, fixed, keypoints)
        modalities = rest.pop(0)
        features = unit_features(self.model, images, modalities, keypoints)
        return features.masked_fill(~known_modality_mask(modalities).unsqueeze(1), float("nan"))


def record(
    model: nn.Module, image_size: Sequence[int], modality: Optional[Modality] = None
) -> bytes:
    """Return the content of an ONNX file: from ``images`` (and others) to ``features``.

    Further inputs are ``keypoints``, if the model needs them, and ``modalities``.

    The graph takes any number of images N.

    Args:
        model: in evaluation mode, on the CPU.
        image_size: (H, W).
        modality: as for :class:`FeatureGraph`.

    Raises:
        ExportError: the model cannot be exported.
    """
    images = torch.rand(_RECORDED_ROWS, 3, *image_size) * 255
    inputs = {IMAGES: images}
    if needs_keypoints(model):
        size = (image_size[0], image_size[1])
        inputs[KEYPOINTS] = standing_person(_RECORDED_ROWS, size)
    if modality is None:
        inputs[MODALITIES] = torch.tensor(list(Modality))
    graph = FeatureGraph(model, modality).eval()
    file: Any = io.BytesIO()  # the TorchScript exporter takes it, whatever its annotation says
    try:
        with torch.no_grad(), fixed_path(modality), _silent():
            torch.onnx.export(
                graph,
                tuple(inputs.values()),
                file,
                input_names=list(inputs),
                output_names=[FEATURES],
                dynamic_axes={name: {0: "N"} for name in (*inputs, FEATURES)},
                opset_version=OPSET,
                **_exporter(),
            )
    except ExportError:
        raise
    except Exception as error:  # exporters raise errors of many kinds for this
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise ExportError(
            f"{type(model).__name__} cannot be exported by PyTorch {torch.__version__} "
            f"({type(error).__name__}): {reason[:500]}"
        ) from error
    return file.getvalue()


def _exporter() -> Dict[str, Any]:
    """Return the arguments that choose the TorchScript exporter where there are two."""
    known = inspect.signature(torch.onnx.export).parameters
    return {"dynamo": False} if "dynamo" in known else {}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Hide what the exporter prints.

    It warns of sizes that become constants, which the comparison at other batch sizes would find,
    and it prints the whole graph before it raises.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
