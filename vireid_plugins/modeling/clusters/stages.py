"""The stages of a training by clusters: first within each modality, then across both."""

from typing import List, Tuple

WITHIN, ACROSS, TO_INFRARED, TO_VISIBLE = "within", "across", "to_infrared", "to_visible"


class Stages:
    """Phases by epoch.

    Args:
        first_epochs: epochs of the first stage, ``"within"``.
        joined: whether there is a second stage.
        alternate: whether its phases are ``"to_infrared"`` and ``"to_visible"``, by turns; else it
            is ``"across"``.

    Attributes:
        phases: names of the phases that occur.
    """

    def __init__(self, first_epochs: int, joined: bool, alternate: bool) -> None:
        self.first_epochs = first_epochs
        later = (TO_INFRARED, TO_VISIBLE) if alternate else (ACROSS,)
        self._later: List[str] = list(later) if joined else []
        first = (WITHIN,) if first_epochs or not joined else ()
        self.phases: Tuple[str, ...] = (*first, *self._later)

    def phase_of(self, epoch: int) -> str:
        """Return the phase of an epoch, from 0."""
        if epoch < self.first_epochs or not self._later:
            return WITHIN
        return self._later[(epoch - self.first_epochs) % len(self._later)]


def stage_of(phase: str) -> int:
    """Return 0 for the first stage, and 1 for the second."""
    return int(phase != WITHIN)
