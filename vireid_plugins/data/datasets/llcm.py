"""LLCM (Zhang and Wang, CVPR 2023): nine cameras by day and night, 1064 identities."""

import os
import re
from functools import partial
from typing import Any, List

from vireid_plugins.modality import Modality

from fastreid.data.datasets import DATASET_REGISTRY

from ..item import Item
from ..labels import first_few
from .base import CrossModalityDataset, DatasetError
from .files import find_lost_images, shown
from .lists import list_images, numbered_folders, read_ids, read_image_list

CAMERAS = tuple(range(1, 10))

_CAMERA_IN_NAME = re.compile(r"_c(\d+)(?=[_.])", re.IGNORECASE)  # 0001_c04_s1_f2_vis.jpg
_PERSON_IN_NAME = re.compile(r"(\d+)_c\d", re.IGNORECASE)
_CAMERA_FOLDER = re.compile(r"^cam(\d+)$", re.IGNORECASE)  # vis/cam4/0001/...


@DATASET_REGISTRY.register()
class LLCM(CrossModalityDataset):
    """LLCM as distributed: lists for training, folders ``test_vis`` and ``test_nir`` for testing.

    ``idx/train_vis.txt`` and ``idx/train_nir.txt`` list the training images; the camera is read
    from the file's name. Test images are in ``test_vis/cam1/0001`` and so on, for the identities
    of ``idx/test_id.txt``. The query images are visible, the gallery images infrared. Camera 3
    has no infrared images by design. Several cameras film in both modalities, so a camera number
    does not tell the modality.
    """

    dataset_name = "LLCM"
    folder = "LLCM"
    dataset_url = "https://github.com/ZYK100/LLCM"
    rendered_as = "llcm"
    protocol = "LLCMProtocol"
    modality_folders = {
        "vis": Modality.VISIBLE,
        "test_vis": Modality.VISIBLE,
        "nir": Modality.INFRARED,
        "test_nir": Modality.INFRARED,
    }
    published = {
        "train ids": 713,
        "train visible": 16946,
        "train infrared": 13975,
        "test ids": 351,
        "test visible": 8680,
        "test infrared": 7166,
    }

    def check_layout(self) -> None:
        self._test_ids()
        folders = [os.path.join(self.dataset_dir, name) for name in ("test_vis", "test_nir")]
        missing = [folder for folder in folders if not os.path.isdir(folder)]
        if missing:
            raise DatasetError(
                f"{self.dataset_name}: {', '.join(missing)} missing. Extract the dataset again; "
                f"it is requested at {self.dataset_url}"
            )

    def read_train(self) -> List[Item]:
        items: List[Item] = []
        for name, modality in (
            ("train_vis.txt", Modality.VISIBLE),
            ("train_nir.txt", Modality.INFRARED),
        ):
            path = os.path.join(self.dataset_dir, "idx", name)
            complain = partial(self.complain, part="train")
            for image, pid in read_image_list(path, self.dataset_dir, self.dataset_url, complain):
                items.append(Item(image, pid, camera_of(image, path), int(modality)))
        return items

    def read_test(self) -> List[Item]:
        items: List[Item] = []
        for name, modality in (("test_vis", Modality.VISIBLE), ("test_nir", Modality.INFRARED)):
            items += self._read_test_folder(os.path.join(self.dataset_dir, name), modality)
        seen = {item.pid for item in items}
        absent = [f"{pid:04d}" for pid in self._test_ids() if pid not in seen]
        if absent:
            self.complain(
                f"{self._test_id_file()} lists {len(absent)} identit(ies) without an image in "
                f"test_vis or test_nir: {first_few(absent)}. The copy is incomplete: extract it "
                "again, or take them out of the list.",
                "test",
            )
        return items

    def _read_test_folder(self, folder: str, modality: Modality) -> List[Item]:
        pids = set(self._test_ids())
        items = [
            Item(path, pid, camera, int(modality))
            for camera, places in numbered_folders(folder, "cam").items()
            for place in places
            if camera in CAMERAS
            for pid, people in numbered_folders(place).items()
            for person in people
            if pid in pids
            for path in list_images(person)
        ]
        lost = find_lost_images(folder, [item.path for item in items], pids)
        if lost:
            examples = first_few([shown(path, self.dataset_dir) for path in lost], 3)
            self.complain(
                f"{self.dataset_name}: {len(lost)} image(s) of identities in test_id.txt lie "
                f"outside of {shown(folder, self.dataset_dir)}/cam1/0001 .. cam9 and would be "
                f"lost: {examples}. Correct the names of these folders, or move them out of "
                f"{folder}.",
                "test",
            )
        return items

    def person_of(self, part: str, item: Item) -> Any:
        """Return the person's number in the image's name: the training lists number from 0."""
        if part == "test":
            return item.pid
        match = _PERSON_IN_NAME.match(os.path.basename(item.path))
        return int(match[1]) if match else None

    def lists(self) -> str:
        return os.path.join(self.dataset_dir, "idx")

    def remarks(self) -> List[str]:
        return ["Camera 3 has no infrared images by design."]

    def _test_id_file(self) -> str:
        return os.path.join(self.dataset_dir, "idx", "test_id.txt")

    def _test_ids(self) -> List[int]:
        return read_ids(self._test_id_file(), self.dataset_url)


def camera_of(path: str, source: str) -> int:
    """Return the camera number in a file's name (``_c04``) or else in its folders (``cam4``).

    Args:
        source: the list that holds the path, for the message.

    Raises:
        DatasetError: neither the name nor a folder names a camera.
    """
    parts = path.replace("\\", "/").split("/")
    match = _CAMERA_IN_NAME.search(parts[-1])
    if match is None:
        match = next(filter(None, map(_CAMERA_FOLDER.match, reversed(parts[:-1]))), None)
    if match is None:
        raise DatasetError(
            f"{source}: no camera in the name {parts[-1]!r}; expected one like 0001_c04_..., or a "
            "folder like cam4."
        )
    return int(match.group(1))
