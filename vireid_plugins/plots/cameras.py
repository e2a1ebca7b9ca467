"""Rank-1 from each query camera to each gallery camera, and how two models differ in it."""

from dataclasses import dataclass
from typing import Any, Iterator, List, Sequence, Tuple

import numpy as np

from ..drawing.style import write_figure, write_numbers
from ..errors import PlotError
from ..evaluation.cameras import NEVER, NOBODY, CameraMatrix, camera_matrix
from ..evaluation.protocols import MOST_TRIALS
from .cameras_figure import draw_difference, draw_matrices
from .kinds import Drawn, Kind, register_kind
from .options import option
from .subject import Subject, check_same_images

NAME = "cameras"
_CELL = ("query_modality", "query_camera", "gallery_modality", "gallery_camera")
HEADER = ("model", *_CELL, "rank1", "std", "queries", "identities", "empty")
DIFFERENCE_HEADER = (*_CELL, "difference")
SUMMARY_HEADER = ("model", "cells", "mean_rank1")


@dataclass(frozen=True)
class CameraOptions:
    """Options of the matrix."""

    trials: int = option(10, "galleries that are drawn for each camera", metavar="N")

    def __post_init__(self) -> None:
        """Raise ``PlotError`` for a number that is out of range."""
        if not 1 <= self.trials <= MOST_TRIALS:
            raise PlotError(f"--trials is {self.trials}; expected 1 to {MOST_TRIALS}.")


@register_kind(NAME, help="single-shot rank-1 from camera to camera; two models: the difference")
class Cameras(Kind):
    """A matrix for each model and, of two models, their difference in a second picture."""

    Options = CameraOptions

    def draw(self, subjects: Sequence[Subject], options: CameraOptions, folder: str) -> Drawn:
        """Draw the matrices, and the difference of two."""
        check_same_images(subjects)
        matrices = [measure_cameras(subject, options.trials) for subject in subjects]
        labels = [subject.label for subject in subjects]
        named = list(zip(labels, matrices))
        notes = [f"{label}: {means_in_words(matrix)}." for label, matrix in named]
        note = _note(subjects[0], matrices[0])
        written = write_figure(draw_matrices(matrices, labels, note), folder, NAME)
        written.append(write_numbers(folder, NAME, HEADER, _lines(named)))
        summary = [
            (label, name, f"{mean:.6g}")
            for label, matrix in named
            for name, mean in matrix.means().items()
        ]
        written.append(write_numbers(folder, f"{NAME}_summary", SUMMARY_HEADER, summary))
        if len(matrices) == 2:
            notes.append(_difference_in_words(matrices, labels))
            name = f"{NAME}_difference"
            written += write_figure(draw_difference(matrices, labels, note), folder, name)
            lines = _difference_lines(matrices)
            written.append(write_numbers(folder, name, DIFFERENCE_HEADER, lines))
        return Drawn(written, [*notes, note])


def measure_cameras(subject: Subject, trials: int = 10) -> CameraMatrix:
    """Return the matrix of a model on its test set.

    Args:
        subject: the model.
        trials: galleries that are drawn for each camera.

    Raises:
        PlotError: there is only one camera, or no identity was seen by two cameras.
    """
    cfg = subject.cfg
    matrix = camera_matrix(
        subject.features,
        subject.dataset,
        subject.protocols[0].rules(),
        metric=cfg.TEST.METRIC,
        trials=trials,
        device=str(cfg.TEST.DEVICE or cfg.MODEL.DEVICE),
    )
    if len(matrix.cameras) < 2:
        raise PlotError(
            f"The test images of {subject.dataset_name} are of one camera, so there is nothing to "
            "compare it with."
        )
    if not np.isfinite(matrix.rank1).any():
        raise PlotError(
            f"No two cameras of {subject.dataset_name} that may be compared have seen the same "
            "identity."
        )
    return matrix


def means_in_words(matrix: CameraMatrix) -> str:
    """Return the means within and across the modalities, in one line."""
    return "; ".join(f"{name} {mean:.1f} %" for name, mean in matrix.means().items())


def _note(subject: Subject, matrix: CameraMatrix) -> str:
    """Return how the cells were computed, and which are empty."""
    sizes = sorted(set(matrix.identities.tolist()))
    among = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    drawn = f"mean of {matrix.trials} galleries" if matrix.trials > 1 else "one gallery"
    letters = [group for group in dict.fromkeys(camera.group for camera in matrix.cameras) if group]
    meaning = ", ".join(f"{group[0].upper()}: {group}" for group in letters)
    lines = [
        f"{subject.dataset_name}: single-shot rank-1 (%), one image of each of {among} identities, "
        f"{drawn}.{f' {meaning}.' if meaning else ''}",
        "A camera is not compared with itself: its images of a person show one place and moment.",
    ]
    empty = {word for line in matrix.why for word in line}
    if NEVER in empty:
        query, _, gallery = subject.protocols[0].direction.partition("_to_")
        words = subject.protocols[0].rules().words(query, gallery)
        lines.append(f"Never compared: {words}.")
    if NOBODY in empty:
        lines.append("Other empty cells: no identity was seen by both cameras.")
    return "\n".join(lines)


def _cell(matrix: CameraMatrix, row: int, column: int) -> Tuple[Any, ...]:
    query, gallery = matrix.cameras[row], matrix.cameras[column]
    return (query.group, query.number, gallery.group, gallery.number)


def _lines(named: Sequence[Tuple[str, CameraMatrix]]) -> Iterator[Tuple[Any, ...]]:
    for label, matrix in named:
        for row, column in np.ndindex(matrix.rank1.shape):
            yield (
                label,
                *_cell(matrix, row, column),
                *(_number(float(values[row, column])) for values in (matrix.rank1, matrix.std)),
                matrix.queries[row, column],
                matrix.identities[column],
                matrix.why[row][column],
            )


def _number(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else ""


def _difference_lines(matrices: Sequence[CameraMatrix]) -> Iterator[Tuple[Any, ...]]:
    difference = matrices[0].rank1 - matrices[1].rank1
    for row, column in np.ndindex(difference.shape):
        yield (*_cell(matrices[0], row, column), _number(float(difference[row, column])))


def _difference_in_words(matrices: Sequence[CameraMatrix], labels: Sequence[str]) -> str:
    first, second = (matrix.means() for matrix in matrices)
    parts: List[str] = [
        f"{name} {first[name] - second[name]:+.1f}" for name in first if name in second
    ]
    return f"{labels[0]} minus {labels[1]}, points: {'; '.join(parts)}."
