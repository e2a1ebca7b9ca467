"""Which photographs are drawn. Oracles: the lists they are chosen from."""

import pytest

from vireid_plugins.data import ImageError
from vireid_plugins.drawing.photos import Photo, choose_pairs, parse_images, photo_of, recognize
from vireid_plugins.errors import PlotError

from tests.plots.photographs import IDENTITIES


def test_pairs_are_of_one_identity_and_both_modalities(sysu):
    items = sysu.query + sysu.gallery
    photos = choose_pairs(items, 4, seed=1)
    assert [photo.modality for photo in photos] == [0, 1] * 4
    assert all(a.target == b.target for a, b in zip(photos[::2], photos[1::2]))
    assert len({photo.target for photo in photos}) == 4
    assert photos == choose_pairs(items, 4, seed=1) != choose_pairs(items, 4, seed=2)
    assert all(
        photo == photo_of(item) for photo in photos for item in items if item.path == photo.path
    )
    assert len(choose_pairs(items, 99, seed=0)) == 2 * IDENTITIES
    # Who has one modality only comes last.
    lonely = [item for item in items if item.pid > 0 or item.modality == 0]
    photos = choose_pairs(lonely, IDENTITIES, seed=0)
    assert photos[-1].target == 0 and [photo.target for photo in photos].count(0) == 1


def test_given_images(sysu):
    path, identity, camera, _ = sysu.query[5]
    (photo,) = parse_images([f"{path}:Infrared"])
    assert photo == Photo(path, modality=1) and photo.caption.startswith(path.split("/")[-1])
    assert recognize([photo], sysu.query) == [Photo(path, identity, camera, 1)]
    assert recognize([photo], sysu.gallery) == [photo]
    with pytest.raises(PlotError, match="is infrared in the dataset, not visible"):
        recognize([photo._replace(modality=0)], sysu.query)
    with pytest.raises(PlotError, match="'MODEL.WEIGHTS' does not end with :visible or :infrared"):
        parse_images(["MODEL.WEIGHTS"])
    with pytest.raises(PlotError, match="does not end with"):
        parse_images([f"{path}:thermal"])
    with pytest.raises(ImageError, match="nothing.png: cannot be opened"):
        parse_images(["nothing.png:visible"])
