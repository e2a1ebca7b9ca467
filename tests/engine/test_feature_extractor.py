"""Features of one's own images equal those that the evaluation computes."""

import copy

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import vireid_plugins as vp
from vireid_plugins import evaluation
from vireid_plugins.data import build_test_loader
from vireid_plugins.engine import VIReIDTrainer

from tests.engine.small import small_cfg


@pytest.fixture
def trainer(datasets, tmp_path):
    trainer = VIReIDTrainer(small_cfg(tmp_path, SOLVER__MAX_EPOCH=1))
    trainer.train()
    return trainer


def test_features_equal_the_evaluations(trainer, tmp_path):
    extractor = vp.FeatureExtractor(str(tmp_path / "model_final.pth"), batch_size=5)
    loader, dataset = build_test_loader(trainer.cfg, "SYSUMM01")
    expected = evaluation.extract_features(trainer.model, loader).features
    expected = torch.nn.functional.normalize(expected, dim=1).numpy()
    for modality, items in (("infrared", dataset.query), ("visible", dataset.gallery)):
        found = extractor([item[0] for item in items], modality)
        start = 0 if modality == "infrared" else len(dataset.query)
        np.testing.assert_allclose(found, expected[start : start + len(items)], atol=1e-5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_paths_pictures_and_arrays_are_one(trainer, tmp_path):
    extractor = vp.FeatureExtractor(str(tmp_path / "model_final.pth"))
    pixels = np.random.default_rng(0).integers(0, 255, (40, 20, 3), dtype=np.uint8)
    path = tmp_path / "person.png"
    Image.fromarray(pixels).save(path)
    features = extractor([str(path), path, Image.fromarray(pixels), pixels], vp.Modality.VISIBLE)
    np.testing.assert_allclose(features, features[:1].repeat(4, axis=0), atol=1e-5)
    assert extractor([], "visible").shape == (0, features.shape[1])
    assert extractor([pixels[..., 0]], "infrared").shape == (1, features.shape[1])


def test_mistakes_are_named(trainer, tmp_path):
    extractor = vp.FeatureExtractor(str(tmp_path / "model_final.pth"))
    with pytest.raises(ValueError, match="expected 'visible' or 'infrared'"):
        extractor([np.zeros((4, 4, 3), np.uint8)], "night")
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        vp.FeatureExtractor("nowhere.pth")
    torch.save({"model": {}}, tmp_path / "foreign.pth")
    with pytest.raises(ValueError, match="says nothing about its model"):
        vp.FeatureExtractor(str(tmp_path / "foreign.pth"))


def test_the_fingerprint_tells_models_apart(trainer, tmp_path):
    path = tmp_path / "model_final.pth"
    first = vp.FeatureExtractor(str(path))
    assert len(first.fingerprint) == 16 and int(first.fingerprint, 16)
    renamed = tmp_path / "renamed.pth"
    data = torch.load(path, weights_only=True)
    torch.save(data, renamed)
    assert vp.FeatureExtractor(str(renamed)).fingerprint == first.fingerprint
    name = next(name for name in data["model"] if name.endswith("running_mean"))
    data["model"][name][0] += 1e-6  # one number of one buffer
    torch.save(data, renamed)
    assert vp.FeatureExtractor(str(renamed)).fingerprint != first.fingerprint


def test_the_fingerprint_knows_the_input(trainer, tmp_path):
    """The same weights fed with images of another size, or normalised in another way."""
    path = tmp_path / "model_final.pth"
    first, data = vp.FeatureExtractor(str(path)), torch.load(path, weights_only=True)
    config = yaml.safe_load(data["vireid"]["config"])
    for section, key, value in (
        ("INPUT", "SIZE_TEST", [64, 32]),
        ("MODEL", "PIXEL_MEAN", [0.0, 0.0, 0.0]),
    ):
        other = copy.deepcopy(config)
        other[section][key] = value
        data["vireid"]["config"] = yaml.safe_dump(other)
        torch.save(data, tmp_path / "other.pth")
        assert vp.FeatureExtractor(str(tmp_path / "other.pth")).fingerprint != first.fingerprint
    config["OUTPUT_DIR"], config["MODEL"]["WEIGHTS"] = "elsewhere", "elsewhere.pth"
    data["vireid"]["config"] = yaml.safe_dump(config)
    torch.save(data, tmp_path / "other.pth")
    assert vp.FeatureExtractor(str(tmp_path / "other.pth")).fingerprint == first.fingerprint
