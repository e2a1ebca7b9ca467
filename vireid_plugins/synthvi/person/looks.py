"""Draw the shades of surfaces in each band, independently of their shape.

A table (16, 3) holds intensities in 0-1: a row for each `Material`, columns blue, green, red, which
are equal outside the visible band.

Each band is first drawn from its own random stream, so that none says anything about another: this
is the *free* form. In the *linked* form, near infrared then follows the visible colors as the dye
of each surface says (`dyes`), and skin and hair follow them too. A look by day is the same in every
form, and the infrared shade of a surface with a free dye is that of the free form.

What a pattern shows in near infrared, by its kind:

- Stripes and checks are woven of yarns in one dye, so they have the dye of their cloth.
- Dots and logos are printed: they have a dye of their own, on the cloth. A print of a dense pigment
  stays visible on a clear cloth; a clear one shows the cloth below it, whatever that is.
- Yokes, sleeves, hems and other panels are pieces of another cloth, with a dye and a fiber of their
  own; so are pockets and handles of bags.

In the linked form thermal images show no patterns, since they see no color and a pattern is as warm
as its cloth. Pockets and handles of bags stay: they are things of their own.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Callable, Dict, Tuple, TypeVar

import numpy as np

from ..place.domains import Domain
from ..seeding import Stream, generator
from .dyes import DyeShares, draw_dye

if TYPE_CHECKING:
    from .identity import Pattern

Shade = TypeVar("Shade", float, np.ndarray)


class Material(IntEnum):
    """Index of a surface in the color table of an image; 0 is the background."""

    BACKGROUND = 0
    SKIN = 1
    HAIR = 2
    UPPER = 3
    UPPER_PATTERN = 4
    INNER = 5
    LOWER = 6
    LOWER_PATTERN = 7
    SHOES = 8
    BAG = 9
    BAG_DETAIL = 10
    HEADWEAR = 11
    SCARF = 12
    EYES = 13
    OCCLUDER = 14
    OCCLUDER_DETAIL = 15


DETAILS = {
    Material.UPPER_PATTERN: Material.UPPER,
    Material.LOWER_PATTERN: Material.LOWER,
    Material.BAG_DETAIL: Material.BAG,
}
GARMENTS = (
    Material.UPPER,
    Material.INNER,
    Material.LOWER,
    Material.SHOES,
    Material.BAG,
    Material.HEADWEAR,
    Material.SCARF,
)
CONTRAST = 0.42  # smallest difference of brightness between a pattern and its cloth
WOVEN = ("hstripes", "vstripes", "check", "diagonal")
PRINTED = ("dots", "logo")
CLEAR_FIBER = (0.55, 0.9)  # near-infrared reflectance of cloth in a clear dye
DENSE_NOISE = 0.04  # deviation of a dense dye's near-infrared reflectance from that of red
MELANIN = 0.41  # melanin absorbs as wavelength ** -3.33 (Jacques, 1998): (850 nm / 650 nm) ** -3.33
MELANIN_NOISE = 0.03

Looks = Dict[str, np.ndarray]
Dyes = Dict[str, str]


def make_looks(
    seed: int, domain: Domain, number: int, upper: Pattern, lower: Pattern, shares: DyeShares
) -> Tuple[Looks, Dyes]:
    """Return the table of identity ``number`` in every band, and the dyes of its surfaces.

    Args:
        upper, lower: the patterns of both garments. In the free form a pattern has the shade of
            its cloth outside its ``band``; by day this is so in every form.
        shares: how frequent each dye is.

    Returns:
        The tables by band, and 'dense', 'clear' or 'free' by the name of each garment and pattern,
        in lower case.
    """
    key = (seed, domain.code)
    looks = {
        "visible": _visible_look(generator(*key, Stream.VISIBLE, number), domain),
        "infrared": _infrared_look(generator(*key, Stream.INFRARED, number)),
        "thermal": _thermal_look(generator(*key, Stream.THERMAL, number)),
    }
    patterns = {Material.UPPER_PATTERN: upper, Material.LOWER_PATTERN: lower}
    for name, look in looks.items():
        for material, pattern in patterns.items():
            if pattern.band != "both" and (name == "visible") != (pattern.band == "visible"):
                look[material] = look[DETAILS[material]]
    kinds = {material: pattern.kind for material, pattern in patterns.items()}
    rng = generator(*key, Stream.DYE, number)
    dyes = _draw_dyes(rng, kinds, shares)
    if shares.linked:
        _link_infrared(rng, looks, dyes, kinds)
        for material in patterns:
            looks["thermal"][material] = looks["thermal"][DETAILS[material]]
    return looks, {material.name.lower(): dye for material, dye in dyes.items()}


def _draw_dyes(
    rng: np.random.Generator, kinds: Dict[Material, str], shares: DyeShares
) -> Dict[Material, str]:
    dyes = {material: draw_dye(rng, shares) for material in (*GARMENTS, *DETAILS)}
    for material, kind in kinds.items():
        if kind in WOVEN:
            dyes[material] = dyes[DETAILS[material]]
    return dyes


def _link_infrared(
    rng: np.random.Generator, looks: Looks, dyes: Dict[Material, str], kinds: Dict[Material, str]
) -> None:
    """Let near infrared follow the visible colors; each surface takes the same draws always."""
    red, gray = looks["visible"][:, 2].astype(float), looks["infrared"][:, 0].astype(float)
    for material in (Material.SKIN, Material.HAIR):
        gray[material] = _through_melanin(red[material]) + MELANIN_NOISE * rng.normal()
    dense, clear = {}, {}
    for material in dyes:
        dense[material] = DENSE_NOISE * rng.normal()
        clear[material] = rng.uniform(*CLEAR_FIBER)
    for material, dye in dyes.items():
        cloth = DETAILS.get(material, material)
        kind = kinds.get(material, "")
        one_cloth = cloth if kind in WOVEN else material
        if dye == "dense":
            gray[material] = red[material] + dense[one_cloth]
        elif dye == "clear":
            gray[material] = gray[cloth] if kind in WOVEN + PRINTED else clear[material]
    seen = [Material.SKIN, Material.HAIR, *dyes]
    looks["infrared"][seen] = np.clip(gray[seen], 0.03, 0.95)[:, None]


def _through_melanin(red: float) -> float:
    """Return the near-infrared reflectance of skin or hair with this reflectance in red.

    By Kubelka and Munk (1931), absorption over scattering is (1 - R)^2 / 2R of the reflectance R.
    """
    red = min(max(red, 0.01), 0.99)
    absorption = MELANIN * (1 - red) ** 2 / (2 * red)
    return 1 + absorption - float(np.sqrt(absorption**2 + 2 * absorption))


def _visible_look(rng: np.random.Generator, domain: Domain) -> np.ndarray:
    look = np.zeros((16, 3), dtype=np.float32)
    look[Material.SKIN] = np.array([0.52, 0.66, 0.86]) * rng.uniform(0.4, 1.0)
    look[Material.HAIR] = _hair_color(rng)
    for material in GARMENTS:
        look[material] = _cloth_color(rng, domain)
    for detail, base in DETAILS.items():
        look[detail] = _contrasting(lambda: _cloth_color(rng, domain), look[base])
    look[Material.EYES] = 0.12
    return look


def _cloth_color(rng: np.random.Generator, domain: Domain) -> np.ndarray:
    if rng.random() < domain.neutral_share:
        gray = rng.choice((0.07, 0.16, 0.35, 0.6, 0.85))
        return np.clip(gray + rng.uniform(-0.04, 0.04, 3), 0.02, 0.95)
    hue = (rng.normal(domain.hue, 0.16) if rng.random() < 0.35 else rng.random()) % 1.0
    saturation, value = rng.uniform(0.25, 0.7), rng.uniform(0.25, 0.92)
    wheel = np.clip(np.abs((hue + np.array([1 / 3, 2 / 3, 0.0])) % 1.0 * 6 - 3) - 1, 0, 1)
    return value * (1 - saturation * (1 - wheel))


def _hair_color(rng: np.random.Generator) -> np.ndarray:
    tones = (
        (0.05, 0.05, 0.06),
        (0.09, 0.13, 0.20),
        (0.20, 0.34, 0.50),
        (0.42, 0.60, 0.72),
        (0.55, 0.55, 0.55),
        (0.14, 0.20, 0.46),
    )
    share = (0.36, 0.26, 0.14, 0.1, 0.08, 0.06)
    return np.array(tones[int(rng.choice(len(tones), p=share))]) * rng.uniform(0.85, 1.15)


def _infrared_look(rng: np.random.Generator) -> np.ndarray:
    gray = np.zeros(16)
    gray[1:14] = rng.uniform(0.10, 0.95, 13)
    gray[Material.SKIN] = rng.uniform(0.5, 0.9)
    gray[Material.HAIR] = rng.uniform(0.12, 0.8)
    for detail, base in DETAILS.items():
        gray[detail] = _contrasting(lambda: rng.uniform(0.10, 0.95), gray[base])
    gray[Material.EYES] = 0.15
    return np.repeat(gray[:, None], 3, axis=1).astype(np.float32)


def _thermal_look(rng: np.random.Generator) -> np.ndarray:
    gray = np.zeros(16)
    gray[1:14] = rng.uniform(0.25, 0.72, 13)
    gray[Material.SKIN] = rng.uniform(0.86, 0.98)
    gray[Material.EYES] = 0.8
    for detail, base in DETAILS.items():
        gray[detail] = np.clip(gray[base] + rng.choice((-1, 1)) * rng.uniform(0.1, 0.2), 0.1, 0.95)
    return np.repeat(gray[:, None], 3, axis=1).astype(np.float32)


def _contrasting(draw: Callable[[], Shade], base: Shade) -> Shade:
    """Draw until the brightness differs from that of ``base`` by `CONTRAST`, but not forever."""
    value = draw()
    for _ in range(20):
        if abs(float(np.mean(value)) - float(np.mean(base))) >= CONTRAST:
            break
        value = draw()
    return value
