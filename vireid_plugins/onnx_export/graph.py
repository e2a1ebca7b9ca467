"""The network of a model as an ONNX graph: images in, features of length 1 out.

PyTorch's TorchScript exporter records one forward pass; of its two exporters it is the one that
every version from 1.13 to 2.13 has, and it needs no further package. What a pass must not decide
by looking at the batch, ``modality.fixed_path`` takes away. N images of H x W pixels, D features.
"""

import contextlib
import inspect
import io
import warnings
from typing import Any, Dict, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modality import Modality, fixed_path, known_modalities

OPSET = 17  # the newest that PyTorch 1.13 writes; onnxruntime reads it from 1.12 on
IMAGES, MODALITIES, FEATURES = "images", "modalities", "features"
_RECORDED_ROWS = 2  # of either modality one; not 1, for which exporters take short cuts


class ExportError(ValueError):
    """Nothing was written: the message says why, and what to change."""


def unit_features(model: nn.Module, images: Tensor, modalities: Tensor) -> Tensor:
    """(N, D) float32 of length 1, as ``FeatureExtractor`` computes them.

    Raises:
        ExportError: the model returns something else than features.
    """
    features = model({"images": images, "modalities": modalities})
    if not isinstance(features, Tensor) or features.dim() != 2:
        shape = getattr(features, "shape", None)
        raise ExportError(
            f"{type(model).__name__} returns no features (N, D) in evaluation mode, but "
            f"{type(features).__name__}{'' if shape is None else f' {tuple(shape)}'}; a graph of "
            "one network holds nothing else."
        )
    return F.normalize(features.float(), dim=1)


class FeatureGraph(nn.Module):
    """What the graph computes.

    Args:
        model: ``model({"images", "modalities"})`` returns features (N, D) in evaluation mode.
        modality: of all images; None: each image's is an input.
    """

    def __init__(self, model: nn.Module, modality: Optional[Modality] = None) -> None:
        super().__init__()
        self.model = model
        self.modality = modality

    def forward(self, images: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Images (N, 3, H, W) in 0..255 and, without a fixed modality, ``modalities`` (N,).

        Returns:
            (N, D) float32 of length 1; NaN where the modality is no known number.
        """
        if self.modality is not None:
            modalities = torch.full_like(images[:, 0, 0, 0], int(self.modality)).long()
        features = unit_features(self.model, images, modalities)
        if self.modality is not None:
            return features
        return features.masked_fill(~known_modalities(modalities).unsqueeze(1), float("nan"))


def record(
    model: nn.Module, image_size: Sequence[int], modality: Optional[Modality] = None
) -> bytes:
    """An ONNX file's content: ``images`` (and ``modalities``) to ``features``, for any N.

    Args:
        model: in evaluation mode, on the CPU.
        image_size: (H, W).
        modality: as for :class:`FeatureGraph`.

    Raises:
        ExportError: the model cannot be exported.
    """
    images = torch.rand(_RECORDED_ROWS, 3, *image_size) * 255
    inputs = {IMAGES: images, MODALITIES: torch.tensor(list(Modality))}
    if modality is not None:
        del inputs[MODALITIES]
    graph = FeatureGraph(model, modality).eval()
    file = io.BytesIO()
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
    except Exception as error:  # exporters raise errors of many kinds; all mean the same
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise ExportError(
            f"{type(model).__name__} cannot be exported by PyTorch {torch.__version__} "
            f"({type(error).__name__}): {reason[:500]}"
        ) from error
    return file.getvalue()


def _exporter() -> Dict[str, Any]:
    """Words that choose the TorchScript exporter where there are two."""
    known = inspect.signature(torch.onnx.export).parameters
    return {"dynamo": False} if "dynamo" in known else {}


@contextlib.contextmanager
def _silent() -> Any:
    """Warnings about sizes taken for constants are answered by the comparison at other sizes;
    before it raises, the exporter prints the whole graph."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
