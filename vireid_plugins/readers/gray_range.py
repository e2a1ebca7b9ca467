"""The range of gray values of more than 8 bits: which value becomes black, and which white.

Thermal cameras write 12 or 14 bits, or hundredths of a kelvin, into 16 bits. Such values lie close
together; divided by 65535 all images would look alike.
"""

import re
from typing import Optional, Tuple

import numpy as np

#: the gray values that become 0 and 255; what lies outside is cut
Limits = Tuple[float, float]
FULL: Limits = (0, 65535)  # of 16 bits

_TAIL = 0.001  # share of the values at each end that may be dead pixels or reflections
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_WORDS = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*")


def limits_of(values: np.ndarray) -> Limits:
    """Return the range of gray values of one image, or of a sample of a set.

    One in a thousand values at each end is left out. Whole numbers that take up at least half of
    16 bits have the range of 16 bits, 0..65535.

    Args:
        values: gray values in any shape, at least one; NaN and infinity are left out.
    """
    is_whole = values.dtype.kind in "iu"
    flat = values.reshape(-1) if is_whole else values[np.isfinite(values)]
    if len(flat) == 0:
        return FULL
    cut = int(_TAIL * (len(flat) - 1))
    ordered = np.partition(flat, (cut, len(flat) - 1 - cut))
    low, high = ordered[cut].item(), ordered[len(flat) - 1 - cut].item()
    fits = is_whole and low >= FULL[0] and high <= FULL[1]
    if fits and (low == high or 2 * (high - low) >= FULL[1]):
        return FULL
    return (low, high) if low < high else (low, low + 1)


def limits_in_words(limits: Limits) -> str:
    """Return limits as a config key has them, such as ``"7012..9144"``."""
    return "..".join(f"{float(value):.15g}" for value in limits)


def parse_limits(words: str) -> Optional[Limits]:
    """Return the limits that ``limits_in_words`` wrote; None if the text is no range."""
    match = _WORDS.fullmatch(words)
    if match is None:
        return None
    low, high = float(match.group(1)), float(match.group(2))
    return (low, high) if np.isfinite(high - low) and low < high else None
