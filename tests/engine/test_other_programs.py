"""Checkpoints of FastReID itself, also before 1.0. Oracles: FastReID's model; names in its zoo."""

import re

import numpy as np
import pytest
import torch

import vireid_plugins as vp
from vireid_plugins.engine.old_names import with_new_names
from vireid_plugins.errors import CheckpointError, ExistingFileError
from vireid_plugins.readers.checkpoint import read_checkpoint

from fastreid.config import get_cfg
from fastreid.modeling import build_model
from fastreid.solver import build_lr_scheduler, build_optimizer
from fastreid.utils.checkpoint import Checkpointer, PeriodicCheckpointer

CONFIG = """
MODEL:
  DEVICE: cpu
  META_ARCHITECTURE: Baseline
  BACKBONE: {NAME: build_resnet_backbone, DEPTH: 18x, FEAT_DIM: 512, PRETRAIN: False, NORM: BN}
  HEADS: {NAME: EmbeddingHead, NORM: BN, WITH_BNNECK: True, POOL_LAYER: GlobalAvgPool}
INPUT:
  SIZE_TEST: [32, 16]
"""
IMAGE = np.arange(32 * 16 * 3, dtype=np.uint8).reshape(32, 16, 3)


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A folder with a config of FastReID and a checkpoint that FastReID's trainer writes."""
    folder = tmp_path_factory.mktemp("stock")
    (folder / "config.yml").write_text(CONFIG)
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "config.yml"))
    cfg.MODEL.HEADS.NUM_CLASSES = 7
    model = build_model(cfg)
    optimizer, _ = build_optimizer(cfg, model)
    others = {"optimizer": optimizer, **build_lr_scheduler(cfg, optimizer, 10)}
    PeriodicCheckpointer(Checkpointer(model, str(folder), **others), 1, 2).step(0, metric=3.5)
    return folder


def features_of(path):
    return vp.FeatureExtractor(path)([IMAGE], "visible")


def test_the_advice_about_a_stock_checkpoint_works(stock):
    weights = str(stock / "model_0000.pth")
    with pytest.raises(CheckpointError, match="vireid_plugins.carry_config.WEIGHTS, CONFIG_FILE"):
        vp.FeatureExtractor(weights)
    vp.carry_config(weights, str(stock / "config.yml"), stock / "new.pth")
    extractor = vp.FeatureExtractor(stock / "new.pth")
    assert extractor.facts["num_classes"] == 7 and "checksum" in read_checkpoint(stock / "new.pth")
    expected = read_checkpoint(weights)["model"]
    for name, value in extractor.model.state_dict().items():
        assert torch.equal(value, expected[name])
    with pytest.raises(ExistingFileError, match="new.pth exists and is not replaced"):
        vp.carry_config(weights, str(stock / "config.yml"), stock / "new.pth")
    with pytest.raises(CheckpointError, match="belongs to another model"):
        vp.carry_config(weights, "agw/synthetic.yml", stock / "other.pth")
    assert not (stock / "other.pth").exists()


def test_names_before_1_0_are_translated(stock):
    """As in the model zoo: issues 486 and 617 of FastReID list these names."""
    content = read_checkpoint(str(stock / "model_0000.pth"))
    old = {re.sub(r"bottleneck\.0\.", "bnneck.", n): v for n, v in content["model"].items()}
    old["heads.classifier.weight"] = old.pop("heads.weight")
    old.update(pixel_mean=torch.zeros(1, 3, 1, 1), pixel_std=torch.ones(1, 3, 1, 1))
    content = {"model": old, "optimizer": content["optimizer"], "iteration": 9}
    torch.save(content, stock / "old.pth")
    for name in ("model_0000", "old"):
        vp.carry_config(stock / f"{name}.pth", str(stock / "config.yml"), stock / f"{name}_c.pth")
    assert np.array_equal(features_of(stock / "old_c.pth"), features_of(stock / "model_0000_c.pth"))


def test_only_names_that_the_model_lacks_are_translated():
    held = {"heads.bnneck.weight": 1, "b1_head.classifier.weight": 2, "bnneck.weight": 3}
    assert with_new_names(held, {"heads.bottleneck.0.weight", "b1_head.weight"}) == {
        "heads.bottleneck.0.weight": 1,
        "b1_head.weight": 2,
        "bnneck.weight": 3,
    }
    assert with_new_names(held, {"heads.bnneck.weight", "heads.bottleneck.0.weight"}) == held
    both = {"heads.bnneck.weight": 1, "heads.bottleneck.0.weight": 2}
    assert with_new_names(both, {"heads.bottleneck.0.weight"}) == both


def test_weights_without_a_place_are_told_once(stock, caplog):
    """Pooling with a learned exponent, under a config with another pooling, is another feature."""
    content = read_checkpoint(str(stock / "model_0000.pth"))
    content["model"]["heads.pool_layer.p"] = torch.tensor([3.0])
    torch.save({"model": content["model"]}, stock / "gem.pth")
    with caplog.at_level("WARNING", logger="vireid_plugins"):
        vp.carry_config(stock / "gem.pth", str(stock / "config.yml"), stock / "gem_c.pth")
    assert "has no place for 1 of the tensors, such as heads.pool_layer.p" in caplog.text
