"""The kind ``swaps``, and the same grids in TensorBoard. Oracle: a model whose parts are known.

``Painter`` reads from an image of four quarters: its prototype is the first pixel, and style, pose
and illumination are three more; its decoder paints these four. So every cell of a grid says itself
whose prototype, style, pose and illumination it has.
"""

from collections import Counter

import pytest
import torch
from torch import nn

from vireid_plugins.drawing.photos import Photo
from vireid_plugins.engine.pictures import MethodPictures
from vireid_plugins.errors import PlotError
from vireid_plugins.modeling.generation.grids import mosaic, partners, pixels, swap_grids
from vireid_plugins.modeling.generation.swaps import Codes
from vireid_plugins.plots.swaps import Swaps, in_words, pages_of, seen_by
from vireid_plugins.plots.swaps_page import swaps_page

VALUES = ("prototype", "style", "pose", "light")


class Painter(nn.Module):
    """Images (B, 3, 2, 2), whose pixels are prototype, style, pose and light."""

    def __init__(self):
        super().__init__()
        self.register_buffer("pixel_mean", torch.full((1, 3, 1, 1), 100.0))
        self.register_buffer("pixel_std", torch.full((1, 3, 1, 1), 10.0))

    def encode(self, images, modalities):
        flat = images[:, 0].flatten(1)
        chunk = torch.stack([flat[:, 1], flat[:, 1], flat[:, 2], flat[:, 3]], dim=1)
        return Codes(images[:, :, :1, :1], chunk.repeat(1, 4))

    def decode(self, prototypes, attributes):
        parts = [prototypes[:, :1, 0, 0], attributes[:, :1], attributes[:, 2:4]]
        return torch.cat(parts, dim=1).view(-1, 1, 2, 2).expand(-1, 3, 2, 2)

    def extract(self, images, modalities):
        flat = images[:, 0].flatten(1)
        return torch.stack([flat[:, 0], flat[:, 1], torch.ones(len(flat))], dim=1)

    @staticmethod
    def heads(features, targets, modalities):
        return features


@pytest.fixture
def images():
    """Four images; image k has the values 4 k, 4 k + 1, 4 k + 2, 4 k + 3."""
    return torch.arange(16.0).view(4, 1, 2, 2).expand(4, 3, 2, 2)


MODALITIES, PERSONS = torch.tensor([0, 1, 0, 1]), ["a", "a", "b", "b"]


def values(image):
    return image[0].flatten().tolist()


def of(prototype, style, pose, light):
    """The values of an image that has each part of another image."""
    return [4.0 * place + part for part, place in enumerate((prototype, style, pose, light))]


def test_the_cells_have_the_person_of_their_column_and_the_pose_of_their_row(images):
    everyone, across, parts = swap_grids(Painter(), images, MODALITIES, PERSONS, list("vwxy"))
    assert everyone.cells[0][0] is None
    for place in range(4):
        assert values(everyone.cells[0][place + 1]) == of(place, place, place, place)
        assert values(everyone.cells[place + 1][0]) == of(place, place, place, place)
        for person in range(4):
            cell = everyone.cells[place + 1][person + 1]
            assert values(cell) == of(person, person, place, place)
    partner, stranger = [1, 0, 3, 2], [3, 2, 1, 0]
    for k, (row, other) in enumerate(zip(across.cells, partner)):
        assert [values(cell) for cell in row] == [
            of(k, k, k, k),
            of(k, k, k, k),
            of(other, other, other, other),
            of(k, k, other, other),
            of(k, k, k, k),
        ]
    for k, (row, d) in enumerate(zip(parts.cells, stranger)):
        made = [of(k, k, k, k), of(k, d, k, k), of(k, k, d, k), of(k, k, k, d), of(k, k, d, d)]
        assert [values(cell) for cell in row[2:]] == made
        assert values(row[1]) == of(d, d, d, d)


def test_partners_are_of_the_other_modality_where_there_are_any():
    assert partners([0, 1, 0, 1], PERSONS, same=True) == [1, 0, 3, 2]
    assert partners([0, 1, 0, 1], PERSONS, same=False) == [3, 2, 1, 0]
    assert partners([0, 0], ["a", "b"], same=True) == [1, 0]
    assert partners([0], ["a"], same=True) == [0]


def test_pixels_are_those_before_the_normalization(images):
    model = Painter()
    found = pixels(images[3], model.pixel_mean, model.pixel_std)
    assert found.shape == (3, 2, 2) and found[0].tolist() == [[220, 230], [240, 250]]
    assert pixels(images[3] + 99, model.pixel_mean, model.pixel_std).max() == 255


def test_a_mosaic_has_all_grids_beside_each_other_and_a_row_is_one_image(images):
    model = Painter()
    grids = swap_grids(model, images, MODALITIES, PERSONS, list("vwxy"))
    found = mosaic(grids, model.pixel_mean, model.pixel_std)
    assert found.dtype.name == "uint8"
    assert found.shape == (3, 5 * 2, (5 + 5 + 7) * 2 + 3 * 4)
    assert (found[:, :2, :2] == 255).all()  # the empty corner
    assert found[0, 0:2, 2:4].tolist() == [[100, 110], [120, 130]]
    for left in (0, 5 * 2 + 4, 10 * 2 + 8):  # the first image begins the first row of each grid
        assert found[0, 2:4, left : left + 2].tolist() == [[100, 110], [120, 130]]
    assert (found[:, :2, 10:] == 255).all()


def photo(person, modality):
    return Photo(f"{person}{modality}.jpg", person, 1, modality)


def test_a_page_has_four_persons_and_its_visible_images_first():
    """Of nine persons one is left for the last page, alone with two images."""
    photos = [photo(person, modality) for person in range(9) for modality in (0, 1)]
    pages = pages_of(photos)
    assert [len(page) for page in pages] == [8, 8, 2]
    found = [(one.target, one.modality) for one in pages[1]]
    assert found == [(4, 0), (5, 0), (6, 0), (7, 0), (4, 1), (5, 1), (6, 1), (7, 1)]


def test_no_image_is_alone_on_a_page():
    strangers = [Photo(f"{name}.jpg", modality=0) for name in "abcde"]
    assert [len(page) for page in pages_of(strangers)] == [5]


def test_a_page_of_eight_images_is_wider_than_tall_and_its_rows_are_those_of_all_grids(images):
    """Each image of a row begins at the height of the row's photograph in the first grid."""
    model = Painter()
    eight = torch.cat([images, images + 16])
    modalities = torch.tensor([0] * 4 + [1] * 4)
    names = [f"cam 1, {place}" for place in range(8)]
    grids = swap_grids(model, eight, modalities, list("abcdabcd"), names)

    def person(image):  # twice as tall as wide
        return pixels(image.repeat_interleave(2, dim=1), model.pixel_mean, model.pixel_std)

    figure = swaps_page(grids, person, "title", 4)
    width, height = figure.get_size_inches()
    assert 1 < width / height < 2 and height < 14
    tops = Counter(round(one.get_extent()[3], 4) for one in figure.axes[0].images)
    assert sorted(tops.values()) == [8] + [9 + 5 + 7] * 8
    lefts = {round(one.get_extent()[0], 4) for one in figure.axes[0].images}
    assert len(lefts) == 9 + 5 + 7


def test_what_a_model_sees_in_its_images(images):
    """The feature is of prototype and style, so the person stays whatever the pose is."""
    cells = seen_by(Painter(), images, MODALITIES)
    assert len(cells) == 12
    assert all(cell.nearest == cell.person and cell.to_person > 0.999 for cell in cells)
    # pose and light of image d differ by 4 |d - k|, in two of four pixels, times the deviation
    for cell in cells:
        assert cell.change == pytest.approx(10 * 4 * abs(cell.donor - cell.person) / 2)
    words = in_words(cells, PERSONS)
    assert words.startswith("By the model's own features, 12 of 12") and "8 of 8" in words


def test_a_method_without_a_decoder_is_named():
    class Subject:
        model = nn.Linear(1, 1)

    with pytest.raises(PlotError, match="Linear generates no images"):
        Swaps().draw([Subject()], Swaps.Options(), "")


class Storage:
    def __init__(self):
        self.images = []

    def put_image(self, name, picture):
        self.images.append((name, picture.shape))


@pytest.mark.parametrize("period, expected", [(2, [1, 3, 5]), (0, []), (4, [3])])
def test_pictures_are_drawn_after_every_so_many_iterations(period, expected, monkeypatch):
    drawn = []

    class Model(nn.Module):
        def pictures(self, batch):
            assert not self.training and not torch.is_grad_enabled()
            return {"swaps": torch.zeros(3, 4, 5).numpy()}

    class Trainer:
        model, storage = Model().train(), Storage()

    hook = MethodPictures(None, period)
    hook._batch, hook.trainer = {"images": None}, Trainer()
    for hook.trainer.iter in range(6):
        before = len(hook.trainer.storage.images)
        hook.after_step()
        drawn += [hook.trainer.iter] * (len(hook.trainer.storage.images) - before)
    assert drawn == expected and hook.trainer.model.training
