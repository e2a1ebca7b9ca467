"""Dyes: what near infrared (about 850 nm) sees of cloth whose visible color is given.

A *clear* dye lets near infrared through: the cloth is as bright as its undyed fiber. A *dense* one
(carbon black, pigments) does not: near infrared follows red, the nearest visible band. A *free* one
has an infrared shade of its own, which its color says nothing about. docs/infrared.md names what is
known of real cloth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Sequence, Tuple, Union

import numpy as np

from ...errors import UserError

DYES = ("dense", "clear", "free")
SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class DyeShares:
    """The shares, 0-1, of garments with each dye; their sum is 1.

    With ``free`` 1, nothing is linked: neither hair, skin nor prints. See `looks`.
    """

    dense: float
    clear: float
    free: float

    @property
    def linked(self) -> bool:
        """Whether infrared is linked to the visible colors at all."""
        return self.free < 1.0

    def __str__(self) -> str:
        return ",".join(f"{getattr(self, dye):g}" for dye in DYES)


FREE = DyeShares(0.0, 0.0, 1.0)
#: A plausible middle; no survey of street clothes in near infrared is known to us.
LINKED = DyeShares(0.5, 0.3, 0.2)
NAMED_SHARES: Dict[str, DyeShares] = {
    "linked": LINKED,
    "free": FREE,
    "dense": DyeShares(1.0, 0.0, 0.0),
    "clear": DyeShares(0.0, 1.0, 0.0),
}
InfraredChoice = Union[str, Sequence[float], DyeShares]


def dye_shares(choice: InfraredChoice) -> DyeShares:
    """Return the shares that ``choice`` describes.

    Args:
        choice: a name of `NAMED_SHARES`, the shares dense, clear and free as three numbers or as
            text, such as '0.5,0.3,0.2', or a `DyeShares`.

    Raises:
        UserError: the name is unknown, or the shares are not three numbers in 0-1 whose sum is 1.
    """
    if isinstance(choice, DyeShares):
        numbers: Sequence[float] = (choice.dense, choice.clear, choice.free)
    elif isinstance(choice, str):
        name = choice.strip().lower()
        if name in NAMED_SHARES:
            return NAMED_SHARES[name]
        numbers = _numbers(name.replace(",", " ").split(), choice)
    else:
        numbers = _numbers(choice, choice)
    if len(numbers) != len(DYES) or not all(0 <= share <= 1 for share in numbers):
        raise _not_shares(choice)
    total = math.fsum(numbers)
    if abs(total - 1) > SUM_TOLERANCE:
        raise UserError(
            f"the sum of infrared's shares dense, clear and free must be 1; got {choice!r}, "
            f"whose sum is {total:g}"
        )
    dense, clear = round(numbers[0], 6), round(numbers[1], 6)
    return DyeShares(dense, clear, max(0.0, round(1 - dense - clear, 6)))


def _numbers(parts: Sequence[object], choice: InfraredChoice) -> Tuple[float, ...]:
    try:
        return tuple(float(part) for part in parts)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise _not_shares(choice) from None


def _not_shares(choice: InfraredChoice) -> UserError:
    return UserError(
        f"infrared must be {', '.join(NAMED_SHARES)}, or the shares of dense, clear and free dyes, "
        f"three numbers in 0-1 whose sum is 1, such as 0.5,0.3,0.2; got {choice!r}"
    )


def draw_dye(rng: np.random.Generator, shares: DyeShares) -> str:
    """Draw a dye; always two numbers, so that other shares change no other draw.

    A garment that is dense at one share is dense at every larger one, and if the ratio of the
    clear to the free share stays, the other garments keep their dyes.
    """
    dense, clear = rng.random(2)
    if dense < shares.dense:
        return "dense"
    return "clear" if clear * (shares.clear + shares.free) < shares.clear else "free"
