"""SynthVI is hard in the right way: in its free form, the modalities share nothing but shape.

In the linked form, gray levels help to match people across the modalities, but not far.

Oracle: chance. Pictures come from memory; no network is trained here.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vireid_plugins.synthvi.person.dyes import FREE, LINKED
from vireid_plugins.synthvi.person.identity import sample_identity
from vireid_plugins.synthvi.person.looks import Material
from vireid_plugins.synthvi.place.camera import make_camera
from vireid_plugins.synthvi.place.domains import SYSU
from vireid_plugins.synthvi.render import render_image

SEEDS, PEOPLE = (0, 1, 2), 24  # luck is per person, so many people
CHANCE = 100.0 / PEOPLE
VISIBLE = tuple(s.number for s in SYSU.cameras if s.band == "visible")
INFRARED = tuple(s.number for s in SYSU.cameras if s.band == "infrared")
MANY = 800
GARMENTS = (
    Material.UPPER,
    Material.LOWER,
    Material.SHOES,
    Material.BAG,
    Material.HAIR,
    Material.HEADWEAR,
    Material.INNER,
    Material.SCARF,
)


@pytest.fixture(scope="module")
def pictures():
    """Return the images of everybody in three separate worlds, by (seed, identity, camera)."""
    cameras = [make_camera(SYSU, spec) for spec in SYSU.cameras]
    drawn = {}
    for seed in SEEDS:
        for number in range(1, PEOPLE + 1):
            person = sample_identity(seed, SYSU, number, FREE)
            for camera in cameras:
                rendered = render_image(seed, SYSU, person, camera, 0, (96, 48))
                drawn[seed, number, camera.spec.number] = rendered.image
    return drawn


def normalized(values):
    values = values.astype(float).ravel() - values.mean()
    return values / np.linalg.norm(values)


def raw_pixels(image):
    return normalized(cv2.resize(image, (12, 24), interpolation=cv2.INTER_AREA))


def raw_gray(image):
    return raw_pixels(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


def stripe_colors(image):
    stripes = np.array_split(image[:, 14:34].astype(float), 8)
    return normalized(np.stack([stripe.mean(axis=(0, 1)) for stripe in stripes]))


def rank1_in_world(pictures, seed, feature, query_cameras, gallery_cameras):
    """Return rank-1 in percent within one seed.

    A camera is never compared with itself or with the other camera in the same place.
    """
    queries = [(n, c) for n in range(1, PEOPLE + 1) for c in query_cameras]
    gallery = [(n, c) for n in range(1, PEOPLE + 1) for c in gallery_cameras]
    similarity = (
        np.stack([feature(pictures[(seed, *query)]) for query in queries])
        @ np.stack([feature(pictures[(seed, *item)]) for item in gallery]).T
    )
    for row, (_, camera) in enumerate(queries):
        for column, (_, other) in enumerate(gallery):
            if camera == other or {camera, other} == {2, 3}:
                similarity[row, column] = -np.inf
    found = [gallery[best][0] for best in similarity.argmax(axis=1)]
    return 100.0 * np.mean([number == n for number, (n, _) in zip(found, queries)])


def rank1(pictures, feature, query_cameras, gallery_cameras):
    """Return the mean of rank-1, in percent, over the worlds."""
    cameras = (query_cameras, gallery_cameras)
    return np.mean([rank1_in_world(pictures, seed, feature, *cameras) for seed in SEEDS])


FEATURES = (raw_pixels, raw_gray, stripe_colors)
DIRECTIONS = ((INFRARED, VISIBLE), (VISIBLE, INFRARED))


@pytest.mark.slow
def test_pixels_across_modalities_are_near_chance(pictures):
    # the silhouette is shared on purpose, so not chance itself: on the mean over features and
    # directions at most 2.5 times; within a modality it is about 10 times
    scores = [rank1(pictures, f, *direction) for f in FEATURES for direction in DIRECTIONS]
    assert np.mean(scores) < 2.5 * CHANCE
    assert max(scores) < 4 * CHANCE


@pytest.mark.slow
def test_linked_pixels_across_modalities_are_far_from_enough(pictures):
    linked = dict(pictures)
    for spec in (spec for spec in SYSU.cameras if spec.band == "infrared"):  # days do not change
        camera = make_camera(SYSU, spec)
        for seed in SEEDS:
            for number in range(1, PEOPLE + 1):
                person = sample_identity(seed, SYSU, number, LINKED)
                image = render_image(seed, SYSU, person, camera, 0, (96, 48)).image
                linked[seed, number, spec.number] = image
    scores = [rank1(linked, f, *direction) for f in FEATURES for direction in DIRECTIONS]
    within = [rank1(linked, f, band, band) for f in FEATURES for band in (VISIBLE, INFRARED)]
    assert 1.5 * CHANCE < np.mean(scores) < 4 * CHANCE
    assert max(scores) < 5 * CHANCE and min(within) > 2 * np.mean(scores)


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("band", [VISIBLE, INFRARED], ids=["visible", "infrared"])
def test_pixels_within_a_modality_match_much_better(pictures, feature, band):
    within = rank1(pictures, feature, band, band)
    across = np.mean([rank1(pictures, feature, *direction) for direction in DIRECTIONS])
    assert within > 6 * CHANCE
    assert within > 4 * across


@pytest.fixture(scope="module")
def crowd():
    return [sample_identity(7, SYSU, number, FREE) for number in range(1, MANY + 1)]


@pytest.mark.parametrize("material", GARMENTS, ids=lambda m: m.name.lower())
def test_visible_color_predicts_no_infrared_reflectance(crowd, material):
    visible = np.stack([person.looks["visible"][material] for person in crowd])
    infrared = np.array([person.looks["infrared"][material][0] for person in crowd])
    # the correlation of independent draws has standard deviation 1 / sqrt(n)
    for channel in range(3):
        assert abs(np.corrcoef(visible[:, channel], infrared)[0, 1]) < 4 / np.sqrt(MANY)
    # neither does any linear mix of the whole visible table: R^2 of p noise columns is about p / n
    table = np.stack([person.looks["visible"][1:14].ravel() for person in crowd])
    table = np.concatenate([table - table.mean(0), np.ones((MANY, 1))], axis=1)
    half = MANY // 2
    weights = np.linalg.lstsq(table[:half], infrared[:half], rcond=None)[0]
    error = np.mean((table[half:] @ weights - infrared[half:]) ** 2)
    assert error > 0.95 * infrared[half:].var()


def test_infrared_reflectances_differ_within_a_person(crowd):
    # upper and lower must be drawn apart too, or one number would name a person
    upper = [person.looks["infrared"][Material.UPPER][0] for person in crowd]
    lower = [person.looks["infrared"][Material.LOWER][0] for person in crowd]
    assert abs(np.corrcoef(upper, lower)[0, 1]) < 4 / np.sqrt(MANY)
    assert np.std(upper) > 0.2


def test_patterns_show_in_the_bands_they_say(crowd):
    shown = {"both": (True, True), "visible": (True, False), "infrared": (False, True)}
    seen_bands = set()
    for person in crowd:
        band = person.upper.pattern.band
        seen_bands.add(band)
        for name, expected in zip(("visible", "infrared"), shown[band]):
            look = person.looks[name]
            differs = np.abs(look[Material.UPPER_PATTERN] - look[Material.UPPER]).max() > 1e-6
            assert differs == expected
    assert seen_bands == set(shown)
