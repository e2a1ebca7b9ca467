"""Thermal images of 14 bits, from training to search. Oracle: pixels computed by hand."""

import copy
import csv
import os

import numpy as np
import pytest
import torch
from PIL import Image

import vireid_plugins as vp
from vireid_plugins.data import check_dataset
from vireid_plugins.data.build import build_test_loader
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.loading import open_checkpoint
from vireid_plugins.errors import CheckpointError, UserError
from vireid_plugins.modality import Modality
from vireid_plugins.readers.yaml_file import read_yaml

from tests.engine.small import small_cfg

pytestmark = pytest.mark.slow  # one training
LOW, HIGH = 7000, 9000
WORDS = "7000..9000"


def thermal(seed):
    """A person as a warm patch before a cold wall, as counts of a 14-bit camera."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(LOW, LOW + 300, (32, 16))
    top, left = rng.integers(2, 12), rng.integers(1, 8)
    counts[top : top + 18, left : left + 6] += int(rng.integers(900, 1700))
    counts[0, :2] = LOW, HIGH
    return counts.astype(np.uint16)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A CSV dataset: 4 + 2 identities, 2 + 2 images of each."""
    folder = tmp_path_factory.mktemp("thermal")
    rows = [["path", "pid", "camid", "modality", "split"]]
    rng = np.random.default_rng(0)
    for pid in range(6):
        for number in range(2):
            for modality in ("visible", "infrared"):
                name = f"{pid}_{modality}_{number}.png"
                color = rng.integers(0, 256, (32, 16, 3), dtype=np.uint8)
                counts = thermal(10 * pid + number)
                Image.fromarray(color if modality == "visible" else counts).save(folder / name)
                split = "train" if pid < 4 else "test"
                rows.append([name, pid, ["visible", "infrared"].index(modality), modality, split])
    with open(folder / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def thermal_cfg(root, output, **options):
    names = {"DATASETS__NAMES": "('CSVDataset',)", "DATASETS__TESTS": "('CSVDataset',)"}
    others = {"DATASETS__CSV_FILE": root / "list.csv", "SOLVER__MAX_EPOCH": 1}
    return small_cfg(output, **{**names, **others, **options})


@pytest.fixture(scope="module")
def trainer(root, tmp_path_factory):
    trainer = VIReIDTrainer(thermal_cfg(root, tmp_path_factory.mktemp("run")))
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def weights(trainer):
    return f"{trainer.cfg.OUTPUT_DIR}/model_final.pth"


def test_the_run_and_its_checkpoint_name_the_range(trainer, weights):
    assert trainer.cfg.INPUT.INFRARED_RANGE == WORDS
    written = read_yaml(f"{trainer.cfg.OUTPUT_DIR}/config.yaml")
    assert written["INPUT"]["INFRARED_RANGE"] == WORDS
    opened = open_checkpoint(weights)
    assert opened.facts["infrared_range"] == WORDS and opened.facts["visible_range"] == "auto"
    assert opened.cfg.INPUT.INFRARED_RANGE == WORDS
    # A config file that still says auto, and a checkpoint that knows better.
    assert open_checkpoint(weights, "configs/agw/synthetic.yml").cfg.INPUT.INFRARED_RANGE == WORDS


def test_evaluation_and_extractor_see_the_pixels_of_training(trainer, weights, root):
    counts = np.asarray(Image.open(root / "4_infrared_0.png")).astype(float)
    expected = np.rint((counts - LOW) * 255 / (HIGH - LOW))
    extractor = vp.FeatureExtractor(weights)
    path = str(root / "4_infrared_0.png")
    for reader in (trainer.data_loader.dataset.reader, extractor.reader):
        found = np.asarray(reader(path, vp.Modality.INFRARED))
        assert np.abs(found[:, :, 1] - expected).max() <= 1  # 1: a half, rounded either way
    loader, _ = build_test_loader(open_checkpoint(weights).cfg, "CSVDataset")
    place = next(n for n, i in enumerate(loader.dataset.items) if i.path == path)
    tested = loader.dataset[place]["images"]
    assert torch.equal(tested, extractor.transforms(extractor.reader(path, 1), 1))
    array = np.asarray(Image.open(path))
    features = extractor([path, array, Image.open(path)], "infrared")
    np.testing.assert_allclose(features, features[:1].repeat(3, axis=0), atol=1e-6)


def test_features_of_different_people_are_not_alike(trainer, weights, root):
    paths = [str(root / f"{pid}_infrared_0.png") for pid in range(6)]
    extractor = vp.FeatureExtractor(weights)
    features = extractor(paths, "infrared")
    flat = copy.copy(extractor)
    flat.reader = extractor.reader._replace(limits=((0, 65535),) * 2)
    apart = np.triu_indices(6, 1)
    before = (lambda rows: (rows @ rows.T)[apart].min())(flat(paths, "infrared"))
    assert before > 0.99  # as it was when all were divided by 65535
    assert (features @ features.T)[apart].min() < 0.9


def test_resuming_finds_the_same_range_and_other_files_are_refused(trainer, root):
    output = trainer.cfg.OUTPUT_DIR
    again = VIReIDTrainer(thermal_cfg(root, output, SOLVER__MAX_EPOCH=2))
    again.resume_or_load(resume=True)
    assert again.start_epoch == 1 and again.cfg.INPUT.INFRARED_RANGE == WORDS
    other = VIReIDTrainer(thermal_cfg(root, output, INPUT__INFRARED_RANGE="0..16383"))
    with pytest.raises(CheckpointError, match="INPUT.INFRARED_RANGE '7000..9000' -> '0..16383'"):
        other.resume_or_load(resume=True)


def test_the_check_of_a_dataset_prints_the_range(root):
    report = str(check_dataset("CSVDataset", str(root), csv_file=str(root / "list.csv"), full=True))
    assert "infrared images: 8 of 8 images looked at are gray of more than 8 bits" in report
    assert f"values 7000..9000; INPUT.INFRARED_RANGE is {WORDS}" in report


def test_an_index_warns_of_images_of_another_range(weights, tmp_path, caplog):
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.fromarray(thermal(number) + np.uint16(20_000)).save(tmp_path / "in" / f"{number}.png")
    from vireid_plugins.search import index_folder

    extractor = vp.FeatureExtractor(weights)
    index_folder(extractor, tmp_path / "in", "infrared", tmp_path / "index", progress=False)
    assert f"they use 0.0 % of INPUT.INFRARED_RANGE {WORDS}" in caplog.text
    assert "Their own range is 27000..29000" in caplog.text


def test_a_query_of_more_bits_than_the_model_knows_is_told(weights, root, tmp_path, caplog):
    from vireid_plugins.search import SearchIndex, index_folder
    from vireid_plugins.search.querying import search_images

    folder = tmp_path / "index"
    index_folder(vp.FeatureExtractor(weights), root, "infrared", folder, progress=False)
    Image.fromarray(thermal(1)).save(tmp_path / "deep.png")  # the model knows no visible range
    index, queries = SearchIndex(folder), [os.fsencode(tmp_path / "deep.png")]
    extractor = index.extractor(weights)
    list(search_images(index, extractor, queries, Modality.VISIBLE, 1, on_broken=print))
    assert "Queries: visible images: 1 of 1 images looked at are gray of more" in caplog.text
    assert "because the model has none" in caplog.text


def test_an_index_keeps_the_range_that_it_was_given(weights, root, tmp_path):
    from vireid_plugins.search import SearchIndex, index_folder

    extractor = vp.FeatureExtractor(weights, infrared_range="0..16383")
    assert extractor.reader.limits == (None, (0, 16383))
    assert extractor.fingerprint != vp.FeatureExtractor(weights).fingerprint
    folder = tmp_path / "index"
    index_folder(extractor, root, "infrared", folder, progress=False, weights=weights)
    index = SearchIndex(folder)
    assert index.facts["ranges"] == {"infrared": "0..16383"}  # what is not known is left open
    assert index.extractor().reader.limits == extractor.reader.limits
    with pytest.raises(CheckpointError, match="features cannot be compared"):
        index.extractor(infrared_range="0..65535")
    with pytest.raises(UserError, match="INPUT.INFRARED_RANGE is '5'.*LOW..HIGH"):
        vp.FeatureExtractor(weights, infrared_range="5")
