"""The kind ``parts``, and key points in pictures. Oracles: planted maps; the test loader."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vireid_plugins.drawing.photos import photo_of
from vireid_plugins.errors import FileContentError, PlotError
from vireid_plugins.modeling.maps import Tap
from vireid_plugins.plots.chosen import batch_of_subject
from vireid_plugins.plots.kinds import draw_kind
from vireid_plugins.plots.parts import Parts  # noqa: F401  registers
from vireid_plugins.plots.subject import load_subject

from tests.every_key.narrow import NAME
from tests.onnx_export.small import small_checkpoint
from tests.plots.photographs import subject_of, words_of
from tests.plots.planted import read_numbers


class Planted(nn.Module):
    """Part 1 is the upper half, part 2 the lower one; all attention is at (5, 1)."""

    def __init__(self, attends=True):
        super().__init__()
        self.parts = Tap("part_maps", "(B, 2, 8, 2)")
        self.attention = Tap("structure_attention", "(B, 8, 2)") if attends else None

    def forward(self, batch):
        maps = torch.zeros(len(batch["images"]), 2, 8, 2)
        maps[:, 0, :4], maps[:, 1, 4:] = 1, 0.5
        self.parts(maps)
        if self.attention is not None:
            attention = torch.zeros(len(maps), 8, 2)
            attention[:, 5, 1] = 0.25
            self.attention(attention)
        return batch["images"].mean(dim=(2, 3))


def test_each_map_is_laid_over_the_image(sysu, figures, tmp_path):
    path = tmp_path / "person.png"
    Image.new("RGB", (40, 80), (100, 100, 100)).save(path)
    subject = subject_of(sysu, model=Planted())
    paths = draw_kind("parts", subject, str(tmp_path), images=[f"{path}:visible"]).paths
    drawn = [np.asarray(one.get_array()).astype(int) for one in figures[0].axes[0].images]
    image, attention, upper, lower = (one.sum(axis=2) for one in drawn[:4])
    assert len(drawn) == 5 and (image == 300).all()  # and the bar of colors
    y, x = np.unravel_index(attention.argmax(), attention.shape)
    assert 50 <= y < 60 and x >= 20
    assert upper[:30].min() > upper[50:].max() and lower[50:].min() > lower[:30].max()
    assert {"attention", "part 1", "part 2"} <= set(words_of(figures[0]))
    rows = read_numbers(paths[-1])
    found = {(r["map"], int(r["row"]), int(r["column"])): float(r["value"]) for r in rows}
    assert len(found) == 3 * 16 and sum(found.values()) == 0.25 + 8 + 4
    assert found["attention", 5, 1] == 0.25 and found["part 2", 7, 0] == 0.5


def test_a_method_with_one_of_them_or_none(sysu, figures, tmp_path):
    draw_kind("parts", subject_of(sysu, model=Planted(False)), str(tmp_path), count=1)
    assert "attention" not in words_of(figures[0]) and "part 2" in words_of(figures[0])
    with pytest.raises(PlotError, match="shows neither part_maps nor structure_attention"):
        draw_kind("parts", subject_of(sysu, model=nn.Identity()), str(tmp_path))


def test_pictures_of_a_model_with_key_points_have_those_of_each_photograph(datasets, tmp_path):
    weights = small_checkpoint(
        tmp_path / "spot.pth",
        "configs/spot/synthetic.yml",
        MODEL__BACKBONE__NAME=NAME,
        MODEL__STRUCTURE__CHANNELS=8,
    )
    subject = load_subject(str(weights), progress=False)
    items = [subject.items[place] for place in (0, 5, 11)]
    batch = batch_of_subject(subject, [photo_of(item) for item in items])
    for row, item in enumerate(items):
        sample = subject.loader.dataset[subject.items.index(item)]
        assert torch.equal(batch["images"][row], sample["images"])
        assert torch.equal(batch["keypoints"][row], sample["keypoints"])
    bare = photo_of(items[0])._replace(path=str(tmp_path / "bare.png"))
    Image.open(items[0].path).save(bare.path)
    with pytest.raises(FileContentError, match="no key points of .*bare.png.*vireid pose"):
        batch_of_subject(subject, [bare])
