"""Features of one's own images equal those that the evaluation computes."""

import numpy as np
import pytest
import torch
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
