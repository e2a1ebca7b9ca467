"""The kind ``cam``: a heat map over an image shows which parts of the image raise a score.

Networks with maps are explained by Grad-CAM or HiResCAM (``grad_cam.py``), transformers by
attention roll-out (``rollout.py``). B images, h x w a map.
"""

import re
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

import numpy as np
from tqdm import tqdm

from ..drawing.photos import Photo, batches
from ..drawing.sheet import IMAGE_BOX, Panel, PanelGroup, draw_sheet, load_picture
from ..drawing.style import write_figure, write_numbers
from ..errors import PlotError
from ..readers.checkpoint import read_checkpoint
from .chosen import (
    PhotoOptions,
    batch_of_subject,
    chosen_photos,
    features_of,
    train_set,
    with_matches,
)
from .grad_cam import (
    Activation,
    ClassScore,
    Similarity,
    check_layer,
    grad_cam,
    join_activations,
    relative_heat,
)
from .kinds import Drawn, Kind, register_kind
from .options import option
from .overlay import COLOR_MAP, overlay
from .rollout import find_transformer, require_transformer, rollout_map
from .subject import Subject

HEADER = (
    "model",
    "image",
    "modality",
    "identity",
    "camera",
    "layer",
    "target",
    "score",
    "flat",
    "row",
    "column",
    "value",
)
GRAD_CAM, HIRES_CAM, ROLLOUT = "grad-cam", "hirescam", "rollout"
METHOD_NAMES = {GRAD_CAM: "Grad-CAM", HIRES_CAM: "HiResCAM", ROLLOUT: "Attention roll-out"}
IDENTITY, MATCH = "identity", "match"
_BATCH = 16  # images whose graph is held at once


class HeatMaps(NamedTuple):
    """The heat maps of one model."""

    activation: Activation
    heat: np.ndarray  # (B, h, w) in 0..1
    flat: np.ndarray  # (B,) bool
    targets: List[str]  # in words, which score each map explains


@dataclass(frozen=True)
class CAMOptions(PhotoOptions):
    """Options of the heat maps."""

    target: str = option(
        "",
        "the score that is explained. identity (default): of the image's own training identity "
        "with --split train, else of the identity that scores highest; match: similarity to the "
        "nearest image of the same person in the other modality",
        choices=(IDENTITY, MATCH),
    )
    layer: str = option("", "the map to take; default: the last", metavar="NAME")
    method: str = option(
        "auto",
        "auto (default): attention roll-out for a transformer, else Grad-CAM; hirescam "
        "weighs each position by its own gradient",
        choices=("auto", *METHOD_NAMES),
    )


@register_kind("cam", help="heat maps: which parts of an image raise a score")
class CAM(Kind):
    """Grad-CAM or attention roll-out beside the photographs."""

    Options = CAMOptions

    def draw(self, subjects: Sequence[Subject], options: CAMOptions, folder: str) -> Drawn:
        """Draw a photograph, a map for each model, and the match where it is asked for."""
        for subject in subjects:
            _check_method(subject, options)
        photos, why = chosen_photos(subjects[0], options)
        notes, matches = [why], None
        if options.target == MATCH:
            photos, matches, left_out = with_matches(subjects[0], photos)
            notes += left_out
        results = [_explain(subject, photos, matches, options) for subject in subjects]
        notes += [note for one in zip(subjects, results) for note in _flat_note(*one)]
        sheet = draw_sheet(
            [_group(photo, place, results, matches) for place, photo in enumerate(photos)],
            _headings(subjects, matches),
            title=_title(subjects, options),
            note=_note(subjects, results, options, why),
            bar=(COLOR_MAP, ("0", "the map's largest value")),
        )
        paths = write_figure(sheet.page.figure, folder, "cam")
        labels = [subject.label for subject in subjects]
        numbers = _numbers(labels, photos, results)
        return Drawn([*paths, write_numbers(folder, "cam", HEADER, numbers)], notes)


def _check_method(subject: Subject, options: CAMOptions) -> None:
    """Raise ``PlotError`` for wrong options before features are extracted."""
    if _method(subject, options) != ROLLOUT:
        check_layer(subject.model, options.layer)
        if options.target != MATCH:
            check_classifier(subject)
        return
    require_transformer(subject.model)
    for word, value in (("--target", options.target), ("--layer", options.layer)):
        if value:
            raise PlotError(
                f"{subject.label} is a transformer: attention roll-out says what its output takes "
                f"from each patch, whatever the score. Leave {word} {value} out."
            )


def _method(subject: Subject, options: CAMOptions) -> str:
    if options.method != "auto":
        return options.method
    return ROLLOUT if find_transformer(subject.model) is not None else GRAD_CAM


def check_classifier(subject: Subject) -> None:
    """Raise ``PlotError`` if the checkpoint lacks weights of the head.

    An evaluation accepts such a checkpoint, because features do not pass through the classifier.
    But scores of identities mean nothing then.
    """
    held = read_checkpoint(subject.weights, entries=["model"])["model"]
    shapes = {re.sub(r"^module\.", "", name): value.shape for name, value in held.items()}
    own = subject.model.named_parameters()
    absent = [n for n, v in own if n.startswith("heads.") and shapes.get(n) != v.shape]
    if absent:
        raise PlotError(
            f"{subject.weights} has no weights for {', '.join(absent)}, by which training "
            "identities are scored; use --target match."
        )


def _explain(
    subject: Subject,
    photos: Sequence[Photo],
    matches: Optional[Sequence[Photo]],
    options: CAMOptions,
) -> HeatMaps:
    by_rollout, classes = _method(subject, options) == ROLLOUT, None
    if options.split == "train" and matches is None and not by_rollout:
        classes = _classes(subject, photos)
    parts = []
    for begin, block in tqdm(
        batches(photos, _BATCH), desc=f"maps of {subject.label}", disable=not subject.progress
    ):
        batch, rows = batch_of_subject(subject, block), slice(begin, begin + len(block))
        if by_rollout:
            parts.append(rollout_map(subject.model, batch))
            continue
        if matches is None:
            target: Any = ClassScore(None if classes is None else classes[rows])
        else:
            target = Similarity(features_of(subject, matches[rows]))
        fine = options.method == HIRES_CAM
        parts.append(grad_cam(subject.model, batch, target, options.layer, per_position=fine))
    activation = join_activations(parts)
    heat, flat = relative_heat(activation)
    return HeatMaps(activation, heat, flat, _target_words(activation, matches))


def _flat_note(subject: Subject, result: HeatMaps) -> List[str]:
    flat = result.flat
    return [f"{subject.label}: {flat.sum()} of {len(flat)} maps are flat."] if flat.any() else []


def _target_words(activation: Activation, matches: Optional[Sequence[Photo]]) -> List[str]:
    if matches is not None:
        return [match.path for match in matches]
    if activation.classes is not None:
        return [f"class {number}" for number in activation.classes]
    return [""] * len(activation.maps)


def _classes(subject: Subject, photos: Sequence[Photo]) -> np.ndarray:
    """Return the class numbers (B,) that the model learned for the photographs' identities.

    Raises:
        PlotError: the model learned no class for one of them, or the training set has changed
            since.
    """
    known = train_set(subject).class_ids
    if len(known) != subject.cfg.MODEL.HEADS.NUM_CLASSES:
        raise PlotError(
            f"{subject.label} was trained on {subject.cfg.MODEL.HEADS.NUM_CLASSES} identities, and "
            f"the training set of {', '.join(subject.cfg.DATASETS.NAMES)} has {len(known)}."
        )
    numbers: Dict[Any, int] = {identity: place for place, identity in enumerate(known)}
    strange = [photo.path for photo in photos if photo.target not in numbers]
    if strange:
        raise PlotError(
            f"{strange[0]} is not in the training set of {subject.label}. Leave --split train out "
            "to explain the score of the identity that scores highest."
        )
    return np.array([numbers[photo.target] for photo in photos], dtype=np.int64)


def _headings(subjects: Sequence[Subject], matches: Optional[Sequence[Photo]]) -> List[str]:
    headings = ["image", *(subject.label for subject in subjects)]
    return headings + (["match"] if matches is not None else [])


def _group(
    photo: Photo,
    place: int,
    results: Sequence[HeatMaps],
    matches: Optional[Sequence[Photo]],
) -> PanelGroup:
    pixels, size = load_picture(photo.path, IMAGE_BOX)
    panels = [Panel(pixels, size)]
    for result in results:
        panels.append(Panel(overlay(pixels, result.heat[place]), size, _caption(result, place)))
    if matches is not None:
        panels.append(Panel(*load_picture(matches[place].path, IMAGE_BOX)))
    return PanelGroup(panels, photo.caption.replace("\n", ", "))


def _caption(result: HeatMaps, place: int) -> str:
    score = result.activation.scores[place]
    flat = ", flat" if result.flat[place] else ""
    if np.isnan(score):  # attention roll-out
        return flat[2:] or f"least: {result.heat[place].min():.2f}"
    what = "similarity" if result.activation.classes is None else result.targets[place]
    return f"{what}: {score:.2f}{flat}"


def _title(subjects: Sequence[Subject], options: CAMOptions) -> str:
    methods = dict.fromkeys(METHOD_NAMES[_method(subject, options)] for subject in subjects)
    return f"{' and '.join(methods)} of {' and '.join(subject.label for subject in subjects)}"


def _note(
    subjects: Sequence[Subject],
    results: Sequence[HeatMaps],
    options: CAMOptions,
    why: str,
) -> str:
    sizes = [f"{r.activation.layer}, {r.heat.shape[1]} × {r.heat.shape[2]}" for r in results]
    if len(set(sizes)) > 1:
        sizes = [f"{subject.label}: {size}" for subject, size in zip(subjects, sizes)]
    maps = "; ".join(dict.fromkeys(sizes))
    words = [why]
    for method in sorted({_method(subject, options) for subject in subjects}):
        if method == ROLLOUT:
            words.append(
                "Attention roll-out: what the output takes from each patch; where the least is "
                "near 1, it takes as much from all of them."
            )
        else:
            words.append(f"{METHOD_NAMES[method]} of {_target_sentence(subjects, options)}.")
    words.append(f"Maps: {maps}; each in parts of its own largest value.")
    if any(result.flat.any() for result in results):
        words.append("Flat: the parts that raise the score are less than a thousandth of it.")
    return " ".join(words)


def _target_sentence(subjects: Sequence[Subject], options: CAMOptions) -> str:
    if options.target == MATCH:
        chosen = f", chosen by the first model, {subjects[0].label}" if len(subjects) > 1 else ""
        return (
            "the cosine similarity to the match, the nearest test image of the same person (where "
            f"it is known) in the other modality{chosen}"
        )
    if options.split == "train":
        return "the score of the image's own training identity"
    return "the score of the training identity that scores highest: test identities have no class"


def _numbers(
    labels: Sequence[str], photos: Sequence[Photo], results: Sequence[HeatMaps]
) -> Iterator[Sequence[Any]]:
    for label, result in zip(labels, results):
        for place, photo in enumerate(photos):
            head = (
                *(label, photo.path, photo.modality_label, photo.target, photo.camid),
                *(result.activation.layer, result.targets[place]),
                *(f"{result.activation.scores[place]:.6g}", int(result.flat[place])),
            )
            for (row, column), value in np.ndenumerate(result.activation.maps[place]):
                yield (*head, row, column, f"{value:.6g}")
