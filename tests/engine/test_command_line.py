"""``tools/train_net.py``: the host's words, errors of one line, weights that know their trial."""

import subprocess
import sys

import pytest

from vireid_plugins.engine.setup import build_config, differences, find_config
from vireid_plugins.train import argument_parser, main, run

from tests.engine.small import ROOT, small_words

SYNTHETIC = str(ROOT / "configs/agw/synthetic.yml")


def train(folder, *flags, config=SYNTHETIC, **overrides):
    """Run in this process; the metrics."""
    words = ["--config-file", config, *flags, *small_words(folder, **overrides)]
    return run(argument_parser().parse_args(words))


@pytest.mark.parametrize(
    "words,message",
    [
        (["SOLVER.MAX_EPOCHS", "3"], "Did you mean 'SOLVER.MAX_EPOCH'"),
        (["MODEL.DEVCE", "cpu"], "'MODEL.DEVICE'"),
        (["SOLVER.MAX_EPOCH", "many"], "SOLVER.MAX_EPOCH many"),
        (["SOLVER.MAX_EPOCH"], "KEY VALUE pairs"),
        (["MODEL.DEVICE", "warp"], "MODEL.DEVICE is 'warp'"),
        (["MODEL.LOSSES.NAME", "('TripletLos',)"], "'TripletLoss'"),
        (["DATASETS.NAMES", "('SYSU',)"], "SYSUMM01"),
        (["DATALOADER.SAMPLER_TRAIN", "IdentitySampler"], "'CrossModalityIdentitySampler'"),
        (["MODEL.BACKBONE.UNSHARED_STAGES", "7"], "expected 0 to 5"),
        (["TEST.PROTOCOL.DIRECTIONS", "('t2v',)"], "infrared_to_visible"),
    ],
)
def test_foreseeable_mistakes_end_with_one_line(datasets, tmp_path, capsys, words, message):
    if "DIRECTIONS" in words[0]:
        words = [*words, "DATASETS.NAMES", "('RegDB',)", "DATASETS.TESTS", "('RegDB',)"]
    status = main(["--config-file", SYNTHETIC, *small_words(tmp_path), *words])
    error = capsys.readouterr().err
    assert status == 1 and error.startswith("error: ") and message in error
    assert "Traceback" not in error


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
    trained = train(tmp_path / "run", SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=1)
    weights = str(tmp_path / "run" / "model_final.pth")
    again = train(tmp_path / "eval", "--eval-only", MODEL__WEIGHTS=weights)
    assert {k: pytest.approx(v) for k, v in trained.items()} == again
    assert "SYSUMM01/all/single/mAP" in (tmp_path / "eval" / "metrics.json").read_text()


def test_evaluation_without_weights_is_refused(datasets, tmp_path):
    with pytest.raises(ValueError, match="MODEL.WEIGHTS PATH"):
        train(tmp_path, "--eval-only")
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        train(tmp_path, "--eval-only", MODEL__WEIGHTS="nowhere.pth")


def test_a_regdb_model_is_refused_on_another_trial(datasets, tmp_path):
    """It has seen that trial's test identities; without the key its own trial is taken."""
    options = dict(DATASETS__NAMES="('RegDB',)", DATASETS__TESTS="('RegDB',)", SOLVER__MAX_EPOCH=1)
    train(tmp_path, DATASETS__REGDB_TRIAL=2, **options)
    weights = str(tmp_path / "model_final.pth")
    with pytest.raises(ValueError, match="trained on RegDB trial 2"):
        train(
            tmp_path, "--eval-only", MODEL__WEIGHTS=weights, DATASETS__REGDB_TRIAL=1, **options
        )
    found = train(tmp_path, "--eval-only", MODEL__WEIGHTS=weights, **options)
    assert any("visible_to_infrared" in key for key in found)
    assert any("infrared_to_visible" in key for key in found)


def test_the_script_runs_from_any_folder(datasets, tmp_path):
    """As a newcomer types it, in a folder that is not the checkout."""
    words = [
        sys.executable, str(ROOT / "tools/train_net.py"), "--config-file", "agw/synthetic.yml",
        *small_words(tmp_path / "logs", SOLVER__MAX_EPOCH=1, SOLVER__LOG_PERIOD=1),
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    progress = [line for line in done.stdout.splitlines() if "images/s" in line]
    for part in ("eta: ", "epoch/iter: 1/1 ", "loss_id: ", "lr: "):
        assert part in progress[-1]
    assert (tmp_path / "logs" / "config.yaml").exists() and (tmp_path / "logs/log.txt").exists()
