"""What a dataset says about itself: counts, tables, notes, and a fingerprint of its content."""

import hashlib
import logging
import os
import unicodedata
from typing import Any, ClassVar, Iterable, List, Mapping, Sequence, Tuple

from tabulate import tabulate

from vireid_plugins.modality import Modality
from vireid_plugins.readers.rendering import MARKER, rendering, setting_words

from fastreid.data.datasets.bases import ImageDataset

from ..labels import first_few

logger = logging.getLogger(__name__)

SPLITS = ("train", "query", "gallery")
_MOST = 12  # how many cameras one line names


class DescribedDataset(ImageDataset):
    """A dataset of images of two modalities that can describe its splits."""

    dataset_name: ClassVar[str] = ""
    #: the arguments of the constructor that choose the training and the test identities: a
    #: checkpoint remembers them, and a model is tested on its own split only
    split_arguments: ClassVar[Tuple[str, ...]] = ()
    #: if each split needs a model of its own, and a published result is the mean over all of them:
    #: the argument that numbers the splits, and all its numbers
    separate_trials: ClassVar[Mapping[str, Sequence[int]]] = {}
    root: str
    dataset_dir: str

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
        if not self.synthetic:
            return ""
        settings = rendering(self.dataset_dir)
        dyes = f", infrared {setting_words(settings['infrared'])}" if settings else ""
        return f"Rendered images (SynthVI{dyes}): these numbers say nothing about the real dataset."

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
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _relative(path: str, folder: str) -> str:
    inside = os.path.abspath(path).replace("\\", "/")
    folder = os.path.abspath(folder).replace("\\", "/").rstrip("/") + "/"
    inside = inside[len(folder) :] if inside.startswith(folder) else inside
    return unicodedata.normalize("NFC", inside)  # macOS may decompose accented letters
