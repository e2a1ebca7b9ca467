"""The kind ``keypoints``: key points over images as the training sees them, flipped and cropped."""

from dataclasses import dataclass
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from ..data import build_train_loader
from ..data.dataset import ItemRequest, VIReIDDataset
from ..data.seeding import stream_seeds
from ..drawing.photos import choose_pairs
from ..drawing.style import COLORS, GRAY, new_figure, plain, write_figure, write_numbers
from ..errors import PlotError
from ..joints import JOINTS, LIMBS
from ..modality import Modality
from .kinds import Drawn, Kind, register_kind
from .options import option

HEADER = ("image", "modality", "picture", "joint", "x", "y", "confidence")
_LEFT, _RIGHT, _MIDDLE = COLORS[1], COLORS[4], COLORS[7]
_NUMBERS = {name: number for number, name in enumerate(JOINTS)}
_WIDTH, _HEIGHT = 1.1, 2.3  # inches of one picture


@dataclass(frozen=True)
class KeypointsOptions:
    """Options of the pictures of key points."""

    count: int = option(2, "identities to choose, one image in each modality", metavar="N")
    views: int = option(5, "training images that each of them becomes", metavar="N")
    seed: int = option(0, "seed of the choice and of the augmentation", metavar="N")

    def __post_init__(self) -> None:
        """Raise ``PlotError`` for a number that is out of range."""
        if not (1 <= self.count <= 12 and 1 <= self.views <= 12 and self.seed >= 0):
            raise PlotError(
                f"--count is {self.count}, --views {self.views} and --seed {self.seed}; expected "
                "1 to 12, 1 to 12, and 0 or more."
            )


class Picture(NamedTuple):
    """An image and its key points, in its pixels."""

    name: str  # "file", or the number of the augmented image, from 1
    pixels: np.ndarray  # (H, W, 3) uint8
    points: np.ndarray  # (17, 3)


@register_kind("keypoints", help="key points over training images, as files and as augmented")
class Keypoints(Kind):
    """Each row is one image: the file, and what the training makes of it."""

    Options = KeypointsOptions
    needs_model = False
    needs_config = True

    def draw(self, subjects: Sequence[Any], options: KeypointsOptions, folder: str) -> Drawn:
        """Draw the pictures of the config; write them, and the key points as CSV."""
        (cfg,) = subjects
        if cfg.INPUT.KEYPOINTS.READ == "none":
            raise PlotError(
                "INPUT.KEYPOINTS.READ is none, so there are no key points to draw; add "
                "INPUT.KEYPOINTS.READ all (and INPUT.KEYPOINTS.FILE, if it is no keypoints.npz)."
            )
        dataset = build_train_loader(cfg).dataset
        rows = []
        places = {item.path: place for place, item in enumerate(dataset.items)}
        for photo in choose_pairs(dataset.items, options.count, options.seed):
            rows.append(_row(dataset, places[photo.path], options))
        items = [dataset.items[place] for place, _ in rows]
        figure = _figure([pictures for _, pictures in rows], items)
        paths = write_figure(figure, folder, "keypoints")
        numbers = _numbers([pictures for _, pictures in rows], items)
        notes = [dataset.keypoints.describe() + "."] if dataset.keypoints else []
        return Drawn([*paths, write_numbers(folder, "keypoints", HEADER, numbers)], notes)


def _row(
    dataset: VIReIDDataset, place: int, options: KeypointsOptions
) -> Tuple[int, List[Picture]]:
    """Return the place of an item, and its pictures: the file, and the augmented ones."""
    assert dataset.keypoints is not None
    item = dataset.items[place]
    image = dataset.reader(item.path, Modality(item.modality))
    pictures = [Picture("file", np.asarray(image), dataset.keypoints.of(place)[0].numpy())]
    for view, seed in enumerate(stream_seeds(options.views, options.seed, place)):
        sample = dataset[ItemRequest(place, seed)]
        pixels, points = sample["images"], sample["keypoints"]
        if pixels.dim() == 4:  # several views: the first one
            pixels, points = pixels[0], points[0]
        shown = pixels.permute(1, 2, 0).clamp(0, 255).numpy().astype(np.uint8)
        pictures.append(Picture(str(view + 1), shown, points.numpy()))
    return place, pictures


def _figure(rows: Sequence[Sequence[Picture]], items: Sequence[Any]) -> Any:
    figure = new_figure(_WIDTH * len(rows[0]), _HEIGHT * len(rows) + 0.4)
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for line, pictures, item in zip(axes, rows, items):
        for one, picture in zip(line, pictures):
            _draw(one, picture)
            title = picture.name
            if picture.name == "file":
                title = f"{Modality(item.modality).label}\nid {item.pid}, cam {item.camid}"
            one.set_title(plain(title), fontsize=7, color=GRAY)
    figure.suptitle(
        "Key points: orange left, blue right, yellow middle; filled: confidence 0.5 or more",
        fontsize=8,
    )
    return figure


def _draw(axes: Any, picture: Picture) -> None:
    axes.imshow(picture.pixels)
    axes.set_axis_off()
    points = picture.points
    for names in LIMBS:
        ends = points[[_NUMBERS[name] for name in names]]
        if (ends[:, 2] > 0).all():
            sides = {_color(name) for name in names}
            color = sides.pop() if len(sides) == 1 else _MIDDLE
            axes.plot(ends[:, 0], ends[:, 1], color=color, linewidth=1.2)
    for name, (x, y, confidence) in zip(JOINTS, points):
        if confidence > 0:
            face = _color(name) if confidence >= 0.5 else "none"
            axes.plot(x, y, "o", markersize=3, mec=_color(name), mfc=face, mew=0.8)
    height, width = picture.pixels.shape[:2]
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _color(name: str) -> str:
    return {"left": _LEFT, "right": _RIGHT}.get(name.split("_")[0], _MIDDLE)


def _numbers(rows: Sequence[Sequence[Picture]], items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for pictures, item in zip(rows, items):
        for picture in pictures:
            for name, (x, y, confidence) in zip(JOINTS, picture.points.tolist()):
                row = (item.path, Modality(item.modality).label, picture.name, name)
                yield (*row, f"{x:.2f}", f"{y:.2f}", f"{confidence:.4f}")
