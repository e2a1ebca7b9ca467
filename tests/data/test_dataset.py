"""Oracle: the items the test made, and the generators' states."""

import random

import numpy as np
import pytest
import torch

from vireid_plugins.data.dataset import ItemRequest, VIReIDDataset, collate
from vireid_plugins.data.item import Item
from vireid_plugins.modality import Modality
from vireid_plugins.readers.image import ImageError


def noise(image, modality):
    """Draw from all three generators; a transform."""
    width, height = image.size
    draw = [random.random(), float(np.random.rand()), float(torch.rand(()))]
    return torch.tensor(draw).reshape(3, 1, 1).expand(3, height, width) + int(modality)


@pytest.fixture
def items(tmp_path, write_image):
    found = []
    for n, (pid, camid, modality) in enumerate([(10, 6, 1), (9, 2, 0), (10, 1, 0), (2, 3, 1)]):
        write_image(tmp_path / f"{n}.jpg", n)
        found.append(Item(str(tmp_path / f"{n}.jpg"), pid, camid, modality))
    return found


def test_identities_are_relabeled_in_numeric_order_and_cameras_never(items):
    dataset = VIReIDDataset(items, noise, relabel=True)
    batch = collate([dataset[i] for i in range(4)])
    assert dataset.class_ids == [2, 9, 10] and dataset.num_classes == 3
    assert batch["targets"].tolist() == [2, 1, 2, 0]
    assert batch["camids"].tolist() == [6, 2, 1, 3]
    assert batch["modalities"].tolist() == [1, 0, 0, 1]
    assert batch["index"].tolist() == [0, 1, 2, 3]
    assert batch["img_paths"] == [item.path for item in items]
    for key in ("targets", "camids", "modalities", "index"):
        assert batch[key].dtype == torch.int64
    assert batch["images"].dtype == torch.float32 and batch["images"].is_contiguous()


def test_test_items_keep_their_identities(items):
    dataset = VIReIDDataset(items, noise, relabel=False)
    assert [dataset[i]["targets"] for i in range(4)] == [10, 9, 10, 2]


def test_stock_items_are_visible_and_their_words_in_natural_order(items):
    words = [(items[n].path, f"m_{n}", f"market_{c}") for n, c in ((0, 10), (1, 2), (2, 1))]
    dataset = VIReIDDataset(words, noise, relabel=True)
    samples = [dataset[i] for i in range(3)]
    assert [s["modalities"] for s in samples] == [int(Modality.VISIBLE)] * 3
    assert [s["camids"] for s in samples] == [2, 1, 0]  # market_10 comes after market_2
    assert [s["targets"] for s in samples] == [0, 1, 2]


def test_a_request_fixes_the_draws_and_disturbs_nothing(items):
    dataset = VIReIDDataset(items, noise, relabel=True)
    first = dataset[ItemRequest(1, 12345)]["images"]
    random.seed(4), np.random.seed(4), torch.manual_seed(4)
    expected = random.random(), np.random.rand(), torch.rand(())
    random.seed(4), np.random.seed(4), torch.manual_seed(4)
    assert torch.equal(dataset[ItemRequest(1, 12345)]["images"], first)
    assert (random.random(), np.random.rand(), torch.rand(())) == expected
    other = dataset[ItemRequest(1, 12346)]["images"]
    assert all(bool((other[c] != first[c]).all()) for c in range(3))  # all three generators


def test_an_image_that_breaks_during_training_is_named(items):
    dataset = VIReIDDataset(items, noise, relabel=True)
    open(items[2].path, "w").close()
    with pytest.raises(ImageError, match="2.jpg"):
        dataset[ItemRequest(2, 0)]


def test_collate_stacks_what_transforms_add():
    samples = [{"images": torch.ones(3, 2, 2) * n, "extra": torch.tensor([n])} for n in (1, 2)]
    batch = collate(samples)
    assert batch["images"].shape == (2, 3, 2, 2) and batch["extra"].tolist() == [[1], [2]]
