"""Domains: what people wear and what cameras there are; each dataset layout has one domain.

Two domains differ in clothes, palettes, light and camera set, so that a model trained on one finds
something new in the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Tuple


@dataclass(frozen=True)
class CameraSpec:
    """Where a camera hangs; its optics follow from ``number``, see ``camera.make_camera``.

    ``scene`` numbers the place: cameras with one number look at the same place.
    """

    number: int
    band: str
    scene: int
    indoor: bool


@dataclass(frozen=True)
class Domain:
    """A world of people and cameras. Shares are relative weights; colors lie near ``hue``, 0-1."""

    name: str
    code: int
    cameras: Tuple[CameraSpec, ...]
    uppers: Dict[str, float]
    lowers: Dict[str, float]
    headwear: Dict[str, float]
    carried: Dict[str, float]
    upper_patterns: Dict[str, float] = field(
        default_factory=lambda: {
            "none": 0.05,
            "hstripes": 0.2,
            "vstripes": 0.13,
            "check": 0.11,
            "diagonal": 0.11,
            "dots": 0.12,
            "block": 0.08,
            "logo": 0.06,
            "yoke": 0.06,
            "sleeves": 0.05,
        }
    )
    lower_patterns: Dict[str, float] = field(
        default_factory=lambda: {
            "none": 0.08,
            "hstripes": 0.16,
            "vstripes": 0.12,
            "check": 0.1,
            "diagonal": 0.08,
            "dots": 0.12,
            "side": 0.08,
            "knee": 0.06,
            "hem": 0.06,
            "half": 0.08,
        }
    )
    neutral_share: float = 0.65
    hue: float = 0.6
    scarf_share: float = 0.1
    warmth: float = 0.0  # color of the light: -1 cold .. 1 warm
    brightness: float = 1.0


MIXED_UPPERS = {
    "tank": 0.1,
    "tshirt": 0.24,
    "shirt": 0.18,
    "hoodie": 0.12,
    "jacket": 0.14,
    "coat": 0.12,
    "dress": 0.1,
}
MIXED_LOWERS = {
    "trousers": 0.28,
    "wide": 0.12,
    "leggings": 0.12,
    "shorts": 0.2,
    "capri": 0.08,
    "skirt": 0.2,
}
MIXED_HEADWEAR = {"none": 0.72, "cap": 0.14, "beanie": 0.09, "brim": 0.05}
MIXED_CARRIED = {
    "none": 0.24,
    "backpack": 0.18,
    "handbag": 0.2,
    "crossbody": 0.18,
    "box": 0.08,
    "suitcase": 0.08,
}


def _spec(number: int, band: str, scene: int, indoor: bool) -> CameraSpec:
    return CameraSpec(number, band, scene, indoor)


SYSU = Domain(
    name="sysu",
    code=1,
    cameras=(
        _spec(1, "visible", 1, True),
        _spec(2, "visible", 2, True),
        _spec(3, "infrared", 2, True),
        _spec(4, "visible", 3, False),
        _spec(5, "visible", 4, False),
        _spec(6, "infrared", 5, False),
    ),
    uppers=MIXED_UPPERS,
    lowers=MIXED_LOWERS,
    headwear=MIXED_HEADWEAR,
    carried=MIXED_CARRIED,
)
REGDB = Domain(
    name="regdb",
    code=2,
    cameras=(_spec(1, "visible", 1, False), _spec(2, "thermal", 1, False)),
    uppers=MIXED_UPPERS,
    lowers=MIXED_LOWERS,
    headwear=MIXED_HEADWEAR,
    carried=MIXED_CARRIED,
)
LLCM = Domain(
    name="llcm",
    code=3,
    cameras=tuple(_spec(c, "visible", c, c % 3 == 0) for c in range(1, 10))
    + tuple(_spec(c, "infrared", c, c % 3 == 0) for c in range(1, 10) if c != 3),
    uppers=MIXED_UPPERS,
    lowers=MIXED_LOWERS,
    headwear=MIXED_HEADWEAR,
    carried=MIXED_CARRIED,
    brightness=0.75,
)
MARKET = Domain(
    name="market",
    code=4,
    cameras=tuple(_spec(c, "visible", c, False) for c in range(1, 7)),
    uppers={"tank": 0.2, "tshirt": 0.45, "shirt": 0.1, "hoodie": 0.05, "dress": 0.2},
    lowers={"shorts": 0.38, "skirt": 0.27, "trousers": 0.18, "capri": 0.1, "leggings": 0.07},
    headwear={"none": 0.85, "cap": 0.1, "brim": 0.05},
    carried=MIXED_CARRIED,
    neutral_share=0.22,
    hue=0.05,
    scarf_share=0.0,
    warmth=0.8,
    brightness=1.12,
)
DUKE = Domain(
    name="duke",
    code=5,
    cameras=tuple(_spec(c, "visible", c, c in (3, 6)) for c in range(1, 9)),
    uppers={"shirt": 0.2, "hoodie": 0.25, "jacket": 0.3, "coat": 0.25},
    lowers={"trousers": 0.55, "wide": 0.2, "leggings": 0.2, "skirt": 0.05},
    headwear={"none": 0.6, "beanie": 0.25, "cap": 0.15},
    carried={"none": 0.2, "backpack": 0.5, "handbag": 0.15, "crossbody": 0.15},
    neutral_share=0.65,
    hue=0.62,
    scarf_share=0.25,
    warmth=-0.8,
    brightness=0.85,
)
DOMAINS: Dict[str, Domain] = {d.name: d for d in (SYSU, REGDB, LLCM, MARKET, DUKE)}
