"""One rendered image: geometry by hand, seeding, key points, masks."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from vireid_plugins.synthvi.person.identity import sample_identity
from vireid_plugins.synthvi.person.pose import make_skeleton, view_rotation
from vireid_plugins.synthvi.person.shapes import Tube, capsule, head_patch
from vireid_plugins.synthvi.place.camera import View, make_camera
from vireid_plugins.synthvi.place.domains import DOMAINS, REGDB, SYSU
from vireid_plugins.synthvi.render import render_image
from vireid_plugins.synthvi.seeding import Stream, generator

SIZE = (96, 48)
CAMERAS = [make_camera(SYSU, spec) for spec in SYSU.cameras]
X, Y, Z = np.eye(3)


def draw(number=1, camera=0, frame=0, seed=0, difficulty=1.0):
    person = sample_identity(seed, SYSU, number)
    return render_image(seed, SYSU, person, CAMERAS[camera], frame, SIZE, difficulty)


# --- geometry


def test_projection_by_hand():
    # Camera 8 m away, level, cutting out 2 m: 96 pixels are 2 m, so 48 pixels per meter.
    view = View(view_rotation(0.0, 0.0), np.zeros(3), 8.0, (0.0, -1.0, 2.0), 0.0)
    points = np.array([[0.0, 0.0, 0.0], [0.5, 0.25, 0.0], [0.0, 1.0, 4.0]])
    # x: 48 / 2 - 0.5 = 23.5, + 0.5 * 48; y: 1 m below the top edge = 48 - 0.5, - 0.25 * 48;
    # the third stands half way to the camera, so it looks twice as high: 2 m -> y = -48.5
    expected = [[23.5, 47.5], [47.5, 35.5], [23.5, -48.5]]
    np.testing.assert_allclose(view.project(points, 96, 48), expected, atol=1e-9)


def test_a_quarter_turn_brings_the_front_to_the_right_edge():
    turned = view_rotation(math.pi / 2, 0.0) @ Z
    np.testing.assert_allclose(turned, X, atol=1e-12)


def test_a_raised_camera_sees_near_ground_lower():
    # looking down by p: a point 1 m toward the camera drops by sin(p)
    np.testing.assert_allclose((view_rotation(0.0, 0.3) @ Z)[1], -math.sin(0.3), atol=1e-12)


def test_capsule_has_the_area_of_its_formula():
    # straight limb of length 2 and radius 0.5: 2 * 1 + pi / 4, less the corners of the polygon
    outline = capsule(np.zeros(3), 2.0 * X, 0.5, 0.5, steps=64)
    area = cv2.contourArea(outline[:, :2].astype(np.float32))
    assert area == pytest.approx(2.0 + math.pi * 0.25, rel=1e-3)


@pytest.mark.parametrize("yaw", [0.0, 0.7, math.pi / 2, 2.5, math.pi])
def test_tube_is_as_wide_as_its_ellipse(yaw):
    # an upright elliptic cylinder with half axes a, b: half width sqrt((a cos)^2 + (b sin)^2)
    axes = np.eye(3) @ view_rotation(yaw, 0.0).T
    tube = Tube([np.zeros(3), Y], [0.3, 0.3], [0.1, 0.1], axes[0], axes[2])
    half = math.hypot(0.3 * math.cos(yaw), 0.1 * math.sin(yaw))
    outline = tube.outline()
    assert outline[:, 0].max() == pytest.approx(half, rel=1e-9)
    assert outline[:, 0].min() == pytest.approx(-half, rel=1e-9)


@pytest.mark.parametrize("yaw", np.linspace(0.1, 6.1, 9))
@pytest.mark.parametrize("angle", [0.0, math.pi / 2, math.pi, 3 * math.pi / 2])
def test_a_strip_stays_where_it_is_on_the_body(yaw, angle):
    # brute force: the point of the ellipse at body angle `angle`, seen if it faces the camera
    axes = np.eye(3) @ view_rotation(yaw, 0.0).T
    tube = Tube([np.zeros(3), Y], [0.3, 0.3], [0.1, 0.1], axes[0], axes[2])
    at = 0.3 * math.cos(angle) * axes[0] + 0.1 * math.sin(angle) * axes[2]
    normal = math.cos(angle) / 0.3 * axes[0] + math.sin(angle) / 0.1 * axes[2]
    half = 1e-3
    t0, t1 = tube.visible_range(angle, half)
    assert (t1 > t0) == (normal[2] > 0)
    if t1 - t0 == pytest.approx(2 * half):
        np.testing.assert_allclose(tube.arc(0.0, t0, t1, 2)[1], at, atol=1e-6)


def test_a_face_turned_away_is_not_drawn():
    radii = np.array([0.1, 0.12, 0.1])
    toward = head_patch(np.zeros(3), radii, np.eye(3), 1.2, -1.4, 0.5)
    away = head_patch(np.zeros(3), radii, np.eye(3) @ view_rotation(math.pi, 0.0).T, 1.2, -1.4, 0.5)
    assert len(toward) > 6
    assert len(away) == 0


def test_bones_keep_their_length_and_feet_the_ground():
    person = sample_identity(0, SYSU, 3)
    for moment in range(20):
        joints = make_skeleton(person.body, person.gait, generator(moment), 1.0).joints
        half = person.body.hip_height / 2
        for side in ("left", "right"):
            thigh = np.linalg.norm(joints[f"{side}_knee"] - joints[f"{side}_hip"])
            upper_arm = np.linalg.norm(joints[f"{side}_elbow"] - joints[f"{side}_shoulder"])
            assert thigh == pytest.approx(1.02 * half, rel=1e-6)
            assert upper_arm == pytest.approx(person.body.arm, rel=1e-6)
        assert min(joints["left_heel"][1], joints["right_heel"][1]) == pytest.approx(0.0, abs=1e-9)
        assert joints["left_hip"][0] > joints["right_hip"][0]  # x points to the person's left
        assert joints["nose"][2] > joints["head"][2]


# --- seeding


def test_streams_differ_and_repeat():
    first = generator(0, 1, Stream.POSE, 5).integers(0, 2**31, 8)
    assert np.array_equal(first, generator(0, 1, Stream.POSE, 5).integers(0, 2**31, 8))
    assert not np.array_equal(first, generator(0, 1, Stream.VIEW, 5).integers(0, 2**31, 8))
    with pytest.raises(ValueError, match=">= 0"):
        generator(0, -1)


def test_an_image_does_not_depend_on_what_was_drawn_before():
    alone = draw(number=2, camera=3, frame=1)
    draw(number=1), draw(number=4, camera=5)
    again = draw(number=2, camera=3, frame=1)
    assert np.array_equal(alone.image, again.image)
    assert np.array_equal(alone.mask, again.mask)
    assert np.array_equal(alone.keypoints, again.keypoints)


@pytest.mark.parametrize("change", [{"number": 3}, {"camera": 4}, {"frame": 1}, {"seed": 1}])
def test_every_part_of_the_key_changes_the_image(change):
    base = draw(number=2, camera=3, frame=0)
    other = draw(**{"number": 2, "camera": 3, "frame": 0, **change})
    assert np.abs(base.image.astype(int) - other.image.astype(int)).mean() > 4


def test_twin_cameras_see_other_moments():
    # all but the number equal: the same optics and place, but not the same step of the walk
    camera = CAMERAS[3]
    twin = replace(camera, spec=replace(camera.spec, number=9))
    person = sample_identity(0, SYSU, 2)
    first, second = (render_image(0, SYSU, person, c, 0, SIZE).keypoints for c in (camera, twin))
    assert np.abs(first - second)[:, :2].mean() > 0.5


# --- images


@pytest.mark.parametrize("name", DOMAINS)
def test_every_camera_of_every_domain_renders(name):
    domain = DOMAINS[name]
    person = sample_identity(0, domain, 1)
    for spec in domain.cameras:
        rendered = render_image(0, domain, person, make_camera(domain, spec), 0, (64, 32))
        assert rendered.image.shape == (64, 32, 3)
        assert rendered.image.dtype == np.uint8
        assert rendered.image.std() > 5
        equal = (rendered.image == rendered.image[..., :1]).all()
        assert equal == (spec.band != "visible")


def test_visible_joints_lie_on_the_person():
    inside = total = 0
    for number in range(1, 9):
        for camera in range(6):
            rendered = draw(number=number, camera=camera)
            near = cv2.dilate(rendered.mask.astype(np.uint8), np.ones((3, 3), np.uint8))
            for x, y, seen in rendered.keypoints:
                if seen:
                    total += 1
                    inside += int(near[int(round(y)), int(round(x))])
    assert total > 8 * 6 * 8  # about half of all joints are seen
    assert inside / total > 0.97


def test_masks_cover_a_person_not_the_picture():
    shares = [draw(number=n, camera=c).mask.mean() for n in range(1, 7) for c in range(6)]
    assert 0.10 < min(shares) and max(shares) < 0.75


def test_the_mask_separates_person_from_background():
    # the same moment of another seed's scene: in thermal images skin and clothes outshine the place
    camera = make_camera(REGDB, REGDB.cameras[1])
    rendered = render_image(0, REGDB, sample_identity(0, REGDB, 1), camera, 0, SIZE)
    gray = rendered.image[..., 0].astype(float)
    assert gray[rendered.mask].mean() > gray[~rendered.mask].mean() + 20


def test_difficulty_spreads_the_images_of_a_person():
    def spread(difficulty):
        images = [draw(2, 3, frame, difficulty=difficulty).image for frame in range(6)]
        return np.std(images, axis=0).mean()

    tidy, designed = spread(0.1), spread(1.0)
    assert designed > 1.5 * tidy
