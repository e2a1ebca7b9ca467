"""The rules by which the public code of AGW draws batches, asked of our sampler by its keys.

Recorded from mangye16/Cross-Modal-Re-ID-baseline, ``utils.IdentitySampler`` in a ``DataLoader``
with ``drop_last``, as in ``train.py``: the number of batches of an epoch. The expected frequencies
follow from ``np.random.choice(identities, P, replace=False)`` for each batch and
``np.random.choice(images, K)`` for each identity.
"""

import math

import numpy as np
import pytest

from vireid_plugins.config import add_vireid_config
from vireid_plugins.data.build import build_sampler
from vireid_plugins.data.item import Item
from vireid_plugins.data.sampler import CrossModalityIdentitySampler
from vireid_plugins.errors import UserError

from fastreid.config import get_cfg

PUBLIC = {"identity_draw": "independent", "image_draw": "replacement", "extra_batches": 1}


def items_of(identities, visible, infrared):
    return [
        Item(f"{pid}-{modality}-{k}", pid, 1, modality)
        for modality, count in enumerate((visible, infrared))
        for pid in range(identities)
        for k in range(count)
    ]


def drawn(items, P, K, epoch=0, **arguments):
    """Return the identities (B, P) and the images (B, P, 2, K) of an epoch."""
    sampler = CrossModalityIdentitySampler(items, P, K, **{**PUBLIC, **arguments})
    sampler.set_epoch(epoch)
    rows = np.array(list(sampler)).reshape(sampler.iterations_per_epoch, -1, 2, K)
    pids = np.array([item.pid for item in items])[rows]
    modalities = np.array([item.modality for item in items])[rows]
    assert (pids == pids[:, :, :1, :1]).all()
    assert (modalities == np.array([0, 1]).reshape(1, 1, 2, 1)).all()
    return pids[:, :, 0, 0], rows


@pytest.mark.parametrize(
    "identities, visible, infrared, P, K, batches",
    [
        (206, 10, 10, 8, 4, 65),  # RegDB: 2060 images, 64.4 batches
        (8, 8, 8, 8, 4, 3),  # 64 images fill two batches, and there is a third
        (10, 64, 40, 5, 4, 33),  # the larger modality counts
        (10, 200, 4, 5, 4, 101),
        (4, 2, 3, 4, 4, 1),  # fewer images than one batch
    ],
)
def test_batches_of_an_epoch(identities, visible, infrared, P, K, batches):
    pids, rows = drawn(items_of(identities, visible, infrared), P, K)
    assert len(rows) == batches
    assert all(len(set(batch)) == P for batch in pids.tolist())


def test_each_batch_draws_from_all_identities():
    pids, _ = drawn(items_of(10, 400, 1), 5, 1)  # 801 batches of half of the identities
    common = [len(set(a) & set(b)) for a, b in zip(pids.tolist(), pids[1:].tolist())]
    assert np.mean(common) == pytest.approx(5 * 5 / 10, abs=0.1)  # in turn: 0
    visits = np.bincount(pids.ravel())
    assert 5 < visits.std() < 30  # binomial: about 14; in turn: 0
    first = [set(batch) for batch in drawn(items_of(10, 400, 1), 5, 1, epoch=1)[0].tolist()]
    assert first[:5] != [set(batch) for batch in pids[:5].tolist()]


@pytest.mark.parametrize("images", [4, 10])
def test_images_are_drawn_with_replacement(images):
    _, rows = drawn(items_of(10, images, 200), 5, 4)
    distinct = np.mean([len(set(one)) == 4 for one in rows[:, :, 0].reshape(-1, 4).tolist()])
    expected = math.perm(images, 4) / images**4  # 0.094 of 4 images, 0.504 of 10
    assert distinct == pytest.approx(expected, abs=0.07)
    counts = np.bincount(rows[:, :, 0].ravel(), minlength=10 * images)
    assert (counts > 0).all()  # all images come, and none of them much more often
    assert counts.max() < 2.5 * counts.mean()


@pytest.mark.parametrize("rule", [{}, *({name: value} for name, value in PUBLIC.items())])
def test_ranks_together_are_one_process(rule):
    items = items_of(11, 9, 7)
    whole = CrossModalityIdentitySampler(items, 6, 2, seed=1, **rule)
    parts = [
        CrossModalityIdentitySampler(items, 6, 2, seed=1, rank=rank, world_size=3, **rule)
        for rank in range(3)
    ]
    for epoch in (2, 0):
        for sampler in (whole, *parts):
            sampler.set_epoch(epoch)
        rows = [np.array(list(part)).reshape(-1, 8) for part in parts]
        assert np.concatenate(rows, axis=1).ravel().tolist() == list(whole)


def config(**keys):
    cfg = get_cfg()
    add_vireid_config(cfg)
    cfg.DATALOADER.SAMPLER_TRAIN = "CrossModalityIdentitySampler"
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE = 64, 4
    for name, value in keys.items():
        cfg.DATALOADER[name] = value
    return cfg


def test_the_keys_choose_the_rules():
    items, seed = items_of(20, 10, 8), 3
    cfg = config(IDENTITY_DRAW="independent", IMAGE_DRAW="replacement", EXTRA_BATCHES=1)
    found = list(build_sampler(cfg, items, seed=seed))
    assert found == list(CrossModalityIdentitySampler(items, 8, 4, seed=seed, **PUBLIC))
    plain = list(build_sampler(config(), items, seed=seed))
    assert plain == list(CrossModalityIdentitySampler(items, 8, 4, seed=seed))
    assert len(found) == len(plain) + 64


def test_a_sampler_of_fastreid_says_that_it_does_not_read_them():
    rules = {"IMAGE_DRAW": "replacement", "EXTRA_BATCHES": 1}
    cfg = config(SAMPLER_TRAIN="NaiveIdentitySampler", **rules)
    message = (
        "SAMPLER_TRAIN NaiveIdentitySampler does not read DATALOADER.IMAGE_DRAW replacement and "
        "DATALOADER.EXTRA_BATCHES 1; only CrossModalityIdentitySampler does. Use that, or set "
        "DATALOADER.IMAGE_DRAW distinct DATALOADER.EXTRA_BATCHES 0."
    )
    with pytest.raises(UserError, match=message):
        build_sampler(cfg, items_of(20, 10, 8), seed=0, rank=0, world_size=1)


def test_bad_values_name_the_key():
    with pytest.raises(UserError, match="DATALOADER.IDENTITY_DRAW is 'random'; expected 'cycle'"):
        drawn(items_of(4, 4, 4), 2, 2, identity_draw="random")
    with pytest.raises(UserError, match="DATALOADER.EXTRA_BATCHES is -1"):
        drawn(items_of(4, 4, 4), 2, 2, extra_batches=-1)
