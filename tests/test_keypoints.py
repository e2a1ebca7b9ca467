"""Key points as tensors. Oracles: loops written from the formulas, and hand-made places."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import UserError
from vireid_plugins.joints import JOINTS, LIMBS, OTHER_SIDE
from vireid_plugins.keypoints import (
    Motion,
    heat_maps,
    keypoints_of,
    mirrored_batch,
    moved,
)


def some_points(*shape, size=(24, 12)):
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(*shape, 17, 3, generator=generator)
    points[..., 0] *= size[1] - 1
    points[..., 1] *= size[0] - 1
    return points


def test_left_and_right_are_told_by_the_names():
    for number, name in enumerate(JOINTS):
        other = JOINTS[OTHER_SIDE[number]]
        swapped = name.replace("left", "*").replace("right", "left").replace("*", "right")
        assert other == swapped
    assert sorted(OTHER_SIDE) == list(range(17))
    assert {joint for limb in LIMBS for joint in limb} == set(JOINTS)


def test_the_joints_are_those_of_coco_and_so_are_the_limbs():
    """Recorded from the annotations of COCO 2017, category person: keypoints and skeleton."""
    assert JOINTS == tuple(
        """nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow
        right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle
        right_ankle""".split()
    )
    skeleton = """16-14 14-12 17-15 15-13 12-13 6-12 7-13 6-7 6-8 7-9 8-10 9-11 2-3 1-2 1-3 2-4 3-5
        4-6 5-7""".split()
    pairs = {frozenset(JOINTS[int(one) - 1] for one in pair.split("-")) for pair in skeleton}
    assert {frozenset(limb) for limb in LIMBS} <= pairs
    sides = {frozenset(JOINTS[OTHER_SIDE[JOINTS.index(joint)]] for joint in one) for one in LIMBS}
    assert sides == {frozenset(limb) for limb in LIMBS}  # left as right


@pytest.mark.parametrize(
    ("image_size", "map_size", "sigma", "least", "weighted"),
    [
        ((24, 12), (6, 3), 1.0, 0.0, True),
        ((12, 6), (12, 6), 2.5, 0.0, False),
        ((24, 12), (9, 20), 0.7, 0.4, True),
        ((7, 90), (1, 1), 1.0, 0.0, True),
    ],
)
def test_heat_maps_are_the_formula(image_size, map_size, sigma, least, weighted):
    points = some_points(2, size=image_size).double()
    points[0, 4, 2] = 0
    points[1, 3] = torch.tensor([math.nan, math.inf, 0.0])  # unknown, so its place means nothing
    found = heat_maps(points, image_size, map_size, sigma, least=least, weighted=weighted)
    assert found.shape == (2, 17, *map_size) and found.dtype == torch.float64
    for b in range(2):
        for k in range(17):
            x, y, confidence = points[b, k].tolist()
            for i in range(map_size[0]):
                for j in range(map_size[1]):
                    expected = 0.0
                    if confidence > least:
                        # the middle of the cell, in pixels of the image, seen from the joint
                        across = (j + 0.5) * image_size[1] / map_size[1] - 0.5 - x
                        down = (i + 0.5) * image_size[0] / map_size[0] - 0.5 - y
                        across *= map_size[1] / image_size[1]
                        down *= map_size[0] / image_size[0]
                        expected = math.exp(-(across**2 + down**2) / (2 * sigma**2))
                        expected *= confidence if weighted else 1.0
                    assert found[b, k, i, j].item() == pytest.approx(expected, abs=1e-12)


def test_a_joint_in_the_middle_of_a_cell_has_its_confidence_there():
    points = torch.zeros(17, 3)
    points[5] = torch.tensor([5.5, 9.5, 0.25])  # of 12 x 24 pixels; cells of 4 x 4 pixels
    maps = heat_maps(points, (24, 12), (6, 3))
    assert maps.shape == (17, 6, 3)
    assert maps[5, 2, 1].item() == 0.25 == maps.max().item()
    assert maps.sum(dim=(1, 2)).nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keypoints": torch.zeros(16, 3)}, r"\(\.\.\., 17, 3\); got \(16, 3\)"),
        ({"keypoints": torch.zeros(17, 3, dtype=torch.int64)}, "floating-point"),
        ({"image_size": (0, 4)}, "image_size is height and width"),
        ({"map_size": (4,)}, "map_size is height and width"),
        ({"sigma": 0}, "sigma is above 0"),
    ],
)
def test_wrong_arguments_of_heat_maps_are_told(change, words):
    given_ = {"keypoints": torch.zeros(17, 3), "image_size": (4, 4), "map_size": (4, 4), **change}
    with pytest.raises(UserError, match=words):
        heat_maps(**given_)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60))
def test_mirroring_twice_changes_nothing(height, width):
    points = some_points(3, size=(height, width)).double()
    motion = Motion.mirror((height, width))
    assert torch.allclose(moved(moved(points, motion), motion), points)


def test_heat_maps_of_mirrored_points_are_the_mirrored_heat_maps():
    points = some_points(2)
    batch = {"images": torch.rand(2, 3, 24, 12), "keypoints": points, "targets": [1, 2]}
    mirrored = mirrored_batch(batch)
    assert torch.equal(mirrored["images"], batch["images"].flip(3))
    maps = heat_maps(points, (24, 12), (8, 5))
    expected = maps.flip(3)[:, list(OTHER_SIDE)]
    assert torch.allclose(heat_maps(mirrored["keypoints"], (24, 12), (8, 5)), expected, atol=1e-6)
    assert torch.equal(batch["keypoints"], points) and mirrored["targets"] == [1, 2]
    assert set(mirrored_batch({"images": batch["images"]})) == {"images"}


def test_what_leaves_the_image_is_unknown():
    points = torch.zeros(17, 3)
    points[:, 2] = 1.0
    points[:6, 0] = torch.tensor([-0.4, 11.4, 11.5, -0.6, 0.0, 0.0])
    points[:6, 1] = torch.tensor([0.0, 0.0, 0.0, 0.0, 23.4, 23.6])
    found = moved(points, Motion.shift(0, 0, (24, 12)))[:6]
    assert found[:, 2].tolist() == [1, 1, 0, 0, 1, 0]
    assert torch.allclose(found[:, :2], points[:6, :2], atol=1e-6)


def test_a_batch_without_key_points_names_the_key():
    with pytest.raises(UserError, match="SPOT needs key points.*INPUT.KEYPOINTS.READ"):
        keypoints_of({"images": None}, "SPOT")
    assert keypoints_of({"keypoints": 5}, "SPOT") == 5
