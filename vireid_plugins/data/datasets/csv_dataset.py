"""A user's own dataset, described by one CSV file and no code."""

import os
from typing import Any, Dict, List, Tuple

from vireid_plugins.errors import UserError
from vireid_plugins.keys import SWITCH, Key, declare, text
from vireid_plugins.modality import Modality
from vireid_plugins.readers.csv_file import read_csv
from vireid_plugins.registry import suggest

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY

from ..item import Item
from ..labels import first_few, number_labels
from .base import SPLITS, CrossModalityDataset, DatasetError

COLUMNS = ("path", "pid", "camid", "modality", "split")

declare(
    "DATASETS",
    Key("CSV_FILE", "", text("a path"), "file of CSVDataset, absolute or below FASTREID_DATASETS"),
    Key("CSV_SKIP_SAME_CAMERA", True, SWITCH, "CSVDataset: skip images of the same camera"),
)


@DATASET_REGISTRY.register()
class CSVDataset(CrossModalityDataset):
    """Images listed in a CSV file with the columns ``path,pid,camid,modality,split``.

    ``path`` is relative to the file's own folder, or absolute; ``pid`` and ``camid`` are whole
    numbers, or words, which are then numbered in natural order; ``modality`` is ``visible`` or
    ``infrared``; ``split`` is ``train``, ``query``, ``gallery`` or ``test``; ``test`` makes
    visible images queries and infrared images gallery, as in RegDB. Further columns are ignored.
    """

    dataset_name = "CSVDataset"
    dataset_url = "datasets/README.md, section CSVDataset"
    config_keys = {"csv_file": "DATASETS.CSV_FILE"}
    aliases = ("csv",)

    def __init__(self, root: str = "datasets", csv_file: str = "", **kwargs: Any) -> None:
        """Read ``csv_file``, absolute or relative to ``root``.

        Raises:
            DatasetError: there is no file, or a column, value or image is missing or wrong; the
                message names the line.
        """
        self.csv_file = csv_file
        self._rows: Dict[str, List[Item]] = {}
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
            raise DatasetError(
                f"DATASETS.CSV_FILE: no file {os.path.abspath(path)}. A relative path starts at "
                "FASTREID_DATASETS."
            )
        self.csv_file = path
        return os.path.dirname(os.path.abspath(path))

    def check_layout(self) -> None:
        lines, rows = self._read_rows()
        pids = number_labels(_as_number(row["pid"]) for row in rows)
        camids = number_labels(_as_number(row["camid"]) for row in rows)
        self._rows = {split: [] for split in SPLITS}
        absent = []
        for line, row in zip(lines, rows):
            path = self._image_path(row["path"])
            if not os.path.isfile(path):
                absent.append(f"{row['path']} (line {line})")
            modality = self._modality(line, row["modality"])
            pid, camid = pids[_as_number(row["pid"])], camids[_as_number(row["camid"])]
            split = self._split(line, row["split"], modality)
            self._rows[split].append(Item(path, pid, camid, int(modality)))
        if absent:
            raise DatasetError(
                f"{self.csv_file} names {len(absent)} image(s) that do not exist: "
                f"{first_few(absent)}. Paths are relative to {self.dataset_dir}."
            )

    def read_train(self) -> List[Item]:
        return self._rows["train"]

    def read_test(self) -> List[Item]:
        return self._rows["query"] + self._rows["gallery"]

    def _test_half(self, query: bool) -> List[Item]:
        return self._rows["query" if query else "gallery"]

    def remedy(self) -> str:
        return f"Add rows of that split and modality to {self.csv_file}."

    def _read_rows(self) -> Tuple[List[int], List[Dict[str, str]]]:
        try:
            rows = read_csv(self.csv_file, COLUMNS)
        except UserError as error:
            raise DatasetError(str(error)) from error
        return [row.line for row in rows], [row.cells for row in rows]

    def _image_path(self, path: str) -> str:
        if os.sep == "/" and not os.path.exists(os.path.join(self.dataset_dir, path)):
            path = path.replace("\\", "/")  # written on Windows
        return os.path.normpath(os.path.join(self.dataset_dir, os.path.expanduser(path)))

    def _modality(self, line: int, word: str) -> Modality:
        try:
            return Modality.parse(word)
        except ValueError as error:
            raise DatasetError(f"{self.csv_file}, line {line}: {error}") from None

    def _split(self, line: int, word: str, modality: Modality) -> str:
        if word.lower() == "test":
            return "query" if modality == self.query_modality else "gallery"
        if word.lower() in SPLITS:
            return word.lower()
        raise DatasetError(
            f"{self.csv_file}, line {line}: unknown split {word!r}. "
            + suggest(word, [*SPLITS, "test"])
        )


def _as_number(word: str) -> Any:
    return int(word) if word.isdecimal() else word
