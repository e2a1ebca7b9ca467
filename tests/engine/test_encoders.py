"""Encoders of NFormer, of several kinds. Oracle: the features of the encoder's own checkpoint."""

import pytest
import torch

from vireid_plugins.data.transforms.chains import build_transforms
from vireid_plugins.engine.encoder import load_encoder
from vireid_plugins.engine.loading import open_checkpoint
from vireid_plugins.engine.model import build_model
from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import UserError
from vireid_plugins.modality import Modality

from tests.onnx_export.small import small_checkpoint

HCT = {"MODEL__HEADS__NAME": "HCTHead", "MODEL__HEADS__WITH_BNNECK": False}
HOST = {
    "MODEL__BACKBONE__NAME": "build_resnet_backbone",
    "MODEL__BACKBONE__FEAT_DIM": 512,
    "MODEL__HEADS__NAME": "EmbeddingHead",
    "MODEL__META_ARCHITECTURE": "Baseline",
    "MODEL__LOSSES__NAME": "('CrossEntropyLoss',)",
}
OTHER_INPUT = {"INPUT__INTERPOLATION": "lanczos", "MODEL__PIXEL_MEAN": "[9., 8., 7.]"}
CASES = {
    "AGW": ("agw", {}),
    "both features": ("agw", {"TEST__FEATURE": "both"}),
    "CAJ": ("caj", {}),
    "two views": ("caj", {"MODEL__CAJ__REFINE_SCALE": 0.5, "INPUT__NUM_VIEWS__VISIBLE": 2}),
    "two networks": ("mmt", {"INPUT__NUM_VIEWS__VISIBLE": 2, "INPUT__NUM_VIEWS__INFRARED": 2}),
    "stripes": ("mutual_prediction", {}),
    "stripes of HCT": ("baseline", HCT),
    "global and local": ("cm_lsp_ge", {}),
    "memories": ("maum", {}),
    "other input": ("pmt", OTHER_INPUT),
    "FastReID's model": ("baseline", HOST),
}


def batch_of(size, count=4):
    zeros = torch.zeros(count, dtype=torch.int64)
    images = torch.randint(0, 256, (count, 3, *size)).float()
    labels = {"modalities": torch.arange(count) % len(Modality), "index": torch.arange(count)}
    return {"images": images, **labels, "targets": zeros, "camids": zeros}


@pytest.mark.parametrize("case", CASES)
def test_an_encoder_of_any_kind_and_of_another_number_of_identities(case, tmp_path):
    method, keys = CASES[case]
    if method == "pmt":
        pytest.importorskip("timm", reason="timm is not installed")
    path = small_checkpoint(tmp_path / "encoder.pth", f"configs/{method}/synthetic.yml", **keys)
    held = open_checkpoint(str(path))
    words = f"MODEL.NFORMER.ENCODER {path} MODEL.DEVICE cpu MODEL.HEADS.NUM_CLASSES 13"
    cfg = build_config("nformer/sysu.yml", [*words.split(), "MODEL.NFORMER.DIM", "16"])
    model = build_model(cfg)
    load_encoder(cfg, model)
    batch = batch_of(held.cfg.INPUT.SIZE_TEST)
    with torch.no_grad():
        found = model.eval()(batch)
        torch.testing.assert_close(found, held.model(batch), rtol=1e-5, atol=1e-5)
    assert model.relate(found, batch["modalities"]).shape == (4, 16)
    assert model.classifier.out_features == 13
    own, theirs = (build_transforms(one, is_train=False).describe() for one in (cfg, held.cfg))
    assert own == theirs


def test_split_and_gray_ranges_are_those_of_the_encoder(tmp_path):
    path = small_checkpoint(tmp_path / "encoder.pth", "configs/baseline/synthetic.yml")
    content = torch.load(path, weights_only=True)
    content["vireid"].update(
        {"train_datasets": ["RegDB"], "regdb_trial": 3, "infrared_range": "10..900"}
    )
    torch.save(content, path)
    words = ["MODEL.NFORMER.ENCODER", str(path), "MODEL.DEVICE", "cpu"]
    cfg = build_config("nformer/regdb.yml", words)
    assert (cfg.DATASETS.REGDB_TRIAL, cfg.INPUT.INFRARED_RANGE) == (3, "10..900")
    with pytest.raises(UserError, match="was trained on RegDB trial 3"):
        build_config("nformer/regdb.yml", [*words, "DATASETS.REGDB_TRIAL", "4"])
