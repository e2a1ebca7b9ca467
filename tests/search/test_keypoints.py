"""Key points of images that are in no dataset. Oracles: the model on a batch that the test makes;
what is said and which features change when one image's key points do."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import vireid_plugins as vp
from vireid.cli import run_verb
from vireid_plugins.data.keypoints import PathKeyPoints
from vireid_plugins.errors import FileContentError, MissingFileError, UserError
from vireid_plugins.keypoints import Motion, moved
from vireid_plugins.readers.keypoints_file import write_arrays
from vireid_plugins.search import SearchIndex

from tests.every_key.narrow import NAME
from tests.modeling.small import some_points
from tests.onnx_export.small import small_checkpoint

SIZE, INPUT = (20, 10), (64, 32)  # of the files, and what the model gets
NAMES = ("a.png", "b/a.png", "b/c.png")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("spot") / "model_final.pth"
    words = {"MODEL__BACKBONE__NAME": NAME, "INPUT__SIZE_TEST": list(INPUT)}
    small_checkpoint(path, "configs/spot/synthetic.yml", **words)
    data = torch.load(path)
    for name, value in data["model"].items():  # random statistics silence most of its channels
        if name.startswith("structure_map") and "running_mean" in name:
            value.zero_()
        if name == "interaction.part_maps.weight":
            value.mul_(20)
    torch.save(data, path)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    """Three images, and key points of all of them but one, ``lost.png``."""
    root = tmp_path / "people"
    (root / "b").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*NAMES, "lost.png"):
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(root / name)
    write_points(root / "keypoints.npz")
    return root


def write_points(path, names=NAMES, size=SIZE, shift=0.0):
    points = some_points(len(names), SIZE).numpy()
    points[:1, :, 0] += shift
    np.savez(path, **write_arrays(names, points, np.full((len(names), 2), size)))
    return points


def test_features_are_those_of_the_key_points_of_each_path(weights, folder):
    extractor = vp.FeatureExtractor(weights, keypoints=folder / "keypoints.npz", batch_size=2)
    found = extractor([folder / name for name in NAMES], "infrared")
    points = some_points(3, SIZE)
    batch = {
        "images": torch.stack(
            [extractor.transforms(Image.open(folder / name), 1) for name in NAMES]
        ),
        "keypoints": moved(points, Motion.scale(SIZE, INPUT)),
        "modalities": torch.ones(3, dtype=torch.int64),
    }
    with torch.no_grad():
        expected = torch.nn.functional.normalize(extractor.model(batch)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    arrays = [np.asarray(Image.open(folder / name)) for name in NAMES]
    given = vp.FeatureExtractor(weights)(arrays, "infrared", points.numpy())
    np.testing.assert_allclose(given, expected, atol=1e-5)
    other = vp.FeatureExtractor(weights)(arrays, "infrared", points.numpy()[::-1].copy())
    assert np.abs(other - expected).max() > 1e-4


def test_what_is_missing_or_does_not_fit_is_one_sentence(weights, folder):
    bare, image = vp.FeatureExtractor(weights), folder / "a.png"
    with pytest.raises(UserError, match="SPOT needs key points of each image.*--keypoints FILE"):
        bare([image], "visible")
    assert bare([], "visible").shape == (0, bare.feature_size)
    wrong = np.zeros((2, 17, 3))
    with pytest.raises(UserError, match=r"must be numbers \(1, 17, 3\).*got \(2, 17, 3\)"):
        bare([image], "visible", wrong)
    for value in (np.nan, 2.0):
        with pytest.raises(UserError, match="finite, with confidences from 0 to 1"):
            bare([image], "visible", np.full((1, 17, 3), value))
    known = vp.FeatureExtractor(weights, keypoints=str(folder / "keypoints.npz"))
    with pytest.raises(FileContentError, match="no key points of .*lost.png .*vireid pose"):
        known([folder / "lost.png"], "visible")
    with pytest.raises(UserError, match=r"images\[0\] is no path.*give the call keypoints"):
        known([Image.open(image)], "visible")
    write_points(folder / "other.npz", size=(40, 20))
    with pytest.raises(FileContentError, match="for an image of 40 x 20 pixels"):
        vp.FeatureExtractor(weights, keypoints=folder / "other.npz")([image], "visible")
    with pytest.raises(MissingFileError, match="nowhere.npz"):
        vp.FeatureExtractor(weights, keypoints="nowhere.npz")


def test_a_model_without_key_points_refuses_them(folder, tmp_path):
    plain = small_checkpoint(tmp_path / "plain.pth", MODEL__BACKBONE__NAME=NAME)
    with pytest.raises(UserError, match="DualStreamBaseline takes no key points: leave --keyp"):
        vp.FeatureExtractor(plain, keypoints=folder / "keypoints.npz")
    with pytest.raises(UserError, match="takes no key points"):
        vp.FeatureExtractor(plain)([folder / "a.png"], "visible", np.zeros((1, 17, 3)))


def test_where_a_file_may_lie(folder, tmp_path, monkeypatch):
    """Beside its images, above them, or elsewhere; whole paths, too."""
    expected = some_points(3, SIZE)
    own = PathKeyPoints(folder / "keypoints.npz")
    assert torch.equal(own.of(folder / "b/c.png", SIZE), expected[2])
    below = PathKeyPoints(folder / "keypoints.npz", folder / "b")
    assert torch.equal(below.of(folder / "b/a.png", SIZE), expected[1])  # not that of a.png
    shutil.move(folder / "keypoints.npz", tmp_path / "elsewhere.npz")
    away = PathKeyPoints(tmp_path / "elsewhere.npz", folder)
    assert torch.equal(away.of(str(folder / "b/a.png"), SIZE), expected[1])
    monkeypatch.chdir(folder)
    assert torch.equal(PathKeyPoints("../elsewhere.npz", ".").of("b/c.png", SIZE), expected[2])
    write_points(tmp_path / "whole.npz", [str(folder / name) for name in NAMES])
    assert torch.equal(PathKeyPoints(tmp_path / "whole.npz").of("a.png", SIZE), expected[0])


def test_an_index_and_its_queries(weights, folder, tmp_path, capsys):
    points, out = str(folder / "keypoints.npz"), str(tmp_path / "index")
    index = ["index", "--weights", weights, "--images", str(folder), "--modality", "visible"]
    index += ["--out", out, "--workers", "0"]
    assert run_verb("search", index) == 2
    assert "SPOT needs key points" in capsys.readouterr().err and not (tmp_path / "index").exists()
    index += ["--keypoints", points]
    assert run_verb("search", index) == 1  # one image has none
    assert "3 new" in capsys.readouterr().out
    assert "no key points of" in (tmp_path / "index" / "broken.csv").read_text(encoding="utf-8")
    extractor = vp.FeatureExtractor(weights, keypoints=points)
    expected = extractor([folder / name for name in NAMES], "visible")
    np.testing.assert_allclose(SearchIndex(out).features[:], expected, atol=1e-6)

    run_verb("search", index)
    assert "0 new" in capsys.readouterr().out
    write_points(points, shift=3.0)  # of the first image
    run_verb("search", index)
    assert "1 new" in capsys.readouterr().out

    ask = ["query", out, "--image", str(folder / "b/c.png"), "--modality", "visible"]
    assert run_verb("search", ask) == 2
    assert "SPOT needs key points" in capsys.readouterr().err
    assert run_verb("search", [*ask, "--keypoints", points]) == 0
    assert "1    1.000  b/c.png" in capsys.readouterr().out
    ask = [*ask[:2], "--images", str(folder / "b"), "--csv", str(tmp_path / "found.csv")]
    assert run_verb("search", [*ask, "--modality", "infrared", "--keypoints", points]) == 0


@pytest.mark.slow
def test_an_exported_file_takes_them(weights, datasets, tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr("vireid.verbs.export.SECONDS", 0.0)
    out = tmp_path / "model.onnx"
    assert run_verb("export", ["--weights", weights, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "keypoints (N, 17, 3) float32, modalities" in said and "SYSUMM01 images" in said
    session = onnxruntime.InferenceSession(str(out))
    assert [one.name for one in session.get_inputs()] == ["images", "keypoints", "modalities"]
    assert "nose, left_eye" in session.get_modelmeta().custom_metadata_map["keypoints"]
    images, points = torch.rand(3, 3, *INPUT) * 255, some_points(3, INPUT)
    feeds = {
        "images": images.numpy(),
        "keypoints": points.numpy(),
        "modalities": np.zeros(3, np.int64),
    }
    expected = vp.FeatureExtractor(weights).features_of(images, vp.Modality.VISIBLE, points)
    np.testing.assert_allclose(session.run(None, feeds)[0], expected, atol=1e-5)
    points[..., 0] += 6
    other = session.run(None, {**feeds, "keypoints": points.numpy()})[0]
    assert np.abs(other - expected).max() > 1e-4
