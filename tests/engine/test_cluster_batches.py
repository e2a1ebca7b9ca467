"""What a clustering does to a training. Oracles: planted colors, centers by hand, counted calls."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vireid_plugins.data.build import build_train_loader
from vireid_plugins.engine.clusters import cluster_batches
from vireid_plugins.engine.clusters.checks import check_model
from vireid_plugins.errors import UserError
from vireid_plugins.modeling.heads.classes import set_classes

from fastreid.modeling.heads import EmbeddingHead

from tests.engine.planted import IMAGES, PERSONS, planted_cfg, write_images

TRUE = np.repeat(np.arange(PERSONS), IMAGES)


class Head(EmbeddingHead):
    """Has a row for each class, and gives logits as our heads do."""

    def __init__(self, rows=40, size=3):
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.full((rows, size), 5.0))

    def forward(self, features):
        return {"features": features, "logits": features @ self.weight.T}


class Colors(nn.Module):
    """Its feature is the mean color of an image, of which the length says nothing."""

    takes_clusters = True

    def __init__(self):
        super().__init__()
        self.heads = Head()

    def forward(self, batch):
        return batch["images"].mean(dim=(2, 3)) - 128


class Halves(Colors):
    """Clusters by another feature than the one it is tested by, with two heads and a memory."""

    takes_clusters = True

    def __init__(self):
        super().__init__()
        self.second, self.taken = Head(), []

    def forward(self, batch):
        raise AssertionError("its features are those of cluster_features")

    def cluster_features(self, batch):
        return batch["images"].mean(dim=(2, 3)) - 128

    def classifiers(self):
        return [self.heads, self.second]

    def begin_clusters(self, centers, labels):
        self.taken.append((centers, labels))


class Trainer:
    """As much of a trainer as a clustering sees."""

    def __init__(self, model, epoch=0, steps_done=0):
        self.model = self.unwrapped_model = model
        self.epoch, self.steps_done, self.max_epoch, self.iter = epoch, steps_done, 9, 0
        self.optimizer = torch.optim.Adam(model.parameters())
        for parameter in model.parameters():
            self.optimizer.state[parameter] = {"step": torch.tensor(3.0)}
        self.numbers, self.passed, self.seed = {}, 0, 0
        self.storage = SimpleNamespace(put_scalars=lambda **found: self.numbers.update(found))

    def pass_epoch(self):
        self.passed += 1


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", "datasets")  # planted_cfg sets it; put back at the end
        yield write_images(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def make(images, tmp_path):
    """Return ``make(model, **keys)``: the batches of a training on clusters."""

    def make(model, **keys):
        cfg = planted_cfg(tmp_path, images, **keys)
        return cluster_batches(cfg, build_train_loader(cfg), model)

    return make


@pytest.mark.parametrize("kind", [Colors, Halves])
def test_classifiers_begin_as_centers_and_the_optimizer_forgets(kind, make):
    model = kind()
    batches, trainer = make(model), Trainer(model)
    batches.begin_epoch(trainer)
    labels = batches.state_dict()["labels"]
    assert len(set(zip(labels.tolist(), TRUE.tolist()))) == PERSONS == labels.max() + 1
    read = [batch for batch in batches._images]
    features = F.normalize(torch.cat([b["images"].mean(dim=(2, 3)) - 128 for b in read]), dim=1)
    centers = torch.stack([features[labels == c].mean(0) for c in range(PERSONS)])
    centers = F.normalize(centers, dim=1)
    for head in getattr(model, "classifiers", lambda: [model.heads])():
        torch.testing.assert_close(head.weight[:PERSONS], centers)
        assert (head.weight[PERSONS:] == 5).all()
        assert head(features)["logits"].shape == (len(features), PERSONS)
    assert len(trainer.optimizer.state) == 0 and not trainer.passed
    assert trainer.numbers["clusters"] == PERSONS and trainer.numbers["clusters_purity"] == 1
    if kind is Halves:
        ((found, own),) = model.taken
        torch.testing.assert_close(found, centers)
        assert torch.equal(own, labels)


def test_the_optimizer_keeps_its_state_if_the_key_says_so(make):
    model = Colors()
    trainer = Trainer(model)
    make(model, CLUSTERS__NEW_OPTIMIZER=False).begin_epoch(trainer)
    assert len(trainer.optimizer.state) == 1


@pytest.mark.parametrize("period,expected", [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [0, 3])])
def test_clusters_are_found_at_the_first_epoch_and_after_each_period(period, expected, make):
    model = Colors()
    batches, found = make(model, CLUSTERS__PERIOD=period), []
    take = batches._take
    for epoch in range(5):
        batches._take = lambda *a, epoch=epoch: found.append(epoch) or take(*a)
        batches.begin_epoch(Trainer(model, epoch))
        batches.begin_epoch(Trainer(model, epoch, steps_done=1))  # continues inside the epoch
    assert found == expected
    late = make(model, CLUSTERS__PERIOD=period)  # of a run that had no clusters before
    late.begin_epoch(Trainer(model, epoch=1))
    assert len(late.state_dict()["labels"]) == len(TRUE)


def test_clusters_beyond_the_rows_of_the_classifier_count_as_outliers(make, caplog):
    model = Colors()
    batches = make(model, MODEL__HEADS__NUM_CLASSES=4)
    with caplog.at_level(logging.WARNING, "vireid_plugins"):
        batches.begin_epoch(Trainer(model))
    labels = batches.state_dict()["labels"]
    assert labels.max() == 3 and (labels < 0).sum() == 2 * IMAGES
    assert "6 clusters were found: the 4 largest are kept" in caplog.text


def test_what_a_checkpoint_says_is_taken(make):
    rule = dict(CLUSTERS__RADIUS=0.0, CLUSTERS__RADIUS_SHARE=0.1)
    model = Colors()
    first = make(model, **rule)
    first.begin_epoch(Trainer(model))
    state = first.state_dict()
    assert len(state["radii"]) == 1
    fresh = Colors()
    second = make(fresh, **rule)
    second.load_state_dict({**state, "radii": [0.123], "skipped": 2})
    assert second.skipped == 2 and torch.equal(second.state_dict()["labels"], state["labels"])
    second.begin_epoch(Trainer(fresh, epoch=1, steps_done=2))
    assert fresh.heads(torch.ones(1, 3))["logits"].shape[1] == state["labels"].max() + 1
    second.begin_epoch(Trainer(fresh, epoch=2))  # found again, with the radius of the checkpoint
    assert second.state_dict()["radii"] == [0.123]
    # a number that the config gives is used, whatever a checkpoint says, and is not kept
    third = make(fresh, CLUSTERS__RADIUS=0.4)
    third.load_state_dict({**state, "radii": [0.123]})
    third.begin_epoch(Trainer(fresh, epoch=1))
    assert third._clustering.radii == [0.4] and third.state_dict()["radii"] == []


@pytest.mark.parametrize(
    "labels,words",
    [(torch.zeros(35, dtype=torch.int64), "labels 35 images"), (torch.arange(36) + 1, "37 cl")],
)
def test_labels_of_other_images_are_refused(labels, words, make):
    with pytest.raises(ValueError, match=words):
        make(Colors()).load_state_dict({"labels": labels, "radii": [], "skipped": 0})


def test_a_head_narrows_its_logits_and_nothing_else():
    for name in ("logits", "cls_outputs", "pred_class_logits"):
        head = Head(rows=6, size=8)
        head.forward = lambda x, name=name: {"features": x, name: x[:, :6]} if x.dim() == 2 else x
        set_classes(head, 4, torch.ones(4, 8))
        assert (head.weight[:4] == 1).all() and (head.weight[4:] == 5).all()
        found = head(torch.rand(2, 8))
        assert found[name].shape == (2, 4) and found["features"].shape == (2, 8)
        set_classes(head, 5)
        assert head(torch.rand(2, 8))[name].shape == (2, 5) and (head.weight[:4] == 1).all()
        assert head(torch.rand(8)).shape == (8,)  # features, in an evaluation


class Silent(Colors):
    """Derived from a class that takes clusters, and does not say it for itself."""


class Keeping(Colors):
    takes_clusters = True
    loss_terms = {"loss_center": SimpleNamespace(keeps_classes=True)}


class OtherHead(Colors):
    takes_clusters = True

    def classifiers(self):
        return [self.heads, nn.Linear(3, 3)]


@pytest.mark.parametrize(
    "kind,keys,words",
    [
        (Silent, {}, "Silent does not say that its classes may be numbered anew"),
        (Keeping, {}, "has SimpleNamespace, which keeps a row for each class"),
        (OtherHead, {}, "has the head Linear, which has no single classifier"),
        (Colors, {"TEST__FEATURE": "both"}, "TEST.FEATURE both has another size"),
    ],
)
def test_what_cannot_be_trained_on_clusters_is_told(kind, keys, words, images, tmp_path):
    cfg = planted_cfg(tmp_path, images, **keys)
    with pytest.raises(UserError, match=words):
        check_model(cfg, kind())
    cfg.CLUSTERS.ENABLED = False
    check_model(cfg, kind())
