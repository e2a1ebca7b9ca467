"""Batches by pseudo-labels. Oracle: a sampler of passes that the test has written."""

import numpy as np
import pytest

from vireid_plugins.config import add_vireid_config
from vireid_plugins.data import pseudo_labels
from vireid_plugins.data.item import Item
from vireid_plugins.data.pseudo_labels import PseudoLabelSampler
from vireid_plugins.errors import UserError

from fastreid.config import get_cfg

ITEMS = [Item.of((f"{n}.jpg", 5, 1)) for n in range(10)]
LABELS = np.array([1, -1, 0, 1, 0, 1, -1, 0, 1, 0])
KEPT = [0, 2, 3, 4, 5, 7, 8, 9]


class Passes:
    """Yields the given places of its items, in passes that begin one further each time."""

    def __init__(self, items, count):
        self.items, self.count, self.epochs = items, count, []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __iter__(self):
        first = len(self.epochs)
        return iter([(first + k) % len(self.items) for k in range(self.count)])


@pytest.fixture
def make(monkeypatch):
    """Return ``make(count, **keys)``: a sampler, and the list of the inner ones that it built."""

    def make(count=5, batch=4, world_size=2, iterations=0, classes=0):
        cfg = get_cfg()
        add_vireid_config(cfg)
        cfg.SOLVER.IMS_PER_BATCH, cfg.CLUSTERS.ITERATIONS = batch, iterations
        cfg.MODEL.HEADS.NUM_CLASSES = classes
        inner = []

        def build(cfg, items, **ranks):
            assert ranks == {"seed": 3, "rank": 1, "world_size": world_size}
            inner.append(Passes(items, count))
            return inner[-1]

        monkeypatch.setattr(pseudo_labels, "build_sampler", build)
        return PseudoLabelSampler(cfg, ITEMS, seed=3, rank=1, world_size=world_size), inner

    return make


def test_an_epoch_is_whole_batches_of_one_pass_after_the_other(make):
    sampler, inner = make(count=5, iterations=3)
    assert sampler.set_labels(LABELS) == ""
    assert [item.pid for item in inner[0].items] == [1, 0, 1, 0, 1, 0, 1, 0]
    assert [item.path for item in inner[0].items] == [f"{n}.jpg" for n in KEPT]
    sampler.set_epoch(7)
    # rows of this process: two of each of three batches; a pass gives five, of which four are used
    found = list(sampler)
    assert found == [KEPT[k] for k in (1, 2, 3, 4, 2, 3)] and len(found) == len(sampler)
    assert inner[0].epochs == [7, 7 + 2**32]
    sampler.set_epoch(8)
    list(sampler)
    assert len(set(inner[0].epochs)) == 4  # no pass is drawn twice


def test_the_length_of_an_epoch_does_not_depend_on_the_labels(make):
    assert make()[0].iterations_per_epoch == 2  # 10 images fill two batches of 4
    assert make(iterations=9)[0].iterations_per_epoch == 9
    with pytest.raises(UserError, match="IMS_PER_BATCH 12 is larger than the training set of 10"):
        make(batch=12)


def test_there_are_as_many_labels_as_rows_of_the_classifier(make):
    assert [make(classes=n)[0].most_labels for n in (0, 2, 10, 99)] == [10, 2, 10, 10]
    with pytest.raises(UserError, match="NUM_CLASSES is 1.*set it to 2 or more, or to 0"):
        make(classes=1)


def test_labels_that_give_no_batch_are_told(make, monkeypatch):
    sampler, inner = make(count=1)
    with pytest.raises(UserError, match="there are none yet"):
        list(sampler)
    assert "At least two clusters" in sampler.set_labels(np.zeros(10, np.int64))
    assert "At least two clusters" in sampler.set_labels(np.full(10, -1))
    assert sampler.set_labels(LABELS) == ""
    with pytest.raises(UserError, match="Passes drew 1 images in an epoch, fewer than the 2"):
        list(sampler)

    def refuse(*args, **ranks):
        raise UserError("It needs 8 identities.")

    monkeypatch.setattr(pseudo_labels, "build_sampler", refuse)
    assert sampler.set_labels(LABELS) == "It needs 8 identities."
    with pytest.raises(UserError, match="there are none yet"):  # the old ones are gone
        list(sampler)
