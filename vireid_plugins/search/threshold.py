"""Describe what is known about the scores of a model: a threshold and its errors."""

from typing import List, NamedTuple, Tuple


class Calibration(NamedTuple):
    """A threshold of scores between two modalities; its errors on labeled images, in percent."""

    threshold: float
    false_accepts: float  # pairs of different people with a score at or above the threshold
    false_rejects: float  # pairs of the same person with a score below it
    same_pairs: int
    different_pairs: int
    data: str  # which images and which pairs, in words
    others: List[Tuple[float, float, float]]  # threshold, false accepts, false rejects

    def describe(self) -> str:
        """Return in words what the threshold is."""
        return (
            f"{self.threshold:.3f}, where both errors are equally frequent: on {self.data} "
            f"({self.same_pairs:,} pairs of the same person, {self.different_pairs:,} of different "
            f"people), {self.false_accepts:.1f} % of different people score at or above it and "
            f"{self.false_rejects:.1f} % of same people below"
        )
