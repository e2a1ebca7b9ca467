"""Oracles: counts by loops over the batches, and one process against several."""

import random
import time
from collections import Counter

import numpy as np
import pytest
import torch

from vireid_plugins.config import add_vireid_config
from vireid_plugins.data.item import Item
from vireid_plugins.data.sampler import CrossModalityIdentitySampler
from vireid_plugins.modality import Modality

from fastreid.config import get_cfg


def make_items(sizes):
    """Return items in a mixed order; ``sizes`` is {pid: (visible, infrared)}, numbers of images."""
    items = [
        Item(f"{pid}-{modality}-{k}", pid, 1, modality)
        for pid, counts in sizes.items()
        for modality, count in enumerate(counts)
        for k in range(count)
    ]
    random.Random(3).shuffle(items)
    return items


RAGGED = {pid: (3 + pid % 7, 1 + pid % 5) for pid in range(11)}


def epoch_of(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


def batches_of(sampler, rows, epoch=0):
    return np.array(epoch_of(sampler, epoch)).reshape(-1, rows)


@pytest.mark.parametrize("num_identities, num_instances", [(1, 1), (4, 3), (11, 2), (3, 6)])
def test_exact_counts_in_every_batch(num_identities, num_instances):
    items = make_items(RAGGED)
    sampler = CrossModalityIdentitySampler(items, num_identities, num_instances)
    rows = 2 * num_identities * num_instances
    batches = batches_of(sampler, rows)
    assert len(batches) == sampler.iterations_per_epoch and len(sampler) == batches.size
    for batch in batches:
        counts = Counter((items[i].pid, items[i].modality) for i in batch)
        assert len(counts) == 2 * num_identities
        assert set(counts.values()) == {num_instances}


def test_epoch_length_is_the_larger_modality():
    items = make_items({pid: (5, 9) for pid in range(6)})  # 30 visible, 54 infrared
    sampler = CrossModalityIdentitySampler(items, 4, 2)
    assert sampler.iterations_per_epoch == 54 // 8
    assert len(sampler) == 6 * 16


def test_repetition_only_where_an_identity_has_too_few():
    items = make_items(RAGGED)
    sampler = CrossModalityIdentitySampler(items, 4, 4)
    for batch in batches_of(sampler, 32):
        drawn = Counter(batch.tolist())
        for index, times in drawn.items():
            _, pid, _, modality = items[index]
            available = RAGGED[pid][modality]
            # K images of n: each comes floor(K/n) or ceil(K/n) times
            assert 4 // available <= times <= -(-4 // available)


def test_identities_are_visited_equally():
    items = make_items({pid: (8, 8) for pid in range(11)})
    sampler = CrossModalityIdentitySampler(items, 4, 2)  # 11 batches of 4 out of 11 identities
    for epoch in range(5):
        batches = batches_of(sampler, 16, epoch)
        visits = Counter(pid for batch in batches for pid in {items[i].pid for i in batch})
        assert sum(visits.values()) == 44 and len(visits) == 11
        assert max(visits.values()) - min(visits.values()) <= 1


def test_every_image_can_come():
    items = make_items(RAGGED)
    sampler = CrossModalityIdentitySampler(items, 4, 2)
    seen = {index for epoch in range(30) for index in epoch_of(sampler, epoch)}
    assert seen == set(range(len(items)))


def test_a_function_of_seed_and_epoch_only():
    items = make_items(RAGGED)
    first = CrossModalityIdentitySampler(items, 4, 2, seed=5)
    expected = [epoch_of(first, e) for e in (0, 1, 2)]
    random.seed(99), np.random.seed(99), torch.manual_seed(99)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    second = CrossModalityIdentitySampler(items, 4, 2, seed=5)
    assert [epoch_of(second, e) for e in (2, 0, 1)] == [expected[2], expected[0], expected[1]]
    assert expected[0] != expected[1]
    assert epoch_of(CrossModalityIdentitySampler(items, 4, 2, seed=6)) != expected[0]
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_are_one_process(world_size):
    items = make_items(RAGGED)
    whole = batches_of(CrossModalityIdentitySampler(items, 6, 2, seed=1), 24, epoch=3)
    parts = [
        batches_of(
            CrossModalityIdentitySampler(items, 6, 2, seed=1, rank=rank, world_size=world_size),
            24 // world_size,
            epoch=3,
        )
        for rank in range(world_size)
    ]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
    for step in range(len(whole)):
        identities = [{items[i].pid for i in part[step]} for part in parts]
        assert sum(map(len, identities)) == 6 and len(set().union(*identities)) == 6


def test_order_of_identities_does_not_depend_on_their_spelling():
    numbers = make_items(RAGGED)
    words = [(path, f"p{pid}", camid, modality) for path, pid, camid, modality in numbers]
    args = (4, 2)
    assert epoch_of(CrossModalityIdentitySampler(numbers, *args)) == epoch_of(
        CrossModalityIdentitySampler(words, *args)
    )


def test_too_few_identities():
    with pytest.raises(ValueError, match="12 identities, the training set has 11.*IMS_PER_BATCH"):
        CrossModalityIdentitySampler(make_items(RAGGED), 12, 1)


@pytest.mark.parametrize("modality", list(Modality))
def test_identity_without_a_modality(modality):
    sizes = {pid: [4, 4] for pid in range(9)}
    for pid in (2, 5):
        sizes[pid][modality] = 0
    with pytest.raises(ValueError, match=f"2 training .* no {modality.label} image: 2, 5"):
        CrossModalityIdentitySampler(make_items(sizes), 2, 2)


def test_stock_items_lack_infrared():
    with pytest.raises(ValueError, match="no infrared image"):
        CrossModalityIdentitySampler([("a", "market_1", "c1")], 1, 1)


def test_batch_larger_than_the_data():
    with pytest.raises(ValueError, match="no batch: 2 identities x 9 images exceed the 6"):
        CrossModalityIdentitySampler(make_items({1: (3, 3), 2: (3, 3)}), 2, 9)


@pytest.mark.parametrize(
    "change",
    [
        {"num_identities": 0},
        {"num_instances": 0},
        {"num_instances": 1.5},
        {"seed": -1},
        {"rank": 2, "world_size": 2},
        {"num_identities": 3, "world_size": 2},
        {"world_size": 0},
    ],
)
def test_bad_numbers(change):
    arguments = {"num_identities": 4, "num_instances": 2, **change}
    named = next(iter(change))
    with pytest.raises(ValueError, match=named):
        CrossModalityIdentitySampler(make_items(RAGGED), **arguments)


def test_batch_size_must_be_a_multiple():
    cfg = get_cfg()
    add_vireid_config(cfg)
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE = 30, 4
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH = 2\*P\*K.*2 \* 4 \* 1 = 8; got 30.*32"):
        CrossModalityIdentitySampler.from_config(cfg, make_items(RAGGED))
    cfg.SOLVER.IMS_PER_BATCH = 24
    with pytest.raises(ValueError, match=r"2 \* 4 \* 2 = 16; got 24"):
        CrossModalityIdentitySampler.from_config(cfg, make_items(RAGGED), world_size=2)
    assert CrossModalityIdentitySampler.from_config(cfg, make_items(RAGGED)).num_identities == 3


def test_an_epoch_of_sysu_mm01_is_quick():
    rng = np.random.default_rng(0)
    pids = [rng.integers(0, 395, size) for size in (22258 - 395, 11909 - 395)]
    items = [
        ("", int(pid), 1, modality)
        for modality in (0, 1)
        for pid in np.concatenate([np.arange(395), pids[modality]])
    ]
    sampler = CrossModalityIdentitySampler(items, 8, 4)
    times = []
    for epoch in range(3):
        start = time.perf_counter()
        assert len(epoch_of(sampler, epoch)) == 695 * 64  # 22258 // 32 batches
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5  # 0.05 s on one core; the bound leaves room for a busy machine
