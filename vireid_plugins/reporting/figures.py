"""The figures of ``tools/plot.py`` on the page: every kind that can be drawn of the run."""

import logging
import os
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Sequence, Tuple
from urllib.parse import quote

from ..comparison.runs import hide_paths
from ..errors import PlotError, is_foreseen
from ..plots import command as _all_kinds  # noqa: F401  registers every kind
from ..plots.kinds import KINDS, Kind, draw_kind
from ..plots.subject import Subject
from ..runs.folder import Missing, one_line
from .pictures import Picture, figure_uri

logger = logging.getLogger(__name__)
_DRAWING_LOG = logging.getLogger("vireid_plugins.drawing")


@dataclass
class Figures:
    """The pictures of one kind."""

    kind: Kind
    pictures: List[Picture] = field(default_factory=list)
    others: List[Tuple[str, str]] = field(default_factory=list)  # links to files of no picture
    told: List[str] = field(default_factory=list)  # what was chosen, as the kind logs it
    missing: Optional[Missing] = None  # why there is none
    failed: bool = False  # by an error that nobody foresaw


def kinds(needs_model: bool, skip: Sequence[str] = ()) -> List[Kind]:
    """All registered kinds that draw a model, or that need none, by name."""
    chosen = (kind for name, kind in sorted(KINDS.items()) if name not in skip)
    return [kind for kind in chosen if kind.needs_model == needs_model]


def draw_figures(
    kind: Kind,
    subject: Optional[Subject],
    run_folder: Path,
    folder: Path,
    page: Path,
    say: Callable[[str], None],
) -> Figures:
    """Draw one kind with its own defaults; what cannot be drawn is said, not raised.

    Args:
        kind: a registered one.
        subject: the model; None for a kind that needs none, which is given the run's folder.
        run_folder: of the run.
        folder: where PNG, PDF and CSV files go.
        page: the page's own path, from which links start.
        say: a line for the user.
    """
    figures = Figures(kind)
    began = time.perf_counter()
    words = [] if kind.needs_model else [str(run_folder)]
    try:
        with _told(figures.told):
            paths = draw_kind(kind.name, [subject] if kind.needs_model else [], str(folder), words)
        drawn = [path for path in map(Path, paths) if path.suffix == ".png"]
        figures.pictures = [_picture(kind, path, paths, page, subject) for path in drawn]
        stems = {path.stem for path in drawn}
        rest = [path for path in map(Path, paths) if path.stem not in stems]
        figures.others = [(path.name, address(path, page)) for path in rest]
    except SystemExit:  # argparse has said so
        why = "its command takes other words than a run's folder"
        figures.missing = Missing(f"{kind.name}: {kind.help}", why, of_method=True)
        return figures
    except Exception as error:  # one figure must not take the page with it
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


@contextmanager
def _told(lines: List[str]) -> Iterator[None]:
    """What kinds log inside is kept in ``lines``."""

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(hide_paths(record.getMessage().strip()))

    handler, level = Keep(logging.INFO), _DRAWING_LOG.level
    _DRAWING_LOG.addHandler(handler)
    _DRAWING_LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        _DRAWING_LOG.removeHandler(handler)
        _DRAWING_LOG.setLevel(level)


def heading(kind: Kind) -> str:
    """What the kind shows; what else its command can do is no matter here."""
    words = kind.help.partition(";")[0]
    return words[:1].upper() + words[1:]


def _picture(
    kind: Kind, path: Path, written: Sequence[str], page: Path, subject: Optional[Subject]
) -> Picture:
    """With links to the same picture in other formats and to the numbers behind it."""
    uri, width, height = figure_uri(str(path))
    name = path.stem.replace("_", " ")
    of = f" ({subject.label} on {subject.dataset_name})" if subject is not None else ""
    what = heading(kind)
    beside = [Path(other) for other in written if Path(other).stem == path.stem]
    links = [(f"{one.suffix[1:].upper()}", address(one, page)) for one in beside]
    caption = f"{what}{of}" if name == kind.name else f"{what}{of}: {name}"
    return Picture(uri, width, height, f"{caption}.", f"{caption}.", links)


def address(path: Path, page: Path) -> str:
    """``path`` as a link from ``page``; absolute where no relative one exists (another drive)."""
    try:
        relative = os.path.relpath(path.resolve(), page.resolve().parent)
        return quote(Path(relative).as_posix(), errors="surrogateescape")
    except ValueError:
        return path.resolve().as_uri()
