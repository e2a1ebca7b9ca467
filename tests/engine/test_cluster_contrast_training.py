"""ADCA, PGM and BMIL in the engine. Oracles: planted colors, and a run that was never stopped.

Each person has one color, the same in both modalities, so that any network tells persons apart.
"""

import csv
import json
import logging
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.clusters import finding
from vireid_plugins.engine.interrupts import TrainingStopped
from vireid_plugins.errors import UserError
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.planted import KEYS, train, weights
from tests.engine.small import small_cfg

COLORS = [
    (230, 20, 20),
    (20, 230, 20),
    (20, 20, 230),
    (230, 230, 20),
    (230, 20, 230),
    (20, 230, 230),
]
COLORS += [(120, 20, 230), (230, 120, 20)]  # of the test
PERSONS, IMAGES = 6, 6
OWN = {
    "MODEL__BACKBONE__UNSHARED_STAGES": 0,  # one color, one feature
    "SEED": 1,
    "MODEL__HEADS__NUM_CLASSES": 30,
    "MODEL__CLUSTER_CONTRAST__FIRST_EPOCHS": 1,
    "DATASETS__NAMES": "('CSVDataset',)",
    "DATASETS__TESTS": "('CSVDataset',)",
    "DATALOADER__SAMPLER_TRAIN": "EachModalitySampler",
    "DATALOADER__INFRARED_IDENTITIES": 0,
    "CLUSTERS__K1": 8,
    "CLUSTERS__K2": 3,
    "CLUSTERS__RADIUS": 0.7,
    "CLUSTERS__ITERATIONS": 4,
    "CLUSTERS__PERIOD": 1,
    "CLUSTERS__VISIBLE_SHARE": 1.0,
    "INPUT__CHANNEL_EXCHANGE__PROB": 0.1,
    "SOLVER__BASE_LR": 1e-5,  # clusters stay what they are
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The CSV file of persons of one color each, in both modalities."""
    folder, rng, rows = tmp_path_factory.mktemp("planted"), np.random.default_rng(0), []
    for person, color in enumerate(COLORS):
        for modality in ("visible", "infrared"):
            for copy in range(IMAGES):
                pixels = np.clip(color + rng.normal(0, 4, (32, 16, 3)), 0, 255).astype(np.uint8)
                name = f"{person}_{modality}_{copy}.png"
                Image.fromarray(pixels).save(folder / name)
                split = "train" if person < PERSONS else "test"
                camera = 1 + copy % 2 + 2 * (modality == "infrared")
                rows.append([name, person, camera, modality, split])
    with open(folder / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "pid", "camid", "modality", "split"], *rows])
    return folder / "list.csv"


def contrast_cfg(folder, images, method, **keys):
    words = {**KEYS, **OWN, "DATASETS__CSV_FILE": images, **keys}
    return small_cfg(folder, f"configs/{method}/synthetic.yml", **words)


@pytest.fixture
def messages(caplog):
    caplog.set_level(logging.INFO, "vireid_plugins")
    logger = logging.getLogger("vireid_plugins")
    logger.addHandler(caplog.handler)
    logger.propagate = False
    return caplog


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def begun(cfg, epoch):
    """A trainer whose clusters were found for an epoch."""
    trainer = VIReIDTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.iter = trainer.start_iter = epoch * trainer.iters_per_epoch
    trainer.epoch = epoch
    from fastreid.utils.events import EventStorage

    with EventStorage(trainer.iter) as trainer.storage:
        trainer.data_loader.begin_epoch(trainer)
    return trainer


@pytest.mark.parametrize("method", ["adca", "pgm"])
def test_clusters_of_both_modalities_are_matched_and_the_log_says_how_well(
    method, images, tmp_path, messages
):
    trainer = begun(contrast_cfg(tmp_path, images, method), 1)
    labels = trainer.data_loader._targets
    modalities = torch.tensor([item.modality for item in trainer.data_loader.dataset.items])
    pids = torch.tensor([int(item.pid) for item in trainer.data_loader.dataset.items])
    assert len({(int(n), int(m), int(p)) for n, m, p in zip(labels, modalities, pids)}) == 12
    partners = trainer.model.links.partners[labels]
    shown = {int(n): int(p) for n, p in zip(labels, pids)}
    assert all(shown[int(n)] == p for n, p in zip(partners, pids.tolist()))
    line = next(line for line in messages.messages if "pairs of clusters matched" in line)
    assert "visible: 6 clusters, 0 outliers, NMI 1.000, purity 1.000" in line
    assert "6 pairs of clusters matched, precision 1.000 (only reported)" in line
    memory = trainer.model.memory
    assert int(memory.count) == 12 and sorted(memory.groups[:12].tolist()) == [0] * 6 + [1] * 6


def test_batches_of_two_clusterings_take_turns(images, tmp_path, messages):
    trainer = begun(contrast_cfg(tmp_path, images, "bmil"), 1)
    batches, items = trainer.data_loader, trainer.data_loader.dataset.items
    batches.batch_sampler.set_epoch(1)
    found = list(batches)
    assert [batch["labeling"] for batch in found] == [0, 1, 0, 1]
    labels = [batches._targets, torch.from_numpy(batches._clustering.others[0])]
    for batch in found:
        assert torch.equal(batch["targets"], labels[batch["labeling"]][batch["index"]])
    persons = {(int(n), int(item.pid)) for n, item in zip(labels[1], items)}
    assert len(persons) == PERSONS  # the second has both modalities of a person
    assert trainer.model.links.prototypes[:, :PERSONS].T.flatten().sort().values.tolist() == list(
        range(2 * PERSONS)
    )
    assert any("all images (balanced): 6 clusters of 72 images" in m for m in messages.messages)
    batches.batch_sampler.set_epoch(1)
    batches.batch_sampler.skip(1)  # as a run that continues inside the epoch
    again = list(batches)
    assert [batch["labeling"] for batch in again] == [1, 0, 1]
    assert torch.equal(again[0]["index"], found[1]["index"])


def test_a_share_of_the_visible_images_is_drawn_anew(images, tmp_path):
    cfg = contrast_cfg(tmp_path, images, "bmil", CLUSTERS__VISIBLE_SHARE=0.5)
    trainer = begun(cfg, 1)
    batches = trainer.data_loader
    visible = torch.tensor([item.modality == 0 for item in batches.dataset.items])
    first, second = batches._targets, torch.from_numpy(batches._clustering.others[0])
    assert int((first[visible] >= 0).sum()) <= 18 and int((second[visible] >= 0).sum()) <= 18
    assert not bool(((first >= 0) & (second >= 0))[visible].any())  # the other half
    assert bool((first[~visible] >= 0).all())
    modalities = np.array([item.modality for item in batches.dataset.items])
    again = finding.cluster(torch.randn(72, 4), modalities, batches._search((trainer.seed, 2), ""))
    assert isinstance(again.labels, np.ndarray)


@pytest.mark.slow
@pytest.mark.parametrize("method,after", [("bmil", 5), ("pgm", 6), ("adca", 1)])
def test_a_run_that_is_stopped_inside_an_epoch_continues_exactly(method, after, images, tmp_path):
    """Epoch 1 is the second stage: memories, partners and both clusterings go on."""

    class Stopped(VIReIDTrainer):
        def run_step(self):
            super().run_step()
            if self.iter == after:
                os.kill(os.getpid(), signal.SIGTERM)

    train(contrast_cfg(tmp_path / "whole", images, method))
    cfg = contrast_cfg(tmp_path / "parts", images, method)
    with pytest.raises(TrainingStopped):
        train(cfg, trainer=Stopped)
    train(cfg, resume=True)
    assert_same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("period", [1, 2])
def test_a_run_that_is_killed_while_it_clusters_continues_exactly(period, images, tmp_path):
    """With a period of 2, the clusters of the first stage are not those of the second."""
    keys = dict(CLUSTERS__PERIOD=period, CLUSTERS__VISIBLE_SHARE=0.7)
    train(contrast_cfg(tmp_path / "whole", images, "bmil", **keys))
    cfg = contrast_cfg(tmp_path / "killed", images, "bmil", **keys)
    pid = os.fork()
    if pid == 0:
        found = finding.cluster

        def dying(features, modalities, search):
            if search.draw[1] == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return found(features, modalities, search)

        finding.cluster = dying
        train(cfg)
        os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    train(cfg, resume=True)
    assert_same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    held = read_checkpoint(f"{tmp_path}/whole/model_final.pth")["clusters"]
    assert held["stage"] == 1 and held["others"].shape == (1, 72)


def changed(monkeypatch, change):
    """Let a clustering of the engine be changed before it is used."""
    found = finding.cluster

    def other(features, modalities, search):
        result = found(features, modalities, search)
        change(result, modalities)
        return result

    monkeypatch.setattr(finding, "cluster", other)


def test_no_cluster_in_one_modality_skips_the_epoch(images, tmp_path, messages, monkeypatch):
    def change(result, modalities):
        result.labels[modalities == 1] = -1

    changed(monkeypatch, change)
    trainer = begun(contrast_cfg(tmp_path, images, "pgm"), 1)
    assert trainer.data_loader.skips_epoch
    words = "needs 2 infrared identities or clusters, and there are 0"
    assert any("is skipped" in line and words in line for line in messages.messages)


def test_one_cluster_in_one_modality_skips_the_epoch(images, tmp_path, messages, monkeypatch):
    def change(result, modalities):
        result.labels[modalities == 1] = int(result.labels[modalities == 1].min())

    changed(monkeypatch, change)
    trainer = begun(contrast_cfg(tmp_path, images, "adca"), 1)
    assert trainer.data_loader.skips_epoch
    assert any("needs 2 infrared" in line and "there are 1" in line for line in messages.messages)


def test_an_unusable_second_clustering_is_left_out(images, tmp_path, messages, monkeypatch):
    changed(monkeypatch, lambda result, _: [one.fill(-1) for one in result.others])
    trainer = train(contrast_cfg(tmp_path, images, "bmil", SOLVER__MAX_EPOCH=2))
    assert trainer.data_loader.skipped == 0 and trainer.iter == 8
    assert any("'balanced' is not used in this epoch" in line for line in messages.messages)
    rows = [json.loads(row) for row in (tmp_path / "metrics.json").read_text().splitlines()]
    assert not any("loss_global" in row for row in rows)


def test_without_a_match_the_term_is_left_out(images, tmp_path, messages, monkeypatch):
    from vireid_plugins.modeling.meta_arch import ClusterContrast

    none = lambda self, found: torch.full((12,), -1)  # noqa: E731
    monkeypatch.setattr(ClusterContrast, "match_clusters", none)
    train(contrast_cfg(tmp_path, images, "pgm", SOLVER__MAX_EPOCH=2))
    assert any("No cluster has a partner" in line for line in messages.messages)
    rows = [json.loads(row) for row in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [row["loss_cross"] for row in rows if "loss_cross" in row][-1] == 0
    assert any("0 pairs of clusters matched" in line for line in messages.messages)


@pytest.mark.parametrize(
    "keys,words",
    [
        ({"CLUSTERS__ENABLED": False}, "ClusterContrast learns from clusters"),
        ({"CLUSTERS__WITHIN": "all"}, "needs CLUSTERS.WITHIN modality; it is all"),
        ({"MODEL__LOSSES__NAME": "('BatchHardTripletLoss',)"}, "has its own terms only"),
        ({"MODEL__CLUSTER_CONTRAST__MATCH": "none"}, "CROSS needs clusters that are matched"),
        ({"MODEL__CLUSTER_CONTRAST__CROSS": "none"}, "nothing uses the matches"),
        ({"MODEL__CLUSTER_CONTRAST__UPDATE": "['rows','hybrid']"}, "hybrid for both or none"),
        ({"MODEL__CLUSTER_CONTRAST__AGGREGATION": 1.5}, "expected a share from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(keys, words, images, tmp_path):
    more = {"DATALOADER__SAMPLER_TRAIN": "TrainingSampler"} if "CLUSTERS__ENABLED" in keys else {}
    with pytest.raises(UserError, match=words):
        VIReIDTrainer(contrast_cfg(tmp_path, images, "pgm", **more, **keys))
