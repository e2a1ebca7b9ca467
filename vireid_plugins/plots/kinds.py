"""The kinds of pictures that ``tools/plot.py`` draws, by name.

A kind is a subclass of :class:`Kind` in a file of its own; the command knows none by name:

    @register_kind("tsne", help="a map of the features")
    class TSNE(Kind):
        def add_arguments(self, parser): ...
        def draw(self, subjects, args, folder): ...
"""

import argparse
from typing import Any, Callable, Dict, List, Sequence, Type

from ..drawing.style import styled
from ..errors import PlotError
from ..registry import nearest

KINDS: Dict[str, "Kind"] = {}


class Kind:
    """One kind of picture."""

    name = ""
    help = ""  # a line for people
    # False: ``draw`` is given no subject; its words are folders of runs, at least one.
    needs_model = True
    most_subjects = 2  # models side by side

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the words of this kind, each with a default and a ``help``."""

    def draw(self, subjects: Sequence[Any], args: argparse.Namespace, folder: str) -> List[str]:
        """Draw and write; what was chosen (seed, identities, ...) is logged.

        Args:
            subjects: of ``subject.Subject``: the model, and the one it is compared with, if any.
            args: of ``add_arguments``.
            folder: where to write; it may be missing.

        Returns:
            Paths written: PNG, PDF and CSV.

        Raises:
            PlotError: the picture cannot be drawn from these subjects and words.
        """
        raise NotImplementedError


def register_kind(name: str, help: str) -> Callable[[Type[Kind]], Type[Kind]]:
    """Class decorator: ``tools/plot.py NAME`` draws by an instance of the class."""

    def register(kind: Type[Kind]) -> Type[Kind]:
        if name in KINDS:
            raise ValueError(f"Two kinds of pictures are called {name!r}.")
        kind.name, kind.help = name, help
        KINDS[name] = kind()
        return kind

    return register


def find_kind(name: str) -> Kind:
    """The kind called ``name``.

    Raises:
        PlotError: there is none; names the nearest.
    """
    if name not in KINDS:
        raise PlotError(f"There is no kind of picture called {name!r}. {nearest(name, KINDS)}")
    return KINDS[name]


def draw_kind(
    name: str, subjects: Sequence[Any], folder: str, words: Sequence[str] = ()
) -> List[str]:
    """Draw from Python as ``tools/plot.py NAME`` does.

    Args:
        name: of a kind.
        subjects: one or two of ``subject.Subject``; none for a kind without a model.
        folder: where to write.
        words: of the command line: what differs from the defaults.

    Returns:
        Paths written.

    Raises:
        PlotError: the picture cannot be drawn.
    """
    kind = find_kind(name)
    parser = argparse.ArgumentParser(prog=name, allow_abbrev=False)
    kind.add_arguments(parser)
    return draw(kind, subjects, parser.parse_args(list(words)), folder)


def draw(kind: Kind, subjects: Sequence[Any], args: argparse.Namespace, folder: str) -> List[str]:
    """``kind.draw`` in the style of all figures, with as many subjects as it takes."""
    least = 1 if kind.needs_model else 0
    if not least <= len(subjects) <= max(least, kind.most_subjects):
        raise PlotError(
            f"{kind.name} takes {least} to {kind.most_subjects} models; got {len(subjects)}."
        )
    with styled():
        return kind.draw(subjects, args, folder)
