"""Register the kinds of pictures, find them by name, and draw them.

A kind is a subclass of :class:`Kind` in a file of this folder. ``find_kind`` imports all these
files, so no list has to name a kind:

    @register_kind("norms", help="lengths of the features")
    class Norms(Kind):
        @dataclass(frozen=True)
        class Options:
            bins: int = option(30, "bars of the histogram")

        def draw(self, subjects, options, folder): ...
"""

import importlib
import os
import pkgutil
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Sequence, Type

from fastreid.config import CfgNode

from ..drawing.style import styled
from ..errors import PlotError
from ..registry import suggest
from .options import make_options
from .subject import Subject

#: kinds by name, as far as their files were imported; `all_kinds` imports them
KINDS: Dict[str, "Kind"] = {}


@dataclass(frozen=True)
class Drawn:
    """The result of a drawing."""

    paths: List[str]  # the files that were written: PNG, PDF and CSV
    notes: List[str] = field(default_factory=list)  # what was chosen or left out, in sentences


@dataclass(frozen=True)
class NoOptions:
    """The options of a kind that has none."""


class Kind:
    """One kind of picture."""

    name = ""
    help = ""  # one line for people
    #: a frozen dataclass whose fields ``options.option`` declares; its ``__post_init__`` checks
    #: them, before any model is loaded
    Options: Type[Any] = NoOptions
    #: False: the subjects are folders of runs, at least one
    needs_model = True
    #: True: the subject is a config, whose data are drawn; reports, which are about runs, have no
    #: such kind
    needs_config = False
    #: models side by side
    most_subjects = 2

    def draw(self, subjects: Sequence[Any], options: Any, folder: str) -> Drawn:
        """Draw the picture, and write its files.

        Args:
            subjects: the model and, if there is one, the model that it is compared with, each as
                ``Subject``; for a kind without ``needs_model``, folders of runs; for one with
                ``needs_config``, a config.
            options: an instance of the class ``Options``.
            folder: where to write; it may be missing.

        Raises:
            PlotError: the picture cannot be drawn from these subjects and options.
        """
        raise NotImplementedError


def register_kind(name: str, help: str) -> Callable[[Type[Kind]], Type[Kind]]:
    """Register the decorated class: ``draw_kind`` and ``vireid plot`` know it by ``name``."""

    def register(kind: Type[Kind]) -> Type[Kind]:
        if name in KINDS:
            raise ValueError(f"Two kinds of pictures are called {name!r}.")
        kind.name, kind.help = name, help
        KINDS[name] = kind()
        return kind

    return register


def all_kinds() -> Dict[str, Kind]:
    """Return every kind by name, sorted, after importing the files of this folder."""
    package = importlib.import_module(__name__.rpartition(".")[0])
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(KINDS.items()))


def find_kind(name: str) -> Kind:
    """Return the kind called ``name``.

    Raises:
        PlotError: there is none; the message names the nearest one.
    """
    known = all_kinds()
    if name not in known:
        raise PlotError(f"There is no kind of picture called {name!r}. {suggest(name, known)}")
    return known[name]


def draw_kind(name: str, subjects: Any, folder: str, **options: Any) -> Drawn:
    """Draw a picture, in the style of all figures.

    Args:
        name: name of a kind, such as ``"tsne"``.
        subjects: what is drawn: a ``Subject`` of ``load_subject``, or two to compare them; for a
            kind that needs no model (``"curves"``), the folder of a run or several; for one that
            draws data (``"keypoints"``), a config.
        folder: where to write PNG, PDF and CSV files; it is made where it is missing.
        options: what ``vireid plot NAME --help`` lists, by name: ``seed=1``.

    Raises:
        PlotError: there is no such kind or option, or the picture cannot be drawn.
    """
    kind = find_kind(name)
    chosen = make_options(name, kind.Options, options)
    shown = _checked_subjects(kind, subjects)
    with styled():
        return kind.draw(shown, chosen, os.fspath(folder))


def _checked_subjects(kind: Kind, subjects: Any) -> List[Any]:
    """Return the subjects as a list; a single one may be given without a list around it."""
    is_one = isinstance(subjects, (Subject, str, os.PathLike, CfgNode))
    found = [subjects] if is_one else list(subjects)
    if kind.needs_config:
        if len(found) != 1 or not isinstance(found[0], CfgNode):
            raise PlotError(f"{kind.name} draws the data of a config: give one config.")
        return found
    if kind.needs_model:
        if not 1 <= len(found) <= kind.most_subjects:
            raise PlotError(
                f"{kind.name} takes 1 to {kind.most_subjects} models; got {len(found)}."
            )
        if any(isinstance(one, (str, os.PathLike)) for one in found):
            raise PlotError(
                f"{kind.name} draws a model; got the path {found[0]!r}. Load its checkpoint first: "
                "vireid_plugins.plots.load_subject(PATH)."
            )
        return found
    if not found or not all(isinstance(one, (str, os.PathLike)) for one in found):
        raise PlotError(f"{kind.name} draws runs: give folders of runs, at least one.")
    return [os.fspath(one) for one in found]
