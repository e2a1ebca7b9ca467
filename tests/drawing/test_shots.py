"""Which photographs are drawn. Oracles: the lists they are chosen from."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from vireid_plugins.data import ImageError
from vireid_plugins.drawing.shots import Shot, draw_pairs, parse_images, recognize, shot_of
from vireid_plugins.errors import PlotError
from vireid_plugins.plots.chosen import chosen_shots, with_matches

from tests.plots.photographs import IDENTITIES, subject_of


class Color(nn.Module):
    """Features: which of the identities the red channel says, one-hot."""

    def forward(self, batch):
        identity = (batch["images"][:, 0].mean(dim=(1, 2)) / 40).round().long()
        return torch.eye(IDENTITIES)[identity]


def words(**others):
    plain = dict(images=[], count=3, seed=0, split="test")
    return SimpleNamespace(**{**plain, **others})


def test_pairs_are_of_one_identity_and_both_modalities(sysu):
    items = sysu.query + sysu.gallery
    shots = draw_pairs(items, 4, seed=1)
    assert [shot.modality for shot in shots] == [0, 1] * 4
    assert all(a.target == b.target for a, b in zip(shots[::2], shots[1::2]))
    assert len({shot.target for shot in shots}) == 4
    assert shots == draw_pairs(items, 4, seed=1) != draw_pairs(items, 4, seed=2)
    assert all(shot == shot_of(item) for shot in shots for item in items if item.path == shot.path)
    assert len(draw_pairs(items, 99, seed=0)) == 2 * IDENTITIES
    # Who has one modality only comes last.
    lonely = [item for item in items if item.pid > 0 or item.modality == 0]
    shots = draw_pairs(lonely, IDENTITIES, seed=0)
    assert shots[-1].target == 0 and [shot.target for shot in shots].count(0) == 1


def test_given_images(sysu):
    path, identity, camera, _ = sysu.query[5]
    (shot,) = parse_images([f"{path}:Infrared"])
    assert shot == Shot(path, modality=1) and shot.caption.startswith(path.split("/")[-1])
    assert recognize([shot], sysu.query) == [Shot(path, identity, camera, 1)]
    assert recognize([shot], sysu.gallery) == [shot]
    with pytest.raises(PlotError, match="is infrared in the dataset, not visible"):
        recognize([shot._replace(modality=0)], sysu.query)
    with pytest.raises(PlotError, match="'MODEL.WEIGHTS' does not end with :visible or :infrared"):
        parse_images(["MODEL.WEIGHTS"])
    with pytest.raises(PlotError, match="does not end with"):
        parse_images([f"{path}:thermal"])
    with pytest.raises(ImageError, match="nothing.png: cannot be opened"):
        parse_images(["nothing.png:visible"])


def test_the_match_is_the_nearest_correct_image_that_may_be_compared(sysu):
    subject = subject_of(sysu, noise=0.4, model=Color())
    items = subject.loader.dataset.items
    shots = [shot_of(item) for item in items]
    kept, matches = with_matches(subject, shots)
    assert kept == shots
    rows = torch.nn.functional.normalize(subject.features.features, dim=1).numpy()
    for shot, match in zip(kept, matches):
        allowed = [
            row
            for row, item in enumerate(items)
            if item.pid == shot.target
            and item.modality != shot.modality
            and {(shot.camid, item.camid), (item.camid, shot.camid)}.isdisjoint({(3, 2)})
        ]
        assert match == shot_of(
            items[max(allowed, key=lambda row: rows[row] @ np.eye(6)[shot.target])]
        )
    # An image of nobody known: the nearest of the other modality.
    stranger = Shot(items[0].path + "", None, None, 1)
    features = subject.features.features
    (found,) = with_matches(subject, [stranger._replace(path=_copy(items[0].path))])[1]
    visible = [row for row, item in enumerate(items) if item.modality == 0]
    assert found.path == items[max(visible, key=lambda row: rows[row][0])].path
    assert features is subject.features.features


def _copy(path):
    other = path.replace(" c", " copy c")
    with open(path, "rb") as source, open(other, "wb") as target:
        target.write(source.read())
    return other


def test_images_without_a_match_are_left_out_and_said(sysu, caplog):
    subject = subject_of(sysu, model=Color())
    first = [item for item in sysu.query + sysu.gallery if item.pid > 0 or item.camid in (2, 3)]
    vars(subject)["_loader_and_dataset"][0].dataset.items = first
    rows = torch.eye(IDENTITIES)[[item.pid for item in first]]
    vars(subject)["features"] = SimpleNamespace(features=rows)
    shots = [shot_of(item) for item in first if item.camid == 3]
    kept, matches = with_matches(subject, shots)
    assert [shot.target for shot in kept] == [match.target for match in matches] == [1, 2, 3, 4, 5]
    assert "0 c3.png has no match in the test set" in caplog.text
    with pytest.raises(PlotError, match="None of 1 images has a match"):
        with_matches(subject, shots[:1])


def test_numbers_out_of_range_are_answered(sysu):
    subject = subject_of(sysu)
    shots, why = chosen_shots(subject, words())
    assert len(shots) == 6 and "drawn from the test set of SYSUMM01, seed 0" in why
    for strange in (words(count=0), words(seed=-1)):
        with pytest.raises(PlotError, match="expected 1 or more, and 0 or more"):
            chosen_shots(subject, strange)
    given = [f"{sysu.query[0].path}:infrared"]
    assert chosen_shots(subject, words(images=given))[1] == "1 given images."
    with pytest.raises(PlotError, match="65 images are asked for; a sheet has room for 64"):
        chosen_shots(subject, words(images=given * 65))
