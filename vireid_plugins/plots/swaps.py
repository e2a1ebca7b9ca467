"""The kind ``swaps``: what a method that generates images makes of the test set's.

It draws any method with ``encode``, ``decode`` and ``pictures``. B images, D features.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Sequence

import torch
from torch import Tensor

from ..drawing.photos import Photo
from ..drawing.style import GRAY, new_figure, plain, write_figure, write_numbers
from ..errors import PlotError
from ..evaluation import evaluation_mode
from ..evaluation.similarity import normalize
from ..modeling.generation.grids import Grid, exchanged, pixels, swap_grids
from .chosen import PhotoOptions, batch_of_subject, chosen_photos
from .kinds import Drawn, Kind, register_kind
from .subject import Subject

HEADER = (
    "person",
    "pose_and_light",
    "nearest",
    "cosine_to_person",
    "cosine_to_pose_and_light",
    "change",
)
_WIDTH, _HEIGHT, _TITLE = 0.62, 1.24, 0.5  # inches of an image, and of a title


class Cell(NamedTuple):
    """What the model itself sees in a generated image."""

    person: int  # place of the photograph whose prototype and style it has
    donor: int  # that of pose and illumination
    nearest: int  # the photograph whose feature is nearest, of all that are shown
    to_person: float  # cosine
    to_donor: float  # cosine
    change: float  # mean difference to the restored image, in gray values of 255


@register_kind("swaps", help="generated images: one's person, another's pose and illumination")
class Swaps(Kind):
    """The grid of everyone in each pose, images across modalities, and attributes alone."""

    Options = PhotoOptions
    most_subjects = 1

    def draw(self, subjects: Sequence[Subject], options: PhotoOptions, folder: str) -> Drawn:
        """Draw the three grids of a model; write them, and what the model sees in the first."""
        subject = subjects[0]
        model: Any = subject.model
        if not hasattr(model, "decode") or getattr(model, "id_pig", True) is None:
            raise PlotError(
                f"{type(model).__name__} generates no images, so nothing can be swapped; "
                "draw the checkpoint of a method that does, such as HiCMD with "
                "MODEL.HICMD.GENERATION True."
            )
        photos, why = chosen_photos(subject, options)
        if len(photos) < 2:
            raise PlotError(f"{len(photos)} image is given; swaps need two or more.")
        names = [photo.caption for photo in photos]
        batch = batch_of_subject(subject, photos)
        with evaluation_mode(model), torch.no_grad():
            images, modalities = model.normalize(batch["images"]), model.modalities_of(batch)
            persons = [photo.path if photo.target is None else photo.target for photo in photos]
            grids = swap_grids(model, images, modalities, persons, names)
            cells = seen_by(model, images, modalities)
        figure = _figure(grids, model.pixel_mean, model.pixel_std, subject.label)
        paths = write_figure(figure, folder, "swaps")
        numbers = write_numbers(folder, "swaps", HEADER, _numbers(photos, cells))
        return Drawn([*paths, numbers], [why, in_words(cells, persons)])


def seen_by(model: Any, images: Tensor, modalities: Tensor) -> List[Cell]:
    """Return what a model sees in the images of the first grid, where person and pose differ.

    Args:
        model: in evaluation mode.
        images: (B, 3, H, W), normalized.
        modalities: (B,).
    """
    codes = model.encode(images, modalities)
    real = normalize(_features(model, images, modalities))
    own = model.decode(codes.prototypes, codes.attributes)
    places, found = torch.arange(len(images), device=images.device), []
    for donor in range(len(images)):
        donors = torch.full_like(places, donor)
        made = exchanged(model, codes, places, donors)
        cosines = normalize(_features(model, made, modalities[donors])) @ real.T
        change = ((made - own).abs() * model.pixel_std).mean(dim=(1, 2, 3))
        for person in places.tolist():
            if person != donor:
                row = cosines[person]
                found.append(
                    Cell(
                        person,
                        donor,
                        nearest=int(row.argmax()),
                        to_person=float(row[person]),
                        to_donor=float(row[donor]),
                        change=float(change[person]),
                    )
                )
    return found


def _features(model: Any, images: Tensor, modalities: Tensor) -> Tensor:
    features: Tensor = model.heads(model.extract(images, modalities), None, modalities).float()
    return features


def in_words(cells: Sequence[Cell], persons: Sequence[Any]) -> str:
    """Return how often the person stays, and how much moves, in sentences."""
    kept = sum(persons[cell.nearest] == persons[cell.person] for cell in cells)
    others = [cell for cell in cells if persons[cell.person] != persons[cell.donor]]
    nearer = sum(cell.to_person > cell.to_donor for cell in others)
    change = sum(cell.change for cell in cells) / len(cells)
    return (
        f"By the model's own features, {kept} of {len(cells)} generated images are nearest to an "
        f"image of their person, and {nearer} of {len(others)} are nearer to their person than to "
        f"the other one that gave pose and illumination. Pose and illumination of another image "
        f"change a pixel by {change:.1f} of 255 gray values on average."
    )


def _figure(grids: Sequence[Grid], mean: Tensor, deviation: Tensor, label: str) -> Any:
    heights = [_HEIGHT * len(grid.cells) + _TITLE for grid in grids]
    width = _WIDTH * max(len(grid.cells[0]) for grid in grids) + 1.2
    figure = new_figure(max(width, 5.0), sum(heights) + 0.4)
    figure.suptitle(plain(f"Swaps of {label}"), fontsize=9)
    parts: Any = figure.subfigures(len(grids), 1, height_ratios=heights)
    for part, grid in zip(parts, grids):
        part.suptitle(plain(grid.title), fontsize=8)
        axes = part.subplots(len(grid.cells), len(grid.cells[0]), squeeze=False)
        for line, name, row in zip(axes, grid.rows, grid.cells):
            line[0].set_ylabel(plain(name), fontsize=6, color=GRAY, rotation=0, ha="right")
            for one, image in zip(line, row):
                _show(one, image, mean, deviation)
        for one, name in zip(axes[0], grid.columns):
            one.set_title(plain(name), fontsize=6, color=GRAY)
    return figure


def _show(axes: Any, image: Any, mean: Tensor, deviation: Tensor) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if image is not None:
        axes.imshow(pixels(image, mean, deviation).transpose(1, 2, 0))


def _numbers(photos: Sequence[Photo], cells: Sequence[Cell]) -> Iterator[Sequence[Any]]:
    paths: Dict[int, str] = {place: photo.path for place, photo in enumerate(photos)}
    for cell in cells:
        numbers = (f"{value:.6f}" for value in (cell.to_person, cell.to_donor))
        places = (cell.person, cell.donor, cell.nearest)
        yield (*(paths[place] for place in places), *numbers, f"{cell.change:.3f}")
