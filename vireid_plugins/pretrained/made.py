"""Weights that are trained here, on rendered people, and that nobody publishes."""

from pathlib import Path
from typing import NamedTuple, Tuple

from .source import NotFetchedError, Source


class Recipe(NamedTuple):
    """All that decides the weights: who is rendered, and the config by which they are learned."""

    config: str  # below configs/
    preset: str  # of SynthVI, in the layout of SYSU-MM01
    identities: Tuple[int, int]  # training and test
    seed: int  # of SynthVI
    updates: int
    hours: float  # of one core


class Made(Source):
    """Weights that ``vireid weights make`` renders people for, and trains.

    Two machines may make slightly different files: sums of floating-point numbers depend on the
    processor and on PyTorch. So no SHA-256 is asked of a file.

    Args:
        name: the name of the entry.
        recipe: what is done.
        recorded: the SHA-256 of the file that was made for the tables in this package's pages;
            empty: not made yet.
    """

    published = False

    def __init__(self, name: str, recipe: Recipe, recorded: str = "") -> None:
        self.name = name
        self.recipe = recipe
        self.recorded = recorded

    def described(self) -> str:
        """Return the recipe in words."""
        recipe = self.recipe
        train, test = recipe.identities
        return (
            f"trained here: configs/{recipe.config}, {recipe.updates} updates on SynthVI, preset "
            f"{recipe.preset}, {train} + {test} identities, seed {recipe.seed}"
        )

    def bring(self, target: Path, sha256: str) -> None:
        """Raise ``NotFetchedError``: they are not fetched."""
        raise NotFetchedError("no file of them is published; they are made on rendered people")

    def by_hand(self, target: Path, sha256: str) -> str:
        """Return the command that makes them."""
        return (
            f"`vireid weights make {self.name}` makes them, in about {self.recipe.hours:g} hours "
            f"of one core; or put a copy of {target.name} from another machine into the folder "
            f"{target.parent}."
        )
