"""Measure, in rendered images, how the infrared brightness of cloth is linked to its color."""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import numpy as np

from .person.dyes import DyeShares, InfraredChoice, dye_shares
from .person.identity import Identity, sample_identity
from .person.looks import DETAILS, Material
from .place.camera import make_camera
from .place.domains import DOMAINS, CameraSpec
from .render import render_image

CLOTH = (Material.UPPER, Material.LOWER, Material.SHOES, Material.BAG, Material.HEADWEAR)
BODY = (Material.SKIN, Material.HAIR)
PATTERNS = (Material.UPPER_PATTERN, Material.LOWER_PATTERN)
LEAST_PIXELS = 8  # of a surface in an image, for its mean to count
LEAST_CONTRAST = 0.1  # of a pattern to its cloth, for it to be seen; intensities are 0-1
LUMINANCE = np.array([0.114, 0.587, 0.299])  # of blue, green, red (ITU-R BT.601)
SIZE = (96, 48)
Means = Dict[Material, np.ndarray]


def measure_link(
    choices: Sequence[InfraredChoice], people: int = 200, seed: int = 0
) -> List[Dict[str, object]]:
    """Return one row for each of ``choices`` of dyes, measured over the same people of SYSU-MM01.

    A person's surface has one color and one gray level: the means over its pixels in one image of
    each visible and of each infrared camera.

    Args:
        choices: see `dyes.dye_shares`.
        people: how many; they have numbers from 1.
        seed: of the people and places.

    Returns:
        Rows with 'infrared' (the shares); 'red' and 'luminance', the correlations with the gray
        level over all garments; 'upper', 'lower', 'shoes', 'bag', 'headwear', 'skin' and 'hair',
        the correlations of red there; and 'patterns', the percentage of the patterns seen by day
        that are seen in infrared too.
    """
    numbers = range(1, people + 1)
    # days are the same whatever the dyes are
    days = [_means(seed, sample_identity(seed, DOMAINS["sysu"], n), "visible") for n in numbers]
    return [_row(seed, days, dye_shares(choice)) for choice in choices]


def _row(seed: int, days: Sequence[Means], shares: DyeShares) -> Dict[str, object]:
    crowd = [sample_identity(seed, DOMAINS["sysu"], n + 1, shares) for n in range(len(days))]
    nights = [_means(seed, person, "infrared") for person in crowd]
    row: Dict[str, object] = {"infrared": str(shares)}
    colors, grays = _pairs(days, nights, CLOTH)
    row["red"] = _correlation(colors[:, 2], grays)
    row["luminance"] = _correlation(colors @ LUMINANCE, grays)
    for material in (*CLOTH, *BODY):
        colors, grays = _pairs(days, nights, (material,))
        row[material.name.lower()] = _correlation(colors[:, 2], grays)
    row["patterns"] = seen_patterns(crowd)
    return row


def seen_patterns(crowd: Sequence[Identity]) -> float:
    """Return the percentage of the patterns seen by day that are seen in infrared too."""
    seen = []
    for person in crowd:
        for pattern in PATTERNS:
            differ = {
                band: np.abs(look[pattern] - look[DETAILS[pattern]]).max() > LEAST_CONTRAST
                for band, look in person.looks.items()
            }
            if differ["visible"]:
                seen.append(differ["infrared"])
    return 100.0 * float(np.mean(seen))


def _means(seed: int, person: Identity, band: str) -> Means:
    """Return the mean color (3,) in 0-1 of each surface, over one image of each camera."""
    specs = [spec for spec in DOMAINS["sysu"].cameras if spec.band == band]
    found = [_in_image(seed, person, spec) for spec in specs]
    return {
        material: np.mean([one[material] for one in found], axis=0)
        for material in (*CLOTH, *BODY)
        if all(material in one for one in found)
    }


def _in_image(seed: int, person: Identity, spec: CameraSpec) -> Means:
    domain = DOMAINS["sysu"]
    rendered = render_image(seed, domain, person, make_camera(domain, spec), 0, SIZE)
    surfaces = {m: rendered.image[rendered.materials == m] for m in (*CLOTH, *BODY)}
    return {m: p.mean(axis=0) / 255 for m, p in surfaces.items() if len(p) >= LEAST_PIXELS}


def _pairs(
    days: Sequence[Means], nights: Sequence[Means], materials: Sequence[Material]
) -> Tuple[np.ndarray, np.ndarray]:
    pairs = [
        (day[material], night[material][0])
        for material in materials
        for day, night in zip(days, nights)
        if material in day and material in night
    ]
    return np.array([color for color, _ in pairs]), np.array([gray for _, gray in pairs])


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first, second)[0, 1])
