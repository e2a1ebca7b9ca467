"""MMT in the engine: what its students begin with, a stop inside an epoch, the choice of a teacher.

Oracles: the weights of the starts, a run that was never stopped, made-up results.
"""

import os
import signal
from functools import partial

import numpy as np
import pytest
import torch

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.interrupts import TrainingStopped
from vireid_plugins.engine.testing import keep_best_candidate
from vireid_plugins.errors import CheckpointError
from vireid_plugins.keypoints import standing_person
from vireid_plugins.readers.keypoints_file import write_arrays

from tests.engine.planted import planted_cfg, train, weights, write_images

CONFIG = "configs/mmt/synthetic.yml"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", "datasets")  # planted_cfg sets it; put back at the end
        yield write_images(tmp_path_factory.mktemp("planted"))


def mmt_cfg(folder, images, **keys):
    return planted_cfg(folder, images, CONFIG, SOLVER__MAX_EPOCH=2, **keys)


@pytest.fixture(scope="module")
def starts(images, tmp_path_factory):
    """Two trainings with labels, of different seeds."""
    folder = tmp_path_factory.mktemp("starts")
    for seed in (1, 2):
        keys = dict(CLUSTERS__ENABLED=False, SOLVER__MAX_EPOCH=1, SEED=seed)
        keys.update(CLUSTERS__ITERATIONS=0)
        train(planted_cfg(folder / str(seed), images, **keys))
    return {f"MODEL__MMT__START_{n}": folder / str(n) / "model_final.pth" for n in (1, 2)}


def test_students_and_teachers_begin_with_their_starts(images, starts, tmp_path):
    trainer = VIReIDTrainer(mmt_cfg(tmp_path, images, **starts))
    trainer.resume_or_load(resume=False)
    own = trainer.model.state_dict()
    for number in (1, 2):
        held = weights(starts[f"MODEL__MMT__START_{number}"].parent)
        names = [name for name in held if name.startswith("backbone.")]
        for part in ("student", "teacher"):
            assert all(torch.equal(own[f"{part}_{number}.{n}"], held[n]) for n in names)
    cfg = mmt_cfg(tmp_path, images, MODEL__MMT__START_2=tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match="MODEL.MMT.START_2 names '.*absent.pth'"):
        VIReIDTrainer(cfg).resume_or_load(resume=False)


RBNET = {"MODEL__MMT__STUDENT": "RBNet", "MODEL__RBNET__KEYPOINT_SCALE": 0.0}


@pytest.fixture(scope="module")
def with_points(images):
    """Keys of students that learn made-up key points of the images."""
    names = sorted(path.name for path in images.glob("*.png"))
    points = standing_person(len(names), (32, 16)).numpy()
    points[..., :2] += np.random.default_rng(0).uniform(-2, 2, (len(names), 1, 2))
    sizes = np.tile([32, 16], (len(names), 1))
    np.savez_compressed(images / "keypoints.npz", **write_arrays(names, points, sizes))
    keys = {"INPUT__KEYPOINTS__READ": "train", "INPUT__KEYPOINTS__FILE": images / "keypoints.npz"}
    return {"MODEL__MMT__STUDENT": "RBNet", **keys}


class Stopped(VIReIDTrainer):
    """Sends itself a signal in the second epoch, between two of its updates."""

    signal = signal.SIGTERM

    def run_step(self):
        super().run_step()
        if self.iter == 4:
            os.kill(os.getpid(), self.signal)


class Killed(Stopped):
    signal = signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("student,trainer", [("", Stopped), ("RBNet", Stopped), ("RBNet", Killed)])
def test_a_run_that_ends_inside_an_epoch_continues_exactly(
    student, trainer, images, starts, with_points, tmp_path
):
    """RBNets begin from random weights here; the running means of lambda_3 go on."""
    keys = with_points if student else starts
    train(mmt_cfg(tmp_path / "whole", images, **keys))
    cfg = mmt_cfg(tmp_path / "parts", images, **keys)
    if trainer is Killed:
        pid = os.fork()
        if pid == 0:
            train(cfg, trainer=trainer)
            os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    else:
        with pytest.raises(TrainingStopped):
            train(cfg, trainer=trainer)
    train(cfg, resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
    assert whole["num_steps"] == 6
    means = [value for name, value in whole.items() if name.endswith("keypoint_loss.sizes")]
    assert len(means) == 2 * bool(student) and all((value > 0).all() for value in means)


def test_a_start_without_a_reverse_backbone_is_refused(images, starts, tmp_path):
    """The mask would be that of random weights."""
    with pytest.raises(CheckpointError, match="belongs to another model"):
        trainer = VIReIDTrainer(mmt_cfg(tmp_path, images, **RBNET, **starts))
        trainer.resume_or_load(resume=False)


@pytest.mark.parametrize("scores,expected", [((10.0, 20.0), 1), ((20.0, 10.0), 0)])
def test_only_teacher_test_sees_test_labels(scores, expected, images, tmp_path, monkeypatch):
    tested = []

    def made_up(cls, cfg, model):
        tested.append(int(model.chosen))
        return {"PlantedColors/all/multi/mAP": scores[int(model.chosen)]}

    monkeypatch.setattr(VIReIDTrainer, "test", classmethod(made_up))
    for teacher, times in (("test", 2 + (expected == 0)), ("clusters", 1)):
        tested.clear()
        trainer = VIReIDTrainer(mmt_cfg(tmp_path, images, MODEL__MMT__TEACHER=teacher))
        found = keep_best_candidate(trainer.model, partial(trainer.test, trainer.cfg))
        assert len(tested) == times
        # what is kept is what was tested last
        assert found == {"PlantedColors/all/multi/mAP": scores[tested[-1]]}
        if teacher == "test":
            assert int(trainer.model.chosen) == tested[-1] == expected
