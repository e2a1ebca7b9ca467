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
from vireid_plugins.errors import UserError
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import small_cfg


@pytest.fixture(scope="module")
def trainer(tiny_root, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        folder = tmp_path_factory.mktemp("trained")
        trainer = VIReIDTrainer(small_cfg(folder, SOLVER__MAX_EPOCH=1))
        trainer.train()
    return trainer


@pytest.fixture(scope="module")
def weights(trainer):
    return f"{trainer.cfg.OUTPUT_DIR}/model_final.pth"


@pytest.fixture(scope="module")
def extractor(weights):
    return vp.FeatureExtractor(weights)


def test_features_equal_the_evaluations(trainer, weights, datasets):
    extractor = vp.FeatureExtractor(weights, batch_size=5)
    loader, dataset = build_test_loader(trainer.cfg, "SYSUMM01")
    expected = evaluation.extract_features(trainer.model, loader).features
    expected = torch.nn.functional.normalize(expected, dim=1).numpy()
    for modality, items in (("infrared", dataset.query), ("visible", dataset.gallery)):
        found = extractor([item.path for item in items], modality)
        start = 0 if modality == "infrared" else len(dataset.query)
        np.testing.assert_allclose(found, expected[start : start + len(items)], atol=1e-5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_paths_pictures_and_arrays_are_one(extractor, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 20, 3), dtype=np.uint8)
    path = tmp_path / "person.png"
    Image.fromarray(pixels).save(path)
    features = extractor([str(path), path, Image.fromarray(pixels), pixels], vp.Modality.VISIBLE)
    np.testing.assert_allclose(features, features[:1].repeat(4, axis=0), atol=1e-5)
    assert extractor([], "visible").shape == (0, features.shape[1])
    assert extractor([pixels[..., 0]], "infrared").shape == (1, features.shape[1])


def test_every_kind_of_picture_is_what_it_shows(extractor, weights, tmp_path):
    """A tracker's crops, BGR and cut out of a frame; alpha, 16 bits, turned cameras."""
    bgr = vp.FeatureExtractor(weights, channels="bgr")
    frame = np.random.default_rng(1).integers(0, 255, (60, 50, 3), dtype=np.uint8)
    crop, gray = frame[10:50, 5:25], frame[10:50, 5:25, 0]
    expected = extractor([np.ascontiguousarray(crop), np.stack([gray] * 3, axis=2)], "visible")
    alpha = np.dstack([crop, crop[..., :1]])
    turned = Image.fromarray(np.rot90(crop).copy())  # as a camera on its side stores it
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    wide = gray.astype(np.uint16) * 257
    Image.fromarray(wide).save(tmp_path / "wide.png")
    colored = extractor(
        [
            crop,
            alpha,
            tmp_path / "turned.png",
            Image.open(tmp_path / "turned.png"),
            Image.fromarray(alpha),
        ],
        "visible",
    )
    grays = extractor(
        [
            gray,
            gray[..., None],
            wide,
            wide.astype(">u2"),
            str(tmp_path / "wide.png"),
            Image.open(tmp_path / "wide.png"),
        ],
        "visible",
    )
    for found, row in (
        (colored, 0),
        (grays, 1),
        (bgr([crop[..., ::-1]], "visible"), 0),
        (bgr([alpha[..., [2, 1, 0, 3]], gray], "visible"), [0, 1]),
    ):
        np.testing.assert_allclose(found, np.broadcast_to(expected[row], found.shape), atol=1e-5)
    one_pixel = extractor([frame[:1, :1], frame[:1], frame[:, :1]], "infrared")
    assert one_pixel.shape == (3, extractor.feature_size) and np.isfinite(one_pixel).all()
    stacked = extractor(np.stack([crop, crop]), "visible")
    np.testing.assert_allclose(stacked, expected[[0, 0]], atol=1e-5)
    np.testing.assert_allclose(extractor(iter([crop]), "visible"), expected[:1], atol=1e-5)


def test_half_precision_gives_nearly_the_same_features(extractor, weights):
    images = list(np.random.default_rng(2).integers(0, 255, (5, 40, 20, 3), dtype=np.uint8))
    half = vp.FeatureExtractor(weights, precision="bfloat16", batch_size=2)
    expected, found = extractor(images, "visible"), half(images, "visible")
    assert found.dtype == np.float32 and not np.array_equal(found, expected)
    assert (found * expected).sum(1).min() > 0.995  # PyTorch 1.13 sums in bfloat16
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert half.fingerprint == extractor.fingerprint


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ("night.jpg", r"images must be a list.*got one str. Write \[image\]"),
        (np.zeros((4, 4, 3), np.uint8), "got one ndarray"),
        ([np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)], r"images\[1\]:.*one pixel"),
        ([np.zeros((4, 4, 3), np.float32)], "uint8.*got shape.*float32"),
        ([np.zeros((3, 40, 20), np.uint8)], r"\(H, W, 3\)"),
        ([np.zeros((4, 4, 3), np.uint16)], "uint16"),
        ([np.zeros((4, 4), bool)], "bool"),
        ([None], "expected a path, a PIL image or a NumPy array"),
    ],
)
def test_what_is_no_image_is_named(extractor, images, words):
    with pytest.raises(ValueError, match=words):
        extractor(images, "visible")


def test_mistakes_are_named(weights, tmp_path):
    extractor = vp.FeatureExtractor(weights)
    with pytest.raises(ValueError, match="expected 'visible' or 'infrared'"):
        extractor([np.zeros((4, 4, 3), np.uint8)], "night")
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        vp.FeatureExtractor("nowhere.pth")
    for options, words in (
        (dict(precision="half"), "precision must be one of"),
        (dict(precision="float16"), "needs a GPU; on a CPU use 'bfloat16'"),
        (dict(channels="bgra"), "channels must be one of"),
        (dict(batch_size=0), "batch_size must be at least 1"),
        (dict(device="gpu"), "device is 'gpu'"),
    ):
        with pytest.raises(ValueError, match=words):
            vp.FeatureExtractor(weights, **options)
    torch.save({"model": {"weight": torch.ones(1)}}, tmp_path / "foreign.pth")
    with pytest.raises(ValueError, match="says nothing about its model"):
        vp.FeatureExtractor(str(tmp_path / "foreign.pth"))


def test_features_that_are_not_finite_are_not_handed_out(weights):
    """Finite weights can give them too, as in float16."""
    extractor = vp.FeatureExtractor(weights, batch_size=2)
    bias = next(m for m in extractor.model.modules() if isinstance(m, torch.nn.BatchNorm2d)).bias
    bias.data.fill_(3e38)
    images = [np.zeros((4, 4, 3), np.uint8)] * 3
    with pytest.raises(FloatingPointError, match=r"features of images\[0\] are NaN or infinite"):
        extractor(images, "visible")


def test_the_fingerprint_tells_models_apart(weights, tmp_path):
    first = vp.FeatureExtractor(weights)
    assert len(first.fingerprint) == 16 and int(first.fingerprint, 16)
    renamed = tmp_path / "renamed.pth"
    data = read_checkpoint(weights)
    torch.save(data, renamed)
    assert vp.FeatureExtractor(str(renamed)).fingerprint == first.fingerprint
    name = next(name for name in data["model"] if name.endswith("running_mean"))
    data["model"][name][0] += 1e-6  # one number of one buffer
    del data["checksum"]
    torch.save(data, renamed)
    assert vp.FeatureExtractor(str(renamed)).fingerprint != first.fingerprint


def test_the_fingerprint_knows_the_input(weights, tmp_path):
    """The same weights fed with images of another size, or normalized in another way."""
    first, data = vp.FeatureExtractor(weights), read_checkpoint(weights)
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


def test_a_picture_that_cannot_be_decoded_is_named_by_its_place(extractor, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:60])
    with Image.open(path) as broken, pytest.raises(UserError, match=r"images\[1\]: It cannot be"):
        extractor([Image.new("RGB", (8, 8)), broken], "visible")
