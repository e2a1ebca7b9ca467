"""Views: which chain each view of an image passes, and the rows that a batch has of them.

Oracles: the configured steps, and single-view chains with the same random draws.
"""

import pytest
import torch
from PIL import Image

from vireid_plugins.data.build import build_test_loader, build_train_loader
from vireid_plugins.data.transforms.chains import build_transforms
from vireid_plugins.modality import Modality

PICTURE = Image.effect_noise((12, 24), 60).convert("RGB")


@pytest.fixture
def two_views(cfg):
    """Return a config with two views of visible images, of which the second is mirrored."""
    cfg.INPUT.NUM_VIEWS.VISIBLE = 2
    cfg.INPUT.FLIP.ENABLED = True
    cfg.INPUT.FLIP.PROB = 1.0
    cfg.INPUT.FLIP.VIEWS = (1,)
    return cfg


def test_a_view_passes_the_steps_that_name_it(two_views):
    transforms = build_transforms(two_views, is_train=True)
    plain = build_transforms(two_views, is_train=False)(PICTURE, Modality.VISIBLE)
    assert torch.equal(transforms(PICTURE, Modality.VISIBLE), torch.stack([plain, plain.flip(2)]))
    infrared = transforms(PICTURE, Modality.INFRARED)  # has no view 1
    assert torch.equal(infrared, plain[None])
    assert [line.split(": ")[0] for line in transforms.describe().splitlines()] == [
        "visible, view 0",
        "visible, view 1",
        "infrared",
    ]


def test_views_draw_for_themselves_one_after_the_other(cfg):
    cfg.INPUT.PADDING.ENABLED = True
    one = build_transforms(cfg, is_train=True)
    cfg.INPUT.NUM_VIEWS.VISIBLE = 2
    torch.manual_seed(5)
    found = build_transforms(cfg, is_train=True)(PICTURE, Modality.VISIBLE)
    torch.manual_seed(5)
    expected = torch.stack([one(PICTURE, Modality.VISIBLE) for _ in range(2)])
    assert torch.equal(found, expected) and not torch.equal(found[0], found[1])


def test_a_batch_has_a_row_for_each_view(make_sysu, two_views):
    make_sysu()
    batch = next(iter(build_train_loader(two_views)))
    assert len(batch["images"]) == 4 * 2 + 4  # IMS_PER_BATCH 8: visible twice, infrared once
    rows = list(zip(batch["index"].tolist(), batch["modalities"].tolist(), batch["views"].tolist()))
    drawn = [(index, modality) for index, modality, view in rows if view == 0]
    assert len(drawn) == 8
    expected = [(i, m, v) for i, m in drawn for v in range(2 if m == Modality.VISIBLE else 1)]
    assert rows == expected
    assert batch["views"].dtype == torch.int64 and len(batch["img_paths"]) == len(rows)
    for row, (_, _, view) in enumerate(rows):
        if view == 1:
            assert torch.equal(batch["images"][row], batch["images"][row - 1].flip(2))
            assert batch["targets"][row] == batch["targets"][row - 1]


def test_a_test_image_has_one_view(make_sysu, two_views):
    make_sysu()
    batch = next(iter(build_test_loader(two_views, "SYSUMM01")[0]))
    assert "views" not in batch and batch["images"].dim() == 4


def test_wrong_views_are_named(cfg):
    cfg.INPUT.FLIP.ENABLED, cfg.INPUT.FLIP.VIEWS = True, (1,)
    with pytest.raises(ValueError, match=r"INPUT\.FLIP\.VIEWS is \[1\].*views 0 to 0"):
        build_transforms(cfg, is_train=True)
    build_transforms(cfg, is_train=False)  # in testing no view is made, and no step is random
    cfg.INPUT.NUM_VIEWS.INFRARED = 0
    with pytest.raises(ValueError, match=r"INPUT\.NUM_VIEWS\.INFRARED is 0"):
        build_transforms(cfg, is_train=True)
