"""Pictures of key points. Oracle: the side files of the rendered images."""

import csv

import pytest

from vireid.cli import main
from vireid_plugins.data.datasets.build import build_dataset
from vireid_plugins.data.keypoints import folder_of
from vireid_plugins.errors import PlotError
from vireid_plugins.joints import JOINTS, OTHER_SIDE
from vireid_plugins.plots import draw_kind
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
