"""What a run writes down about itself. Oracle: what was run, and git."""

import json
import subprocess

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.session import evaluate, train
from vireid_plugins.runs import record
from vireid_plugins.runs.environment import environment

from tests.engine.small import ROOT, small_cfg, small_words

SYNTHETIC = str(ROOT / "configs/agw/synthetic.yml")


def test_a_run_and_its_evaluations_are_recorded(datasets, tmp_path):
    """Train, then evaluate what was trained: two sessions, and the numbers of metrics.json."""
    words = small_words(tmp_path, SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=1)
    results = train(SYNTHETIC, words)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["metrics"] == results and kept["weights"] == "after epoch 1 of 1"
    last = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert {key: last[key] for key in results} == results
    images = kept["test_sets"]["SYSUMM01"]
    assert images["images"] == 24 and len(images["fingerprint"]) == 16
    lines = {line["key"]: line for line in kept["protocols"]}
    assert set(lines) == {"SYSUMM01/all/single", "SYSUMM01/indoor/single"}
    line = lines["SYSUMM01/all/single"]
    assert (line["direction"], line["trials"]) == ("infrared_to_visible", 2)
    assert (line["queries"], line["gallery"]) == (8, 16)  # 4 identities: 2 infrared, 4 visible
    assert (line["feature"], line["metric"], line["flip"]) == ("after BNNeck", "cosine", False)

    weights = str(tmp_path / "model_final.pth")
    evaluate(SYNTHETIC, [*words, "MODEL.WEIGHTS", weights])
    again = json.loads((tmp_path / "results.json").read_text())
    assert again["weights"] == weights and again["protocols"] == kept["protocols"]
    sessions = json.loads((tmp_path / "run.json").read_text())["sessions"]
    assert [one["task"] for one in sessions] == ["train", "evaluate"]
    assert all(one["config_file"] == SYNTHETIC for one in sessions)
    assert all(one["environment"] == environment() for one in sessions)


def test_what_was_evaluated_is_the_file_of_the_config(datasets, tmp_path):
    """A script that calls ``test`` itself; a ``test`` of one's own, which records nothing."""

    class Own(VIReIDTrainer):
        @classmethod
        def test(cls, cfg, model):
            return {"metric": 1.0}

    trainer = Own(small_cfg(tmp_path, SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=1))
    assert trainer.train() == {"metric": 1.0}
    assert not (tmp_path / "results.json").exists()
    cfg = small_cfg(tmp_path, MODEL__WEIGHTS="mine.pth")
    found = VIReIDTrainer.test(cfg, trainer.model)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["weights"] == "mine.pth" and kept["metrics"] == found


def test_a_foreign_run_json_does_not_stop_a_run(tmp_path):
    """A file of that name that is not a record is started again."""
    (tmp_path / "run.json").write_text("[1")
    record.record_session(str(tmp_path), "a.yml", "train")
    (session,) = json.loads((tmp_path / "run.json").read_text())["sessions"]
    assert session["config_file"] == "a.yml"


def test_commit_says_whether_the_sources_differ(tmp_path, monkeypatch):
    """A changed config counts, a changed text beside the sources does not."""
    monkeypatch.setattr(record, "PACKAGE", tmp_path / "vireid_plugins")
    assert record.source_commit() == ""
    for name in ("vireid_plugins/a.py", "configs/a.yml", "tools/a.py", "README.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("1")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "a"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / "README.md").write_text("2")
    clean = record.source_commit()
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True
    )
    assert len(clean) >= 10 and head.stdout.startswith(clean)
    (tmp_path / "configs/new.yml").write_text("2")
    assert record.source_commit() == f"{clean}-dirty"
