"""The base of all visible-infrared datasets: items, splits, tables, checks and fingerprints."""

import hashlib
import logging
import os
import unicodedata
from collections import Counter
from typing import Any, Callable, ClassVar, Dict, Iterable, List, Mapping, Sequence, Tuple

from tabulate import tabulate

from vireid_plugins.errors import UserError
from vireid_plugins.modality import Modality

from fastreid.config import CfgNode
from fastreid.data.datasets.bases import ImageDataset

from ..item import Item
from ..labels import first_few

logger = logging.getLogger(__name__)

SPLITS = ("train", "query", "gallery")
MARKER = "synthvi.json"  # a folder that holds this file was rendered, not photographed
_MOST = 12  # how many cameras or folders one line names


class DatasetError(UserError, RuntimeError):
    """A dataset on disk is not as documented; the message says what is wrong and how to mend it."""


class CrossModalityDataset(ImageDataset):
    """A dataset of persons seen by visible and by infrared cameras.

    ``train``, ``query`` and ``gallery`` are lists of items, read when they are first asked for
    and sorted by identity, camera and file name. ``query + gallery`` are all test images; an
    evaluation protocol picks rows of them.

    A subclass sets class attributes and lists its images in ``read_train`` and ``read_test``. The
    other methods have defaults.
    """

    dataset_name: ClassVar[str] = ""
    #: folder below the root
    folder: ClassVar[str] = ""
    #: page where the dataset is requested
    dataset_url: ClassVar[str] = ""
    #: name of the evaluation protocol in PROTOCOL_REGISTRY
    protocol: ClassVar[str] = "CrossModalityProtocol"
    #: for each such argument of the constructor, the config key that sets it
    config_keys: ClassVar[Dict[str, str]] = {}
    #: the arguments in ``config_keys`` that choose the training and the test identities: a
    #: checkpoint remembers them, and a model is tested on its own split only
    split_arguments: ClassVar[Tuple[str, ...]] = ()
    #: other names under which :func:`~vireid_plugins.data.check_dataset` knows the dataset
    aliases: ClassVar[Tuple[str, ...]] = ()
    #: published counts: "train ids", "train visible", "test infrared", ...
    published: ClassVar[Dict[str, int]] = {}
    #: modality of the test images that are queries; the others are gallery
    query_modality: ClassVar[Modality] = Modality.VISIBLE

    def __init__(self, root: str = "datasets", **kwargs: Any) -> None:
        """Find the dataset below ``root``; its splits are read when they are first asked for.

        Args:
            kwargs: for FastReID's ``ImageDataset``, such as ``mode`` and ``combineall``.

        Raises:
            DatasetError: a required folder, list or image is absent, or a list is wrong.
        """
        self.root = os.path.expanduser(str(root))
        self.dataset_dir = self.locate()
        self._test: List[Item] = []
        self.check_layout()
        super().__init__(
            self._checked("train", self.read_train),
            self._checked("query", lambda: self._test_half(query=True)),
            self._checked("gallery", lambda: self._test_half(query=False)),
            **kwargs,
        )

    # ------------------------------------------------------------ for subclasses

    def locate(self) -> str:
        """Return the dataset's folder; raise ``DatasetError`` if there is none."""
        folder = os.path.join(self.root, self.folder)
        if not os.path.isdir(folder):
            raise DatasetError(
                f"{self.dataset_name}: no folder {folder}. {_what_is_there(self.root)} Put the "
                f"dataset there or point FASTREID_DATASETS to the folder that holds "
                f"{self.folder!r}. It is requested at {self.dataset_url}"
            )
        return folder

    def check_layout(self) -> None:
        """Raise ``DatasetError`` if folders or lists are missing; images are not read."""

    def read_train(self) -> List[Item]:
        """Return the items for training, in any order."""
        raise NotImplementedError

    def read_test(self) -> List[Item]:
        """Return all test items, of both modalities, in any order."""
        raise NotImplementedError

    @classmethod
    def protocol_arguments(cls, cfg: CfgNode) -> Dict[str, Any]:
        """Return the arguments, by name, that this dataset sets in its protocol."""
        return {}

    def remarks(self) -> List[str]:
        """Return sentences that a check of the dataset shows below its counts."""
        return []

    # ------------------------------------------------------------ splits

    def _test_half(self, query: bool) -> List[Item]:
        if not self._test:
            self._test = self.read_test()
        return [item for item in self._test if (item.modality == self.query_modality) == query]

    def _checked(self, split: str, read: Callable[[], List[Item]]) -> Callable[[], List[Item]]:
        def load() -> List[Item]:
            items = sorted(read(), key=self._item_key)
            self.check_split(split, items)
            return items

        return load

    def _item_key(self, item: Item) -> Tuple[int, int, str]:
        return item.pid, item.camid, item.path.replace("\\", "/")

    def check_split(self, split: str, items: Sequence[Item]) -> None:
        """Raise ``DatasetError`` if a split is empty or training lacks a modality."""
        found = Counter(Modality(item.modality) for item in items)
        wanted = list(Modality) if split == "train" else []
        missing = [modality.label for modality in wanted if not found[modality]]
        if not items or missing:
            what = " and ".join(missing) + " images" if items else "images"
            raise DatasetError(
                f"{self.dataset_name}: no {what} in the {split} split below {self.dataset_dir}. "
                + self.remedy()
            )

    def remedy(self) -> str:
        """Return a sentence, for messages, that says what to do about missing images."""
        return (
            "The copy is incomplete: extract it again (vireid check-data shows what is there), or "
            f"request it at {self.dataset_url}"
        )

    def combine_all(self) -> None:
        """Add the test images to ``train``; test identities get numbers above the training ones.

        RegDB uses the same numbers for its training and test persons, hence the shift. Cameras
        keep their numbers.
        """
        shift = max(item.pid for item in self.train) + 1
        test = [item._replace(pid=item.pid + shift) for item in self.query + self.gallery]
        self._train = self.train + test

    # ------------------------------------------------------------ description

    def fingerprint(self, splits: Iterable[str] = SPLITS) -> str:
        """Return a fingerprint of name, split arguments, and the split, path and pid of every item.

        It has 16 hexadecimal digits.

        Paths are relative to the dataset's folder and have forward slashes, so the same files give
        the same fingerprint on every machine.
        """
        settings = {argument: getattr(self, argument) for argument in self.split_arguments}
        header = f"{self.dataset_name} {sorted(settings.items())}"
        return fingerprint(header, self.dataset_dir, {s: getattr(self, s) for s in splits})

    @property
    def synthetic(self) -> bool:
        """Whether the images were rendered (SynthVI) instead of photographed."""
        return os.path.isfile(os.path.join(self.dataset_dir, MARKER))

    @property
    def note(self) -> str:
        """A sentence for the end of a table of results; empty if there is nothing to add."""
        if self.synthetic:
            return "Rendered images (SynthVI): these numbers say nothing about the real dataset."
        return ""

    def summary(self, splits: Iterable[str] = SPLITS) -> List[List[Any]]:
        """Return rows ``[split, modality, identities, images, camera numbers]``."""
        rows = []
        for split in splits:
            items = getattr(self, split)
            for modality in Modality:
                part = [item for item in items if item.modality == modality]
                cameras = sorted({item.camid for item in part})
                if part:
                    ids = len({item.pid for item in part})
                    rows.append([split, modality.label, ids, len(part), first_few(cameras, _MOST)])
            if len({item.modality for item in items}) > 1:
                ids, cameras = self.parse_data(items)
                rows.append([split, "both", ids, len(items), f"{cameras} in all"])
        return rows

    def show_train(self) -> None:
        """Log a table of the training split, by modality."""
        self._show(("train",))

    def show_test(self) -> None:
        """Log a table of the test splits, by modality."""
        self._show(("query", "gallery"))

    def _show(self, splits: Sequence[str]) -> None:
        headers = ["subset", "modality", "# ids", "# images", "cameras"]
        table = tabulate(self.summary(splits), headers=headers, tablefmt="pipe", numalign="left")
        rendered = " (synthetic)" if self.synthetic else ""
        logger.info("=> Loaded %s%s from %s:\n%s", self.dataset_name, rendered, self.root, table)


def fingerprint(header: str, folder: str, splits: Mapping[str, Sequence[Sequence]]) -> str:
    """Return a fingerprint of ``header`` and of the split, path and identity of every item.

    It has 16 hexadecimal digits. Paths are relative to ``folder``.
    """
    lines = [header]
    for split, items in splits.items():
        lines += sorted(f"{split} {_relative(path, folder)} {pid}" for path, pid, *_ in items)
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()[:16]


def _relative(path: str, folder: str) -> str:
    inside = os.path.abspath(path).replace("\\", "/")
    folder = os.path.abspath(folder).replace("\\", "/").rstrip("/") + "/"
    inside = inside[len(folder) :] if inside.startswith(folder) else inside
    return unicodedata.normalize("NFC", inside)  # macOS may decompose accented letters


def _what_is_there(root: str) -> str:
    if not os.path.isdir(root):
        return f"{os.path.abspath(root)} does not exist."
    names = sorted(os.listdir(root))
    return f"{os.path.abspath(root)} holds {first_few(names, _MOST) or 'nothing'}."
