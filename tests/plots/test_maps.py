"""The kinds ``masks`` and ``stripes``. Oracle: a model whose maps are planted."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vireid_plugins.drawing.photos import Photo
from vireid_plugins.drawing.sheet import Box, Panel, PanelGroup, draw_sheet, fit
from vireid_plugins.errors import PlotError
from vireid_plugins.modeling.maps import Tap
from vireid_plugins.plots.kinds import draw_kind
from vireid_plugins.plots.maps import (
    Masks,  # noqa: F401  registers
    _stripe_group,
)

from tests.plots.photographs import subject_of, words_of
from tests.plots.planted import read_numbers


class Planted(nn.Module):
    """Masks are the red channel; stripes 2 and 0 of 4 are chosen, all attention is at (5, 1)."""

    def __init__(self):
        super().__init__()
        self.mask = Tap("mask", "(B, 1, H, W)")
        self.kept, self.scores = Tap("kept_stripes", "(B, k)"), Tap("stripe_scores", "(B, R)")
        self.attention = Tap("attention", "(B, H, W)")

    def forward(self, batch):
        images = batch["images"]
        rows = len(images)
        self.mask(images[:, :1] / 255)
        self.kept(torch.tensor([[2, 0]]).repeat(rows, 1))
        self.scores(torch.tensor([[0.5, 0.1, 0.9, 0.2]]).repeat(rows, 1))
        attention = torch.zeros(rows, 8, 2)
        attention[:, 5, 1] = 1
        self.attention(attention)
        return images.mean(dim=(2, 3))


def test_person_and_background_add_up_to_the_image(sysu, figures, tmp_path):
    subject = subject_of(sysu, model=Planted())
    paths = draw_kind("masks", [subject], str(tmp_path), count=3).paths
    drawn = [np.asarray(image.get_array()) for image in figures[0].axes[0].images]
    bar, panels = drawn[-1], drawn[:-1]
    assert len(panels) == 6 * 4 and bar.shape[0] == 1
    rows = read_numbers(paths[-1])
    assert len(rows) == 6 * 48 * 24
    for number, (image, mask, person, background) in enumerate(zip(*[iter(panels)] * 4)):
        assert image.shape == (48, 24, 3)
        np.testing.assert_array_equal(mask, np.repeat(image[..., :1], 3, axis=2))
        np.testing.assert_allclose(person.astype(int) + background, image, atol=1)
        np.testing.assert_allclose(person, image * (image[..., :1] / 255.0), atol=0.51)
        part = rows[48 * 24 * number : 48 * 24 * (number + 1)]
        assert {row["identity"] for row in part} == {str(image[0, 0, 0] // 40)}
        values = np.array([float(row["value"]) for row in part])
        np.testing.assert_allclose(values, image[..., 0].ravel() / 255.0, rtol=1e-3)
    words = words_of(figures[0])
    assert sum("mean of the mask" in word for word in words) == 6


def test_chosen_stripes_are_lit_framed_and_numbered(sysu, figures, tmp_path):
    subject = subject_of(sysu, model=Planted())
    path = tmp_path / "person.png"
    Image.new("RGB", (40, 80), (200, 200, 200)).save(path)
    paths = draw_kind("stripes", subject, str(tmp_path), images=[f"{path}:visible"]).paths
    image, stripes, attention, _ = (
        np.asarray(one.get_array()) for one in figures[0].axes[0].images
    )
    light = stripes[:, 5, 0].reshape(4, 20)
    assert (light == light[:, :1]).all() and light[:, 0].tolist() == [200, 70, 200, 70]
    # Row 5 of 8, column 1 of 2: the brightest place of the overlay.
    bright = attention.astype(int).sum(axis=2)
    y, x = np.unravel_index(bright.argmax(), bright.shape)
    assert 50 <= y < 60 and x >= 20
    axes = figures[0].axes[0]
    boxes = [patch.get_window_extent() for patch in axes.patches]
    assert len(boxes) == 2  # frames
    whole = axes.images[1].get_window_extent()
    for box, number in zip(boxes, (2, 0)):  # in the order of choice; the page counts from below
        assert box.height == pytest.approx(whole.height / 4, rel=1e-3)
        assert whole.y1 - box.y1 == pytest.approx(number * whole.height / 4, abs=0.5)
    places = {
        text.get_text(): text.get_window_extent()
        for text in axes.texts
        if re.fullmatch("[12]", text.get_text())
    }
    for place, box in zip("12", boxes):
        assert box.y0 < (places[place].y0 + places[place].y1) / 2 < box.y1
    rows = read_numbers(paths[-1])
    assert [row["place"] for row in rows] == ["2", "0", "1", "0"]
    assert [float(row["score"]) for row in rows] == pytest.approx([0.5, 0.1, 0.9, 0.2])
    assert [float(row["attention"]) for row in rows] == [0, 0, 1, 0]


def test_stripes_of_uneven_heights_cover_the_image(tmp_path):
    """A map of 7 rows in 3 stripes: 3, 2 and 2 rows; the second is chosen."""
    maps = {
        "attention": np.full((1, 7, 3), 1 / 21, np.float32),
        "stripe_scores": np.zeros((1, 3)),
        "kept_stripes": np.array([[1]]),
    }
    path = tmp_path / "white.png"
    Image.new("RGB", (30, 70), (255, 255, 255)).save(path)
    group = _stripe_group(Photo(str(path), modality=0), 0, [maps])
    light = group.panels[1].pixels[:, 0, 0]
    assert np.flatnonzero(light == 255).tolist() == list(range(30, 50))


def test_two_models_beside_each_other(sysu, figures, tmp_path):
    subjects = [subject_of(sysu, model=Planted(), label=label) for label in ("one", "other")]
    paths = draw_kind("stripes", subjects, str(tmp_path), count=1).paths
    assert len(figures[0].axes[0].images) == 2 * 5 + 1
    assert {"one: stripes", "other: attention"} <= {
        word.replace("\n", " ") for word in words_of(figures[0])
    }
    assert [row["model"] for row in read_numbers(paths[-1])] == ["one"] * 8 + ["other"] * 8
    with pytest.raises(PlotError, match="masks takes 1 to 1 models; got 2"):
        draw_kind("masks", subjects, str(tmp_path))


def test_a_model_without_such_maps_says_what_it_has(sysu, tmp_path):
    model = Planted()
    model.mask = model.scores = nn.Identity()
    subject = subject_of(sysu, model=model, label="mine")
    with pytest.raises(PlotError, match=r"mine \(Planted\) does not show mask; it shows kept_str"):
        draw_kind("masks", [subject], str(tmp_path))
    with pytest.raises(PlotError, match="does not show stripe_scores; it shows kept_stripes, att"):
        draw_kind("stripes", [subject], str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [(60, 400), (640, 360), (48, 96)])
def test_photographs_keep_their_proportions_inside_their_place(size):
    box = fit(size, Box(1.0, 2.0, 0.95, 1.9))
    assert box.height / box.width == pytest.approx(size[1] / size[0])
    assert box.width <= 0.95 + 1e-9 and box.height <= 1.9 + 1e-9
    assert box.top == 2.0 and box.middle == pytest.approx(1.475)


@pytest.mark.parametrize("size", [(64, 128), (96, 96), (200, 50)])
def test_captions_stand_right_below_the_tallest_image_of_a_sheet(size):
    pixels = np.zeros((*size[::-1], 3), np.uint8)
    groups = [PanelGroup([Panel(pixels, size), Panel(pixels[:10], (size[0], 10), "low")], "both")]
    sheet = draw_sheet(groups, ["a", "b"], title="t", note="n")
    tallest = max(box.bottom for box in sheet.boxes.values())
    words = {one.get_text(): one.get_position()[1] for one in sheet.page.axes.texts}
    assert words["low"] == pytest.approx(tallest + 0.04)
    assert tallest < words["low"] < words["both"] < words["n"] < sheet.page.height
    assert sheet.page.height - tallest < 1
