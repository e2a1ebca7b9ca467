"""Key points of a dataset's images, read from a file beside them.

``INPUT.KEYPOINTS.READ`` says for which images a batch holds ``keypoints`` (B, 17, 3); they have
passed the same flips, crops and changes of size as the pixels. By default nothing is read.
"""

import hashlib
import logging
import os
import zlib
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from vireid_plugins.errors import FileContentError, MissingFileError, NoKeyPointsError
from vireid_plugins.keypoints import Size
from vireid_plugins.keys import Key, declare, one_of, text
from vireid_plugins.readers.keypoints_file import KeyPointFile, read_keypoints
from vireid_plugins.readers.side_files import INDEX_FILE
from vireid_plugins.readers.text import AnyPath, shown

from fastreid.config import CfgNode
from fastreid.utils import comm

from .datasets.build import dataset_root
from .item import Item
from .labels import first_few

logger = logging.getLogger(__name__)

NONE, TRAIN, ALL = "none", "train", "all"

declare(
    "INPUT.KEYPOINTS",
    Key(
        "READ",
        NONE,
        one_of(NONE, TRAIN, ALL),
        "batches hold the key points of images: of none, of training images, of all images",
    ),
    Key(
        "FILE",
        "keypoints.npz",
        text("a path"),
        "file of key points, .npz, .csv or synthvi/index.csv; relative: in each dataset's folder",
    ),
)


class KeyPoints(NamedTuple):
    """The key points of a list of N images, in the pixels of their files."""

    points: Tensor  # (N, 17, 3) float32
    sizes: Tensor  # (N, 2) int64, height and width of each image in pixels
    source: str  # the file that they come from, for messages

    def of(self, index: int) -> Tuple[Tensor, Size]:
        """Return the key points (17, 3) of an image, and its height and width."""
        height, width = self.sizes[index].tolist()
        return self.points[index], (height, width)

    def check_size(self, index: int, path: str, size: Size) -> None:
        """Raise ``FileContentError`` if an image of another size was read from ``path``."""
        expected = tuple(self.sizes[index].tolist())
        if size != expected:
            raise FileContentError(
                f"{self.source}: its key points of {shown(path)} are for an image of "
                f"{expected[0]} x {expected[1]} pixels (height x width), and the image has "
                f"{size[0]} x {size[1]}. Make the file again from these images (vireid pose)."
            )

    def describe(self) -> str:
        """Return a sentence for the log: how many images, and which part of the joints is known."""
        known = 100 * (self.points[..., 2] > 0).double().mean().item() if len(self.points) else 0.0
        return (
            f"Key points of {len(self.points)} images from {self.source}: {known:.1f} % of the "
            "joints are known"
        )

    @property
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that differ for other key points."""
        digest = hashlib.sha256(self.points.numpy().tobytes())
        digest.update(self.sizes.numpy().tobytes())
        return digest.hexdigest()[:16]


class PathKeyPoints:
    """The key points of images that are known by their paths alone, and in no dataset.

    An image is looked up by its path relative to the folder of the file, then relative to
    ``folder``, then by its whole path. So a file that ``vireid pose --images DIR`` made is found
    wherever it lies, if ``folder`` is DIR, and for a folder below DIR if the file lies in DIR.

    Args:
        path: a file of key points.
        folder: folder of the images; empty: that of the file.

    Raises:
        MissingFileError: there is no such file.
        FileContentError: it is damaged.
    """

    def __init__(self, path: AnyPath, folder: AnyPath = "") -> None:
        self.file = read_keypoints(path)
        name = os.fspath(path)
        own = os.path.dirname(os.path.abspath(name))
        if name.replace("\\", "/").endswith(INDEX_FILE):
            own = os.path.dirname(own)
        self.folders = [own] + [os.fspath(folder)] * bool(os.fspath(folder))

    def row_of(self, image: AnyPath) -> int:
        """Return the row of an image in the file, or -1."""
        rows = (self.file.row_of(image, folder) for folder in self.folders)
        return next((row for row in rows if row >= 0), -1)

    def of(self, image: AnyPath, size: Size) -> Tensor:
        """Return the key points (17, 3) of an image of ``size``, in its pixels.

        Raises:
            FileContentError: the file has none of this image, or for one of another size.
        """
        row = self.row_of(image)
        if row < 0:
            folders = " and ".join(shown(folder) for folder in self.folders)
            raise FileContentError(
                f"{shown(self.file.path)} has no key points of {shown(os.fspath(image))} (paths "
                f"are relative to {folders}). `vireid pose --images DIR --out FILE` adds the "
                "images that a file lacks."
            )
        points = torch.from_numpy(self.file.points[row])
        found = KeyPoints(
            points[None], torch.from_numpy(self.file.sizes[row])[None], shown(self.file.path)
        )
        found.check_size(0, os.fspath(image), size)
        return points

    def checksum(self, image: AnyPath) -> int:
        """Return a number of 32 bits that differs for other key points of an image; 0: none."""
        row = self.row_of(image)
        if row < 0:
            return 0
        return zlib.crc32(self.file.points[row].tobytes() + self.file.sizes[row].tobytes())


def needs_keypoints(cfg: CfgNode, is_train: bool) -> bool:
    """Return whether batches of training images, or of test images, hold key points."""
    return cfg.INPUT.KEYPOINTS.READ in ((TRAIN, ALL) if is_train else (ALL,))


def load_keypoints(
    cfg: CfgNode, items: Sequence[Item], sources: Iterable[Tuple[Any, Sequence[Sequence[Any]]]]
) -> KeyPoints:
    """Return the key points of ``items``, from the file of each dataset.

    Args:
        cfg: its ``INPUT.KEYPOINTS.FILE`` names the file.
        items: N images of the datasets.
        sources: each dataset with its items, among which are those of ``items``.

    Raises:
        MissingFileError: a dataset has no such file.
        FileContentError: the file is damaged, lacks images, or gives two images the same points.
    """
    points = torch.zeros(len(items), 17, 3)
    sizes = torch.zeros(len(items), 2, dtype=torch.int64)
    left, files = dict(enumerate(items)), []
    owners: Dict[Tuple[str, int], str] = {}
    for source, its_items in sources:
        own = {os.path.abspath(fields[0]) for fields in its_items}
        places = [place for place, item in left.items() if os.path.abspath(item.path) in own]
        if not places:
            continue
        folder = folder_of(source)
        file = _read(file_of(cfg, folder), folder)
        its_own = [left.pop(place) for place in places]
        rows = _rows(file, its_own, folder)
        _check_owners(owners, file, rows, its_own)
        points[places] = torch.from_numpy(file.points[rows])
        sizes[places] = torch.from_numpy(file.sizes[rows])
        files.append(shown(file.path))
    assert not left, "these images belong to none of the datasets"
    found = KeyPoints(points, sizes, ", ".join(files))
    if comm.is_main_process():
        logger.info("%s", found.describe())
    return found


def file_of(cfg: CfgNode, folder: str) -> str:
    """Return the path of the file of key points of a dataset in ``folder``."""
    return os.path.join(folder, os.path.expanduser(cfg.INPUT.KEYPOINTS.FILE))


def folder_of(source: Any) -> str:
    """Return the folder of a dataset, which the paths in its file of key points start at."""
    for name in ("data_dir", "dataset_dir"):  # FastReID's Market1501 has both
        folder = getattr(source, name, "")
        if isinstance(folder, str) and folder:
            return folder
    return dataset_root()


def _read(path: str, folder: str) -> KeyPointFile:
    try:
        return read_keypoints(path)
    except MissingFileError as error:
        rendered = os.path.isfile(os.path.join(folder, INDEX_FILE))
        exact = f" These images were rendered: INPUT.KEYPOINTS.FILE {INDEX_FILE} reads their exact "
        raise NoKeyPointsError(
            f"There is no file of key points {shown(path)} (INPUT.KEYPOINTS.FILE). Make it: vireid "
            f"pose --images {shown(folder)} --out {shown(path)}"
            + (f".{exact}ones." if rendered else "")
        ) from error


def _rows(file: KeyPointFile, items: Sequence[Item], folder: str) -> List[int]:
    """Return the row of each item; raise ``FileContentError`` if some have none."""
    rows = [file.row_of(item.path, folder) for item in items]
    missing = [item.path for item, row in zip(items, rows) if row < 0]
    if missing:
        there = f"its first image is {shown(next(iter(file.rows)))}" if file.rows else "it is empty"
        names = first_few([shown(os.path.relpath(path, folder)) for path in missing])
        raise FileContentError(
            f"{shown(file.path)} has no key points of {len(missing)} of {len(items)} images: "
            f"{names} ({there}). Paths are relative to {shown(folder)}. `vireid pose --images "
            f"{shown(folder)} --out FILE` adds the images that a file lacks."
        )
    return rows


def _check_owners(
    owners: Dict[Tuple[str, int], str], file: KeyPointFile, rows: List[int], items: Sequence[Item]
) -> None:
    """Note which image each row belongs to; raise ``FileContentError`` if it belongs to another.

    That happens when datasets share one file, and have images of the same relative path.
    """
    for row, item in zip(rows, items):
        other = owners.setdefault((file.path, row), item.path)
        if other != item.path and os.path.realpath(other) != os.path.realpath(item.path):
            raise FileContentError(
                f"{shown(file.path)}: the same key points would be those of {shown(other)} and of "
                f"{shown(item.path)}. Give each dataset a file of its own (a relative path in "
                "INPUT.KEYPOINTS.FILE), or write full paths into the file."
            )
