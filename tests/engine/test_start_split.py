"""Models of one split that would be trained further on another. Oracle: numbers of trials."""

import logging
import shutil
from types import SimpleNamespace

import pytest
import torch

from vireid_plugins.comparison import Comparison
from vireid_plugins.engine.session import train
from vireid_plugins.engine.setup import build_config
from vireid_plugins.engine.start_split import check_start_splits
from vireid_plugins.engine.starting import load_start
from vireid_plugins.errors import PlanError, UserError

from tests.onnx_export.small import small_checkpoint

REFUSED = "was trained on RegDB trial 3, and this run is on trial 1, .*REGDB_TRIAL 3, or begin"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "model.pth"
    return small_checkpoint(path, "configs/baseline/synthetic.yml")


@pytest.fixture
def start(plain, tmp_path):
    """A checkpoint of trial 3 of RegDB."""
    return of_trial(3, plain, tmp_path / "start.pth")


def of_trial(trial, plain, path):
    content = torch.load(shutil.copy(plain, path), weights_only=True)
    content["vireid"].update({"train_datasets": ["RegDB"], "regdb_trial": trial})
    torch.save(content, path)
    return str(path)


def words(key, path, names="RegDB", tests="RegDB", **more):
    pairs = {"MODEL.DEVICE": "cpu", key: path, "MODEL.BACKBONE.PRETRAIN": bool("PRETRAIN" in key)}
    pairs.update({"DATASETS.NAMES": (names,), "DATASETS.TESTS": (tests,)})
    pairs.update({name.replace("__", "."): value for name, value in more.items()})
    return [str(word) for pair in pairs.items() for word in pair]


def config(*args, **more):
    return build_config("baseline/synthetic.yml", words(*args, **more))


@pytest.mark.parametrize("key", ["MODEL.WEIGHTS", "MODEL.BACKBONE.PRETRAIN_PATH"])
def test_a_model_of_another_trial_is_refused_by_its_key(key, start, caplog):
    with pytest.raises(UserError, match=f"(?s)^{key} names {start}, which {REFUSED}"):
        check_start_splits(config(key, start))
    check_start_splits(config(key, start, DATASETS__REGDB_TRIAL=3))
    check_start_splits(config(key, start, "SYSUMM01", "SYSUMM01"))  # no person of RegDB is tested
    for names, tests in (("SYSUMM01", "RegDB"), ("RegDB", "SYSUMM01")):
        with pytest.raises(UserError, match=REFUSED):
            check_start_splits(config(key, start, names, tests))
    with caplog.at_level(logging.WARNING, "vireid_plugins"):
        check_start_splits(config(key, start, DATASETS__ALLOW_OVERLAP=True))
    assert f"{start}, which was trained on RegDB trial 3" in caplog.text


def test_weights_that_are_not_read_are_not_judged(start):
    key = "MODEL.BACKBONE.PRETRAIN_PATH"
    check_start_splits(config(key, start, MODEL__BACKBONE__PRETRAIN=False))
    check_start_splits(config(key, "weights:resnet50"))
    check_start_splits(config("MODEL.WEIGHTS", f"{start}.none"))


def test_a_file_that_does_not_say_it_otherwise_says_it_in_its_config(plain, tmp_path):
    """And one of another program, or without a split, is not judged."""
    keys = {"DATASETS__NAMES": "('RegDB',)", "DATASETS__REGDB_TRIAL": 3}
    path = small_checkpoint(tmp_path / "own.pth", "configs/baseline/synthetic.yml", **keys)
    with pytest.raises(UserError, match=REFUSED):
        check_start_splits(config("MODEL.WEIGHTS", str(path)))
    check_start_splits(config("MODEL.WEIGHTS", str(plain)))  # of SYSU-MM01
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    (tmp_path / "other.safetensors").write_bytes(b"\x08" + bytes(15))
    for name in ("other.pth", "other.safetensors"):
        check_start_splits(config("MODEL.BACKBONE.PRETRAIN_PATH", str(tmp_path / name)))


def test_it_is_said_before_data_are_read(start, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "nowhere"))
    monkeypatch.setattr("vireid_plugins.engine.session.try_model", lambda cfg: 1 / 0)
    opts = [*words("MODEL.WEIGHTS", start), "OUTPUT_DIR", str(tmp_path / "out")]
    with pytest.raises(UserError, match=REFUSED):
        train("baseline/synthetic.yml", opts)
    assert not (tmp_path / "out").exists()


def test_what_a_method_begins_with_is_judged_too(start):
    cfg = config("MODEL.MMT.START_1", start)
    model = SimpleNamespace(starts={"MODEL.MMT.START_1": None})
    with pytest.raises(UserError, match=f"MODEL.MMT.START_1 names .*{REFUSED}"):
        load_start(SimpleNamespace(cfg=cfg, unwrapped_model=model))


def test_a_comparison_over_trials_takes_the_model_of_each_trial(plain, tmp_path):
    plan = dict(output=tmp_path / "out", seeds=(0,), trials=(2, 3))
    opts = words("MODEL.WEIGHTS", of_trial(2, plain, tmp_path / "start2.pth"))
    with pytest.raises(PlanError, match=r"trial 3 seed 0: .* trial 2, .*\{trial\} in the path"):
        Comparison(["baseline/synthetic.yml"], opts=opts, **plan)
    opts = words("MODEL.WEIGHTS", str(tmp_path / "start{trial}.pth"))
    of_trial(3, plain, tmp_path / "start3.pth")
    found = Comparison(["baseline/synthetic.yml"], opts=opts, **plan)
    loaded = []
    for run in found.runs:
        trainer = SimpleNamespace(cfg=run.cfg, unwrapped_model=SimpleNamespace())
        trainer.checkpointer = SimpleNamespace(load=lambda path, **_: loaded.append(path))
        load_start(trainer)
    assert loaded == [str(tmp_path / f"start{trial}.pth") for trial in (2, 3)]
