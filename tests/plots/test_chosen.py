"""Which photographs are drawn, and their matches. Oracles: the lists they are chosen from."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from vireid_plugins.drawing.photos import Photo, photo_of
from vireid_plugins.errors import PlotError
from vireid_plugins.plots.chosen import PhotoOptions, chosen_photos, with_matches

from tests.plots.photographs import IDENTITIES, subject_of


class Color(nn.Module):
    """Features: which of the identities the red channel says, one-hot."""

    def forward(self, batch):
        identity = (batch["images"][:, 0].mean(dim=(1, 2)) / 40).round().long()
        return torch.eye(IDENTITIES)[identity]


def test_the_match_is_the_nearest_correct_image_that_may_be_compared(sysu):
    subject = subject_of(sysu, noise=0.4, model=Color())
    items = subject.loader.dataset.items
    photos = [photo_of(item) for item in items]
    kept, matches, notes = with_matches(subject, photos)
    assert kept == photos and notes == []
    rows = torch.nn.functional.normalize(subject.features.features, dim=1).numpy()
    for photo, match in zip(kept, matches):
        allowed = [
            row
            for row, item in enumerate(items)
            if item.pid == photo.target
            and item.modality != photo.modality
            and {(photo.camid, item.camid), (item.camid, photo.camid)}.isdisjoint({(3, 2)})
        ]
        assert match == photo_of(
            items[max(allowed, key=lambda row: rows[row] @ np.eye(6)[photo.target])]
        )
    # An image of nobody known: the nearest of the other modality.
    stranger = Photo(items[0].path + "", None, None, 1)
    features = subject.features.features
    (found,) = with_matches(subject, [stranger._replace(path=_copy(items[0].path))]).matches
    visible = [row for row, item in enumerate(items) if item.modality == 0]
    assert found.path == items[max(visible, key=lambda row: rows[row][0])].path
    assert features is subject.features.features


def _copy(path):
    other = path.replace(" c", " copy c")
    with open(path, "rb") as source, open(other, "wb") as target:
        target.write(source.read())
    return other


def test_images_without_a_match_are_left_out_and_reported(sysu):
    subject = subject_of(sysu, model=Color())
    first = [item for item in sysu.query + sysu.gallery if item.pid > 0 or item.camid in (2, 3)]
    vars(subject)["_loader_and_dataset"][0].dataset.items = first
    rows = torch.eye(IDENTITIES)[[item.pid for item in first]]
    vars(subject)["features"] = SimpleNamespace(features=rows)
    photos = [photo_of(item) for item in first if item.camid == 3]
    kept, matches, notes = with_matches(subject, photos)
    assert (
        [photo.target for photo in kept] == [match.target for match in matches] == [1, 2, 3, 4, 5]
    )
    (note,) = notes
    assert note.endswith("0 c3.png has no match in the test set, and is left out.")
    with pytest.raises(PlotError, match="None of 1 images has a match"):
        with_matches(subject, photos[:1])


def test_numbers_out_of_range_are_refused(sysu):
    subject = subject_of(sysu)
    photos, why = chosen_photos(subject, PhotoOptions(count=3))
    assert len(photos) == 6 and "drawn from the test set of SYSUMM01, seed 0" in why
    assert why.startswith("Identities ")
    assert chosen_photos(subject, PhotoOptions(count=1))[1].startswith("Identity ")
    for strange in ({"count": 0}, {"seed": -1}):
        with pytest.raises(PlotError, match="expected 1 or more, and 0 or more"):
            PhotoOptions(**strange)
    given = [f"{sysu.query[0].path}:infrared"]
    assert chosen_photos(subject, PhotoOptions(images=given))[1] == "1 given images."
    with pytest.raises(PlotError, match="65 images are asked for; a sheet has room for 64"):
        chosen_photos(subject, PhotoOptions(images=given * 65))
