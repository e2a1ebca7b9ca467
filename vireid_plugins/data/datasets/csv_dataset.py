"""A user's own dataset, described by one CSV file and no code."""

import os
import unicodedata
from typing import Any, Dict, Hashable, List, NamedTuple, Optional, Set, Tuple

from vireid_plugins.errors import UserError
from vireid_plugins.keys import SWITCH, Key, declare, text
from vireid_plugins.modality import Modality
from vireid_plugins.readers.csv_file import read_csv
from vireid_plugins.registry import suggest

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY

from ..item import Item
from ..labels import first_few, label_of, number_labels
from .base import SPLITS, CrossModalityDataset, DatasetError
from .files import absent_images, why_absent
from .overlap import is_junk

_SHOWN = 3  # how many wrong lines a message shows
COLUMNS = ("path", "pid", "camid", "modality", "split")

declare(
    "DATASETS",
    Key("CSV_FILE", "", text("a path"), "file of CSVDataset, absolute or below FASTREID_DATASETS"),
    Key("CSV_SKIP_SAME_CAMERA", True, SWITCH, "CSVDataset: skip images of the same camera"),
)


class _Row(NamedTuple):
    path: str
    pid: Any
    camid: Any
    modality: Modality
    split: str


@DATASET_REGISTRY.register()
class CSVDataset(CrossModalityDataset):
    """Images listed in a CSV file with the columns ``path,pid,camid,modality,split``.

    ``path`` is relative to the file's own folder, or absolute; ``pid`` and ``camid`` are whole
    numbers, or words, which are then numbered in natural order; a negative ``pid`` is junk and left
    out; ``modality`` is ``visible`` or ``infrared``; ``split`` is ``train``, ``query``, ``gallery``
    or ``test``; ``test`` makes visible images queries and infrared images gallery, as in RegDB, and
    so does a listing of one image as query and as gallery. Further columns are ignored.
    """

    dataset_name = "CSVDataset"
    dataset_url = "datasets/README.md, section CSVDataset"
    config_keys = {"csv_file": "DATASETS.CSV_FILE"}
    aliases = ("csv",)
    camera_rule_key = "DATASETS.CSV_SKIP_SAME_CAMERA"

    def __init__(self, root: str = "datasets", csv_file: str = "", **kwargs: Any) -> None:
        """Read ``csv_file``, absolute or relative to ``root``.

        Raises:
            DatasetError: there is no file, or a column, value or image is missing or wrong; the
                message names the line.
        """
        self.csv_file = csv_file
        self._rows: Dict[str, List[Item]] = {}
        self._splits_of: Dict[Hashable, Set[str]] = {}  # of each test image
        self._wrong_lines: List[str] = []
        self._absent: List[Tuple[str, int, str]] = []  # name, line, reason
        self._labels: Dict[int, Any] = {}  # the identities of the file, by their numbers
        super().__init__(root, **kwargs)

    @classmethod
    def protocol_arguments(cls, cfg: CfgNode) -> Dict[str, Any]:
        return {"skip_same_camera": cfg.DATASETS.CSV_SKIP_SAME_CAMERA}

    def locate(self) -> str:
        if not self.csv_file:
            raise DatasetError(
                "CSVDataset needs a file: set DATASETS.CSV_FILE to one with the columns "
                + ",".join(COLUMNS)
            )
        path = os.path.join(self.root, os.path.expanduser(self.csv_file))
        if not os.path.isfile(path):
            reason = why_absent(path)
            found = "it is no file" if reason is None else reason or "there is nothing"
            raise DatasetError(
                f"DATASETS.CSV_FILE: no file {os.path.abspath(path)} ({found}). A relative path "
                "starts at FASTREID_DATASETS."
            )
        self.csv_file = path
        return os.path.dirname(os.path.abspath(path))

    def check_layout(self) -> None:
        rows = [row for row in map(self._labeled, *self._read_rows()) if row is not None]
        pids = number_labels(row.pid for row in rows if not is_junk(row.pid))
        camids = number_labels(row.camid for row in rows)
        self._labels = {number: label for label, number in pids.items()}
        self._warn_of_alike([label for label in pids if isinstance(label, str)])
        self._rows = {split: [] for split in SPLITS}
        for row in rows:
            pid = pids.get(row.pid, row.pid)  # junk keeps its negative number
            item = Item(row.path, pid, camids[row.camid], int(row.modality))
            self._rows[row.split].append(item)
        self._complain_of_lines()

    def _warn_of_alike(self, words: List[str]) -> None:
        """Warn of names that differ only by case or by forms of the same letters."""
        first: Dict[str, str] = {}
        plain = {word: unicodedata.normalize("NFKC", word).casefold() for word in words}
        pairs = [(first[plain[w]], w) for w in words if first.setdefault(plain[w], w) != w]
        if pairs:
            shown = first_few([f"{one!r} and {other!r}" for one, other in pairs])
            self._say([f"{self.csv_file}: identities that look alike are different: {shown}."])

    def _labeled(self, line: int, row: Dict[str, str]) -> Optional[_Row]:
        """Return what a line says; None if it is wrong, which is then noted."""
        try:
            modality = Modality.parse(row["modality"])
            pid, camid = self._label("pid", row["pid"]), self._label("camid", row["camid"])
            split = self._split(row["split"], modality)
        except UserError as error:
            self._wrong_lines.append(f"line {line}: {error}")
            return None
        path = self._image_path(row["path"])
        reason = why_absent(path)
        if reason is not None:
            self._absent.append((row["path"], line, reason))
            return None
        return _Row(path, pid, camid, modality, split)

    def _complain_of_lines(self) -> None:
        if self._wrong_lines:
            count, shown = len(self._wrong_lines), self._wrong_lines[:_SHOWN]
            more = f" ... and {count - _SHOWN} more" if count > _SHOWN else ""
            self.complain(f"{self.csv_file}: {count} line(s) are wrong. {' '.join(shown)}{more}")
        if self._absent:
            self.complain(
                f"{self.csv_file} names {absent_images(self._absent)}. Paths are relative to "
                f"{self.dataset_dir}."
            )

    def read_train(self) -> List[Item]:
        return self._rows["train"]

    def read_test(self) -> List[Item]:
        return self._rows["query"] + self._rows["gallery"]

    def is_query(self, item: Item) -> bool:
        """Return whether it is listed as query; if also as gallery, then by its modality."""
        if not self._splits_of:
            self._splits_of = self._find_splits()
        splits = self._splits_of[self.files[item.path]]
        return super().is_query(item) if len(splits) > 1 else "query" in splits

    def _find_splits(self) -> Dict[Hashable, Set[str]]:
        """Return the splits in which the file of each test row is listed."""
        splits: Dict[Hashable, Set[str]] = {}
        for split in SPLITS[1:]:
            for item in self._rows[split]:
                splits.setdefault(self.files[item.path], set()).add(split)
        return splits

    def lists(self) -> str:
        return self.csv_file

    def label_name(self, pid: Any) -> str:
        return str(self._labels.get(pid, pid))

    def remedy(self) -> str:
        return f"Add rows of that split and modality to {self.csv_file}."

    def _read_rows(self) -> Tuple[List[int], List[Dict[str, str]]]:
        try:
            rows = read_csv(self.csv_file, COLUMNS)
        except UserError as error:
            raise DatasetError(str(error)) from error
        return [row.line for row in rows], [row.cells for row in rows]

    def _image_path(self, path: str) -> str:
        if "\\" in path and why_absent(os.path.join(self.dataset_dir, path)) is not None:
            path = path.replace("\\", "/")  # written on Windows
        return os.path.normpath(os.path.join(self.dataset_dir, os.path.expanduser(path)))

    def _label(self, column: str, word: str) -> Any:
        try:
            return label_of(word)
        except UserError as error:
            raise DatasetError(f"{column}: {error}") from None

    def _split(self, word: str, modality: Modality) -> str:
        if word.lower() == "test":
            return "query" if modality == self.query_modality else "gallery"
        if word.lower() in SPLITS:
            return word.lower()
        raise DatasetError(f"unknown split {word!r}. " + suggest(word, [*SPLITS, "test"]))
