"""RegDB (Nguyen et al., Sensors 2017): 412 persons, ten visible and ten thermal images each."""

import os
from functools import partial
from typing import Any, Dict, List, Set

from vireid_plugins.errors import UserError
from vireid_plugins.keys import Key, between, declare
from vireid_plugins.modality import Modality

from fastreid.data.datasets import DATASET_REGISTRY

from ..item import Item
from ..labels import first_few
from .base import CrossModalityDataset
from .lists import read_image_list
from .overlap import IF_MEANT

TRIALS = tuple(range(1, 11))

declare(
    "DATASETS",
    Key("REGDB_TRIAL", 1, between(1, 10), "split of RegDB; published results are means of all ten"),
)


@DATASET_REGISTRY.register()
class RegDB(CrossModalityDataset):
    """One of RegDB's ten splits, ``idx/{train,test}_{visible,thermal}_<trial>.txt``.

    The dataset has one camera of each kind: visible images get camera 1, infrared ones 2. The
    query images are visible, the gallery images infrared. Training and test persons of a split
    are different people, although the lists number both from 0.
    """

    dataset_name = "RegDB"
    folder = "RegDB"
    dataset_url = "http://dm.dongguk.edu/link.html"
    rendered_as = "regdb"
    protocol = "RegDBProtocol"
    config_keys = {"trial": "DATASETS.REGDB_TRIAL"}
    split_arguments = ("trial",)
    separate_trials = {"trial": TRIALS}
    modality_folders = {"visible": Modality.VISIBLE, "thermal": Modality.INFRARED}
    published = {
        "train ids": 206,
        "train visible": 2060,
        "train infrared": 2060,
        "test ids": 206,
        "test visible": 2060,
        "test infrared": 2060,
    }

    def __init__(self, root: str = "datasets", trial: int = 1, **kwargs: Any) -> None:
        """Read split ``trial``, 1..10.

        Raises:
            UserError: there is no such trial.
            DatasetError: see :class:`CrossModalityDataset`.
        """
        if isinstance(trial, bool) or trial not in TRIALS:
            raise UserError(
                f"RegDB has the trials 1..10; got {trial!r}. Set DATASETS.REGDB_TRIAL to one."
            )
        self.trial = int(trial)
        super().__init__(root, **kwargs)

    @property
    def note(self) -> str:
        """A sentence that says which of the ten splits this is."""
        trial = f"RegDB trial {self.trial}; a published row is the mean of ten trials, ten models."
        return f"{trial} {super().note}".strip()

    def read_train(self) -> List[Item]:
        return self._read("train")

    def read_test(self) -> List[Item]:
        return self._read("test")

    def person_of(self, part: str, item: Item) -> Any:
        """Return the person's own folder, such as ``Visible/17``: both lists number from 0."""
        modality, person = item.path.replace("\\", "/").split("/")[-3:-1]
        is_person = person.isdecimal() and modality.lower() in self.modality_folders
        return f"{modality}/{int(person)}" if is_person else None

    def lists(self) -> str:
        return os.path.join(self.dataset_dir, "idx", f"*_{self.trial}.txt")

    def _read(self, part: str) -> List[Item]:
        """Return the images of a part; the folders 17 of both modalities show one person."""
        items = self._read_lists(part)
        labels: Dict[str, Set[int]] = {}
        for item in items:
            person = self.person_of(part, item)
            if person is not None:
                labels.setdefault(person.partition("/")[2], set()).add(item.pid)
        torn = [
            f"{number} ({first_few(sorted(of))})" for number, of in labels.items() if len(of) > 1
        ]
        if torn:
            message = (
                f"{self.dataset_name}: the images of {len(torn)} person folder(s) are listed under "
                f"two identities: {first_few(torn)}. Visible/17 and Thermal/17 are one person; "
                f"correct {self.lists()}. {IF_MEANT}"
            )
            if self.allow_overlap:
                self._say([message])
            else:
                self.complain(message, part)
        return items

    def _read_lists(self, part: str) -> List[Item]:
        items: List[Item] = []
        for word, camera, modality in (
            ("visible", 1, Modality.VISIBLE),
            ("thermal", 2, Modality.INFRARED),
        ):
            path = os.path.join(self.dataset_dir, "idx", f"{part}_{word}_{self.trial}.txt")
            complain = partial(self.complain, part=part)
            pairs = read_image_list(path, self.dataset_dir, self.dataset_url, complain)
            items += [Item(image, pid, camera, int(modality)) for image, pid in pairs]
        return items
