"""Draw the gain of each row over the rows that it is compared with."""

import io
from typing import Any, List, Mapping, Sequence, Tuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..drawing.style import COLORS, GRAY, plain, styled
from .claims import Claim
from .columns import COMPARED, SHOWN, directions_of
from .contrasts import Contrasts
from .summary import Row

BEYOND, WITHIN, PAPER = COLORS[0], "#9a9a9a", COLORS[3]
# Inches: a row, the room above and below the rows, a panel, a letter of the longest name.
_ROW, _ABOVE, _BELOW, _PANEL, _LETTER = 0.3, 0.75, 0.95, 3.6, 0.074
_DPI = 130
_FARTHEST = 1.6  # a printed gain beyond so many times the drawn range is named at the edge


@styled()
def draw_gains(
    contrasts: Contrasts, protocols: Sequence[str], claims: Mapping[str, Claim], title: str
) -> bytes:
    """Return a PNG: for each difference a dot with its 95 % interval, and what the paper prints.

    There is a panel for rank-1 and one for mAP; with several protocol lines, each has a line of
    panels.

    Args:
        contrasts: the table; at least one row and one that it is compared with have results.
        protocols: the protocol lines whose metrics are drawn.
        claims: by the name of a row.
        title: title above the panels.
    """
    pairs = contrasts.pairs
    labels = [f"{row.name}  over  {other.name}" for row, other in pairs]
    names = max(map(len, labels)) * _LETTER + 0.2
    ends = directions_of(contrasts.rows, protocols)
    each = _ROW * len(pairs) + 0.55
    width, height = names + len(COMPARED) * _PANEL + 0.2, _ABOVE + _BELOW + each * len(ends)
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(ends), len(COMPARED), sharey=True, squeeze=False)
    for line, (protocol, end) in zip(panels, ends.items()):
        for axes, metric in zip(line, COMPARED):
            _draw_panel(axes, contrasts, pairs, protocol, metric, claims)
            axes.set_xlabel(f"gain of {SHOWN.get(metric, metric)}{end} (points)")
        line[0].set_yticks(range(len(pairs)), [plain(label) for label in labels])
    panels[0, 0].set_ylim(len(pairs) - 0.4, -0.6)
    figure.suptitle(plain(title), x=0.02, y=1 - 0.12 / height, ha="left", va="top")
    told = plain(", ".join(protocols))
    figure.text(0.02, 1 - 0.38 / height, told, ha="left", va="top", fontsize=8, color=GRAY)
    figure.legend(handles=_legend(claims), loc="lower center", ncol=4)
    figure.subplots_adjust(
        left=names / width,
        right=1 - 0.15 / width,
        bottom=_BELOW / height,
        top=1 - _ABOVE / height,
        wspace=0.08,
        hspace=0.4,
    )
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    return content.getvalue()


def _draw_panel(
    axes: Axes,
    contrasts: Contrasts,
    pairs: Sequence[Tuple[Row, Row]],
    protocol: str,
    metric: str,
    claims: Mapping[str, Claim],
) -> None:
    axes.axvline(0, color="black", lw=0.9, zorder=1)
    reach: List[float] = [1.0]
    printed: List[Tuple[int, float]] = []
    for place, (row, other) in enumerate(pairs):
        found = contrasts.difference(row, other, protocol, metric)
        if found is None:
            continue
        color = BEYOND if found.beyond_noise else WITHIN
        bound = found.bound or 0.0
        axes.plot([found.delta - bound, found.delta + bound], [place] * 2, color=color, zorder=2)
        filled = color if found.beyond_noise else "white"
        axes.plot([found.delta], [place], "o", ms=6, mfc=filled, mec=color, zorder=3)
        reach.append(abs(found.delta) + bound)
        claim = claims.get(row.name)
        if claim and metric in claim.values and claim.over == other.name:
            printed.append((place, claim.values[metric]))
    half = max(reach) * 1.08
    half = max([half, *(abs(v) * 1.08 for _, v in printed if abs(v) < _FARTHEST * half)])
    for place, value in printed:
        _draw_claim(axes, place, value, half)
    axes.set_xlim(-half, half)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _draw_claim(axes: Axes, place: int, value: float, half: float) -> None:
    """Draw a printed gain; one far outside is named at the edge of the panel."""
    if abs(value) <= half:
        axes.plot([value], [place], "D", ms=5, mfc="none", mec=PAPER, zorder=4)
        return
    side = 1 if value > 0 else -1
    axes.plot([side * half * 0.97], [place], ">" if side > 0 else "<", ms=5, color=PAPER, zorder=4)
    where = "right" if side > 0 else "left"
    spot: Any = {"ha": where, "va": "center", "fontsize": 7, "color": PAPER}
    axes.text(side * half * 0.93, place - 0.28, f"{value:+g}", **spot)


def _legend(claims: Mapping[str, Claim]) -> List[Any]:
    handles = [
        Line2D([], [], color=BEYOND, marker="o", label="beyond noise (95 % interval)"),
        Line2D([], [], color=WITHIN, marker="o", mfc="white", label="within noise"),
    ]
    if any(claim.values for claim in claims.values()):
        paper: Any = {"marker": "D", "mfc": "none", "mec": PAPER, "ls": ""}
        handles.append(Line2D([], [], label="printed by the paper, real data", **paper))
    return handles
