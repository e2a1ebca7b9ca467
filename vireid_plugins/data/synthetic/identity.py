"""Who is drawn: body, garments and carried things of one identity, and what they look like.

The look in each band (visible colour, near-infrared reflectance, long-wave emission) comes from a
random stream of its own, so knowing one band says nothing about another. What the bands share is
the shape: body, cut, layout, hair, carried things and most patterns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Dict, Sequence, Tuple

import numpy as np

from .domains import Domain
from .seeding import Stream, generator


class Material(IntEnum):
    """Index of a surface in the colour table of an image; 0 is the background."""

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


PATTERNED = {Material.UPPER_PATTERN: Material.UPPER, Material.LOWER_PATTERN: Material.LOWER}
BANDS = ("visible", "infrared", "thermal")


@dataclass(frozen=True)
class Body:
    """Lengths in metres; ``*_half`` are half widths, ``girth`` a factor on limb radii."""

    height: float
    hip_height: float
    shoulder_half: float
    hip_half: float
    waist_half: float
    depth_half: float
    girth: float
    head: float
    arm: float


@dataclass(frozen=True)
class Gait:
    """Angles in radians: how far limbs swing and how the body is held."""

    stride: float
    arm_swing: float
    elbow: float
    lean: float
    splay: float
    bounce: float


@dataclass(frozen=True)
class Pattern:
    """``band``: where the pattern can be seen, 'both', 'visible' or 'infrared'."""

    kind: str
    count: int
    offset: float
    band: str


@dataclass(frozen=True)
class Upper:
    """``sleeve``: 0 none .. 1 wrist. ``hem``: 0 hip .. 1 ankle. ``looseness``: factor on girth."""

    kind: str
    sleeve: float
    hem: float
    looseness: float
    flare: float
    open_front: bool
    hood: bool
    pattern: Pattern


@dataclass(frozen=True)
class Lower:
    """``length``: 0 hip .. 1 ankle. ``width``: factor on the leg. ``boot``: part of the shin."""

    kind: str
    length: float
    width: float
    boot: float
    pattern: Pattern


@dataclass(frozen=True)
class Head:
    """``length``: how far hair falls, in heads. ``volume``: factor on the skull."""

    hair: str
    length: float
    volume: float
    headwear: str
    scarf: bool


@dataclass(frozen=True)
class Carried:
    """``side``: +1 the person's left, -1 the right. ``size``: factor on the usual size."""

    kind: str
    side: int
    size: float


@dataclass(frozen=True)
class Identity:
    """All that stays the same of a person over every camera and frame.

    ``looks[band]`` is a table (16, 3) of intensities in 0-1, row = ``Material``, columns blue,
    green, red (equal in the infrared bands).
    """

    number: int
    body: Body
    gait: Gait
    upper: Upper
    lower: Lower
    head: Head
    carried: Carried
    looks: Dict[str, np.ndarray]


def sample_identity(seed: int, domain: Domain, number: int) -> Identity:
    """The identity ``number`` of ``domain``: same arguments, same person."""
    rng = generator(seed, domain.code, Stream.SHAPE, number)
    body = _sample_body(rng)
    gait = Gait(
        stride=rng.uniform(0.25, 0.6),
        arm_swing=rng.uniform(0.1, 0.65),
        elbow=rng.uniform(0.05, 0.7),
        lean=rng.uniform(-0.03, 0.14),
        splay=rng.uniform(0.0, 0.35),
        bounce=rng.uniform(0.0, 0.03),
    )
    upper = _sample_upper(rng, domain)
    lower = _sample_lower(rng, domain, upper)
    hair = str(rng.choice(("bald", "short", "short", "bob", "long", "ponytail", "bun", "afro")))
    head = Head(
        hair=hair,
        length=rng.uniform(1.0, 2.6),
        volume=rng.uniform(1.3, 1.6) if hair == "afro" else rng.uniform(1.06, 1.18),
        headwear=_pick(rng, domain.headwear),
        scarf=bool(rng.random() < domain.scarf_share),
    )
    carried = Carried(
        kind=_pick(rng, domain.carried),
        side=int(rng.choice((-1, 1))),
        size=rng.uniform(0.75, 1.45),
    )
    looks = {
        "visible": _visible_look(generator(seed, domain.code, Stream.VISIBLE, number), domain),
        "infrared": _infrared_look(generator(seed, domain.code, Stream.INFRARED, number)),
        "thermal": _thermal_look(generator(seed, domain.code, Stream.THERMAL, number)),
    }
    for pattern, material in (
        (upper.pattern, Material.UPPER_PATTERN),
        (lower.pattern, Material.LOWER_PATTERN),
    ):
        _hide_pattern(looks, material, pattern.band)
    return Identity(number, body, gait, upper, lower, head, carried, looks)


def _pick(rng: np.random.Generator, shares: Dict[str, float]) -> str:
    weights = np.array(list(shares.values()), dtype=float)
    return str(rng.choice(list(shares), p=weights / weights.sum()))


def _sample_body(rng: np.random.Generator) -> Body:
    height = float(np.clip(rng.normal(1.70, 0.13), 1.40, 1.98))
    build = rng.uniform(-1.0, 1.0)  # thin .. heavy
    frame = rng.uniform(-1.0, 1.0)  # wide hips .. wide shoulders
    return Body(
        height=height,
        hip_height=height * rng.uniform(0.475, 0.535),
        shoulder_half=height * (0.112 + 0.014 * frame + 0.016 * build),
        hip_half=height * (0.090 - 0.009 * frame + 0.021 * build),
        waist_half=height * (0.080 + 0.005 * frame + 0.030 * build),
        depth_half=height * (0.066 + 0.026 * build),
        girth=1.02 + 0.30 * build,
        head=height * rng.uniform(0.066, 0.076),
        arm=height * rng.uniform(0.170, 0.190),
    )


def _sample_pattern(rng: np.random.Generator, shares: Dict[str, float]) -> Pattern:
    return Pattern(
        kind=_pick(rng, shares),
        count=int(rng.integers(3, 9)),
        offset=rng.uniform(0.3, 0.7),
        band=str(rng.choice(("both", "visible", "infrared"), p=(0.9, 0.05, 0.05))),
    )


# kind: (sleeve range, hem range, looseness range, flare range)
UPPER_CUTS: Dict[str, Tuple[Sequence[float], ...]] = {
    "tank": ((0.0, 0.0), (-0.03, 0.06), (1.0, 1.1), (0.0, 0.1)),
    "tshirt": ((0.22, 0.5), (0.0, 0.12), (1.05, 1.3), (0.0, 0.15)),
    "shirt": ((0.9, 1.0), (-0.02, 0.12), (1.05, 1.25), (0.0, 0.15)),
    "hoodie": ((0.95, 1.0), (0.0, 0.08), (1.2, 1.45), (0.0, 0.05)),
    "jacket": ((0.95, 1.0), (-0.04, 0.08), (1.2, 1.4), (0.0, 0.1)),
    "coat": ((0.95, 1.0), (0.25, 0.62), (1.2, 1.4), (0.1, 0.5)),
    "dress": ((0.0, 0.5), (0.3, 0.7), (1.0, 1.15), (0.3, 1.0)),
}


def _sample_upper(rng: np.random.Generator, domain: Domain) -> Upper:
    kind = _pick(rng, domain.uppers)
    sleeve, hem, looseness, flare = (rng.uniform(*limits) for limits in UPPER_CUTS[kind])
    return Upper(
        kind=kind,
        sleeve=sleeve,
        hem=hem,
        looseness=looseness,
        flare=flare,
        open_front=kind in ("jacket", "coat") and bool(rng.random() < 0.55),
        hood=kind == "hoodie" or (kind in ("jacket", "coat") and bool(rng.random() < 0.25)),
        pattern=_sample_pattern(rng, domain.upper_patterns),
    )


def _sample_lower(rng: np.random.Generator, domain: Domain, upper: Upper) -> Lower:
    kind = _pick(rng, domain.lowers)
    if upper.kind == "dress":
        kind = "leggings" if rng.random() < 0.4 else "bare"
    length, width = {
        "trousers": (rng.uniform(0.93, 1.0), rng.uniform(1.1, 1.35)),
        "wide": (rng.uniform(0.88, 1.0), rng.uniform(1.45, 1.85)),
        "leggings": (rng.uniform(0.85, 1.0), 1.02),
        "shorts": (rng.uniform(0.28, 0.5), rng.uniform(1.15, 1.5)),
        "capri": (rng.uniform(0.62, 0.78), rng.uniform(1.1, 1.35)),
        "skirt": (rng.uniform(0.28, 0.8), rng.uniform(1.0, 1.9)),
        "bare": (0.12, 1.05),
    }[kind]
    boot = rng.uniform(0.35, 0.9) if rng.random() < 0.3 else rng.uniform(0.0, 0.12)
    return Lower(kind, length, width, boot, _sample_pattern(rng, domain.lower_patterns))


def _visible_look(rng: np.random.Generator, domain: Domain) -> np.ndarray:
    look = np.zeros((16, 3), dtype=np.float32)
    look[Material.SKIN] = np.array([0.52, 0.66, 0.86]) * rng.uniform(0.55, 1.0)
    look[Material.HAIR] = _hair_colour(rng)
    for material in (
        Material.UPPER,
        Material.INNER,
        Material.LOWER,
        Material.SHOES,
        Material.BAG,
        Material.HEADWEAR,
        Material.SCARF,
    ):
        look[material] = _cloth_colour(rng, domain)
    for detail, base in (*PATTERNED.items(), (Material.BAG_DETAIL, Material.BAG)):
        look[detail] = _contrasting(lambda: _cloth_colour(rng, domain), look[base])
    look[Material.EYES] = 0.12
    return look


def _cloth_colour(rng: np.random.Generator, domain: Domain) -> np.ndarray:
    if rng.random() < domain.neutral_share:
        grey = rng.choice((0.07, 0.16, 0.35, 0.6, 0.85))
        return np.clip(grey + rng.uniform(-0.04, 0.04, 3), 0.02, 0.95)
    hue = (rng.normal(domain.hue, 0.16) if rng.random() < 0.35 else rng.random()) % 1.0
    saturation, value = rng.uniform(0.25, 0.7), rng.uniform(0.25, 0.92)
    wheel = np.clip(np.abs((hue + np.array([1 / 3, 2 / 3, 0.0])) % 1.0 * 6 - 3) - 1, 0, 1)
    return value * (1 - saturation * (1 - wheel))


def _hair_colour(rng: np.random.Generator) -> np.ndarray:
    tones = ((0.05, 0.05, 0.06), (0.09, 0.13, 0.20), (0.20, 0.34, 0.50), (0.42, 0.60, 0.72),
             (0.55, 0.55, 0.55), (0.14, 0.20, 0.46))
    share = (0.36, 0.26, 0.14, 0.1, 0.08, 0.06)
    return np.array(tones[int(rng.choice(len(tones), p=share))]) * rng.uniform(0.85, 1.15)


def _infrared_look(rng: np.random.Generator) -> np.ndarray:
    grey = np.zeros(16)
    grey[1:14] = rng.uniform(0.10, 0.95, 13)
    grey[Material.SKIN] = rng.uniform(0.66, 0.86)
    grey[Material.HAIR] = rng.uniform(0.12, 0.6)
    for detail, base in (*PATTERNED.items(), (Material.BAG_DETAIL, Material.BAG)):
        grey[detail] = _contrasting(lambda: rng.uniform(0.10, 0.95), grey[base])
    grey[Material.EYES] = 0.15
    return np.repeat(grey[:, None], 3, axis=1).astype(np.float32)


def _thermal_look(rng: np.random.Generator) -> np.ndarray:
    grey = np.zeros(16)
    grey[1:14] = rng.uniform(0.25, 0.72, 13)
    grey[Material.SKIN] = rng.uniform(0.86, 0.98)
    grey[Material.EYES] = 0.8
    for detail, base in (*PATTERNED.items(), (Material.BAG_DETAIL, Material.BAG)):
        grey[detail] = np.clip(grey[base] + rng.choice((-1, 1)) * rng.uniform(0.1, 0.2), 0.1, 0.95)
    return np.repeat(grey[:, None], 3, axis=1).astype(np.float32)


def _contrasting(draw, base, least: float = 0.42):
    """The first of a few draws whose mean differs from ``base`` by ``least``, else the last."""
    for _ in range(20):
        value = draw()
        if abs(float(np.mean(value)) - float(np.mean(base))) >= least:
            break
    return value


def _hide_pattern(looks: Dict[str, np.ndarray], pattern: Material, band: str) -> None:
    """Paint ``pattern`` like its base in the bands where it cannot be seen."""
    if band != "both":
        for name in BANDS:
            if (name == "visible") != (band == "visible"):
                looks[name][pattern] = looks[name][PATTERNED[pattern]]
