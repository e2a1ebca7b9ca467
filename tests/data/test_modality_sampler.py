"""EachModalitySampler. Oracles: counts by loops over the batches, and one process against two."""

from collections import Counter

import numpy as np
import pytest

from vireid_plugins.config import add_vireid_config
from vireid_plugins.data.modality_sampler import EachModalitySampler
from vireid_plugins.errors import UserError

from fastreid.config import get_cfg

from tests.data.test_sampler import batches_of, make_items

# Persons 0 to 5 are visible only, 6 to 9 infrared only, 10 has both.
SIZES = {**{n: (3 + n, 0) for n in range(6)}, **{n: (0, n - 4) for n in range(6, 10)}, 10: (4, 4)}
ITEMS = make_items(SIZES)
VISIBLE, INFRARED, K = 3, 2, 3


def made(**others):
    return EachModalitySampler(ITEMS, VISIBLE, INFRARED, K, seed=5, **others)


def test_each_batch_has_identities_of_both_modalities_with_k_images():
    sampler = made()
    assert len(sampler) == sampler.iterations_per_epoch * (VISIBLE + INFRARED) * K
    for batch in batches_of(sampler, (VISIBLE + INFRARED) * K):
        drawn = [ITEMS[place] for place in batch]
        for modality, wanted in ((0, VISIBLE), (1, INFRARED)):
            own = Counter(item.pid for item in drawn if item.modality == modality)
            assert len(own) == wanted and set(own.values()) == {K}
        repeated = [n for n, count in Counter(batch.tolist()).items() if count > 1]
        assert all(SIZES[ITEMS[n].pid][ITEMS[n].modality] < K for n in repeated)


def test_identities_come_in_turn_and_epochs_differ():
    sampler = made()
    seen = Counter(ITEMS[n].pid for n in batches_of(sampler, 1).ravel() if not ITEMS[n].modality)
    visits = [count // K for count in seen.values()]
    assert len(seen) == 7 and max(visits) - min(visits) <= 1
    first, again, other = (batches_of(sampler, 1, epoch).tolist() for epoch in (0, 0, 1))
    assert first == again != other


def test_two_processes_share_the_batches_of_one():
    options = dict(num_visible=4, num_infrared=2, num_instances=K, seed=5)
    whole = batches_of(EachModalitySampler(ITEMS, **options), 6 * K)
    parts = [
        batches_of(EachModalitySampler(ITEMS, **options, rank=rank, world_size=2), 3 * K)
        for rank in (0, 1)
    ]
    for one, both in zip(whole, zip(*parts)):
        assert sorted(one.tolist()) == sorted(np.concatenate(both).tolist())


def cfg_of(**keys):
    cfg = get_cfg()
    add_vireid_config(cfg)
    cfg.DATALOADER.SAMPLER_TRAIN = "EachModalitySampler"
    cfg.DATALOADER.NUM_INSTANCE, cfg.SOLVER.IMS_PER_BATCH = 3, 24
    for name, value in keys.items():
        node, key = name.split("__")
        cfg[node][key] = value
    return cfg


def test_keys_give_the_numbers():
    sampler = EachModalitySampler.from_config(cfg_of(), ITEMS)
    assert list(sampler._wanted.values()) == [4, 4]
    sampler = EachModalitySampler.from_config(cfg_of(DATALOADER__INFRARED_IDENTITIES=2), ITEMS)
    assert list(sampler._wanted.values()) == [6, 2]


@pytest.mark.parametrize(
    "keys,words",
    [
        ({"SOLVER__IMS_PER_BATCH": 21}, "multiple of 2 . DATALOADER.NUM_INSTANCE.*got 21"),
        ({"DATALOADER__INFRARED_IDENTITIES": 8}, "leaves 0 visible images"),
        ({"DATALOADER__INFRARED_IDENTITIES": 7, "SOLVER__IMS_PER_BATCH": 26}, "leaves 5 visible"),
        ({"SOLVER__IMS_PER_BATCH": 60}, "needs 10 visible identities or clusters, and there are 7"),
        ({"DATALOADER__IMAGE_DRAW": "replacement"}, "IMAGE_DRAW replacement"),
    ],
)
def test_what_does_not_fit_is_refused(keys, words):
    with pytest.raises(UserError, match=words):
        EachModalitySampler.from_config(cfg_of(**keys), ITEMS)


def test_without_an_image_of_a_modality_the_message_says_so():
    with pytest.raises(UserError, match="2 infrared identities or clusters, and there are 0"):
        EachModalitySampler([item for item in ITEMS if item.modality == 0], 2, 2, 2)
