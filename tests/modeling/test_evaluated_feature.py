"""TEST.FEATURE: which feature of a head evaluation uses.

Oracles: the head's own training outputs with batch norm standing still, and the sum of the two
inner products by which ``DEEN/test.py`` of github.com/ZYK100/LLCM ranks.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vireid_plugins as vp
from vireid_plugins.engine.model import build_model
from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import rank_metrics
from vireid_plugins.modeling.heads.evaluated import CHOICES, evaluated_feature
from vireid_plugins.search.calibration import calibrate

from tests.engine.small import ROOT, small_cfg
from tests.modeling.small import some_points, stand_still
from tests.modeling.test_meta_arch import has_frozen_network
from tests.onnx_export.small import SMALL, small_checkpoint, small_model

CONFIGS = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("configs/*/synthetic.yml"))
HOST = {"MODEL__BACKBONE__NAME": "build_resnet_backbone", "MODEL__HEADS__NAME": "EmbeddingHead"}
BASELINE, AGW = "configs/baseline/synthetic.yml", "configs/agw/synthetic.yml"
LSP = "configs/cm_lsp_ge/synthetic.yml"
ONE_FEATURE = {  # what the sentence says of the head
    "stripes": (
        "configs/mutual_prediction/synthetic.yml",
        {},
        r"StripeHead has only one feature \(global and stripes, pooled\)",
    ),
    "no neck": (
        AGW,
        {"MODEL__HEADS__WITH_BNNECK": False},
        r"BNNeckHead has only one feature \(pooled\)",
    ),
    "no BN-GE": (
        LSP,
        {"MODEL__CM_LSP_GE__ENHANCEMENT": ""},
        r"CMLSPGEHead has only one feature \(pooled\)",
    ),
    "FastReID's head": (AGW, HOST, "this EmbeddingHead has only one feature, which"),
    "FastReID's model": (
        BASELINE,
        {
            **HOST,
            "MODEL__META_ARCHITECTURE": "Baseline",
            "MODEL__LOSSES__NAME": "('CrossEntropyLoss',)",
        },
        "this EmbeddingHead has only one feature, which",
    ),
}


@pytest.mark.parametrize("config", CONFIGS)
def test_every_method_has_the_feature_or_says_that_it_does_not(config):
    """A head with two features gives each of them; all others say that they have one."""
    torch.manual_seed(0)
    cfg, model = small_model(config)
    head = model.heads
    if getattr(head, "test_choices", ("bn",)) == ("bn",):
        with pytest.raises(UserError, match="has only one feature"):
            small_model(config, TEST__FEATURE="pooled")
        return
    for module in head.modules():
        if isinstance(module, nn.BatchNorm1d):  # so that it changes what it gets
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    images = torch.randint(0, 256, (4, 3, *cfg.INPUT.SIZE_TEST)).float()
    modalities, targets = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1, 2, 3])
    points = some_points(4, cfg.INPUT.SIZE_TEST)
    batch = {"images": images, "modalities": modalities, "keypoints": points}
    given = []
    with torch.no_grad():
        handle = head.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
        model(batch)
        handle.remove()
        outputs = stand_still(head)(given[0], targets, modalities)
    head.eval()
    pooled = outputs["features"]
    normalized = outputs["enhanced_features" if "BN-GE" in head.test_feature else "bn_features"]
    assert pooled.shape != normalized.shape or not torch.allclose(pooled, normalized)
    expected = {
        "bn": (normalized, head.test_feature),
        "pooled": (pooled, "pooled"),
        "both": (
            torch.cat([pooled / pooled.norm(dim=1)[:, None], F.normalize(normalized)], dim=1),
            f"pooled and {head.test_feature}",
        ),
    }
    assert tuple(expected) == CHOICES
    seen = model.test_feature[len(head.test_feature) :]  # what the model says of the image
    assert model.test_feature.startswith(head.test_feature)
    for choice, (features, words) in expected.items():
        _, other = small_model(config, TEST__FEATURE=choice)
        # NFormer's own weights are for features of one size
        own, same = (one.encoder if has_frozen_network(one) else one for one in (other, model))
        own.load_state_dict(same.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(other(batch), features)
        assert other.test_feature == words + seen


@pytest.mark.parametrize("case", ONE_FEATURE)
@pytest.mark.parametrize("choice", ["pooled", "both"])
def test_a_head_with_one_feature_says_so(case, choice):
    config, keys, said = ONE_FEATURE[case]
    words = {**SMALL, **keys}
    build_model(small_cfg("unused", config, **words))  # its one feature is what "bn" stands for
    with pytest.raises(UserError, match=f"TEST.FEATURE is '{choice}', but .*{said}.*FEATURE bn"):
        build_model(small_cfg("unused", config, **words, TEST__FEATURE=choice))


def test_both_rank_as_the_sum_of_two_cosines():
    rng = np.random.default_rng(0)
    pooled = [3 + rng.normal(size=(n, 6)) for n in (20, 40)]
    normalized = [rng.normal(size=(n, 5)) for n in (20, 40)]
    cosines = [
        (a / np.linalg.norm(a, axis=1, keepdims=True))
        @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
        for a, b in (pooled, normalized)
    ]
    expected = np.argsort(-sum(cosines), axis=1)
    query, gallery = (
        evaluated_feature("both", torch.from_numpy(a), torch.from_numpy(b))
        for a, b in zip(pooled, normalized)
    )
    for metric in ("cosine", "euclidean"):
        targets = np.zeros(20, int), np.zeros(40, int)
        found = rank_metrics(query, gallery, *targets, metric=metric, top=40)
        np.testing.assert_array_equal(found.nearest, expected)


def test_an_unknown_word_gets_the_valid_ones():
    with pytest.raises(
        UserError, match="TEST.FEATURE is 'fc'; expected one of 'bn', 'pooled', 'both'"
    ):
        build_model(small_cfg("unused", AGW, TEST__FEATURE="fc"))


@pytest.mark.slow
def test_an_extractor_follows_the_checkpoints_own_key(tmp_path):
    """The fingerprints of the choices differ, so that no index mixes their features."""
    torch.manual_seed(0)
    path = small_checkpoint(tmp_path / "bn.pth", AGW)
    extractor = vp.FeatureExtractor(path)
    found, size = {"bn": extractor.fingerprint}, extractor.feature_size
    for choice in ("pooled", "both"):
        facts = torch.load(path, weights_only=True)
        config = facts["vireid"]["config"]
        facts["vireid"]["config"] = config.replace("FEATURE: bn", f"FEATURE: {choice}")
        torch.save(facts, tmp_path / "other.pth")
        other = vp.FeatureExtractor(tmp_path / "other.pth")
        assert other.feature_size == {"pooled": size, "both": 2 * size}[choice]
        found[choice] = other.fingerprint
    assert len(set(found.values())) == 3
    with pytest.raises(UserError, match="the feature that the index holds; TEST.FEATURE cannot"):
        calibrate(extractor, vp.Modality.VISIBLE, opts=["TEST.FEATURE", "pooled"])


class _OwnHead(nn.Module):
    """A head of the user's own that says nothing about its features."""


def test_a_users_own_model_without_the_feature_is_refused():
    from vireid_plugins.modeling.heads import check_choice

    check_choice(_OwnHead(), "bn")
    with pytest.raises(UserError, match="this _OwnHead has only one feature, which"):
        check_choice(_OwnHead(), "both")
