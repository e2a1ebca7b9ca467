"""SYSU-MM01 (Wu et al., ICCV 2017): four visible and two infrared cameras, 491 identities."""

import logging
import os
from typing import List, Sequence

from vireid_plugins.modality import Modality

from fastreid.data.datasets import DATASET_REGISTRY

from ..item import Item
from ..labels import first_few
from .base import CrossModalityDataset, DatasetError
from .lists import list_images, numbered_folders, read_ids

logger = logging.getLogger(__name__)

VISIBLE_CAMERAS = (1, 2, 4, 5)
INFRARED_CAMERAS = (3, 6)


@DATASET_REGISTRY.register()
class SYSUMM01(CrossModalityDataset):
    """SYSU-MM01 as distributed: ``cam1`` .. ``cam6``, each with a folder per identity.

    Training takes the identities of ``train_id.txt`` and ``val_id.txt``, as the published
    protocol does. The query images are the infrared ones of the identities of ``test_id.txt``,
    the gallery images their visible ones. Cameras 1, 2 and 3 are indoors; 2 and 3 see one place.
    """

    dataset_name = "SYSUMM01"
    folder = "SYSU-MM01"
    dataset_url = "https://github.com/wuancong/SYSU-MM01"
    rendered_as = "sysu"
    protocol = "SYSUMM01Protocol"
    query_modality = Modality.INFRARED
    aliases = ("sysu", "sysu-mm01")
    published = {
        "train ids": 395,
        "train visible": 22258,
        "train infrared": 11909,
        "test ids": 96,
        "test visible": 6775,
        "test infrared": 3803,
    }

    def check_layout(self) -> None:
        missing = [
            f"cam{camera}"
            for camera in sorted(VISIBLE_CAMERAS + INFRARED_CAMERAS)
            if not os.path.isdir(os.path.join(self.dataset_dir, f"cam{camera}"))
        ]
        if missing:
            raise DatasetError(
                f"{self.dataset_name}: {self.dataset_dir} lacks {', '.join(missing)}. Extract the "
                f"dataset again so that cam1 .. cam6 and exp lie there; if a camera really has no "
                f"images, make an empty folder for it. It is requested at {self.dataset_url}"
            )
        for name in ("train_id.txt", "val_id.txt", "test_id.txt"):
            self._ids(name)

    def read_train(self) -> List[Item]:
        return self._read("train_id.txt") + self._read("val_id.txt")

    def read_test(self) -> List[Item]:
        return self._read("test_id.txt")

    def lists(self) -> str:
        return os.path.join(self.dataset_dir, "exp", "{train,val,test}_id.txt")

    def remarks(self) -> List[str]:
        if os.path.isfile(os.path.join(self.dataset_dir, "exp", "rand_perm_cam.mat")):
            return [
                "exp/rand_perm_cam.mat: found; TEST.PROTOCOL.GALLERY may be 'official' or 'random'."
            ]
        return [
            "exp/rand_perm_cam.mat is not there: TEST.PROTOCOL.GALLERY must stay 'random', and "
            "tables say so. It comes with the dataset, in the exp folder."
        ]

    def _id_file(self, name: str) -> str:
        return os.path.join(self.dataset_dir, "exp", name)

    def _ids(self, name: str) -> List[int]:
        return read_ids(self._id_file(name), self.dataset_url)

    def _read(self, name: str) -> List[Item]:
        items: List[Item] = []
        for cameras, modality in (
            (VISIBLE_CAMERAS, Modality.VISIBLE),
            (INFRARED_CAMERAS, Modality.INFRARED),
        ):
            for camera in cameras:
                items += self._read_camera(self._ids(name), camera, modality)
        self._check_ids(name, items)
        return items

    def _read_camera(self, ids: Sequence[int], camera: int, modality: Modality) -> List[Item]:
        people = numbered_folders(os.path.join(self.dataset_dir, f"cam{camera}"))
        return [
            Item(path, pid, camera, int(modality))
            for pid in ids
            for folder in people.get(pid, ())
            for path in list_images(folder)
        ]

    def _check_ids(self, name: str, items: Sequence[Item]) -> None:
        seen = {item.pid for item in items}
        absent = [f"{pid:04d}" for pid in self._ids(name) if pid not in seen]
        if absent:
            self.complain(
                f"{self._id_file(name)} lists {len(absent)} identit(ies) without an image in any "
                f"camera folder: {first_few(absent)}. The copy is incomplete: extract it again, or "
                "take them out of the list.",
                "test" if name == "test_id.txt" else "train",
            )
        cameras = {item.camid for item in items}
        empty = sorted(set(VISIBLE_CAMERAS + INFRARED_CAMERAS) - cameras)
        if empty:
            logger.warning(
                "%s: no image of the identities in %s under cam%s",
                self.dataset_name,
                name,
                ", cam".join(map(str, empty)),
            )
