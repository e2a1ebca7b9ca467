"""BlazePose itself, where it is installed. Oracle: the exact key points of rendered images."""

import numpy as np
import pytest

from vireid_plugins.pose import compare, fill, open_estimator
from vireid_plugins.pose.blazepose import FILE
from vireid_plugins.pretrained import weights_folder
from vireid_plugins.readers.keypoints_file import read_keypoints
from vireid_plugins.synthvi import render_dataset

pytest.importorskip("ai_edge_litert", reason="pip install 'vireid_plugins[pose]'")


@pytest.mark.slow
def test_it_finds_most_joints_of_rendered_people(tmp_path):
    if not (weights_folder() / FILE).is_file():
        pytest.skip("the network is not in the cache: vireid pose fetches it")
    options = {"ids": (4, 2), "images_per_camera": 2, "size": (192, 96), "jobs": 1}
    root = render_dataset("sysu", tmp_path, "tiny", progress=False, **options)
    estimator = open_estimator("blazepose", threads=1)
    done = fill(str(root), str(tmp_path / "k.npz"), estimator, progress=False)
    file = read_keypoints(done.path)
    found = compare(file, read_keypoints(root / "synthvi/index.csv"))
    assert done.found == 72 and found["all"].either_side > 80
    for camera in ("cam1", "cam3", "cam4", "cam6"):  # two see visible light, two infrared
        assert found[camera].correct[0.1] > 70
    alone = fill(str(root), str(tmp_path / "one.npz"), estimator, batch=1, progress=False)
    assert np.allclose(read_keypoints(alone.path).points, file.points, atol=1e-3)
