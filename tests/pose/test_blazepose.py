"""BlazePose itself, where it is installed. Oracle: key points and masks of the renderer."""

import numpy as np
import pytest
from PIL import Image

from vireid_plugins.pose import compare, fill, open_estimator
from vireid_plugins.pose.blazepose import FILE
from vireid_plugins.pretrained import weights_folder
from vireid_plugins.readers.keypoints_file import read_keypoints
from vireid_plugins.readers.side_files import Annotations
from vireid_plugins.synthvi import render_dataset

pytest.importorskip("ai_edge_litert", reason="pip install 'vireid_plugins[pose]'")


OPTIONS = {"ids": (4, 2), "images_per_camera": 2, "size": (192, 96), "jobs": 1}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """The folder of 72 images, twelve of each camera, and the estimator."""
    if not (weights_folder() / FILE).is_file():
        pytest.skip("the network is not in the cache: vireid pose fetches it")
    folder = tmp_path_factory.mktemp("rendered")
    root = render_dataset("sysu", folder, "tiny", progress=False, **OPTIONS)
    return root, open_estimator("blazepose", threads=1)


@pytest.mark.slow
def test_it_finds_most_joints_of_rendered_people(rendered, tmp_path):
    root, estimator = rendered
    done = fill(str(root), str(tmp_path / "k.npz"), estimator, progress=False)
    file = read_keypoints(done.path)
    found = compare(file, read_keypoints(root / "synthvi/index.csv"))
    assert done.found == 72 and found["all"].either_side > 80
    for camera in ("cam1", "cam3", "cam4", "cam6"):  # two see visible light, two infrared
        assert found[camera].correct[0.1] > 70
    alone = fill(str(root), str(tmp_path / "one.npz"), estimator, batch=1, progress=False)
    assert np.allclose(read_keypoints(alone.path).points, file.points, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("camera", ["cam1", "cam3", "cam4", "cam6"])
def test_its_masks_are_the_silhouettes_of_rendered_people(camera, rendered):
    root, estimator = rendered
    paths = sorted((root / camera).glob("*/*.jpg"))
    masks = estimator.masks([Image.open(path).convert("RGB") for path in paths])
    shares = []
    for path, mask in zip(paths, masks):
        true = Annotations(root).mask(path.relative_to(root).as_posix())
        shares.append((true & (mask >= 0.5)).sum() / (true | (mask >= 0.5)).sum())
    assert len(shares) == 12 and np.mean(shares) > 0.7  # intersection over union
