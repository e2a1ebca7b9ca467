"""Near infrared follows the visible colors as the dyes say, and nothing else moves.

Oracles: the rules of the dyes, written out here; for the free form, hashes and gray levels that
commit 10f5e72 gave, which is from before the dyes.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from vireid_plugins.errors import UserError
from vireid_plugins.synthvi.link import LUMINANCE, measure_link, seen_patterns
from vireid_plugins.synthvi.person.dyes import (
    FREE,
    LINKED,
    NAMED_SHARES,
    DyeShares,
    dye_shares,
)
from vireid_plugins.synthvi.person.identity import sample_identity
from vireid_plugins.synthvi.person.looks import (
    DETAILS,
    GARMENTS,
    PRINTED,
    WOVEN,
    Material,
)
from vireid_plugins.synthvi.place.camera import make_camera
from vireid_plugins.synthvi.place.domains import DOMAINS, SYSU
from vireid_plugins.synthvi.render import render_image

PEOPLE = 120
# the dense share grows, and the rest is split 3:2 between clear and free
GROWING = ("0,0.6,0.4", "0.25,0.45,0.3", "0.5,0.3,0.2", "0.75,0.15,0.1", "1,0,0")
PATTERNS = {"upper": Material.UPPER_PATTERN, "lower": Material.LOWER_PATTERN}


@pytest.fixture(scope="module")
def crowds():
    """Return the same people under each choice of dyes."""
    choices = ("free", "clear", *GROWING)
    return {
        choice: [sample_identity(3, SYSU, n, dye_shares(choice)) for n in range(1, PEOPLE + 1)]
        for choice in choices
    }


def shades(crowd, band="infrared"):
    """Return red, or gray, of every surface of everybody: (people, 16)."""
    return np.stack([person.looks[band][:, 2] for person in crowd]).astype(float)


def wears(person, dye, materials=GARMENTS):
    """Return the surfaces of a person that have a dye."""
    return [m for m in materials if person.dyes[m.name.lower()] == dye]


# --- the form from before


# sha256 of the looks of people 1-40 under seeds 0, 1, 7, in units of 1e-5, by layout
LOOKS_BEFORE = {
    "sysu": "35a4401b37a83e65",
    "regdb": "af051e05c4f952b4",
    "llcm": "3773dbb620cdf775",
    "market": "71e55d08ef8f15cc",
    "duke": "9296357410f3162a",
}
# layout, index of a camera: gray levels of 6 x 3 tiles of person 1's first image, seed 0
TILES_BEFORE = {
    ("sysu", 2): [70.3, 104.6, 65.2, 77.4, 140.0, 82.6, 83.8, 143.8, 81.7]
    + [78.8, 140.0, 85.4, 76.6, 102.2, 71.9, 68.2, 87.9, 64.7],
    ("regdb", 1): [69.0, 99.7, 61.2, 70.7, 111.1, 69.7, 74.4, 91.5, 80.4]
    + [73.4, 97.4, 89.5, 69.1, 128.7, 77.6, 69.2, 82.8, 75.5],
    ("llcm", 9): [56.9, 122.7, 47.4, 92.7, 123.8, 74.8, 95.9, 120.7, 73.1]
    + [85.2, 119.7, 73.8, 64.5, 107.1, 48.0, 54.0, 69.4, 43.4],
}


@pytest.mark.parametrize("layout", LOOKS_BEFORE)
def test_the_free_form_is_what_it_was(layout):
    found = hashlib.sha256()
    for seed in (0, 1, 7):
        for number in range(1, 41):
            looks = sample_identity(seed, DOMAINS[layout], number, FREE).looks
            for band in ("visible", "infrared", "thermal"):
                found.update(np.round(looks[band] * 1e5).astype("<i4").tobytes())
    assert found.hexdigest()[:16] == LOOKS_BEFORE[layout]


@pytest.mark.parametrize("layout, index", TILES_BEFORE)
def test_free_images_are_what_they_were(layout, index):
    domain = DOMAINS[layout]
    camera = make_camera(domain, domain.cameras[index])
    image = render_image(0, domain, sample_identity(0, domain, 1, FREE), camera, 0, (96, 48)).image
    tiles = image[..., 0].reshape(6, 16, 3, 16).mean(axis=(1, 3)).ravel()
    np.testing.assert_allclose(tiles, TILES_BEFORE[layout, index], atol=2)  # other machines


# --- nothing else moves


@pytest.mark.parametrize("choice", ["free", "clear", "1,0,0"])
def test_other_dyes_change_no_day(crowds, choice):
    for person, other in zip(crowds["0.5,0.3,0.2"], crowds[choice]):
        assert np.array_equal(person.looks["visible"], other.looks["visible"])
        nothing = {"looks": {}, "dyes": {}}
        assert replace(person, **nothing) == replace(other, **nothing)


def test_other_dyes_change_infrared_pixels_of_the_person_only():
    shapes, people = [], [sample_identity(0, SYSU, 2, dye_shares(c)) for c in ("1,0,0", "clear")]
    for spec in SYSU.cameras[:3]:
        dense, clear = (
            render_image(0, SYSU, person, make_camera(SYSU, spec), 0, (64, 32)) for person in people
        )
        assert np.array_equal(dense.keypoints, clear.keypoints)
        assert np.array_equal(dense.mask, clear.mask)
        assert np.array_equal(dense.materials, clear.materials)
        shapes.append(np.array_equal(dense.image, clear.image))
        away = np.ones((64, 32), bool)
        away[:, 4:28] = False
        assert np.array_equal(dense.image[away], clear.image[away])
    assert shapes == [True, True, False]  # two visible cameras, one infrared


def test_the_same_shares_give_the_same_night(crowds):
    again = sample_identity(3, SYSU, 5, LINKED)
    assert again.dyes == crowds["0.5,0.3,0.2"][4].dyes
    assert np.array_equal(again.looks["infrared"], crowds["0.5,0.3,0.2"][4].looks["infrared"])


# --- who has which dye


def test_shares_are_kept(crowds):
    for choice in GROWING:
        shares = dye_shares(choice)
        for dye in ("dense", "clear", "free"):
            share, draws = getattr(shares, dye), PEOPLE * len(GARMENTS)
            found = sum(len(wears(person, dye)) for person in crowds[choice]) / draws
            assert abs(found - share) <= 4 * np.sqrt(share * (1 - share) / draws)


def test_a_growing_dense_share_changes_garments_to_dense_only(crowds):
    for fewer, more in zip(GROWING, GROWING[1:]):
        changed = 0
        for person, other in zip(crowds[fewer], crowds[more]):
            for name, dye in person.dyes.items():
                assert other.dyes[name] in (dye, "dense")
                changed += other.dyes[name] != dye
        assert changed > PEOPLE / 2


def test_a_garment_that_keeps_its_dye_keeps_its_shade(crowds):
    for person, other in zip(crowds["0.25,0.45,0.3"], crowds["0.75,0.15,0.1"]):
        for material in GARMENTS:
            name = material.name.lower()
            if person.dyes[name] == other.dyes[name]:
                pair = (one.looks["infrared"][material] for one in (person, other))
                assert np.array_equal(*pair)


def test_dyes_know_nothing_of_colors(crowds):
    crowd = crowds["0.5,0.3,0.2"]
    red = shades(crowd, "visible")[:, 1:13]
    dense = np.array([[dye == "dense" for dye in person.dyes.values()] for person in crowd])
    table = np.corrcoef(red.T, dense.T.astype(float))[:12, 12:]
    assert np.abs(table).max() < 5 / np.sqrt(PEOPLE)


# --- what each dye shows


def test_clear_cloth_is_bright_whatever_its_color(crowds):
    grays, reds = [], []
    for person in crowds["0.5,0.3,0.2"]:
        for material in wears(person, "clear"):
            grays.append(person.looks["infrared"][material, 0])
            reds.append(person.looks["visible"][material, 2])
    assert 0.55 - 1e-6 <= min(grays) and max(grays) <= 0.9 + 1e-6
    assert abs(np.corrcoef(grays, reds)[0, 1]) < 4 / np.sqrt(len(grays))


def test_dense_cloth_has_the_brightness_of_red(crowds):
    errors = []
    for person in crowds["0.5,0.3,0.2"]:
        for material in wears(person, "dense"):
            error = person.looks["infrared"][material, 0] - person.looks["visible"][material, 2]
            errors.append(error)
    assert abs(np.mean(errors)) < 0.02 and 0.02 < np.std(errors) < 0.06


def test_free_cloth_has_the_shade_of_the_free_form(crowds):
    for person, old in zip(crowds["0.5,0.3,0.2"], crowds["free"]):
        for material in wears(person, "free", (*GARMENTS, *PATTERNS.values())):
            pair = (one.looks["infrared"][material] for one in (person, old))
            assert np.array_equal(*pair)


def test_woven_patterns_have_the_dye_of_their_cloth(crowds):
    for person in crowds["0.5,0.3,0.2"]:
        for name in PATTERNS:
            if getattr(person, name).pattern.kind in WOVEN:
                assert person.dyes[f"{name}_pattern"] == person.dyes[name]


def test_patterns_in_a_clear_dye_vanish(crowds):
    vanished = 0
    for person in crowds["0.5,0.3,0.2"]:
        for name, pattern in PATTERNS.items():
            if getattr(person, name).pattern.kind in WOVEN + PRINTED:
                shown = person.looks["infrared"]
                same = np.array_equal(shown[pattern], shown[DETAILS[pattern]])
                clear = person.dyes[f"{name}_pattern"] == "clear"
                vanished += clear
                assert same or not clear
    assert vanished > 10


def test_dense_patterns_keep_their_contrast_of_red(crowds):
    for person in crowds["1,0,0"]:
        for name, pattern in PATTERNS.items():
            red, gray = person.looks["visible"][:, 2], person.looks["infrared"][:, 0]
            cloth, inside = DETAILS[pattern], (0.03, 0.95)
            limited = any(gray[m] <= inside[0] or gray[m] >= inside[1] for m in (pattern, cloth))
            if getattr(person, name).pattern.kind in WOVEN and not limited:
                day, night = red[pattern] - red[cloth], gray[pattern] - gray[cloth]
                assert night == pytest.approx(day, abs=1e-5)


def test_dense_prints_stay_on_clear_cloth():
    shares, seen = dye_shares("0.5,0.5,0"), []
    for number in range(1, 400):
        person = sample_identity(3, SYSU, number, shares)
        if person.dyes["upper"] == "clear" and person.dyes["upper_pattern"] == "dense":
            look = person.looks["infrared"][:, 0]
            red = person.looks["visible"][Material.UPPER_PATTERN, 2]
            assert abs(look[Material.UPPER_PATTERN] - red) < 0.25
            seen.append(abs(look[Material.UPPER_PATTERN] - look[Material.UPPER]))
    assert len(seen) > 20 and np.mean(seen) > 0.25


def test_thermal_images_show_no_patterns(crowds):
    differ = {"free": 0, "0.5,0.3,0.2": 0}
    for choice in differ:
        for person in crowds[choice]:
            look = person.looks["thermal"]
            differ[choice] += sum(np.any(look[p] != look[DETAILS[p]]) for p in PATTERNS.values())
    assert differ["free"] > PEOPLE and differ["0.5,0.3,0.2"] == 0
    without = [m for m in range(16) if m not in PATTERNS.values()]
    for person, old in zip(crowds["0.5,0.3,0.2"], crowds["free"]):
        assert np.array_equal(person.looks["thermal"][without], old.looks["thermal"][without])


def test_skin_and_hair_are_brighter_than_in_red_and_keep_their_order(crowds):
    day, night = shades(crowds["0.5,0.3,0.2"], "visible"), shades(crowds["0.5,0.3,0.2"])
    for material, least in ((Material.SKIN, 0.6), (Material.HAIR, 0.9)):
        assert np.mean(night[:, material] - day[:, material]) > 0.05
        assert np.corrcoef(day[:, material], night[:, material])[0, 1] > least
    assert night[:, Material.SKIN].min() > 0.4


def test_melanin_by_hand(crowds):
    # red 0.2: (1 - 0.2)^2 / 0.4 = 1.6; times 0.41 = 0.656; 1.656 - sqrt(0.656^2 + 1.312) = 0.3364
    brown = [p for p in crowds["1,0,0"] if abs(p.looks["visible"][Material.HAIR, 2] - 0.2) < 0.01]
    assert len(brown) > 5
    mean = np.mean([p.looks["infrared"][Material.HAIR, 0] for p in brown])
    assert mean == pytest.approx(0.336, abs=4 * 0.03 / np.sqrt(len(brown)) + 0.01)


# --- how strong the link is


def test_the_link_grows_with_the_dense_share(crowds):
    strength = []
    for choice in GROWING:
        red, gray = shades(crowds[choice], "visible"), shades(crowds[choice])
        strength.append(np.corrcoef(red[:, GARMENTS].ravel(), gray[:, GARMENTS].ravel())[0, 1])
    draws = PEOPLE * len(GARMENTS)
    assert abs(strength[0]) < 4 / np.sqrt(draws)
    assert all(more > less + 0.1 for less, more in zip(strength, strength[1:]))
    assert strength[-1] > 0.97


def test_fewer_patterns_are_seen_at_night_the_more_dyes_are_clear(crowds):
    # clear patterns vanish but for panels; dense ones stay unless they differ from red cloth in hue
    assert seen_patterns(crowds["1,0,0"]) > 95
    assert seen_patterns(crowds["clear"]) < 25
    assert seen_patterns(crowds["clear"]) < seen_patterns(crowds["0.5,0.3,0.2"]) < 90


@pytest.mark.slow
def test_the_link_is_measured_in_images():
    free, linked, dense = measure_link(["free", "linked", (1, 0, 0)], people=20)
    assert [row["infrared"] for row in (free, linked, dense)] == ["0,0,1", "0.5,0.3,0.2", "1,0,0"]
    assert abs(free["red"]) < 0.35 < linked["red"] < 0.8 < dense["red"]
    assert dense["luminance"] < dense["red"]
    assert dense["hair"] > 0.9 and abs(free["hair"]) < 0.6


def test_luminance_is_opencvs_of_blue_green_red():
    colors = np.random.default_rng(0).random((7, 1, 3), dtype=np.float32)
    expected = cv2.cvtColor(colors, cv2.COLOR_BGR2GRAY)[:, 0]
    np.testing.assert_allclose(colors[:, 0] @ LUMINANCE, expected, atol=1e-5)


# --- words and numbers


@pytest.mark.parametrize(
    "choice, shares",
    [
        ("free", FREE),
        (" Free ", FREE),
        ("linked", LINKED),
        ("dense", DyeShares(1, 0, 0)),
        ("0.5,0.3,0.2", DyeShares(0.5, 0.3, 0.2)),
        ("0.5, 0.3, 0.2", DyeShares(0.5, 0.3, 0.2)),
        (".25 .45 .3", DyeShares(0.25, 0.45, 0.3)),
        ((0, 0, 1), FREE),
        (np.array([0.1, 0.2, 0.7]), DyeShares(0.1, 0.2, 0.7)),
        (DyeShares(0.5, 0.3, 0.2), LINKED),
        ("0.333333,0.333333,0.333334", DyeShares(0.333333, 0.333333, 0.333334)),
    ],
)
def test_shares_are_read(choice, shares):
    assert dye_shares(choice) == shares


@pytest.mark.parametrize(
    "choice, named",
    [
        ("dens", "'dens'"),
        ("", "three numbers"),
        ("0.5,0.3", "three numbers"),
        ("0.5,0.3,0.1,0.1", "three numbers"),
        ("50,30,20", "0-1"),
        ("-0.5,1,0.5", "0-1"),
        ("nan,0,1", "0-1"),
        ("0.5,0.5,0.5", "sum is 1.5"),
        ((0.2, 0.2, 0.2), "sum is 0.6"),
        (0.5, "three numbers"),
        (None, "three numbers"),
        (("a", 0, 1), "three numbers"),
        (DyeShares(0.5, 0.5, 0.5), "sum is 1.5"),
    ],
)
def test_wrong_shares_are_named(choice, named):
    with pytest.raises(UserError, match=named):
        dye_shares(choice)


def test_named_shares_are_shares():
    for shares in NAMED_SHARES.values():
        assert dye_shares(str(shares)) == shares == dye_shares(shares)
