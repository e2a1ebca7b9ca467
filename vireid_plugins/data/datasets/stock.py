"""Build FastReID's own datasets: one clear error if files are missing, and no junk images."""

import logging
from functools import partial
from typing import Any, Callable, List, Tuple

from fastreid.data.datasets.bases import ImageDataset

from ..item import Item
from ..labels import label_of
from .base import DatasetError
from .description import SPLITS
from .files import FileKeys
from .overlap import Source, is_junk, names_without_text

logger = logging.getLogger(__name__)

#: datasets that call a person alike in training and test, by ``dataset_name``: "market1501_7" in
#: training is 7 in test. The others number the two parts apart.
_ONE_NUMBERING = ("dukemtmc", "market1501", "vehicleid", "veri", "veriwild")
# What FastReID's code raises where a folder or file is missing, or a name has another form.
_UNREADABLE = (RuntimeError, AssertionError, AttributeError, LookupError, OSError, ValueError)


def build_stock(kind: Any, root: str, **kwargs: Any) -> ImageDataset:
    """Return one of FastReID's datasets, read from below ``root``.

    Its lists leave out negative identities, which mean junk. They raise ``DatasetError`` where
    FastReID's code fails.

    Raises:
        DatasetError: a folder or file is missing, or is not as FastReID's code expects.
    """
    source = _reading(kind.__name__, root, lambda: kind(root=root, **kwargs))
    for split in SPLITS:
        stored = getattr(source, f"_{split}")
        setattr(source, f"_{split}", partial(_read, source, split, root, stored))
    return source


def person_of(source: ImageDataset) -> Callable[[str, Item], Any]:
    """Return a function that returns a name of an item's person, the same in training and test.

    It returns None if the two parts are numbered separately, and for distractors (identity 0).
    """
    known = getattr(source, "dataset_name", "") in _ONE_NUMBERING
    prefix = f"{getattr(source, 'dataset_name', '')}_"

    def person(part: str, item: Item) -> Any:
        label = str(item.pid)
        label = label[len(prefix) :] if label.startswith(prefix) else label
        return label_of(label) or None if known else None

    return person


def _read(source: ImageDataset, split: str, root: str, stored: Any) -> List[Tuple]:
    read = stored if callable(stored) else lambda: stored
    items = list(_reading(type(source).__name__, root, read))
    prefix = f"{getattr(source, 'dataset_name', '')}_"
    place = Source(type(source).__name__, root, "", FileKeys())
    odd = names_without_text(split, [Item.of(item) for item in items], place)
    if odd:
        raise DatasetError(odd[0])
    kept = [item for item in items if not _is_junk(item[1], prefix)]
    if len(kept) < len(items):
        logger.warning(
            "%s: %d images in %s have a negative identity, which means junk; they are left out.",
            *(type(source).__name__, len(items) - len(kept), split),
        )
    return kept


def _is_junk(pid: Any, prefix: str) -> bool:
    return is_junk(pid) or (isinstance(pid, str) and pid.startswith(f"{prefix}-"))


def _reading(name: str, root: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except DatasetError:
        raise
    except _UNREADABLE as error:
        what = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
        raise DatasetError(
            f"{name}: {what}{error}. FASTREID_DATASETS must name the folder that holds it as "
            f"its authors distribute it; it is {root!r}."
        ) from error
