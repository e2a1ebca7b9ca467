"""The kind ``swaps``: what a method that generates images makes of the test set's.

It draws any method with ``encode``, ``decode`` and ``pictures``. B images, D features.
"""

from functools import partial
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from ..drawing.photos import Photo
from ..drawing.style import write_figure, write_numbers
from ..errors import PlotError
from ..evaluation import evaluation_mode
from ..evaluation.similarity import normalize
from ..modality import Modality
from ..modeling.generation.grids import exchanged, pixels, swap_grids
from .chosen import PhotoOptions, batch_of_subject, chosen_photos
from .kinds import Drawn, Kind, register_kind
from .subject import Subject
from .swaps_page import swaps_page

HEADER = (
    "person",
    "pose_and_light",
    "nearest",
    "cosine_to_person",
    "cosine_to_pose_and_light",
    "change",
)
PERSONS = 4  # on a page


class Cell(NamedTuple):
    """What the model itself sees in a generated image."""

    person: int  # place of the photograph whose prototype and style it has
    donor: int  # that of pose and illumination
    nearest: int  # the photograph of its page whose feature is nearest
    to_person: float  # cosine
    to_donor: float  # cosine
    change: float  # mean difference to the restored image, in gray values of 255

    def after(self, count: int) -> "Cell":
        """Return the same where ``count`` photographs come before those of its page."""
        return self._replace(
            person=self.person + count, donor=self.donor + count, nearest=self.nearest + count
        )


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
        pages, paths, cells = pages_of(photos), [], []
        with evaluation_mode(model), torch.no_grad():
            for number, page in enumerate(pages, start=1):
                place = f", page {number} of {len(pages)}" if len(pages) > 1 else ""
                figure, seen = _page(subject, page, f"Swaps of {subject.label}{place}")
                name = "swaps" if number == 1 else f"swaps-{number}"
                paths += write_figure(figure, folder, name)
                cells += [cell.after(sum(map(len, pages[: number - 1]))) for cell in seen]
        photos = [photo for page in pages for photo in page]
        persons = [person_of(photo) for photo in photos]
        numbers = write_numbers(folder, "swaps", HEADER, _numbers(photos, cells))
        return Drawn([*paths, numbers], [why, in_words(cells, persons)])


def person_of(photo: Photo) -> Any:
    """Return who is on a photograph; an unknown person is nobody else."""
    return photo.path if photo.target is None else photo.target


def pages_of(photos: Sequence[Photo]) -> List[List[Photo]]:
    """Return the photographs of each page: a few persons, the visible images first.

    No page has one photograph alone, with which nothing can be swapped.
    """
    persons = list(dict.fromkeys(map(person_of, photos)))
    starts = range(0, len(persons), PERSONS)
    groups = [set(persons[start : start + PERSONS]) for start in starts]
    pages = [[photo for photo in photos if person_of(photo) in group] for group in groups]
    if len(pages) > 1 and len(pages[-1]) == 1:
        pages[-2:] = [pages[-2] + pages[-1]]
    return [sorted(page, key=lambda photo: photo.modality) for page in pages]


def _page(subject: Subject, photos: Sequence[Photo], title: str) -> Tuple[Any, List[Cell]]:
    """Return the figure of a page, and what the model sees on it."""
    model: Any = subject.model
    batch = batch_of_subject(subject, photos)
    images, modalities = model.normalize(batch["images"]), model.modalities_of(batch)
    persons, names = [person_of(photo) for photo in photos], [photo.caption for photo in photos]
    grids = swap_grids(model, images, modalities, persons, names)
    draw = partial(pixels, mean=model.pixel_mean, deviation=model.pixel_std)
    figure = swaps_page(grids, draw, title, int((modalities == Modality.VISIBLE).sum()))
    return figure, seen_by(model, images, modalities)


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


def _numbers(photos: Sequence[Photo], cells: Sequence[Cell]) -> Iterator[Sequence[Any]]:
    paths: Dict[int, str] = {place: photo.path for place, photo in enumerate(photos)}
    for cell in cells:
        numbers = (f"{value:.6f}" for value in (cell.to_person, cell.to_donor))
        places = (cell.person, cell.donor, cell.nearest)
        yield (*(paths[place] for place in places), *numbers, f"{cell.change:.3f}")
