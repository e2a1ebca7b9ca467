"""Batches of pairs and negatives. Oracle: the counts of the paper's batch, read from the items."""

from collections import Counter

import pytest

from vireid_plugins.data.pairs_sampler import PairsAndNegativesSampler
from vireid_plugins.errors import UserError
from vireid_plugins.modality import Modality

VISIBLE, INFRARED = int(Modality.VISIBLE), int(Modality.INFRARED)


def items_of(people, images=3, lacking=()):
    """``images`` of each person in each modality; ``lacking`` people have no infrared ones."""
    return [
        (f"{pid}_{modality}_{i}.jpg", pid, modality, modality)
        for pid in range(people)
        for modality in (VISIBLE, INFRARED)
        for i in range(images)
        if not (modality == INFRARED and pid in lacking)
    ]


def batches_of(sampler, size, epoch=0):
    sampler.set_epoch(epoch)
    rows = list(sampler)
    assert len(rows) == len(sampler) == sampler.iterations_per_epoch * size
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def check_batch(items, batch, identities, instances, negatives):
    """P identities with K + K images, M visible and M infrared images, nobody in two roles."""
    counts = Counter((items[row][1], items[row][3]) for row in batch)
    both = {pid for pid, _ in counts if counts[(pid, VISIBLE)] and counts[(pid, INFRARED)]}
    assert len(both) == identities
    assert all(counts[(pid, m)] == instances for pid in both for m in (VISIBLE, INFRARED))
    others = [key for key in counts if key[0] not in both]
    assert all(counts[key] == 1 for key in others)
    assert Counter(modality for _, modality in others) == (
        {VISIBLE: negatives, INFRARED: negatives} if negatives else {}
    )


@pytest.mark.parametrize("identities, instances, negatives", [(2, 1, 2), (3, 2, 0), (1, 2, 3)])
def test_each_batch_has_pairs_and_negatives(identities, instances, negatives):
    items = items_of(10, lacking={4, 7})
    sampler = PairsAndNegativesSampler(items, identities, instances, negatives, seed=5)
    size = 2 * (identities * instances + negatives)
    for batch in batches_of(sampler, size):
        check_batch(items, batch, identities, instances, negatives)


def test_identities_with_both_modalities_come_in_turn_and_those_with_one_are_negatives():
    items = items_of(8, lacking={3})
    sampler = PairsAndNegativesSampler(items, 1, 1, 2, epoch_batches=70)
    firsts = [items[batch[0]][1] for batch in batches_of(sampler, 6)]
    assert Counter(firsts) == {pid: 10 for pid in range(8) if pid != 3}
    seen = {items[row][1] for batch in batches_of(sampler, 6) for row in batch[2:]}
    assert 3 in seen


def test_an_epoch_is_that_of_the_data_or_as_long_as_wanted():
    items = items_of(10)
    assert PairsAndNegativesSampler(items, 2).iterations_per_epoch == 30 // 2
    assert PairsAndNegativesSampler(items, 2, epoch_batches=1000).iterations_per_epoch == 1000


def test_seed_and_epoch_decide_and_ranks_share_a_batch():
    items = items_of(20)

    def rows(**options):
        return batches_of(PairsAndNegativesSampler(items, 4, 1, 2, seed=1, **options), 12)

    whole = rows()
    assert whole == rows()
    assert whole != batches_of(PairsAndNegativesSampler(items, 4, 1, 2, seed=1), 12, epoch=1)
    halves = [
        batches_of(PairsAndNegativesSampler(items, 4, 1, 2, seed=1, rank=rank, world_size=2), 6)
        for rank in (0, 1)
    ]
    assert [sorted(a + b) for a, b in zip(*halves)] == [sorted(batch) for batch in whole]
    for half in halves:
        for batch in half:
            check_batch(items, batch, 2, 1, 1)


@pytest.mark.parametrize(
    "arguments, options, words",
    [
        ((9, 1, 0), {}, "9 identities with images of both"),
        ((2, 1, 4), {}, "and 8 others"),
        ((2, 1, 1), {"world_size": 2}, "multiple of the 2 processes"),
        ((2, 1, -1), {}, "NEGATIVES"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, words):
    with pytest.raises(UserError, match=words):
        PairsAndNegativesSampler(items_of(8), *arguments, **options)
