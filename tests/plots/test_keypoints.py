"""Pictures of key points. Oracle: the side files of the rendered images."""

import csv

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from vireid.cli import main
from vireid_plugins.data import build_train_loader
from vireid_plugins.data.dataset import ItemRequest
from vireid_plugins.data.datasets.build import build_dataset
from vireid_plugins.data.keypoints import folder_of
from vireid_plugins.data.seeding import stream_seeds
from vireid_plugins.errors import PlotError
from vireid_plugins.joints import JOINTS, OTHER_SIDE
from vireid_plugins.plots import draw_kind, keypoints
from vireid_plugins.synthvi import Annotations

from tests.engine.small import ROOT, small_cfg

EXACT = {"INPUT__KEYPOINTS__READ": "all", "INPUT__KEYPOINTS__FILE": "synthvi/index.csv"}


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_points_of_files_and_of_mirrored_images(datasets, tmp_path):
    fixed = {
        "INPUT__FLIP__PROB": 1.0,
        "INPUT__PADDING__ENABLED": False,
        "INPUT__REA__ENABLED": False,
    }
    cfg = small_cfg(tmp_path / "run", INPUT__TRIVIAL_AUGMENT__ENABLED=False, **EXACT, **fixed)
    drawn = draw_kind("keypoints", cfg, str(tmp_path), count=1, views=1)
    assert [path.rsplit(".")[-1] for path in drawn.paths] == ["png", "pdf", "csv"]
    assert "of the joints are known" in drawn.notes[0]
    rows = read(drawn.paths[-1])
    assert len(rows) == 2 * 2 * 17 and {row["modality"] for row in rows} == {"visible", "infrared"}
    exact = Annotations(folder_of(build_dataset(cfg, cfg.DATASETS.NAMES[0])))
    for path in {row["image"] for row in rows}:
        points, (height, width) = exact.keypoints(path), exact.mask(path).shape
        own = [row for row in rows if row["image"] == path]
        for place, name in enumerate(JOINTS):
            file, mirrored = (row for row in own if row["joint"] == name)
            assert [float(file[k]) for k in "xy"] == pytest.approx(points[place, :2], abs=0.01)
            x, y, known = points[OTHER_SIDE[place]]
            there = (width - 0.5 - x) * 16 / width - 0.5, (y + 0.5) * 32 / height - 0.5
            assert [float(mirrored[k]) for k in "xy"] == pytest.approx(there, abs=0.01)
            assert float(mirrored["confidence"]) == known


def test_joints_lie_on_the_pixels_in_the_color_of_their_side():
    points = np.zeros((17, 3))
    for name, values in {
        "nose": (7, 2, 0.5),
        "left_shoulder": (10, 6, 0.9),
        "left_elbow": (12, 11, 0.4),
        "right_shoulder": (4, 6, 0.9),
        "left_wrist": (13, 16, 0),  # unknown
    }.items():
        points[JOINTS.index(name)] = values
    figure, axes = plt.subplots()
    keypoints._draw(axes, keypoints.Picture("file", np.zeros((24, 16, 3), np.uint8), points))
    spots, lines = {}, {}
    for line in axes.lines:
        places = tuple(map(tuple, line.get_xydata().tolist()))
        spot = len(places) == 1
        (spots if spot else lines)[places] = line.get_mfc() if spot else line.get_color()
    left, right, middle = keypoints._LEFT, keypoints._RIGHT, keypoints._MIDDLE
    assert len({left, right, middle}) == 3
    assert spots == {
        ((7, 2),): middle,
        ((10, 6),): left,
        ((12, 11),): "none",  # below 0.5
        ((4, 6),): right,
    }
    assert lines == {((10, 6), (4, 6)): middle, ((10, 6), (12, 11)): left}
    assert axes.get_xlim() == (-0.5, 15.5) and axes.get_ylim() == (23.5, -0.5)
    colors = ("orange left", "blue right", "yellow middle")  # as the title says
    red, green, blue = np.array([to_rgb(color) for color in (left, right, middle)]).T
    assert red[0] > blue[0] and blue[1] > red[1] and min(red[2], green[2]) > blue[2]
    figure = keypoints._figure([[keypoints.Picture("1", np.zeros((4, 4, 3)), points)]], [None])
    assert all(words in figure.get_suptitle() for words in colors)
    plt.close("all")


def test_the_pixels_are_those_of_the_training_and_a_seed_chooses_them(datasets, tmp_path):
    cfg = small_cfg(tmp_path, **EXACT)
    dataset = build_train_loader(cfg).dataset
    options = keypoints.KeypointsOptions(views=2, seed=3)
    pictures = keypoints._row(dataset, 0, options)[1]
    first, second = stream_seeds(2, 3, 0)
    for picture, seed in zip(pictures[1:], (first, second)):
        sample = dataset[ItemRequest(0, seed)]
        assert np.array_equal(picture.pixels, sample["images"].byte().permute(1, 2, 0).numpy())
        assert np.array_equal(picture.points, sample["keypoints"].numpy())
    assert not np.array_equal(pictures[1].pixels, pictures[2].pixels)


def test_without_key_points_the_key_is_named(datasets, tmp_path, capsys):
    with pytest.raises(PlotError, match="INPUT.KEYPOINTS.READ is none"):
        draw_kind("keypoints", small_cfg(tmp_path), str(tmp_path))
    with pytest.raises(PlotError, match="give one config"):
        draw_kind("keypoints", ["run"], str(tmp_path))
    with pytest.raises(PlotError, match="--views 13"):
        draw_kind("keypoints", small_cfg(tmp_path), str(tmp_path), views=13)
    config = str(ROOT / "configs/agw/synthetic.yml")
    words = ["plot", "keypoints", "--config-file", config, "--out", str(tmp_path)]
    assert main(words) == 2
    assert "INPUT.KEYPOINTS.READ all" in capsys.readouterr().err
