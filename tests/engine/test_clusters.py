"""Training on clusters. Oracle: planted colors, one run that was never stopped, and true labels."""

import logging
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from vireid_plugins.data.training_items import build_train_items
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.clusters import finding
from vireid_plugins.engine.clusters.batches import ClusterBatches
from vireid_plugins.engine.interrupts import TrainingStopped
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.planted import IMAGES, PERSONS, planted_cfg, train, weights, write_images
from tests.engine.small import ROOT, small_cfg

TRUE = np.repeat(np.arange(PERSONS), IMAGES)


@pytest.fixture(autouse=True, scope="module")
def own_folder_of_datasets():
    """Put the variable back that ``planted_cfg`` sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", "datasets")
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    """A run of three epochs that was never stopped: its folder."""
    folder = tmp_path_factory.mktemp("whole")
    train(planted_cfg(folder, images))
    return folder


@pytest.fixture
def messages(caplog):
    """The lines that are logged; a logger with a handler is not taken over."""
    caplog.set_level(logging.INFO, "vireid_plugins")
    logger = logging.getLogger("vireid_plugins")
    logger.addHandler(caplog.handler)
    logger.propagate = False  # fresh_logs of conftest.py puts it back
    return caplog


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_planted_persons_are_the_clusters(whole):
    held = read_checkpoint(f"{whole}/model_final.pth")["clusters"]
    pairs = {(int(label), int(true)) for label, true in zip(held["labels"], TRUE)}
    assert len(pairs) == PERSONS and {label for label, _ in pairs} == set(range(PERSONS))


def test_images_are_in_an_order_that_no_identity_decides(datasets, tmp_path, monkeypatch):
    """SYSU-MM01's own order is by identity."""
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    cfg = small_cfg(tmp_path, "configs/baseline/synthetic.yml", CLUSTERS__ENABLED=True)
    paths = [item.path for item in build_train_items(cfg)]
    assert paths == sorted(paths)
    cfg.CLUSTERS.ENABLED = False
    assert [item.path for item in build_train_items(cfg)] != paths


def test_labels_of_a_batch_are_clusters_and_outliers_are_in_none(images, tmp_path):
    cfg = planted_cfg(tmp_path, images, CLUSTERS__MIN_SAMPLES=2)
    trainer = VIReIDTrainer(cfg)
    labels = np.where(TRUE == 2, -1, (TRUE * 3) % 7)  # names in another order, one person left out
    batches = trainer.data_loader
    assert batches._sampler.set_labels(labels) == ""
    batches._targets = torch.from_numpy(labels)
    batches.batch_sampler.set_epoch(1)
    rows = [(int(i), int(t)) for b in batches for i, t in zip(b["index"], b["targets"])]
    assert len(rows) == 8 * 3 and all(t == labels[i] >= 0 for i, t in rows)


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 4, 5])
def test_a_run_that_is_stopped_inside_an_epoch_continues_exactly(after, images, whole, tmp_path):
    class Stopped(VIReIDTrainer):
        def run_step(self):
            super().run_step()
            if self.iter == after:
                os.kill(os.getpid(), signal.SIGTERM)

    cfg = planted_cfg(tmp_path, images)
    with pytest.raises(TrainingStopped):
        train(cfg, trainer=Stopped)
    train(cfg, resume=True)
    assert_same(weights(tmp_path), weights(whole))


@pytest.mark.slow
@pytest.mark.parametrize(
    "period,place", [(1, "begin_epoch"), (1, "_report"), (1, "__iter__"), (2, "__iter__")]
)
def test_a_run_that_is_killed_in_a_later_epoch_continues_exactly(
    period, place, images, whole, tmp_path
):
    """It is killed before it clusters, while it does, and between two steps of the epoch.

    The labels of that epoch are found again or, with a period of 2, are in the file.
    """
    expected = tmp_path / "whole"
    if period == 2:
        train(planted_cfg(expected, images, CLUSTERS__PERIOD=2))
    cfg = planted_cfg(tmp_path / "killed", images, CLUSTERS__PERIOD=period)
    pid = os.fork()
    if pid == 0:
        alive, calls = getattr(ClusterBatches, place), []

        def dying(self, *args):
            calls.append(1)
            if len(calls) == 2 and place != "__iter__":
                os.kill(os.getpid(), signal.SIGKILL)
            found = alive(self, *args)
            return half_of(found) if len(calls) == 2 else found

        def half_of(found):
            yield next(found)
            yield next(found)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(ClusterBatches, place, dying)
        train(cfg)
        os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    train(cfg, resume=True)
    assert_same(weights(tmp_path / "killed"), weights(expected if period == 2 else whole))


@pytest.mark.slow
def test_true_identities_change_no_weight(images, whole, tmp_path):
    """Shuffled over the images, and all alike."""
    for place, pids in enumerate((np.random.default_rng(1).permutation(TRUE), 0 * TRUE)):
        listed = write_images(tmp_path / f"images{place}", identities=pids.tolist())
        train(planted_cfg(tmp_path / f"run{place}", listed))
        assert_same(weights(tmp_path / f"run{place}"), weights(whole))


@pytest.mark.parametrize(
    "keys,words",
    [
        ({"CLUSTERS__RADIUS": 1e-9}, "At least two clusters"),  # none
        ({"CLUSTERS__RADIUS": 0.99, "CLUSTERS__K1": 36}, "At least two clusters"),  # one
        ({"SOLVER__IMS_PER_BATCH": 16}, "needs 8 identities"),  # fewer than a batch has
    ],
)
def test_an_epoch_without_usable_clusters_is_skipped_with_a_message(
    keys, words, images, tmp_path, messages
):
    cfg = planted_cfg(tmp_path, images, SOLVER__MAX_EPOCH=2, **keys)
    trainer = VIReIDTrainer(cfg)
    trainer.resume_or_load(resume=False)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    assert_same(weights(tmp_path), before)
    assert sum("is skipped" in line and words in line for line in messages.messages) == 2
    assert any("2 epoch(s) were skipped" in line for line in messages.messages)
    # it can be resumed, with as many epochs as before
    train(planted_cfg(tmp_path, images, SOLVER__MAX_EPOCH=3, **keys), resume=True)
    assert "3 epoch(s) were skipped in this run, see above." in messages.messages


@pytest.mark.slow
def test_a_skipped_epoch_counts_in_the_schedule(images, tmp_path, monkeypatch):
    """The second of three."""
    found, calls = finding.cluster, []

    def none_in_the_second(features, modalities, search):
        result = found(features, modalities, search)
        calls.append(1)
        if len(calls) == 2:
            result.labels[:] = -1
        return result

    monkeypatch.setattr(finding, "cluster", none_in_the_second)
    cfg = planted_cfg(tmp_path / "run", images)
    trainer = train(cfg)
    assert (trainer.data_loader.skipped, trainer.iter) == (1, 9)
    one = read_checkpoint(f"{tmp_path}/run/model_0000.pth")
    two = read_checkpoint(f"{tmp_path}/run/model_0001.pth")
    assert_same(two["model"], one["model"])
    assert two["clusters"]["skipped"] == 1


def test_the_log_and_the_measurements_describe_each_clustering(images, tmp_path, messages):
    train(planted_cfg(tmp_path, images, CLUSTERS__RADIUS=0.0, CLUSTERS__RADIUS_SHARE=0.2))
    lines = [line for line in messages.messages if "clusters of" in line]
    assert len(lines) == 3
    assert "by the rule" in lines[0] and "NMI" in lines[0] and "purity" in lines[0]
    radii = {line.split("radius ")[1].split(" ")[0] for line in lines}
    assert len(radii) == 1  # computed once
    rows = (tmp_path / "metrics.json").read_text().splitlines()
    assert sum('"clusters_purity"' in row for row in rows) == 3


@pytest.mark.slow
def test_two_processes_have_the_labels_of_process_0(images, tmp_path):
    script = str(ROOT / "tests/engine/clusters_in_two_processes.py")
    done = subprocess.run(
        [sys.executable, script, str(tmp_path), str(images)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"rank{n}.pt", weights_only=True) for n in (0, 1))
    assert torch.equal(first["labels"], second["labels"]) and first["radii"] == second["radii"]
    assert_same(second["weights"], first["weights"])
    assert len(set(zip(first["labels"].tolist(), TRUE.tolist()))) == PERSONS
