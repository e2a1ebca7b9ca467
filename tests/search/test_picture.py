"""The picture of what was found. Oracle: its artists, and the pixels that were drawn."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from vireid_plugins.search import GridRow, draw_grid
from vireid_plugins.search.picture import _caption, check_picture

SHAPES = [(20, 60), (60, 20), (1, 1), (1, 400), (400, 1), (24, 24)]  # width and height


@pytest.fixture
def drawn(monkeypatch):
    """Figures that were written."""
    figures, savefig = [], Figure.savefig

    def keep(self, *args, **options):
        figures.append(self)
        return savefig(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def row(folder, count, name="{}.png"):
    results = []
    for number in range(count):
        path = folder / f"{number}.png"
        shape = SHAPES[number % len(SHAPES)]
        Image.new("RGB", shape, (5 * number, 250 - 5 * number, 90)).save(path)
        results.append((0.9 - 0.01 * number, path, name.format(number)))
    query = folder / "query.png"
    Image.new("RGB", (24, 48), (250, 0, 0)).save(query)
    return GridRow(query, "query.png", results)


@pytest.mark.parametrize("count", [1, 10, 50])
def test_every_result_has_its_panel_in_its_own_proportions(tmp_path, drawn, count):
    draw_grid([row(tmp_path, count)], tmp_path / "out" / "grid.png", title="t", threshold=None)
    axes = drawn[0].axes[0]
    assert len(axes.images) == len(axes.patches) == 1 + count
    for number, (image, frame) in enumerate(zip(axes.images[1:], axes.patches[1:])):
        left, right, bottom, top = image.get_extent()
        framed = frame.get_width(), frame.get_height()
        assert framed == pytest.approx((right - left, bottom - top))
        width, height = SHAPES[number % len(SHAPES)]
        if max(width, height) < 20 * min(width, height):
            assert (right - left) / (bottom - top) == pytest.approx(width / height, rel=0.05)
        color = np.asarray(image.get_array())[0, 0]
        np.testing.assert_allclose(color, (5 * number, 250 - 5 * number, 90), atol=1)
    size = Image.open(tmp_path / "out" / "grid.png").size
    pixels = drawn[0].get_size_inches() * 120
    assert abs(np.array(size) - pixels).max() <= 1
    boxes = [frame.get_window_extent() for frame in axes.patches]
    for number, one in enumerate(boxes):
        assert 0 <= one.x0 and one.x1 <= size[0] and 0 <= one.y0 and one.y1 <= size[1]
        assert not any(one.overlaps(other) for other in boxes[:number])


def test_frames_say_which_scores_reach_the_threshold(tmp_path, drawn):
    draw_grid([row(tmp_path, 4)], tmp_path / "grid.png", title="t", threshold=0.88, note="why so")
    axes = drawn[0].axes[0]
    styles = [
        (to_hex(f.get_edgecolor()), f.get_linestyle() in ("-", "solid")) for f in axes.patches[1:]
    ]
    above, below = ("#0072b2", True), ("#d55e00", False)
    assert styles == [above, above, above, below]  # 0.90, 0.89, 0.88, 0.87
    texts = [text.get_text() for text in axes.texts]
    assert [text for text in texts if "▲" in text or "▽" in text][:4] == [
        "1   0.900 ▲",
        "2   0.890 ▲",
        "3   0.880 ▲",
        "4   0.870 ▽",
    ]
    assert "0.880 or more" in texts[-1] and texts[-1].endswith("why so")
    assert not {"#009e73", "#00855f"} & {style[0] for style in styles}  # nothing says "right"


def test_odd_names_are_drawn_as_they_are(tmp_path, drawn, recwarn):
    rows = [row(tmp_path, 2, "a$b$/very/long/folder/of/cameras/人物{}_and_a_very_long_name.png")]
    draw_grid(rows * 3, tmp_path / "grid.pdf", title="$x^2$", threshold=None)
    assert drawn[0].axes[0].texts[0].get_text() == r"\$x^2\$"
    assert "□: a letter that the picture's font lacks" in drawn[0].axes[0].texts[-1].get_text()
    assert sum("□□" in text.get_text() for text in drawn[0].axes[0].texts) == 6
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    assert (tmp_path / "grid.pdf").read_bytes()[:4] == b"%PDF"
    assert _caption("cam2/day/0001.jpg") == "cam2/day/\n0001.jpg"
    assert _caption("a" * 30 + "b.jpg") == "aaaaaaaaa…aaaab.jpg"


def test_an_image_that_is_gone_leaves_its_place(tmp_path, drawn):
    one = row(tmp_path, 3)
    (tmp_path / "1.png").unlink()
    draw_grid([one], tmp_path / "grid.png", title="t", threshold=None)
    axes = drawn[0].axes[0]
    assert len(axes.images) == 3 and len(axes.patches) == 4
    assert any("not there" in text.get_text() for text in axes.texts)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    for path, queries, topk, words in (
        ("grid.bmp", 1, 10, "ends in .png or .pdf"),
        ("grid.png", 21, 10, "at most 20 queries"),
        ("grid.png", 1, 51, "50 results"),
    ):
        with pytest.raises(ValueError, match=words):
            check_picture(tmp_path / path, queries, topk)
