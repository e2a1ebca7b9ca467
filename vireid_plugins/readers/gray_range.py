"""The range of gray values of more than 8 bits: which value becomes black, and which white.

Thermal cameras write 12 or 14 bits, or hundredths of a kelvin, into 16 bits. Such values lie close
together; divided by 65535 all images would look alike.
"""

import re
from typing import Optional, Tuple

import numpy as np

from ..errors import UserError

#: the gray values that become 0 and 255; what lies outside is cut
Limits = Tuple[float, float]
FULL: Limits = (0, 65535)  # of 16 bits

_TAIL = 0.001  # share of the values at each end that may be dead pixels or reflections
_SAMPLE = 2**18  # values that are sorted
_AT_ONCE = 2**20  # pixels that are scaled
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_PAIR = rf"\s*({_NUMBER})\s*{{}}\s*({_NUMBER})\s*"
_WORDS = (
    re.compile(_PAIR.format(r"\.\.")),
    re.compile(rf"\s*[\[(]{_PAIR.format(',')}[\])]\s*"),  # as lists are written elsewhere
)


def limits_of(values: np.ndarray) -> Limits:
    """Return the range of gray values of one image, or of a sample of a set.

    One in a thousand values at each end is left out. Whole numbers that take up at least half of
    16 bits have the range of 16 bits, 0..65535.

    Args:
        values: gray values in any shape, at least one; NaN and infinity are left out, and of many
            values, some at equal distances are taken.
    """
    is_whole = values.dtype.kind in "iu"
    flat = values.reshape(-1)[:: max(1, values.size // _SAMPLE)]
    flat = flat if is_whole else flat[np.isfinite(flat)]
    if len(flat) == 0:
        return FULL
    cut = int(_TAIL * (len(flat) - 1))
    ordered = np.sort(flat, kind="stable")  # of 16 bits, this is the fastest kind
    low, high = ordered[cut].item(), ordered[len(flat) - 1 - cut].item()
    fits = is_whole and low >= FULL[0] and high <= FULL[1]
    if fits and (low == high or 2 * (high - low) >= FULL[1]):
        return FULL
    return (low, high) if low < high else (low, low + 1)


def narrow(pixels: np.ndarray, limits: Limits) -> np.ndarray:
    """Return gray (H, W) of any numbers as uint8: ``limits`` become 0 and 255.

    What lies outside is cut.

    Raises:
        UserError: a value is NaN.
    """
    if pixels.dtype.kind == "f" and np.isnan(pixels).any():
        raise UserError(
            f"{np.isnan(pixels).sum()} of its gray values are NaN. Write numbers there, such as "
            "the mean of their neighbors."
        )
    is_16_bit = pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2
    if is_16_bit and pixels.size > FULL[1]:
        return _scaled(np.arange(FULL[1] + 1), limits)[pixels]
    rows = max(1, _AT_ONCE // pixels.shape[1])  # numbers of 64 bits take much memory
    parts = [_scaled(pixels[at : at + rows], limits) for at in range(0, len(pixels), rows)]
    return np.concatenate(parts)


def _scaled(numbers: np.ndarray, limits: Limits) -> np.ndarray:
    low, high = limits
    inside = np.clip(numbers.astype(np.float64), low, high)
    return np.rint((inside - low) * (255.0 / (high - low))).astype(np.uint8)


def limits_in_words(limits: Limits) -> str:
    """Return limits as a config key has them, such as ``"7012..9144"``."""
    return "..".join(f"{float(value):.15g}" for value in limits)


def parse_limits(words: str) -> Optional[Limits]:
    """Return the limits that words such as ``7000..9000`` say; None if the text is not a range."""
    match = _WORDS[0].fullmatch(words) or _WORDS[1].fullmatch(words)
    if match is None:
        return None
    low, high = float(match.group(1)), float(match.group(2))
    return (low, high) if np.isfinite(high - low) and low < high else None
