"""The base of all visible-infrared datasets: items, splits, tables, checks and fingerprints."""

import logging
import os
from collections import Counter
from functools import partial
from typing import Any, ClassVar, Dict, Iterable, List, Mapping, Sequence, Set, Tuple

from vireid_plugins.errors import UserError
from vireid_plugins.modality import Modality

from fastreid.config import CfgNode

from ..item import Item
from ..labels import natural_key
from .absent import no_folder
from .description import MARKER, SPLITS, DescribedDataset, fingerprint
from .errors import DatasetError
from .files import FileKeys
from .overlap import (
    Part,
    Source,
    examine_part,
    find_leaks,
    names_without_text,
    plain_item,
    wrong_folders,
)

__all__ = ["MARKER", "SPLITS", "CrossModalityDataset", "DatasetError", "fingerprint"]

logger = logging.getLogger(__name__)

_PARTS = {"train": "training", "test": "test"}  # names of the parts in messages


class CrossModalityDataset(DescribedDataset):
    """A dataset of persons seen by visible and by infrared cameras.

    ``train``, ``query`` and ``gallery`` are lists of items, read when they are first asked for
    and sorted by identity, camera and file name. ``query + gallery`` are all test images; an
    evaluation protocol picks rows of them.

    A subclass sets class attributes and lists its images in ``read_train`` and ``read_test``. The
    other methods have defaults. The rules of :mod:`~.overlap` are checked for every subclass.
    """

    #: folder below the root
    folder: ClassVar[str] = ""
    #: page where the dataset is requested
    dataset_url: ClassVar[str] = ""
    #: layout in which ``vireid render`` renders such a dataset; empty: it does not
    rendered_as: ClassVar[str] = ""
    #: name of the evaluation protocol in PROTOCOL_REGISTRY
    protocol: ClassVar[str] = "CrossModalityProtocol"
    #: config key that switches the protocol's rule about one camera off; empty: there is none
    camera_rule_key: ClassVar[str] = ""
    #: for each such argument of the constructor, the config key that sets it
    config_keys: ClassVar[Dict[str, str]] = {}
    #: other names under which :func:`~vireid_plugins.data.check_dataset` knows the dataset
    aliases: ClassVar[Tuple[str, ...]] = ()
    #: name of a folder, in lower case, that holds images of one modality only
    modality_folders: ClassVar[Mapping[str, Modality]] = {}
    #: published counts: "train ids", "train visible", "test infrared", ...
    published: ClassVar[Dict[str, int]] = {}
    #: modality of the test images that are queries; the others are gallery
    query_modality: ClassVar[Modality] = Modality.VISIBLE

    def __init__(
        self,
        root: str = "datasets",
        *,
        allow_overlap: bool = False,
        deferred: bool = False,
        **kwargs: Any,
    ) -> None:
        """Find the dataset below ``root``; its splits are read when they are first asked for.

        Args:
            allow_overlap: warn of what training and test share, and of images with two labels,
                instead of raising (``DATASETS.ALLOW_OVERLAP``).
            deferred: read nothing now, not even the split that ``mode`` names.
            kwargs: for FastReID's ``ImageDataset``, such as ``mode`` and ``combineall``.

        Raises:
            DatasetError: a required folder, list or image is absent, a list is wrong, or the
                images break a rule of :mod:`~.overlap`.
        """
        self.root = os.path.expanduser(str(root))
        self.allow_overlap = bool(allow_overlap)
        self.dataset_dir = self.locate()
        self.files = FileKeys()
        self._parts: Dict[str, Part] = {}
        self._faults: Dict[str, List[str]] = {name: [] for name in _PARTS}
        self._said: Set[str] = set()
        self.check_layout()
        loaders = [partial(self._load, split) for split in SPLITS]
        if deferred:
            super().__init__([], [], [], **kwargs)
            self._train, self._query, self._gallery = loaders
        else:
            super().__init__(*loaders, **kwargs)

    # ------------------------------------------------------------ for subclasses

    def locate(self) -> str:
        """Return the dataset's folder; raise ``DatasetError`` if there is none."""
        folder = os.path.join(self.root, self.folder)
        if not os.path.isdir(folder):
            facts = (self.dataset_name, self.root, self.folder, self.dataset_url)
            raise DatasetError(no_folder(*facts, layout=self.rendered_as))
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

    def complain(self, message: str, part: str = "") -> None:
        """Note a mistake in a list, for a subclass that can still read the rest of it.

        The splits of the part raise it, and a check of the dataset shows it with all others.

        Args:
            message: what is wrong, and where.
            part: "train" or "test"; empty: both.
        """
        for name in [part] if part else _PARTS:
            if message not in self._faults[name]:
                self._faults[name].append(message)

    def is_query(self, item: Item) -> bool:
        """Return whether a test item is a query; the others are gallery."""
        return item.modality == self.query_modality

    def person_of(self, part: str, item: Item) -> Any:
        """Return a name of an item's person that is the same in training and test.

        The default is the identity. Override it if training and test number persons separately.
        None: the person is unknown.

        Args:
            part: "train" or "test".
            item: an item of this part.
        """
        return item.pid

    def lists(self) -> str:
        """Return the files or folders that list images and identities, for messages."""
        return self.dataset_dir

    def label_name(self, pid: Any) -> str:
        """Return an identity as the lists of the dataset name it, for messages."""
        return str(pid)

    def remarks(self) -> List[str]:
        """Return sentences that a check of the dataset shows below its counts."""
        return []

    # ------------------------------------------------------------ splits

    def part(self, name: str) -> Part:
        """Read and examine one part, "train" or "test", or return it as it was read before.

        Raises:
            DatasetError: it cannot be read. Mistakes that leave the rest readable do not raise
                here; they are in ``faults`` and ``problems``.
        """
        if name not in self._parts:
            read = {"train": self.read_train, "test": self.read_test}[name]
            try:
                items = sorted(map(plain_item, read()), key=self._item_key)
            except DatasetError:
                raise
            except UserError as error:
                raise DatasetError(f"{self.dataset_name}: {error}") from error
            word, source = _PARTS[name], self._source()
            part = examine_part(word, items, source)
            part.problems.extend(wrong_folders(word, part.items, source, self.modality_folders))
            faults = [*self._faults[name], *names_without_text(word, part.items, source)]
            self._parts[name] = part._replace(faults=faults)
        return self._parts[name]

    def split_items(self, split: str) -> List[Item]:
        """Return the items of "train", "query" or "gallery", whatever rules they break.

        Raises:
            DatasetError: they cannot be read, or are too few.
        """
        items = self.part("train" if split == "train" else "test").items
        if split != "train":
            items = [item for item in items if self.is_query(item) == (split == "query")]
        self.check_split(split, items)
        return list(items)

    def parts_read(self) -> List[Part]:
        """Return the parts that could be read so far."""
        return list(self._parts.values())

    def leaks(self) -> List[str]:
        """Return messages about what training and test share; see :mod:`~.overlap`.

        The list is empty if one of the parts cannot be read.
        """
        try:
            train, test = self.part("train"), self.part("test")
        except DatasetError:
            return []
        return find_leaks(train.items, test.items, self.person_of, self._source())

    def check_leaks(self) -> None:
        """Raise ``DatasetError`` if training and test share an image or a person.

        With ``allow_overlap`` this is a warning.
        """
        self._forgive_or_raise(self.leaks())

    def _load(self, split: str) -> List[Item]:
        part = self.part("train" if split == "train" else "test")
        if part.faults:
            raise DatasetError("\n".join(part.faults))
        items = self.split_items(split)
        self._say(part.notes)
        self._forgive_or_raise([*part.problems, *(self.leaks() if len(self._parts) > 1 else ())])
        return items

    def _forgive_or_raise(self, problems: Sequence[str]) -> None:
        if problems and not self.allow_overlap:
            raise DatasetError("\n".join(problems))
        self._say(problems)

    def _say(self, notes: Iterable[str]) -> None:
        for note in notes:
            if note not in self._said:
                self._said.add(note)
                logger.warning("%s", note)

    def _source(self) -> Source:
        name, folder, files = self.dataset_name, self.dataset_dir, self.files
        return Source(name, folder, self.lists(), files, self.label_name)

    def _item_key(self, item: Item) -> Tuple:
        return natural_key(item.pid), natural_key(item.camid), item.path.replace("\\", "/")

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
        tests = self.query + self.gallery
        if any(isinstance(item.pid, str) for item in self.train + tests):
            test = [item._replace(pid=f"test/{item.pid}") for item in tests]
        else:
            shift = max(item.pid for item in self.train) + 1
            test = [item._replace(pid=item.pid + shift) for item in tests]
        self._train = self.train + test
