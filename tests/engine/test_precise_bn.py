"""Statistics of batch norm before an evaluation. Oracles: means by hand, and other runs."""

import pytest
import torch

from vireid_plugins.engine.precise_bn import average_over
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import small_cfg
from tests.engine.test_trainer import losses, trained
from tests.modeling.test_meta_arch import make_batch, make_model

MRDA = "configs/mrda/synthetic.yml"
STATISTICS = ("running_mean", "running_var")


def test_they_are_those_of_the_images_that_the_evaluation_sees():
    """MRDA's visible stem: mean and variance of each channel, averaged over two batches."""
    model, batches = make_model(MRDA).train(), []
    for seed in range(2):
        torch.manual_seed(seed)
        batches.append(make_batch((96, 48)))
        batches[-1]["images"] = torch.rand_like(batches[-1]["images"]) * 255
    expected = []
    conv = model.backbone.visible["stem"].conv1
    with torch.no_grad():
        for batch in batches:
            visible = batch["images"][batch["modalities"] == 0]
            values = conv((visible - model.pixel_mean) / model.pixel_std).transpose(0, 1).flatten(1)
            expected.append((values.mean(1), values.var(1)))
    weights = {name: p.clone() for name, p in model.named_parameters()}
    average_over(model, batches, 2)
    norm = model.backbone.visible["stem"].bn1
    torch.testing.assert_close(norm.running_mean, (expected[0][0] + expected[1][0]) / 2)
    torch.testing.assert_close(norm.running_var, (expected[0][1] + expected[1][1]) / 2)
    assert norm.momentum == 0.1 and all(module.training for module in model.modules())
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    with torch.no_grad():  # the features of the last layer, too, are normalized by them
        features = model.eval()(batches[0])
    assert features.mean(0).abs().max() < 1 and features.std(0).mean() == pytest.approx(1, abs=0.2)


def test_frozen_statistics_stay():
    model = make_model(MRDA, "MODEL.BACKBONE.FROZEN_STAGES", "1").train()
    norm = model.backbone.visible["stem"].bn1
    before = norm.running_mean.clone()
    average_over(model, [make_batch()], 1)
    assert torch.equal(norm.running_mean, before) and not norm.training
    assert model.heads.bottleneck[0].running_mean.abs().max() > 0


@pytest.mark.slow
def test_a_training_keeps_its_losses_and_a_resumed_one_its_statistics(datasets, tmp_path):
    words = {"TEST__EVAL_PERIOD": 1, "SEED": 3, "MODEL__HEADS__ATTENTION__NAME": "none"}
    words["SOLVER__STEPS"] = "[5]"
    plain = trained(small_cfg(tmp_path / "plain", MRDA, **words))
    words["TEST__PRECISE_BN__ENABLED"] = True
    whole = trained(small_cfg(tmp_path / "whole", MRDA, **words))
    assert losses(whole) == losses(plain)
    for name, value in whole.model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            same = torch.equal(value, plain.model.state_dict()[name])
            assert same != name.endswith(STATISTICS), name
    unseen = trained(small_cfg(tmp_path / "unseen", MRDA, **{**words, "TEST__EVAL_PERIOD": 0}))
    last = read_checkpoint(str(tmp_path / "unseen" / "model_final.pth"))["model"]
    assert unseen._last_eval_results == {}  # no evaluation, as in ``vireid compare``
    for name, value in whole.model.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(last[name], value), name
    first = small_cfg(tmp_path / "parts", MRDA, **words, SOLVER__MAX_EPOCH=1)
    trained(first)
    words["SOLVER__RESUME_OTHER_CONFIG"] = True
    second = trained(small_cfg(tmp_path / "parts", MRDA, **words), resume=True)
    other = trained(small_cfg(tmp_path / "other", MRDA, **words))
    for name, value in second.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    saved = read_checkpoint(str(tmp_path / "parts" / "model_final.pth"))["model"]
    assert all(torch.equal(saved[name], v) for name, v in second.model.state_dict().items())
