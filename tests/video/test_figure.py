"""The figure of a measurement. Oracle: the rows that are drawn."""

import numpy as np
from matplotlib.container import ErrorbarContainer

from vireid_plugins.video.figure import draw, write_rank1
from vireid_plugins.video.measure import Row
from vireid_plugins.video.questions import Rate


def row(model, kind, gap, rank1):
    """Return a row whose interval reaches 4 below and 6 above."""
    found = Rate(rank1, rank1 - 4, rank1 + 6, np.zeros(1))
    return Row(model, kind, gap, 10, 3, 3.5, 30.0 + gap, found, found, [rank1])


ROWS = [
    row(model, kind, gap, rank1 - 10 * gap + (20 if kind == "color" else 0))
    for model, rank1 in (("random:a", 50), ("logs/$b$/model.pth", 60))
    for kind in ("color", "gray")
    for gap in (2.0, 1.0)
]


def test_points_and_bars_are_the_rows():
    figure = draw(ROWS)
    assert len(figure.axes) == 2
    for axes, kind in zip(figure.axes, ("color", "gray")):
        bars = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
        for drawn, model in zip(bars, ("random:a", "logs/$b$/model.pth")):
            own = {r.gap: r.rate for r in ROWS if (r.model, r.kind) == (model, kind)}
            assert drawn[0].get_ydata().tolist() == [own[1.0].rank1, own[2.0].rank1]
            ends = [segment[:, 1].tolist() for segment in drawn[2][0].get_segments()]
            assert ends == [[own[gap].low, own[gap].high] for gap in (1.0, 2.0)]
        assert axes.lines[-1].get_ydata().tolist() == [31.0, 32.0]  # chance
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2"]


def test_the_figure_is_written_twice_alike(tmp_path):
    first = [open(path, "rb").read() for path in write_rank1(ROWS, tmp_path / "a")]
    again = [open(path, "rb").read() for path in write_rank1(ROWS, tmp_path / "b")]
    assert first == again and len(first) == 2
