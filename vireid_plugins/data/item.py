"""One image of a dataset, with its labels."""

import hashlib
import os
from typing import Any, Iterable, List, NamedTuple, Sequence

from vireid_plugins.modality import Modality


class Item(NamedTuple):
    """An image and its labels, as the dataset numbers them.

    It is still a tuple; FastReID's samplers, which unpack three fields, are given ``item[:3]``.
    FastReID's own datasets have words as ``pid`` and ``camid``; the datasets here have integers.
    """

    path: str
    pid: Any  # identity
    camid: Any  # camera
    modality: int  # a value of Modality

    @classmethod
    def of(cls, fields: Sequence[Any]) -> "Item":
        """Return a tuple ``(path, pid, camid[, modality])`` as an item.

        An item of FastReID's own datasets has three fields and counts as visible.
        """
        path, pid, camid = fields[:3]
        modality = fields[3] if len(fields) > 3 else Modality.VISIBLE
        return cls(str(path), pid, camid, int(modality))


def test_items(dataset: Any) -> List[Item]:
    """Return all test images of a dataset: those of ``query``, then those of ``gallery``.

    This is the order of the rows in every array of test features.
    """
    return [Item.of(fields) for fields in (*dataset.query, *dataset.gallery)]


def fingerprint_of(items: Iterable[Item]) -> str:
    """Return a fingerprint of images and their labels, 16 hexadecimal digits.

    It depends on the path of each image relative to their common folder, on its identity, camera
    and modality, and on its file size, but not on the order. A copy of the images in another folder
    has the same fingerprint; it changes if an image is added, removed or replaced.
    """
    items = list(items)
    root = _common_folder([item.path for item in items])
    lines = sorted(
        f"{_below(item.path, root)}|{item.pid}|{item.camid}|{int(item.modality)}|{_size(item.path)}"
        for item in items
    )
    return hashlib.sha256("\n".join(lines).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _common_folder(paths: Sequence[str]) -> str:
    try:
        return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    except ValueError:  # none, or on several drives
        return ""


def _below(path: str, root: str) -> str:
    path = os.path.abspath(path)
    return (os.path.relpath(path, root) if root else path).replace("\\", "/")


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:  # reading the image will report it
        return -1
