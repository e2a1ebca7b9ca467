"""Weights that are made here. Oracle: the backbone of the run that made them."""

import os
from pathlib import Path

import pytest
import torch

from vireid_plugins import making
from vireid_plugins.errors import CheckpointError, UserError
from vireid_plugins.pretrained import lookup
from vireid_plugins.pretrained.made import Made, Recipe
from vireid_plugins.pretrained.source import sha256_of
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import ROOT
from tests.modeling.tiny_vit import build, vit_cfg

SHARED = {"UNSHARED_STAGES": 0}


def config_of(folder):
    """Write a config of seconds, which is otherwise that of the start."""
    node = vit_cfg(**SHARED).MODEL.BACKBONE
    nested = "\n".join(
        [
            f"_BASE_: {ROOT}/configs/vit/start.yml",
            f"MODEL: {{BACKBONE: {{TIMM_OPTIONS: {list(node.TIMM_OPTIONS)}, LAST_STRIDE: 1}}}}",
            "INPUT: {SIZE_TRAIN: [32, 16], SIZE_TEST: [32, 16]}",
            "DATALOADER: {NUM_INSTANCE: 2}",
            "SOLVER: {IMS_PER_BATCH: 16, MAX_EPOCH: 1, WARMUP_EPOCHS: 0, CHECKPOINT_PERIOD: 1}",
            "TEST: {EVAL_PERIOD: 0, RETRIEVAL_PICTURES: 0}",
        ]
    )
    path = folder / "tiny_start.yml"
    path.write_text(nested + "\n", encoding="utf-8")
    return str(path)


@pytest.mark.slow
def test_what_is_made_is_the_network_of_the_run(tmp_path, monkeypatch, datasets):
    pytest.importorskip("safetensors")
    monkeypatch.setenv("VIREID_CACHE", str(tmp_path / "cache"))
    rendered = []

    def render(layout, out, preset, seed, ids):
        rendered.append((layout, preset, seed, ids))
        out.mkdir(parents=True, exist_ok=True)
        if not (out / "SYSU-MM01").exists():
            (out / "SYSU-MM01").symlink_to(f"{datasets}/SYSU-MM01", target_is_directory=True)

    monkeypatch.setattr(making, "render_dataset", render)
    recipe = Recipe(config_of(tmp_path), "medium", (300, 16), 71, 4000, 1.5)
    entry = lookup("vit_synthvi")._replace(source=Made("vit_synthvi", recipe, recorded="0" * 64))
    monkeypatch.setattr(making, "lookup", lambda name: entry)
    made = making.make("vit_synthvi")
    assert rendered == [("sysu", "medium", 71, (300, 16))]
    assert made.sha256 == sha256_of(made.path) and not made.is_recorded
    run = tmp_path / "cache" / "made" / "vit_synthvi" / "run"
    model = read_checkpoint(str(run / "model_final.pth"))["model"]
    backbone = build(**SHARED, PRETRAIN=True, PRETRAIN_PATH=str(made.path))
    own = backbone.state_dict()
    assert own and all(torch.equal(own[name], model[f"backbone.{name}"]) for name in own)
    again = making.make("vit_synthvi")  # it is there
    assert again == made and len(rendered) == 1
    made.path.unlink()
    assert making.make("vit_synthvi") == made  # of the finished training
    made.path.unlink()
    config = Path(recipe.config)
    config.write_text(
        config.read_text("utf-8").replace("MAX_EPOCH: 1", "BASE_LR: 0.25, MAX_EPOCH: 1")
    )
    with pytest.raises(CheckpointError, match="another recipe.*BASE_LR 0.0005 -> 0.25.*Remove the"):
        making.make("vit_synthvi")


def test_a_stopped_training_continues(tmp_path, monkeypatch):
    """Where rendered people lie is told to the training alone, also if it is stopped."""
    pytest.importorskip("safetensors")
    monkeypatch.setenv("VIREID_CACHE", str(tmp_path))
    monkeypatch.delenv("FASTREID_DATASETS", raising=False)
    monkeypatch.setattr(making, "render_dataset", lambda *_, **__: None)
    calls = []

    def train(config, opts, resume):
        calls.append((config, resume, Path(os.environ["FASTREID_DATASETS"]).name))
        run = Path(opts[1])
        run.mkdir(parents=True, exist_ok=True)
        weights = {f"backbone.{name}": one for name, one in build(**SHARED).state_dict().items()}
        name = "model_final.pth" if resume else "model_0004.pth"
        torch.save({"model": weights}, run / name)
        (run / "last_checkpoint").write_text(name)
        if not resume:
            raise UserError("stopped")

    monkeypatch.setattr(making, "train", train)
    with pytest.raises(UserError, match="stopped"):
        making.make("vit_synthvi")
    assert "FASTREID_DATASETS" not in os.environ
    assert making.make("vit_synthvi").path.is_file()
    assert calls == [("vit/start.yml", resume, "images") for resume in (False, True)]


def test_a_network_with_separate_stages_is_refused():
    state = {f"backbone.{name}": one for name, one in build().state_dict().items()}
    with pytest.raises(CheckpointError, match="UNSHARED_STAGES 0.*visible.embedding.proj.weight"):
        making.ordinary_state(state)
    with pytest.raises(CheckpointError, match="no backbone"):
        making.ordinary_state({"heads.weight": torch.ones(1)})


def test_fetching_what_is_made_names_the_command(tmp_path, monkeypatch, caplog):
    from vireid_plugins.pretrained import fetch

    caplog.set_level("INFO")
    monkeypatch.setenv("VIREID_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="no file of them is published.*weights make vit_syn"):
        fetch("vit_synthvi")
    assert "Fetching" not in caplog.text
    with pytest.raises(UserError, match="are fetched, and not made: vireid weights fetch mobilen"):
        making.make("mobilenetv2")
