"""Define how every figure looks, and write figures.

The colors are those of Okabe and Ito, which color-blind readers can tell apart. Marks and line
styles repeat whatever a color says.

Training imports this module, so matplotlib is loaded only when something is drawn.
"""

import csv
import io
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, Iterator, List, Sequence, Tuple

from ..cells import safe_cells
from ..files import write_atomically
from ..modality import Modality
from ..readers.text import readable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Blue, orange, green, vermilion, sky blue, purple, black; yellow is last, as it is pale on white.
COLORS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#56b4e9",
    "#cc79a7",
    "#000000",
    "#f0e442",
)
BLACK = COLORS[6]
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
LINES: Tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)))
MODALITY_MARKERS = {Modality.VISIBLE: "o", Modality.INFRARED: "^"}
GRAY, PALE = "#555555", "#dddddd"

RC: Any = {  # matplotlib types the keys as literals
    "font.family": "DejaVu Sans",  # comes with matplotlib: figures look alike everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "savefig.dpi": 160,
    # Text in a PDF stays text, in TrueType fonts, which publishers ask for.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
}


@contextmanager
def styled() -> Iterator[None]:
    """Give this style to whatever is drawn inside the context, or in the decorated function."""
    import matplotlib

    with matplotlib.rc_context(RC):
        yield


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of ``width`` x ``height`` inches, without pyplot's global state.

    Its axes are laid out so that nothing overlaps; axes of ``add_axes`` stay where they are.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(text: Any) -> str:
    """Return ``text`` for matplotlib, which reads no mathematics in it and can draw it."""
    return readable(str(text)).replace("$", r"\$")


def write_figure(figure: "Figure", folder: str, name: str) -> List[str]:
    """Write ``folder/name.png`` and ``folder/name.pdf``; missing folders are made.

    The same figure gives the same bytes.

    Returns:
        Both paths.
    """
    # No date in a PDF, no name of a program in a PNG: the same figure gives the same bytes.
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}}
    written = []
    for kind, facts in metadata.items():
        content = io.BytesIO()
        with styled():
            figure.savefig(content, format=kind, metadata=facts)
        # What was laid out for the PNG stays for the PDF: both look alike, in half the time.
        figure.set_layout_engine("none")
        written.append(_write(folder, f"{name}.{kind}", content.getvalue()))
    return written


def write_numbers(
    folder: str, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> str:
    """Write the numbers behind a figure as ``folder/name.csv``; return its path."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(safe_cells(header))
    writer.writerows(map(safe_cells, rows))
    # Names of files may contain bytes that are not UTF-8; they are written unchanged.
    return _write(folder, f"{name}.csv", content.getvalue().encode("utf-8", "surrogateescape"))


def _write(folder: str, name: str, content: bytes) -> str:
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    write_atomically(Path(path), lambda file: file.write(content))
    return path
