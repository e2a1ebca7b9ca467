"""Draw the outcome: a dot for every seed, and the mean of each config."""

import io
from typing import Any, Dict, Optional, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..drawing.style import plain
from .columns import directions_of
from .contrasts import Contrasts
from .estimate import AnyEstimate, Estimate, TrialEstimate
from .noise import Noise

_PANELS = (("Rank-1", "rank-1 (%)"), ("mAP", "mAP (%)"))
_DOT, _MEAN, _BASELINE = "#5dade2", "#1b4f72", "#d55e00"
_ABSENT: Dict[str, Any] = {"fontsize": 8, "color": "#888888", "ha": "center", "va": "center"}
# Inches: a row, the room above and below the rows, a panel, a letter of the longest name, and the
# room between the panels of two protocol lines.
_ROW, _AROUND, _PANEL, _LETTER, _BETWEEN = 0.34, 1.55, 3.9, 0.078, 0.62
_BELOW = 0.24  # in rows: seeds are drawn below their mean, so that they do not hide it
_DPI = 130


def draw_plot(contrasts: Contrasts, protocols: Sequence[str], title: str) -> bytes:
    """Return a PNG with a panel for rank-1 and one for mAP, and a line for each config.

    With several protocol lines, each has a line of panels.

    Args:
        contrasts: the configs from top to bottom, as in the table. If all are compared with one
            of them, its mean crosses the panels, with a band for what is within the noise.
        protocols: the protocol lines whose metrics are drawn.
        title: title above both panels.
    """
    rows, baselines = contrasts.rows, contrasts.baselines
    base = baselines[0] if len(baselines) == 1 else ""
    reference = next((place for place, row in enumerate(rows) if row.name == base), None)
    names = max(len(row.name) for row in rows) * _LETTER
    ends = directions_of(rows, protocols)
    each, between = _ROW * len(rows), _BETWEEN * (len(ends) - 1)
    width, height = names + len(_PANELS) * _PANEL + 0.3, _AROUND + each * len(ends) + between
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(ends), len(_PANELS), sharey=True, squeeze=False)
    for line, (protocol, end) in zip(panels, ends.items()):
        for axes, (metric, label) in zip(line, _PANELS):
            estimates = [row.estimate(protocol, metric) for row in rows]
            _draw_panel(axes, estimates, reference, contrasts.noise(protocol, metric))
            axes.set_xlabel(label.replace(" (%)", f"{end} (%)"))
        line[0].set_yticks(range(len(rows)), [plain(row.name) for row in rows])
    panels[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    figure.suptitle(plain(title), x=0.02, y=1 - 0.14 / height, ha="left", va="top", fontsize=11)
    told = plain(", ".join(protocols))
    figure.text(0.02, 1 - 0.4 / height, told, ha="left", va="top", fontsize=8, color="#555555")
    legend_of = panels[0, 0].get_legend_handles_labels()
    figure.legend(*legend_of, loc="lower center", ncol=4, fontsize=8, frameon=False)
    figure.subplots_adjust(
        left=(names + 0.25) / width,
        right=1 - 0.15 / width,
        bottom=0.85 / height,
        top=1 - 0.66 / height,
        wspace=0.06,
        hspace=_BETWEEN / each,
    )
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _draw_panel(
    axes: Axes,
    estimates: Sequence[Optional[AnyEstimate]],
    reference: Optional[int] = None,
    noise: Optional[Noise] = None,
) -> None:
    base = None if reference is None else estimates[reference]
    over_trials = any(isinstance(one, TrialEstimate) for one in estimates)
    dot = "one trial" if over_trials else "one seed"
    if base is not None:
        # Configs over trials are compared trial by trial: no band tells where a difference begins.
        number = len(base.values) if isinstance(base, Estimate) else 0
        bound = noise.bound(number, number) if noise and number else 0.0
        label = "baseline, and what is within its noise" if bound else "baseline"
        axes.axvline(base.mean, color=_BASELINE, ls="--", lw=1.2, zorder=1, label=label)
        if bound:
            axes.axvspan(base.mean - bound, base.mean + bound, color=_BASELINE, alpha=0.12, lw=0)
    known = [(place, one) for place, one in enumerate(estimates) if one is not None]
    dots = [(value, place + _BELOW) for place, one in known for value in one.values]
    x, y = zip(*dots)
    axes.scatter(x, y, s=17, color=_DOT, lw=0, zorder=2, label=dot)
    for place in set(range(len(estimates))) - {place for place, _ in known}:
        axes.text(0.5, place, "no result", transform=axes.get_yaxis_transform(), **_ABSENT)
    axes.errorbar(
        [one.mean for _, one in known],
        [place for place, _ in known],
        xerr=[one.spread or 0.0 for _, one in known],
        fmt="D",
        ms=5,
        color=_MEAN,
        ecolor=_MEAN,
        elinewidth=1.2,
        capsize=3,
        zorder=3,
        label="mean ± standard deviation",
    )
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
