"""Which configs belong to one run. Oracle: the keys that a reader of the table would expect."""

import pytest

from vireid_plugins.config import add_vireid_config
from vireid_plugins.engine import same_run
from vireid_plugins.engine.same_run import ALLOW, check_same_config, log_differences
from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import CheckpointError, UserError
from vireid_plugins.merge import flat_keys

from fastreid.config import get_cfg

from tests.engine.small import ROOT, small_cfg, small_words

AGW, CAJ = (str(ROOT / f"configs/{name}/synthetic.yml") for name in ("agw", "caj"))
OTHER_RUN = {
    "a loss": {"MODEL__LOSSES__NAME": '("CrossEntropyLoss",)'},
    "a weight of a loss": {"MODEL__LOSSES__WEIGHTED_TRIPLET__SCALE": 0.5},
    "an input size": {"INPUT__SIZE_TRAIN": "[64, 32]"},
    "an augmentation": {"INPUT__REA__ENABLED": True},
    "a dataset": {"DATASETS__NAMES": '("RegDB",)'},
    "a split": {"DATASETS__REGDB_TRIAL": 2},
    "a batch": {"SOLVER__IMS_PER_BATCH": 8},
    "a rate": {"SOLVER__BASE_LR": 0.01},
    "a schedule": {"SOLVER__STEPS": "[1, 2]"},
    "fewer epochs": {"SOLVER__MAX_EPOCH": 1},
    "a head": {"MODEL__HEADS__NECK_FEAT": "after"},
    "a sampler": {"DATALOADER__NUM_INSTANCE": 4},
}
SAME_RUN = {
    "a folder": {"OUTPUT_DIR": "elsewhere"},
    "workers": {"DATALOADER__NUM_WORKERS": 3},
    "more epochs": {"SOLVER__MAX_EPOCH": 9},
    "periods": {"SOLVER__CHECKPOINT_PERIOD": 2, "SOLVER__LOG_PERIOD": 1, "TEST__EVAL_PERIOD": 2},
    "tests": {"TEST__PROTOCOL__TRIALS": 9, "TEST__METRIC": "euclidean", "TEST__RERANK__K1": 3},
    "a test set": {"DATASETS__TESTS": '("RegDB",)', "INPUT__SIZE_TEST": "[64, 32]"},
    "weights to start from": {"MODEL__WEIGHTS": "a.pth", "MODEL__BACKBONE__PRETRAIN_PATH": "b.pth"},
    "how it is computed": {"CUDNN_BENCHMARK": True, "RUNTIME__CHANNELS_LAST": True},
}


@pytest.fixture
def facts(tmp_path):
    """What a checkpoint of AGW says about itself."""
    return {"config": small_cfg(tmp_path).dump()}


@pytest.mark.parametrize("keys", OTHER_RUN.values(), ids=OTHER_RUN)
def test_what_makes_it_another_run_is_refused_and_named(facts, tmp_path, keys):
    cfg = small_cfg(tmp_path, **keys)
    with pytest.raises(CheckpointError) as told:
        check_same_config(facts, cfg, "a.pth")
    for name in keys:
        assert f"{name.replace('__', '.')} " in str(told.value)
    assert "MODEL.WEIGHTS a.pth" in str(told.value) and f"add {ALLOW} True;" in str(told.value)
    allowed = small_cfg(tmp_path, **keys, SOLVER__RESUME_OTHER_CONFIG=True)
    found = {one.key for one in check_same_config(facts, allowed, "a.pth")}
    assert found == {ALLOW, *(name.replace("__", ".") for name in keys)}


@pytest.mark.parametrize("keys", SAME_RUN.values(), ids=SAME_RUN)
def test_what_may_differ_goes_on(facts, tmp_path, keys):
    cfg = small_cfg(**{"folder": tmp_path, **keys})
    found = check_same_config(facts, cfg, "a.pth")
    assert {one.key for one in found} == {name.replace("__", ".") for name in keys}


def test_a_key_of_the_method_makes_it_another_run_and_keys_of_others_do_not(facts, tmp_path):
    """Such as a default that is another one since."""
    others = {"MODEL__MAUM__ALPHA": 1.0, "MODEL__LOSSES__CENTER__SCALE": 3.0}
    assert check_same_config(facts, small_cfg(tmp_path, **others), "a.pth") == []
    maum = {"config": small_cfg(tmp_path, "configs/maum/synthetic.yml").dump()}
    with pytest.raises(CheckpointError, match="MODEL.MAUM.ALPHA 20.0 -> 1.0. To continue"):
        cfg = small_cfg(tmp_path, "configs/maum/synthetic.yml", **others)
        check_same_config(maum, cfg, "a.pth")


def test_another_method_is_refused_with_all_its_keys(facts, tmp_path):
    with pytest.raises(CheckpointError, match="belongs to another model") as told:
        check_same_config(facts, build_config(CAJ, small_words(tmp_path)), "a.pth")
    assert "MODEL.META_ARCHITECTURE 'DualStreamBaseline' -> 'CAJ'" in str(told.value)
    assert "INPUT.CHANNEL_EXCHANGE.ENABLED" in str(told.value)


def test_another_optimizer_is_never_taken_up(facts, tmp_path):
    """Its state has other entries."""
    cfg = small_cfg(tmp_path, SOLVER__OPT="SGD", SOLVER__RESUME_OTHER_CONFIG=True)
    with pytest.raises(CheckpointError, match="SOLVER.OPT cannot change"):
        check_same_config(facts, cfg, "a.pth")


def test_a_checkpoint_without_a_config_is_told(tmp_path, caplog):
    assert check_same_config({}, small_cfg(tmp_path), "a.pth") == []
    assert "holds no config of its training" in caplog.text


def test_a_key_that_the_checkpoint_does_not_know_has_its_default(facts, tmp_path):
    """It was trained by an older version of this package; one that was given up does not count."""
    lines = [line for line in facts["config"].splitlines() if "LOG_PERIOD" not in line]
    facts["config"] = "\n".join([*lines, "GIVEN_UP: 1"])
    cfg = small_cfg(tmp_path)
    cfg.SOLVER.LOG_PERIOD = 50
    assert check_same_config(facts, cfg, "a.pth") == []
    cfg.SOLVER.LOG_PERIOD = 51
    (one,) = check_same_config(facts, cfg, "a.pth")
    assert (one.key, one.held, one.own) == ("SOLVER.LOG_PERIOD", 50, 51)


@pytest.mark.parametrize("text", ["", "[1, 2]", "MODEL: [", "a: 1\na: 2", "!!python/none"])
def test_a_damaged_config_is_one_sentence(tmp_path, text):
    with pytest.raises(UserError, match=r"a\.pth"):
        check_same_config({"config": text}, small_cfg(tmp_path), "a.pth")


def test_each_free_key_exists():
    cfg = get_cfg()
    add_vireid_config(cfg)
    keys = flat_keys(cfg)
    for name in same_run._FREE:
        assert any(key == name or (name[-1] == "." and key.startswith(name)) for key in keys), name


def test_differences_are_logged_in_two_lines(facts, tmp_path, caplog):
    caplog.set_level("INFO")
    keys = {"SOLVER__BASE_LR": 0.01, "SEED": 4, "SOLVER__RESUME_OTHER_CONFIG": True}
    log_differences(check_same_config(facts, small_cfg(tmp_path, **keys), "a.pth"))
    info, warning = caplog.records
    assert "SEED 0 -> 4" in info.getMessage() and warning.levelname == "WARNING"
    assert "SOLVER.BASE_LR" in warning.getMessage()
