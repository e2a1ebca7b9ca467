"""FastReID's samplers in epochs. Oracles: the host's own stream, and counts by loops."""

import itertools
import random
from collections import Counter

import numpy as np
import pytest
import torch

from vireid_plugins.data.build import build_sampler

from fastreid.config import get_cfg
from fastreid.data import samplers as host

NAMES = [
    "TrainingSampler",
    "ImbalancedDatasetSampler",
    "NaiveIdentitySampler",
    "BalancedIdentitySampler",
    "SetReWeightSampler",
]


def make_items(ids=6, fields=4):
    return [
        (f"{pid}-{k}", pid, 1 + k % 3, k % 2)[:fields] for pid in range(ids) for k in range(2 + pid)
    ]


def make_cfg(name, batch=12, instances=2, weights=(1, 1, 1)):
    cfg = get_cfg()
    cfg.DATALOADER.SAMPLER_TRAIN = name
    cfg.DATALOADER.NUM_INSTANCE = instances
    cfg.DATALOADER.SET_WEIGHT = list(weights)
    cfg.SOLVER.IMS_PER_BATCH = batch
    return cfg


def build(name, items=None, seed=0, **kwargs):
    return build_sampler(
        make_cfg(name, **kwargs), items or make_items(), seed=seed, rank=0, world_size=1
    )


@pytest.mark.parametrize("fields", [3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_epochs_end_and_follow_from_seed_and_epoch(name, fields):
    items = make_items(fields=fields)  # 27 images
    sampler = build(name, items)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert sampler.iterations_per_epoch == 27 // 12
    assert [len(epoch) for epoch in epochs] == [24, 24, 24] and len(sampler) == 24
    assert epochs[0] == epochs[2] and epochs[0] != epochs[1]
    assert set(epochs[0]) <= set(range(27))
    assert all(type(index) is int for index in epochs[0])
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize("name", ["NaiveIdentitySampler", "BalancedIdentitySampler"])
def test_identity_samplers_keep_their_counts(name):
    items = make_items()
    sampler = build(name, items, batch=6)
    for batch in np.array(list(sampler)).reshape(-1, 6):
        assert set(Counter(items[i][1] for i in batch).values()) == {2}


def test_naive_stream_is_the_hosts_own():
    items = make_items()
    sampler = build("NaiveIdentitySampler", items)
    stream = host.NaiveIdentitySampler([item[:3] for item in items], 12, 2, seed=123)
    expected = list(itertools.islice(iter(stream), 24))
    assert [int(i) for i in itertools.islice(iter(sampler._make(123)), 24)] == expected


def test_set_weights_choose_identities_per_camera():
    items = [
        ("", f"{camera}_{person}", f"set_{camera}", 0)
        for camera in (2, 10)
        for person in range(4)
        for _ in range(3)
    ]
    sampler = build("SetReWeightSampler", items, batch=8, weights=(1, 3))
    for batch in np.array(list(sampler)).reshape(-1, 8):
        # natural order: set_2 is the first camera
        assert Counter(items[i][2] for i in batch) == {"set_2": 2, "set_10": 6}
        assert set(Counter(items[i][1] for i in batch).values()) == {2}


@pytest.mark.parametrize("name", ["NaiveIdentitySampler", "BalancedIdentitySampler"])
def test_too_few_identities_is_an_error_and_not_an_endless_loop(name):
    with pytest.raises(ValueError, match=f"{name} needs 7 identities .* has 6"):
        build(name, batch=14)


@pytest.mark.parametrize("name", ["NaiveIdentitySampler", "BalancedIdentitySampler"])
def test_batch_must_be_a_multiple_of_the_instances(name):
    with pytest.raises(ValueError, match="12 images must be a multiple of .*NUM_INSTANCE = 5"):
        build(name, instances=5)


@pytest.mark.parametrize("weights", [(), (1, 1), (0, 0, 0), (1, 1, 2), (1, -1, 3)])
def test_bad_set_weights(weights):
    with pytest.raises(ValueError, match="SET_WEIGHT"):
        build("SetReWeightSampler", weights=weights)


def test_more_identities_of_a_camera_than_it_has():
    with pytest.raises(ValueError, match=r"SET_WEIGHT\[1\] asks for 7 identities .* has 6"):
        build("SetReWeightSampler", batch=14, instances=1, weights=(0, 7, 0))


def test_batch_larger_than_the_data():
    with pytest.raises(ValueError, match="IMS_PER_BATCH 28 is larger than the training set of 27"):
        build("TrainingSampler", batch=28)


def test_unknown_sampler_names_the_nearest():
    with pytest.raises(KeyError, match="Did you mean 'CrossModalityIdentitySampler'"):
        build("CrossModalIdentitySampler")
