"""Evaluators from a config. Oracle: the words and keys that the config was given."""

import pytest

import vireid_plugins as vp
from vireid_plugins.evaluation import build_evaluator, build_protocols

from fastreid.config import get_cfg


def config():
    cfg = get_cfg()
    vp.add_vireid_config(cfg)
    return cfg


def test_protocols_from_config():
    cfg = config()
    cfg.TEST.PROTOCOL.SHOTS = (1, 10)
    keys = [protocol.key for protocol in build_protocols(cfg, "SYSUMM01")]
    assert keys == ["all/single", "all/multi", "indoor/single", "indoor/multi"]
    keys = [protocol.key for protocol in build_protocols(cfg, "RegDB")]
    assert keys == ["visible_to_infrared/multi", "infrared_to_visible/multi"]
    keys = [protocol.key for protocol in build_protocols(cfg, "LLCM")]
    assert keys == ["visible_to_infrared/single", "infrared_to_visible/single"]
    assert [protocol.key for protocol in build_protocols(cfg, "Market1501")] == ["all/multi"]
    cfg.TEST.PROTOCOL.DIRECTIONS = ("t2v",)
    with pytest.raises(ValueError, match="Say 'infrared_to_visible'"):
        build_protocols(cfg, "RegDB")
    with pytest.raises(KeyError, match="SYSUMM01"):
        build_protocols(cfg, "SYSUMM1")


@pytest.mark.parametrize(
    "node,key,value,said",
    [
        ("ROC", "ENABLED", True, "TEST.ROC.ENABLED"),
        ("RERANK", "METHOD", "zhong", "TEST.RERANK.METHOD is 'zhong'; expected 'k_rec"),
        ("RERANK", "DEFINITION", "mmt", "TEST.RERANK.DEFINITION is 'mmt'; expected 'orig"),
    ],
)
def test_what_is_not_supported_is_refused_when_built(node, key, value, said):
    cfg = config()
    cfg.TEST[node][key] = value
    with pytest.raises(ValueError, match=said):
        build_evaluator(cfg, "SYSUMM01", None)


def test_every_key_of_reranking_and_expansion_reaches_the_evaluator():
    """And the words of the result line."""
    cfg = config()
    cfg.TEST.RERANK.ENABLED, cfg.TEST.RERANK.K1, cfg.TEST.RERANK.K2 = True, 9, 3
    cfg.TEST.RERANK.LAMBDA, cfg.TEST.RERANK.DEFINITION = 0.5, "softmax"
    cfg.TEST.AQE.ENABLED, cfg.TEST.AQE.QE_K, cfg.TEST.AQE.ALPHA = True, 7, 2.0
    cfg.TEST.AQE.QE_TIME = 2
    evaluator = build_evaluator(cfg, "SYSUMM01", None)
    assert str(evaluator.reranking) == "k1=9 k2=3 λ=0.5 softmax"
    cfg.TEST.RERANK.CROSS_MODALITY = True
    across = build_evaluator(cfg, "SYSUMM01", None).reranking
    assert str(across) == "k1=9 k2=3 λ=0.5 softmax cross-modality"
    with pytest.raises(ValueError, match="CROSS_MODALITY is True, but Market1501 has one modality"):
        build_evaluator(cfg, "Market1501", None)
    assert str(evaluator.expansion) == "AQE k=7 α=2 2 times"
    cfg.TEST.RERANK.NEIGHBORS = "queries"
    with pytest.raises(ValueError, match="CROSS_MODALITY True.*NEIGHBORS queries.*not both"):
        build_evaluator(cfg, "SYSUMM01", None)
    cfg.TEST.RERANK.CROSS_MODALITY = False
    among = build_evaluator(cfg, "SYSUMM01", None).reranking
    assert str(among) == "k1=9 k2=3 λ=0.5 softmax neighbors among queries"
    cfg.TEST.RERANK.METHOD = "aim"
    with pytest.raises(ValueError, match="NEIGHBORS is 'queries', but .*METHOD aim .*set NEIGH"):
        build_evaluator(cfg, "SYSUMM01", None)
    cfg.TEST.RERANK.NEIGHBORS, cfg.TEST.RERANK.CROSS_MODALITY = "all", True
    unread = {"CROSS_MODALITY": False, "DEFINITION": "original", "LAMBDA": 0.3}
    for key, value in unread.items():  # no key that aim does not read is ignored in silence
        with pytest.raises(ValueError, match=f"{key} is .*, but .*METHOD aim .*set {key} {value}"):
            build_evaluator(cfg, "SYSUMM01", None)
        cfg.TEST.RERANK[key] = value
    assert str(build_evaluator(cfg, "SYSUMM01", None).reranking) == "AIM k1=9 k2=3"
    cfg.TEST.METRIC = "euclidean"
    with pytest.raises(ValueError, match="AQE.* and AIM.*needs TEST.METRIC cosine; got euclidean"):
        build_evaluator(cfg, "SYSUMM01", None)
