"""What a dataset's class says of itself is used everywhere. Oracle: a class of this file."""

import hashlib

import pytest

from vireid_plugins.data import DatasetError, build_dataset, check_dataset
from vireid_plugins.data.datasets import CrossModalityDataset
from vireid_plugins.data.datasets.build import restore_splits, split_facts
from vireid_plugins.data.item import Item
from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import build_protocols

from fastreid.data.datasets import DATASET_REGISTRY


class Night(CrossModalityDataset):
    """Images ``<fold>_<person>_<modality>.png``; the other fold is tested."""

    dataset_name = folder = "Night"
    published = {"train ids": 3}
    config_keys = {"fold": "DATASETS.NIGHT_FOLD"}
    split_arguments = ("fold",)
    aliases = ("dark",)

    def __init__(self, root="datasets", fold=1, **kwargs):
        self.fold = fold
        super().__init__(root, **kwargs)

    @classmethod
    def protocol_arguments(cls, cfg):
        return {"cmc": "identity", "skip_same_camera": cfg.DATASETS.NIGHT_FOLD == 2}

    def remarks(self):
        return ["All images were taken at night."]

    def read_train(self):
        return self._of_fold(self.fold)

    def read_test(self):
        return self._of_fold(3 - self.fold)

    def _of_fold(self, fold):
        return [
            Item(f"{self.dataset_dir}/{fold}_{person}_{modality}.png", person, 1, modality)
            for person in (5, 6)
            for modality in (0, 1)
        ]


@pytest.fixture
def night(tmp_path, write_image, cfg, monkeypatch):
    """Register the class for one test, with a config that has its key."""
    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "Night", Night)
    for fold in (1, 2):
        for person in (5, 6):
            for modality in (0, 1):
                write_image(tmp_path / "Night" / f"{fold}_{person}_{modality}.png")
    cfg.DATASETS.NIGHT_FOLD = 2
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("Night",)
    return cfg


def test_the_constructor_gets_its_config_keys(night):
    dataset = build_dataset(night, "Night")
    assert dataset.fold == 2 and "/2_5_0.png" in dataset.train[0].path


def test_the_protocol_gets_what_the_dataset_decides(night):
    lines = build_protocols(night, "Night")
    assert [type(line).__name__ for line in lines] == ["CrossModalityProtocol"] * 2
    assert {(line.cmc, line.skip_same_camera) for line in lines} == {("identity", True)}
    night.DATASETS.NIGHT_FOLD = 1
    assert not build_protocols(night, "Night")[0].skip_same_camera


def test_a_fingerprint_names_the_split(night, tmp_path):
    """Checkpoints carry fingerprints, so the text that is hashed must stay as it is."""
    lines = ["Night [('fold', 2)]"]
    lines += [
        f"train 2_{person}_{modality}.png {person}" for person in (5, 6) for modality in (0, 1)
    ]
    expected = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert Night(str(tmp_path), 2).fingerprint(["train"]) == expected


def test_a_model_is_tested_on_its_own_split(night):
    facts = {**split_facts(night), "train_datasets": ["Night"]}
    assert facts["night_fold"] == 2 and facts["regdb_trial"] == 1
    night.DATASETS.NIGHT_FOLD = 1
    with pytest.raises(
        UserError, match=r"some.pth was trained on Night fold 2.*identities of fold 1"
    ):
        restore_splits(night, facts, "some.pth", ["DATASETS.NIGHT_FOLD", "1"])
    restore_splits(night, facts, "some.pth")  # the config's own value gives way
    assert night.DATASETS.NIGHT_FOLD == 2
    night.DATASETS.NIGHT_FOLD = 1
    facts["train_datasets"] = ["SYSUMM01"]
    restore_splits(night, facts, "some.pth", ["DATASETS.NIGHT_FOLD"])
    assert night.DATASETS.NIGHT_FOLD == 1  # a model that has never seen the dataset


@pytest.mark.filterwarnings("ignore:The current data structure is deprecated")
def test_a_missing_dataset_of_fastreid_is_the_users_mistake(cfg):
    with pytest.raises(DatasetError, match="Market1501: .* is not found.*FASTREID_DATASETS"):
        build_dataset(cfg, "Market1501")


def test_an_option_that_the_constructor_does_not_take_is_refused(night, tmp_path):
    with pytest.raises(UserError, match="Night has no option 'trial'. Valid: fold"):
        check_dataset("Night", str(tmp_path), trial=2)


@pytest.mark.parametrize("name", ["night", "DARK"])
def test_it_can_be_checked(night, tmp_path, name):
    report = check_dataset(name, str(tmp_path), fold=2)
    assert "train ids: 2 found, 3 published" in str(report)
    assert "All images were taken at night." in report.lines
