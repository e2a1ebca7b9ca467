"""``tools/train_net.py``: the host's words, errors of one line, weights that know their trial."""

import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
import torch

from vireid.cli import run_verb
from vireid_plugins.engine.session import evaluate, train
from vireid_plugins.engine.setup import build_config, differences
from vireid_plugins.files import find_config
from vireid_plugins.keys import Key, at_least, declare
from vireid_plugins.runs.environment import environment

from tests.engine.small import ROOT, small_words

SYNTHETIC = str(ROOT / "configs/agw/synthetic.yml")


def main(words):
    """Run the command in this process; return its exit status."""
    return run_verb("train", words)


def train_small(folder, resume=False, **overrides):
    """Train in this process; return the metrics."""
    return train(SYNTHETIC, small_words(folder, **overrides), resume=resume)


def evaluate_small(folder, **overrides):
    """Evaluate in this process; return the metrics."""
    return evaluate(SYNTHETIC, small_words(folder, **overrides))


@pytest.mark.parametrize(
    "words,message",
    [
        (["SOLVER.MAX_EPOCHS", "3"], "Did you mean 'SOLVER.MAX_EPOCH'"),
        (["MODEL.DEVCE", "cpu"], "'MODEL.DEVICE'"),
        (
            ["SOLVER.MAX_EPOCH", "many"],
            "SOLVER.MAX_EPOCH is 'many'; expected a whole number, such as",
        ),
        (["SOLVER.MAX_EPOCH"], "KEY VALUE pairs"),
        (["MODEL.DEVICE", "warp"], "MODEL.DEVICE is 'warp'"),
        (["MODEL.LOSSES.NAME", "('TripletLos',)"], "'TripletLoss'"),
        (["DATASETS.NAMES", "('SYSU',)"], "SYSUMM01"),
        (["DATALOADER.SAMPLER_TRAIN", "IdentitySampler"], "'CrossModalityIdentitySampler'"),
        (["MODEL.BACKBONE.UNSHARED_STAGES", "7"], "expected 0 to 5"),
        (["MODEL.META_ARCHITECTURE", "DualStreamBasline"], "'DualStreamBaseline'"),
        (["MODEL.BACKBONE.NAME", "build_resnet"], "'build_resnet_backbone'"),
        (["MODEL.HEADS.POOL_LAYER", "gem"], "GeneralizedMeanPooling"),
        (["MODEL.BACKBONE.NORM", "bn"], "'BN'"),
        (["MODEL.BACKBONE.WITH_NL", "True", "MODEL.BACKBONE.NL_BLOCKS", "[0, 1]"], "layer4"),
        (["SOLVER.OPT", "sgd"], "'SGD'"),
        (["MODEL.WEIGHTS", "nowhere.pth"], "MODEL.WEIGHTS names 'nowhere.pth'"),
        (["OUTPUT_DIR", __file__], "cannot be made"),
        (["TEST.PROTOCOL.DIRECTIONS", "('t2v',)"], "infrared_to_visible"),
        (["TEST.PROTOCOL.DIRECTIONS", "('visible_to_ir',)"], "or 'infrared_to_visible'"),
        (["DATALOADER.NUM_WORKERS", "-1"], "DATALOADER.NUM_WORKERS is -1"),
        (["SOLVER.BASE_LR", "-0.01"], "SOLVER.BASE_LR is -0.01"),
        (["TEST.METRIC", "l2"], "TEST.METRIC is 'l2'"),
        (["--config-file", "agw/nowhere.yml"], "No config file 'agw/nowhere.yml'"),
        (["--config-file", "agw/sisu.yml"], "Did you mean 'agw/sysu.yml'"),
        (["--eval-only"], "Add MODEL.WEIGHTS PATH"),
    ],
)
def test_foreseeable_mistakes_end_with_one_line(datasets, tmp_path, capsys, words, message):
    if "('t2v',)" in words:  # only a dataset that reads the key explains an old word
        words = [*words, "DATASETS.NAMES", "('RegDB',)", "DATASETS.TESTS", "('RegDB',)"]
    flags = [] if "--config-file" in words else ["--config-file", SYNTHETIC]
    if words[0].startswith("--"):
        flags, words = [*flags, *words], []
    assert_one_line(main([*flags, *small_words(tmp_path), *words]), capsys, message)


def assert_one_line(status, capsys, message):
    """The command failed with one line on the standard error, which holds ``message``."""
    lines = capsys.readouterr().err.splitlines()
    assert status == 1 and len(lines) == 1, lines
    assert lines[0].startswith("error: ") and message in lines[0]


def test_a_missing_dataset_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    status = main(["--config-file", SYNTHETIC, *small_words(tmp_path / "out")])
    assert_one_line(status, capsys, "SYSU-MM01")


def test_weights_of_another_model_are_one_line(datasets, tmp_path, capsys):
    torch.save({"model": {"layer.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    weights = ["MODEL.WEIGHTS", str(tmp_path / "other.pth")]
    for flag in ([], ["--eval-only"]):
        words = ["--config-file", SYNTHETIC, *flag, *small_words(tmp_path / "out"), *weights]
        assert_one_line(main(words), capsys, "other.pth belongs to another model")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "other.pth").read_bytes()[:100])
    weights = ["MODEL.WEIGHTS", str(tmp_path / "cut.pth")]
    words = ["--config-file", SYNTHETIC, *small_words(tmp_path / "out"), *weights]
    assert_one_line(main(words), capsys, "cut.pth was not loaded")


@pytest.mark.parametrize(
    "text,message",
    [
        ("MODEL: [1\n", "is not a config file"),
        ("- a\n- b\n", "is not a config file"),
        ("_BASE_: nowhere.yml\nSEED: 1\n", "cannot be read"),
        ("MODEL: 5\n", "MODEL is a group of keys"),
    ],
)
def test_a_broken_config_file_ends_with_one_line(tmp_path, capsys, text, message):
    path = tmp_path / "mine.yml"
    path.write_text(text)
    assert main(["--config-file", str(path), "MODEL.DEVICE", "cpu"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "mine.yml" in lines[0] and message in lines[0] and len(lines) == 1


def test_no_process_is_an_error_and_not_a_success(datasets, tmp_path, capsys):
    words = ["--config-file", SYNTHETIC, "--num-gpus", "0", *small_words(tmp_path)]
    assert main(words) == 1
    assert "MODEL.DEVICE cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--machine-rank", "3"], "--machine-rank is 3; with --num-machines 1 it is 0 to 0"),
        (["--num-machines", "2", "--machine-rank", "-1"], "--machine-rank is -1"),
        (["--num-machines", "2"], "tcp://ADDRESS:PORT"),
        (["--num-machines", "2", "--dist-url", "127.0.0.1:29500"], "expected tcp://ADDRESS:PORT"),
        (["--num-machines", "2", "--dist-url", "tcp://127.0.0.1:99999"], "expected tcp://ADDRESS"),
        (["--num-machines", "2", "--dist-url", "tcp://a..b:29500"], "does not know the address"),
    ],
)
def test_a_wrong_word_about_machines_is_one_line(datasets, tmp_path, capsys, words, message):
    status = main(["--config-file", SYNTHETIC, *words, *small_words(tmp_path)])
    assert_one_line(status, capsys, message)


def test_half_an_environment_of_torchrun_is_one_line(datasets, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "two")
    status = main(["--config-file", SYNTHETIC, *small_words(tmp_path)])
    assert_one_line(status, capsys, "WORLD_SIZE, RANK, LOCAL_WORLD_SIZE should then be a number")


def test_an_unforeseen_error_keeps_its_traceback(datasets, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "vireid_plugins.engine.session.set_up_run", lambda cfg, resume: {}["layer3"]
    )
    with pytest.raises(KeyError, match="layer3"):
        main(["--config-file", SYNTHETIC, *small_words(tmp_path)])


@pytest.mark.slow
def test_a_fault_in_a_raise_of_this_package_keeps_its_traceback(datasets, tmp_path, monkeypatch):
    """What a programmer did wrong is not a mistake of the user, in whatever file it is raised."""

    def declare_twice(cfg, resume):
        declare("", Key("SEED", 0, at_least(0), "another key of this name"))

    monkeypatch.setattr("vireid_plugins.engine.session.set_up_run", declare_twice)
    with pytest.raises(ValueError, match="SEED is declared twice"):
        main(["--config-file", SYNTHETIC, *small_words(tmp_path)])


@pytest.mark.slow
def test_a_mistake_of_two_processes_is_reported_once(datasets, tmp_path):
    words = [
        *(sys.executable, str(ROOT / "tools/train_net.py"), "--config-file", SYNTHETIC),
        *("--num-gpus", "2", *small_words(tmp_path, SOLVER__OPT="sgd")),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("error: SOLVER.OPT is 'sgd'") == 1
    assert "Traceback" not in done.stderr


def test_weights_of_another_model_are_refused(datasets, tmp_path):
    """Scored in silence, they give the numbers of chance."""
    train_small(tmp_path, SOLVER__MAX_EPOCH=1)
    weights = str(tmp_path / "model_final.pth")
    with pytest.raises(RuntimeError, match="belongs to another model.*backbone.visible.layer1"):
        evaluate_small(tmp_path, MODEL__WEIGHTS=weights, MODEL__BACKBONE__UNSHARED_STAGES=2)
    with pytest.raises(RuntimeError, match="belongs to another model"):
        train_small(tmp_path, resume=True, MODEL__BACKBONE__UNSHARED_STAGES=2, SOLVER__MAX_EPOCH=2)


def test_a_path_after_resume_is_explained(capsys):
    assert main(["--config-file", SYNTHETIC, "--resume", "logs/x/model_final.pth"]) == 1
    assert "--resume and --eval-only take no path" in capsys.readouterr().err


def test_a_missing_gpu_names_the_key(capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert main(["--config-file", "agw/sysu.yml"]) == 1
    assert "MODEL.DEVICE cpu" in capsys.readouterr().err


def test_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("agw/sysu.yml", "configs/agw/sysu.yml", str(ROOT / "configs/agw/sysu.yml")):
        assert find_config(name).replace("\\", "/").endswith("configs/agw/sysu.yml")
    with pytest.raises(FileNotFoundError, match="agw/regdb.yml"):
        find_config("agw/nowhere.yml")


def test_differences_name_only_what_was_changed():
    cfg = build_config("", ["SOLVER.MAX_EPOCH", "7", "MODEL.DEVICE", "cpu"])
    assert differences(cfg) == ["  MODEL.DEVICE: cpu", "  SOLVER.MAX_EPOCH: 7"]


def test_evaluation_of_weights_repeats_the_training_runs_numbers(datasets, tmp_path):
    trained = train_small(tmp_path / "run", SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=1)
    weights = str(tmp_path / "run" / "model_final.pth")
    again = evaluate_small(tmp_path / "eval", MODEL__WEIGHTS=weights)
    assert {k: pytest.approx(v) for k, v in trained.items()} == again
    assert "SYSUMM01/all/single/mAP" in (tmp_path / "eval" / "metrics.json").read_text()


def test_evaluation_without_weights_is_refused(datasets, tmp_path):
    with pytest.raises(ValueError, match="MODEL.WEIGHTS PATH"):
        evaluate_small(tmp_path)
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        evaluate_small(tmp_path, MODEL__WEIGHTS="nowhere.pth")


def test_a_regdb_model_is_refused_on_another_trial(datasets, tmp_path):
    """It has seen that trial's test identities; without the key its own trial is taken."""
    options = dict(DATASETS__NAMES="('RegDB',)", DATASETS__TESTS="('RegDB',)", SOLVER__MAX_EPOCH=1)
    train_small(tmp_path, DATASETS__REGDB_TRIAL=2, **options)
    weights = str(tmp_path / "model_final.pth")
    with pytest.raises(ValueError, match="trained on RegDB trial 2"):
        evaluate_small(tmp_path, MODEL__WEIGHTS=weights, DATASETS__REGDB_TRIAL=1, **options)
    found = evaluate_small(tmp_path, MODEL__WEIGHTS=weights, **options)
    assert any("visible_to_infrared" in key for key in found)
    assert any("infrared_to_visible" in key for key in found)


@pytest.mark.slow
def test_the_script_runs_from_any_folder(datasets, tmp_path):
    """As a newcomer types it, in a folder that is not the checkout."""
    words = [
        sys.executable,
        str(ROOT / "tools/train_net.py"),
        "--config-file",
        "agw/synthetic.yml",
        *small_words(tmp_path / "logs", SOLVER__MAX_EPOCH=1, SOLVER__LOG_PERIOD=1),
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    progress = [line for line in done.stdout.splitlines() if "images/s" in line]
    for part in ("eta: ", "epoch/iter: 1/1 ", "loss_id: ", "lr: "):
        assert part in progress[-1]
    assert (tmp_path / "logs" / "config.yaml").exists() and (tmp_path / "logs/log.txt").exists()


def test_the_log_names_the_installed_version_of_each_library():
    """FastReID 1.4.0's own ``__version__`` is 1.3; a library that is missing is absent."""
    found = environment()
    try:
        assert found["FastReID"] == metadata.version("fastreid")
    except metadata.PackageNotFoundError:
        assert found["FastReID"] not in ("", "absent")
    assert found["NumPy"] == np.__version__ and found["torch"] == torch.__version__
