"""Draw the body, garments and carried things of one identity at random.

The bands share the shapes that are drawn here: body, cut and layout of garments, hair, carried
things and patterns. The shades of the surfaces in each band are drawn in `looks`; how far one band
tells something about another there depends on the shares of the `dyes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

import numpy as np

from ..place.domains import Domain
from ..seeding import Stream, generator
from .dyes import LINKED, DyeShares
from .looks import make_looks


@dataclass(frozen=True)
class Body:
    """The body, in meters; ``*_half`` are half widths, ``girth`` is a factor on limb radii."""

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
    """The swing of the limbs and the posture of the body, as angles in radians."""

    stride: float
    arm_swing: float
    elbow: float
    lean: float
    splay: float


@dataclass(frozen=True)
class Pattern:
    """A pattern of cloth.

    ``band``: 'both', or the only band, 'visible' or 'infrared', in which it may differ from its
    cloth; one in twenty is 'infrared', so by day it cannot be seen. Dyes decide about the night.
    """

    kind: str
    count: int
    offset: float
    band: str


@dataclass(frozen=True)
class Upper:
    """The upper garment.

    ``sleeve``: how far the sleeve reaches, from 0 (none) to 1 (wrist). ``hem``: how far the hem
    reaches, from 0 (hip) to 1 (ankle). ``looseness``: factor on the girth.
    """

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
    """The lower garment and the shoes.

    ``length``: how far it reaches, from 0 (hip) to 1 (ankle). ``width``: factor on the leg's
    radius. ``boot``: the part of the shin that a boot covers.
    """

    kind: str
    length: float
    width: float
    boot: float
    pattern: Pattern


@dataclass(frozen=True)
class Head:
    """Hair and headwear. ``length`` of the hair in heads; ``volume``: factor on the skull."""

    hair: str
    length: float
    volume: float
    headwear: str
    scarf: bool


@dataclass(frozen=True)
class Carried:
    """A carried thing. ``side``: +1 is the person's left, -1 the right. ``size``: 1 is usual."""

    kind: str
    side: int
    size: float


@dataclass(frozen=True)
class Identity:
    """Everything about a person that is the same in every camera and frame.

    ``looks[band]`` is a table (16, 3) of intensities in 0-1: a row for each ``Material``, columns
    blue, green, red, which are equal outside the visible band. ``dyes`` holds the dye of each
    garment and pattern, see `looks.make_looks`.
    """

    number: int
    body: Body
    gait: Gait
    upper: Upper
    lower: Lower
    head: Head
    carried: Carried
    looks: Dict[str, np.ndarray]
    dyes: Dict[str, str]


def sample_identity(
    seed: int, domain: Domain, number: int, infrared: DyeShares = LINKED
) -> Identity:
    """Return identity ``number`` of a domain; the same arguments give the same person.

    Args:
        infrared: the shares of the dyes. Other shares change how the person looks in infrared and
            thermal images, and nothing else.
    """
    rng = generator(seed, domain.code, Stream.SHAPE, number)
    body = _sample_body(rng)
    gait = Gait(
        stride=rng.uniform(0.2, 0.5),
        arm_swing=rng.uniform(0.1, 0.65),
        elbow=rng.uniform(0.05, 0.7),
        lean=rng.uniform(-0.03, 0.14),
        splay=rng.uniform(0.0, 0.35),
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
    looks, dyes = make_looks(seed, domain, number, upper.pattern, lower.pattern, infrared)
    return Identity(number, body, gait, upper, lower, head, carried, looks, dyes)


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
UPPER_CUTS: Dict[str, Tuple[Tuple[float, float], ...]] = {
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
