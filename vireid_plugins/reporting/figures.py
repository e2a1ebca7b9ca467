"""Draw the figures of the page: every kind of ``vireid plot`` that can be drawn of the run."""

import logging
import os
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple
from urllib.parse import quote

from ..comparison.config_files import hide_paths
from ..errors import PlotError, UnwritableError, is_foreseen, one_line
from ..plots import Kind, Subject, all_kinds, draw_kind
from ..runs.folder import Missing
from .pictures import Picture, figure_uri

logger = logging.getLogger(__name__)


@dataclass
class Figures:
    """The pictures of one kind."""

    kind: Kind
    pictures: List[Picture] = field(default_factory=list)
    others: List[Tuple[str, str]] = field(
        default_factory=list
    )  # links to files that belong to no picture
    notes: List[str] = field(default_factory=list)  # what was chosen
    missing: Optional[Missing] = None  # why there are no pictures
    failed: bool = False  # whether a fault of the program is the reason


def kinds_to_draw(needs_model: bool, skip: Sequence[str] = ()) -> List[Kind]:
    """Return all kinds that draw a model, or all that draw runs, by name."""
    chosen = (kind for name, kind in all_kinds().items() if name not in skip)
    return [kind for kind in chosen if kind.needs_model == needs_model and not kind.needs_config]


def draw_figures(
    kind: Kind,
    subject: Optional[Subject],
    run_folder: Path,
    folder: Path,
    page: Path,
    say: Callable[[str], None],
) -> Figures:
    """Draw one kind with its own defaults; ``missing`` says why one cannot be drawn.

    Args:
        kind: the kind of picture.
        subject: the model; None for a kind that draws runs, which gets the run's folder instead.
        run_folder: folder of the run.
        folder: where PNG, PDF and CSV files go.
        page: path of the page, where links start.
        say: called with lines that say what happens.
    """
    figures = Figures(kind)
    began = time.perf_counter()
    try:
        drawn = draw_kind(kind.name, [subject if kind.needs_model else run_folder], str(folder))
        paths = [Path(path) for path in drawn.paths]
        pngs = [path for path in paths if path.suffix == ".png"]
        figures.pictures = [_picture(kind, path, paths, page, subject) for path in pngs]
        stems = {path.stem for path in pngs}
        rest = [path for path in paths if path.stem not in stems]
        figures.others = [(path.name, address(path, page)) for path in rest]
        figures.notes = [hide_paths(note.strip()) for note in drawn.notes]
    except UnwritableError:  # a full disk: the page would not be written either
        raise
    except Exception as error:  # the page is written without this figure
        figures.failed = not is_foreseen(error)
        of_method = kind.needs_model and isinstance(error, PlotError)
        figures.missing = Missing(f"{kind.name}: {kind.help}", one_line(error), of_method)
        say(f"  {kind.name}: not drawn: {one_line(error)}")
        if figures.failed:
            logger.warning("%s", traceback.format_exc())
        return figures
    number = len(figures.pictures)
    seconds = time.perf_counter() - began
    say(f"  {kind.name}: {number} picture{'s' * (number != 1)}, {seconds:.1f} s")
    return figures


def heading(kind: Kind) -> str:
    """Return what the kind shows: the first part of its help."""
    words = kind.help.partition(";")[0]
    return words[:1].upper() + words[1:]


def _picture(
    kind: Kind, path: Path, written: Sequence[Path], page: Path, subject: Optional[Subject]
) -> Picture:
    """Return a picture with links to its other formats and to the numbers behind it."""
    uri, width, height = figure_uri(str(path))
    name = path.stem.replace("_", " ")
    of = f" ({subject.label} on {subject.dataset_name})" if subject is not None else ""
    what = heading(kind)
    beside = [other for other in written if other.stem == path.stem]
    links = [(f"{one.suffix[1:].upper()}", address(one, page)) for one in beside]
    caption = f"{what}{of}" if name == kind.name else f"{what}{of}: {name}"
    return Picture(uri, width, height, f"{caption}.", f"{caption}.", links)


def address(path: Path, page: Path) -> str:
    """Return ``path`` as a link from ``page``, absolute if it is on another drive."""
    try:
        relative = os.path.relpath(path.resolve(), page.resolve().parent)
        return quote(Path(relative).as_posix(), errors="surrogateescape")
    except ValueError:
        return path.resolve().as_uri()
