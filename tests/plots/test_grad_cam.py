"""Grad-CAM and what is drawn of it.

Oracles: its formula by loops, a linear head whose parts are known, models that look at nothing.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vireid_plugins.errors import PlotError
from vireid_plugins.modeling.maps import Tap, class_scores_tap, map_names, recorded_maps
from vireid_plugins.plots.grad_cam import (
    Activation,
    ClassScore,
    Similarity,
    grad_cam,
    relative_heat,
)
from vireid_plugins.plots.overlay import overlay

from fastreid.modeling.meta_arch import build_model

from tests.engine.small import ROOT, small_cfg
from tests.modeling.small import some_points

METHODS = sorted(path.parent.name for path in ROOT.glob("configs/*/synthetic.yml"))


class Looking(nn.Module):
    """A map of 4 x 2 means of 2 x 2 pixels, a mean over it, a linear classifier."""

    def __init__(self, classes=3, bias=0.0):
        super().__init__()
        self.tap = Tap("cells", "means of 2 x 2 pixels, (B, C, H, W)")
        self.scores_tap = class_scores_tap()
        self.classifier = nn.Linear(3, classes)
        nn.init.constant_(self.classifier.bias, bias)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, batch):
        cells = self.tap(F.avg_pool2d(batch["images"], 2))
        features = self.norm(cells.mean(dim=(2, 3)))
        if self.scores_tap.wanted:
            self.scores_tap(self.classifier(features))
        return features


def make_batch(rows=5):
    return {"images": torch.rand(rows, 3, 8, 4), "modalities": torch.arange(rows) % 2}


def test_equals_the_formula_by_loops():
    model, batch = Looking().eval(), make_batch()
    found = grad_cam(model, batch, ClassScore(np.array([0, 1, 2, 1, 0])), "cells")
    assert found.maps.shape == (5, 4, 2) and found.layer == "cells"
    weight = model.classifier.weight.detach() / (1 + model.norm.eps) ** 0.5
    for row, number in enumerate([0, 1, 2, 1, 0]):
        cells = F.avg_pool2d(batch["images"][row : row + 1], 2)[0]
        score = float(weight[number] @ cells.mean(dim=(1, 2)))
        assert found.scores[row] == pytest.approx(score, rel=1e-4)
        for h in range(4):
            for w in range(2):
                # d score / d cell = weight / 8, the same everywhere, so its mean is that
                part = sum(float(weight[number, c]) / 8 * float(cells[c, h, w]) for c in range(3))
                assert found.maps[row, h, w] == pytest.approx(max(part, 0.0), abs=1e-6)


def test_hirescam_weighs_each_position_by_its_own_gradient():
    """The score is the sum of the squares of a map: its gradient is 2 a, times a is 2 a^2."""
    model, batch = Looking().eval(), make_batch()

    def squares(features, maps):
        return maps["cells"].square().sum(dim=(1, 2, 3)), None

    squares.maps = ("cells",)
    cells = F.avg_pool2d(batch["images"], 2)
    fine = grad_cam(model, batch, squares, "cells", per_position=True)
    np.testing.assert_allclose(fine.maps, (2 * cells.square()).sum(1).numpy(), rtol=1e-5)
    coarse = grad_cam(model, batch, squares, "cells")
    mean = 2 * cells.mean(dim=(2, 3), keepdim=True)
    np.testing.assert_allclose(coarse.maps, (mean * cells).sum(1).numpy(), rtol=1e-5)


def test_the_parts_that_raise_a_score_add_up_to_it():
    model, batch = Looking().eval(), make_batch()
    model.classifier.weight.data.abs_()  # nothing is negative
    found = grad_cam(model, batch, ClassScore())
    np.testing.assert_allclose(found.maps.sum(axis=(1, 2)), found.scores, rtol=1e-4)
    scores = model.classifier(model(batch)).detach().numpy()
    np.testing.assert_array_equal(found.classes, scores.argmax(axis=1))
    np.testing.assert_allclose(found.scores, scores.max(axis=1), rtol=1e-5)


def test_a_planted_spot_is_where_the_heat_is():
    model, batch = Looking().eval(), make_batch(8)
    model.classifier.weight.data.fill_(1.0)
    batch["images"] *= 0.01
    for row in range(8):  # cell (row // 2, row % 2)
        top, left = 2 * (row // 2), 2 * (row % 2)
        batch["images"][row, :, top : top + 2, left : left + 2] = 1.0
    heat, flat = relative_heat(grad_cam(model, batch, ClassScore()))
    assert not flat.any() and heat.reshape(8, 8).argmax(axis=1).tolist() == list(range(8))
    np.testing.assert_array_equal(heat.max(axis=(1, 2)), 1)
    for row in range(8):  # and on the image that is drawn
        drawn = overlay(np.zeros((40, 20, 3), np.uint8), heat[row]).astype(int).sum(axis=2)
        y, x = np.unravel_index(drawn.argmax(), drawn.shape)
        assert (y // 10, x // 10) == (row // 2, row % 2)


def test_order_of_the_batch_and_state_of_the_model_do_not_matter():
    model, batch = Looking(), make_batch()
    model.norm.running_mean.uniform_()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    target = np.array([0, 1, 2, 1, 0])
    found = grad_cam(model, batch, ClassScore(target))
    order = [3, 0, 4, 1, 2]
    shuffled = {name: value[order] for name, value in batch.items()}
    again = grad_cam(model.requires_grad_(False), shuffled, ClassScore(target[order]))
    np.testing.assert_allclose(again.maps, found.maps[order], rtol=1e-5, atol=1e-8)
    assert model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not batch["images"].requires_grad and not model.tap.wanted


def test_similarity_is_the_cosine_and_its_parts_add_up_to_it():
    model, batch = Looking().eval(), make_batch()
    others = torch.rand(5, 3)
    found = grad_cam(model, batch, Similarity(others))
    cosine = F.cosine_similarity(model(batch), others).detach().numpy()
    np.testing.assert_allclose(found.scores, cosine, rtol=1e-5)
    np.testing.assert_allclose(found.maps.sum(axis=(1, 2)), cosine, rtol=1e-4)  # all positive
    assert found.classes is None


@pytest.mark.parametrize("weight", [0.0, 1e-7])
def test_a_constant_model_is_flat_and_not_amplified(weight):
    """Its score is its bias: nothing, or next to nothing, comes from the map."""
    model, batch = Looking(bias=2.0).eval(), make_batch()
    nn.init.constant_(model.classifier.weight, weight)
    found = grad_cam(model, batch, ClassScore())
    heat, flat = relative_heat(found)
    assert flat.all() and not heat.any()
    np.testing.assert_allclose(found.scores, 2.0, atol=1e-5)
    drawn = overlay(np.full((16, 8, 3), 99, np.uint8), heat[0])
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_a_constant_image_has_the_same_heat_everywhere():
    batch = dict(make_batch(2), images=torch.full((2, 3, 8, 4), 0.5))
    model = Looking().eval()
    model.classifier.weight.data.abs_()
    heat, flat = relative_heat(grad_cam(model, batch, ClassScore()))
    assert not flat.any()
    np.testing.assert_allclose(heat, 1.0, rtol=1e-5)


def test_roll_out_has_no_score_to_be_compared_with():
    maps = np.full((1, 2, 2), 1e-9, np.float32)
    heat, flat = relative_heat(Activation(maps, np.array([np.nan]), "attention roll-out"))
    assert not flat.any() and (heat == 1).all()


def test_wrong_options_are_refused():
    model, batch = Looking(), make_batch()
    with pytest.raises(PlotError, match="no map 'cell' to take.*'cells'"):
        grad_cam(model, batch, ClassScore(), "cell")
    with pytest.raises(PlotError, match=r"'class_scores'.*shape \(5, 3\); Grad-CAM needs"):
        grad_cam(model, batch, ClassScore(), "class_scores")
    with pytest.raises(PlotError, match="Class 3 is asked for, and the model knows 3"):
        grad_cam(model, batch, ClassScore(np.array([0, 0, 3, 0, 0])))
    model.scores_tap = Tap("other", "")
    with pytest.raises(PlotError, match="does not show its scores.*--target match"):
        grad_cam(model, batch, ClassScore())
    model.classifier.weight.data.fill_(float("nan"))
    model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(PlotError, match="NaN"):
        grad_cam(model, batch, Similarity(torch.rand(5, 3)))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_explained(method, tmp_path):
    """Both targets, of images of both modalities; features are as without the recording."""
    cfg = small_cfg(
        tmp_path,
        f"configs/{method}/synthetic.yml",
        INPUT__SIZE_TRAIN="[96, 16]",
        INPUT__SIZE_TEST="[96, 16]",
        MODEL__BACKBONE__LAST_STRIDE=1,
        MODEL__HEADS__NUM_CLASSES=4,
    )
    model = build_model(cfg).eval()
    batch = {"images": 255 * torch.rand(2, 3, 96, 16), "modalities": torch.tensor([1, 0])}
    batch["keypoints"] = some_points(2, (96, 16))
    with torch.no_grad(), recorded_maps(model, "feature_map") as maps:
        features = model(batch)
    has_positions = maps["feature_map"].shape[2:].numel() > 1
    # of a transformer, the last map that its class token still takes something from
    tokens = model.backbone.stages if getattr(model.backbone, "passes_tokens", False) else ()
    by_class = grad_cam(model, batch, ClassScore(np.array([3, -1])))
    by_match = grad_cam(model, batch, Similarity(features.flip(0)))
    for found in (by_class, by_match):
        assert found.layer == ("feature_map" if has_positions else tokens[-2])
        assert found.maps.shape[0] == 2
        assert found.maps.min() >= 0 and np.isfinite(found.maps).all()
    assert by_class.classes[0] == 3
    assert by_match.maps.max() > 0 and (np.abs(by_match.scores) <= 1.0001).all()
    layer = tokens[2] if tokens else "layer2"
    earlier = grad_cam(model, batch, Similarity(features.flip(0)), layer)
    if not tokens:
        assert earlier.maps.shape[1] > by_match.maps.shape[1]
    assert "class_scores" in map_names(model)
    with torch.no_grad():
        assert torch.equal(model(batch), features)
