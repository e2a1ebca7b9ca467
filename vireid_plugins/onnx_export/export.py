"""Write an ONNX file that gives the same features as a checkpoint, or say why it is impossible."""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Union

import torch

from ..engine.feature_extractor import FeatureExtractor
from ..errors import UnknownNameError
from ..files import check_can_write, write_atomically, writing
from ..joints import JOINTS
from ..modality import Modality
from ..version import __version__
from .compare import (
    LARGEST_DIFFERENCE,
    SMALLEST_COSINE,
    Agreement,
    Speed,
    compare,
    measure_speeds,
    open_session,
    pytorch_features,
)
from .graph import FEATURES, IMAGES, KEYPOINTS, MODALITIES, OPSET, ExportError, record
from .pictures import Pictures, random_pictures, real_pictures

PACKAGES = ("onnx", "onnxruntime")
SUFFIX = ".onnx"


class DifferentFeaturesError(ExportError):
    """A graph that computes other features than PyTorch; nothing was written."""


@dataclass
class Exported:
    """What an export has written, and how it compares with PyTorch."""

    path: Path
    metadata: Dict[str, str]  # the metadata in the file
    notes: List[str]  # sentences about what the evaluation does beyond the network
    agreements: List[Agreement] = field(default_factory=list)
    speeds: List[Speed] = field(default_factory=list)


def export_onnx(
    weights: Union[str, Path],
    out: Union[str, Path],
    modality: Union[str, Modality, None] = None,
    *,
    seconds: float = 0.0,
    say: Callable[[str], Any] = lambda line: None,
) -> Exported:
    """Write the network of a checkpoint as an ONNX file, if onnxruntime agrees with PyTorch.

    Args:
        weights: a checkpoint written by ``VIReIDTrainer``.
        out: the file to write; an older one is kept unless the export succeeds.
        modality: ``"visible"`` or ``"infrared"`` for a graph of that modality alone; None for a
            graph that takes the modality of each image as an input.
        seconds: length of each of the four measurements of speed; 0: as short as possible.
        say: called with lines that say what happens.

    Raises:
        DifferentFeaturesError: the graph computes other features.
        ExportError: a package or file is missing, or the model cannot be exported.
    """
    require_packages()
    target = _check_target(Path(out), Path(weights))
    if isinstance(modality, str):
        modality = Modality.parse(modality)
    extractor = _open(Path(weights))
    if target.exists():
        say(f"{target} exists; it is replaced if the features are the same.")
    model, size = extractor.model, list(extractor.cfg.INPUT.SIZE_TEST)
    exported = Exported(target, _metadata(extractor, modality), _notes(extractor))
    _say_what(exported, extractor, size, say)
    content = _with_metadata(record(model, size, modality), exported.metadata)
    threads = torch.get_num_threads()
    session = open_session(content, threads)
    pictures = _pictures(extractor, size, modality, say)
    say(f"Compared with PyTorch {torch.__version__} on the CPU:")
    for one in pictures:
        for agreement in compare(model, session, one):
            exported.agreements.append(agreement)
            say(
                f"  {agreement.source + ' images,':18} batches of {agreement.batch}: largest "
                f"difference {agreement.difference:.1e}, smallest cosine {agreement.cosine:.8f}"
            )
    _check_agreement(exported, say)
    say(f"Images per second, {threads} thread{'s' * (threads != 1)}, medians:")
    for speed in measure_speeds(model, session, pictures[0], seconds):
        exported.speeds.append(speed)
        say(
            f"  batches of {speed.batch}: PyTorch {speed.pytorch:.1f}, onnxruntime "
            f"{speed.onnxruntime:.1f} ({speed.onnxruntime / speed.pytorch:.2f} times as fast)"
        )
    _write(target, content)
    say(f"Written: {target} ({len(content) / 1e6:.1f} MB)")
    return exported


def require_packages() -> None:
    """Raise ``ExportError`` unless what the export needs can be imported."""
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ExportError(
                f"The export needs {' and '.join(PACKAGES)}; {name} cannot be imported ({error}). "
                "Install both: pip install 'vireid_plugins[onnx]', or in a checkout pip install "
                "-e '.[onnx]'."
            ) from error


def _check_target(target: Path, weights: Path) -> Path:
    if target.suffix.lower() != SUFFIX:
        raise ExportError(f"--out is {str(target)!r}; expected a file name that ends in {SUFFIX}.")
    if target.is_dir():
        raise ExportError(f"--out is {str(target)!r}, which is a folder; name a file in it.")
    check_can_write(target)
    if target.absolute() == weights.absolute():
        raise ExportError(f"--out and --weights are the same file, {target}.")
    return target


def _open(weights: Path) -> FeatureExtractor:
    if weights.is_dir():
        raise ExportError(
            f"--weights is {str(weights)!r}, which is a folder; name a checkpoint in it, such as "
            f"{weights / 'model_final.pth'}."
        )
    if not weights.is_file():
        raise ExportError(f"--weights is {str(weights)!r}, and there is no such file.")
    try:
        return FeatureExtractor(str(weights))
    except UnknownNameError as error:
        raise ExportError(
            f"{weights}: {error} Is the method your own? Then call "
            "vireid_plugins.onnx_export.export_onnx from a script that imports it."
        ) from error


def _metadata(extractor: FeatureExtractor, modality: Optional[Modality]) -> Dict[str, str]:
    height, width = extractor.cfg.INPUT.SIZE_TEST
    numbers = ", ".join(f"{int(one)} {one.label}" for one in Modality)
    blank = torch.zeros(1, 3, height, width)
    dimensions = pytorch_features(extractor.model, blank, torch.zeros(1, dtype=torch.int64)).shape
    about = getattr(extractor.model, "test_feature", "")
    return {
        "vireid_plugins": __version__,
        "fingerprint": extractor.fingerprint,
        "meta_architecture": type(extractor.model).__name__,
        "modality": f"input {MODALITIES!r}: {numbers}" if modality is None else modality.label,
        "image_height": str(height),
        "image_width": str(width),
        "interpolation": extractor.cfg.INPUT.INTERPOLATION,
        "pixels": "RGB, 0..255, float32, not normalized; an infrared image has equal channels",
        "preprocessing": extractor.transforms.describe().splitlines()[0].partition(": ")[2],
        **{f"{m.label}_range": extractor.reader.describe(m) for m in Modality},
        **_points_words(extractor),
        "feature": f"{about}{', ' * bool(about)}length 1: compare by inner product",
        "feature_size": str(dimensions[1]),
    }


def _points_words(extractor: FeatureExtractor) -> Dict[str, str]:
    """Return what the metadata say of key points; nothing for a model that needs none."""
    if not extractor.needs_keypoints:
        return {}
    words = (
        f"input {KEYPOINTS!r} (N, 17, 3): x, y in pixels of the input image, (0, 0) is the middle "
        f"of the upper left one, and a confidence from 0 to 1; joints: {', '.join(JOINTS)}"
    )
    return {"keypoints": words}


def _notes(extractor: FeatureExtractor) -> List[str]:
    """Return sentences about what the evaluation does beyond the network."""
    notes = []
    rescorer = getattr(extractor.model, "rescorer", None)
    if rescorer is not None:
        notes.append(
            f"Not in the file: {rescorer.description}, by which this model's evaluation re-orders "
            "the nearest images. It looks at pairs of images, and the file looks at one image: "
            "rankings by its features are those without it."
        )
    relation = getattr(extractor.model, "relation", None)
    if relation is not None:
        notes.append(
            f"Not in the file: {relation.name}, by which this model's evaluation relates all "
            "images of a test. The file looks at one image: its features are the encoder's."
        )
    if extractor.cfg.TEST.FLIP.ENABLED:
        notes.append(
            "Not in the file: TEST.FLIP, by which this model's evaluation averages the features "
            "of an image and its mirror image."
        )
    return notes


def _say_what(
    exported: Exported, extractor: FeatureExtractor, size: List[int], say: Callable[[str], Any]
) -> None:
    facts = exported.metadata
    given = f"{IMAGES} (N, 3, {size[0]}, {size[1]}) float32, RGB 0..255"
    if "keypoints" in facts:
        given += f", {KEYPOINTS} (N, 17, 3) float32"
    if facts["modality"].startswith("input"):
        given += f", {MODALITIES} (N,) int64"
    say(f"{facts['meta_architecture']}, fingerprint {facts['fingerprint']}, {facts['modality']}")
    say(f"Graph, opset {OPSET}: {given} -> {FEATURES} (N, {facts['feature_size']}) float32")
    say(f"Feature: {facts['feature']}")
    for note in exported.notes:
        say(note)


def _pictures(
    extractor: FeatureExtractor, size: List[int], modality: Optional[Modality], say: Callable
) -> List[Pictures]:
    found = [random_pictures(size, modality)]
    try:
        found.append(real_pictures(extractor.cfg, extractor.transforms, modality))
    except ExportError as error:
        say(f"Compared on random images only: {error}")
    return found


def _check_agreement(exported: Exported, say: Callable[[str], Any]) -> None:
    worst = min(exported.agreements, key=lambda one: (one.good, one.cosine))
    if not worst.good:
        raise DifferentFeaturesError(
            f"The graph gives other features than PyTorch: smallest cosine {worst.cosine:.6f} "
            f"({worst.source} images, batches of {worst.batch}), below {SMALLEST_COSINE}. "
            f"{exported.path} was not written. What the network decides by looking at its input, "
            "such as an if, a loop or a size, is fixed once it is recorded."
        )
    largest = max(one.difference for one in exported.agreements)
    if largest > LARGEST_DIFFERENCE:
        say(
            f"  WARNING: {largest:.1e} is more than rounding explains (about 1e-6). Where the "
            "network chooses, as among stripes, two near-equal values may have changed places."
        )


def _write(target: Path, content: bytes) -> None:
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, lambda file: file.write(content))


def _with_metadata(content: bytes, metadata: Dict[str, str]) -> bytes:
    import onnx

    model = onnx.load_from_string(content)
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    return model.SerializeToString()
