"""Key points move with the pixels. Oracle: a square that is painted at a joint, and found again."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode, autoaugment

from vireid_plugins.config import add_vireid_config
from vireid_plugins.data.transforms.chains import build_transforms
from vireid_plugins.data.transforms.geometric import _trivial_motion
from vireid_plugins.joints import OTHER_SIDE
from vireid_plugins.keypoints import moved
from vireid_plugins.modality import Modality

from fastreid.config import get_cfg

SIZE = (60, 40)  # height and width of the files
# seven joints, far enough from each other and from the edges; the others are unknown
PLACES = {
    0: (20, 12),
    5: (26, 20),
    6: (13, 21),
    9: (28, 33),
    10: (9, 34),
    15: (24, 50),
    16: (14, 48),
}


def points():
    found = torch.zeros(17, 3)
    for joint, (x, y) in PLACES.items():
        found[joint] = torch.tensor([float(x), float(y), 0.5 + joint / 40])
    return found


def painted(joint):
    """Return a black image with a white square of 3 x 3 pixels around a joint."""
    pixels = np.zeros((*SIZE, 3), np.uint8)
    x, y = PLACES[joint]
    pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
    return Image.fromarray(pixels)


def center(pixels):
    """Return x and y of the middle of what is bright in pixels (H, W)."""
    pixels = np.clip(np.asarray(pixels, np.float64), 0, None)
    rows, columns = np.indices(pixels.shape)
    return (pixels * columns).sum() / pixels.sum(), (pixels * rows).sum() / pixels.sum()


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_vireid_config(cfg)
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [90, 52]
    for node in ("FLIP", "PADDING", "TRIVIAL_AUGMENT", "REA", "CJ"):
        cfg.INPUT[node].ENABLED = False
    return cfg


def compare(chains, seed, cached=False):
    """Return how many joints are in the image, after comparing each with its painted square."""
    seen = 0
    for joint in PLACES:
        image = painted(joint)
        if cached:
            image = chains.begin(image, Modality.VISIBLE)
        torch.manual_seed(seed)
        begun = image if cached else chains.begin(image, Modality.VISIBLE)
        pixels, places = chains.end_with_points(begun, Modality.VISIBLE, points(), SIZE)
        torch.manual_seed(seed)
        assert torch.equal(pixels, chains.end(begun, Modality.VISIBLE))
        shown = pixels[0].numpy()
        confidence = 0.5 + joint / 40  # it tells which row is this joint, mirrored or not
        rows = [k for k in range(17) if abs(places[k, 2].item() - confidence) < 1e-4]
        whole = 9 * 255 * shown.size / (SIZE[0] * SIZE[1])
        if 0 < shown.sum() < 0.95 * whole:
            continue  # a part of the square was cut off, so its middle is another
        assert len(rows) == int(shown.any())
        if rows:
            assert rows[0] in (joint, OTHER_SIDE[joint])
            assert places[rows[0], :2].tolist() == pytest.approx(center(shown), abs=0.5)
            seen += 1
    return seen


def test_points_are_resized_with_the_image(cfg):
    for is_train in (True, False):
        chains = build_transforms(cfg, is_train)
        assert compare(chains, 0) == compare(chains, 0, cached=True) == len(PLACES)
    pixels, places = chains.end_with_points(
        chains.begin(painted(0), Modality.VISIBLE), Modality.VISIBLE, points(), SIZE
    )
    # the middle of column 20 of 40 is at 20.5 of 40, so at 26.65 of 52
    assert places[0].tolist() == pytest.approx([26.15, 18.25, 0.5])


def test_points_flip_and_are_cropped_with_the_image(cfg):
    cfg.INPUT.FLIP.ENABLED = cfg.INPUT.PADDING.ENABLED = True
    cfg.INPUT.PADDING.SIZE = 25
    chains = build_transforms(cfg, is_train=True)
    counts = [compare(chains, seed) for seed in range(12)]
    assert min(counts) < len(PLACES) and sum(counts) > 40  # some joints are cut off


def test_a_flip_swaps_left_and_right(cfg):
    cfg.INPUT.FLIP.ENABLED, cfg.INPUT.FLIP.PROB = True, 1.0
    cfg.INPUT.SIZE_TRAIN = list(SIZE)
    chains = build_transforms(cfg, is_train=True)
    pixels, places = chains.end_with_points(painted(5), Modality.VISIBLE, points(), SIZE)
    x, y = center(pixels[0])
    # the left shoulder of the file is where the mirrored person has the right one
    assert places[6].tolist() == pytest.approx([x, y, 0.5 + 5 / 40])
    assert places[0].tolist() == pytest.approx([19, 12, 0.5])


@pytest.mark.parametrize("strength", [0.4, 17.3])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    "name", ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Color"]
)
def test_each_operation_of_trivial_augment(name, sign, strength):
    magnitude = sign * (min(strength, 0.4) if name[0] in "SC" else strength)
    how = {"interpolation": InterpolationMode.BILINEAR, "fill": None}
    motion = _trivial_motion(name, magnitude, SIZE)
    places = points() if motion is None else moved(points(), motion)
    compared = 0
    for joint in PLACES:
        shown = np.asarray(autoaugment._apply_op(painted(joint), name, magnitude, **how))[..., 0]
        if shown[[0, -1]].any() or shown[:, [0, -1]].any() or not shown.any():
            continue
        x, y = center(shown)
        assert places[joint].tolist() == pytest.approx([x, y, 0.5 + joint / 40], abs=0.1)
        compared += 1
    assert compared >= 4


def test_trivial_augment_in_the_chain(cfg, monkeypatch):
    everything = T.TrivialAugmentWide()._augmentation_space(31)
    moving = {k: v for k, v in everything.items() if k[:5] in ("Ident", "Shear", "Trans", "Rotat")}
    monkeypatch.setattr(T.TrivialAugmentWide, "_augmentation_space", lambda self, bins: moving)
    for node in ("TRIVIAL_AUGMENT", "FLIP", "PADDING"):
        cfg.INPUT[node].ENABLED = True
    cfg.INPUT.TRIVIAL_AUGMENT.PROB = 0.9
    chains = build_transforms(cfg, is_train=True)
    assert sum(compare(chains, seed) for seed in range(25)) > 80


def test_pixels_and_draws_are_those_without_points(cfg):
    for node in ("TRIVIAL_AUGMENT", "FLIP", "PADDING", "REA", "CJ", "GREY"):
        cfg.INPUT[node].ENABLED = True
    cfg.INPUT.NUM_VIEWS.VISIBLE = 2
    chains = build_transforms(cfg, is_train=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    for seed in range(20):
        torch.manual_seed(seed)
        plain, next_draw = chains(image, Modality.VISIBLE), torch.rand(1)
        torch.manual_seed(seed)
        begun = chains.begin(image, Modality.VISIBLE)
        pixels, places = chains.end_with_points(begun, Modality.VISIBLE, points(), SIZE)
        assert places.shape == (2, 17, 3) and places.dtype == torch.float32
        assert torch.equal(torch.rand(1), next_draw)
        assert torch.equal(pixels, plain)
