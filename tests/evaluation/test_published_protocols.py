"""Protocols as public codes have them. Oracle: the numbers that these gave for these features.

Recorded by running, on files of these names and float64 features of length 1:

- ``process_query_llcm``, ``process_gallery_llcm`` and ``eval_llcm`` of github.com/ZYK100/LLCM
  (commit 886e27c), in the two branches of ``DEEN/test.py``, as means of ten trials. The paper's
  visible-to-infrared numbers are the first branch with ``test_mode = [2, 1]``, as the script had it
  before June 20, 2023;
- ``get_cmc`` and ``get_mAP`` of ``eval_llcm.py`` of github.com/1KK077/IDKL (commit 8676b62), after
  its ``pairwise_distance``, or its ``re_ranking`` with float64 in place of float16;
- for RegDB's protocol, ``eval_regdb`` of github.com/mangye16/Cross-Modal-Re-ID-baseline (commit
  e817a26), and ``get_cmc`` of ``eval_regdb.py`` of github.com/DoubtedSteam/MPANet (commit f57fd5c).
"""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluation_oracles import llcm_feature, llcm_images

from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import (
    LLCMProtocol,
    RegDBProtocol,
    Reranking,
    TestFeatures,
    VIReIDEvaluator,
    pair_sets,
)
from vireid_plugins.evaluation.rehearsal import rehearse

V_TO_I, I_TO_V = "visible_to_infrared", "infrared_to_visible"
RECORDED = {  # Rank-1, Rank-5, Rank-10, mAP, and mINP where the code computes it
    ("paper", I_TO_V): (19.823009073734283, 65.66371619701385, 93.36283147335052)
    + (22.405627079278695, 12.423728710106046),
    ("paper", V_TO_I): (12.8125, 59.921875, 92.890625, 20.847390918388445, 13.586569317710516),
    ("released_code", I_TO_V): (19.823009073734283, 65.66371619701385, 93.36283147335052)
    + (22.405627079278695, 12.423728710106046),
    ("released_code", V_TO_I): (18.771929666399956, 67.36842215061188, 93.68421196937561)
    + (19.780281709957393, 10.428058143015512),
    ("all_images", I_TO_V): (21.238938053097346, 71.68141592920354, 94.69026548672568)
    + (21.799082251972006,),
    ("all_images", V_TO_I): (20.3125, 61.71875, 96.09375, 21.059426649728195),
}


@pytest.fixture(scope="module")
def llcm():
    """The test set, its images in another order than the released code lists them, and features."""
    dataset = SimpleNamespace(query=list(llcm_images(0))[::-1], gallery=list(llcm_images(1))[::-1])
    items = dataset.query + dataset.gallery
    labels = np.array([(item.pid, item.camid, int(item.modality)) for item in items])
    rows = torch.from_numpy(np.stack([llcm_feature(item) for item in items]))
    features = TestFeatures(rows, *labels.T, np.arange(len(items)))
    return SimpleNamespace(dataset=dataset, items=items, features=features)


def table_of(llcm, *protocols):
    return VIReIDEvaluator(protocols, llcm.dataset, dataset_name="LLCM").evaluate(llcm.features)


@pytest.mark.parametrize("variant,direction", RECORDED)
def test_the_numbers_are_those_of_the_released_functions(llcm, variant, direction):
    (row,) = table_of(llcm, LLCMProtocol(direction, variant=variant)).rows
    names = ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP")
    recorded = RECORDED[variant, direction]
    found = [row.mean[name] for name in names[: len(recorded)]]
    np.testing.assert_allclose(found, recorded, rtol=0, atol=1e-5)  # their means are in float32


@pytest.mark.parametrize(
    "direction,reranked,recorded",
    [
        (I_TO_V, False, (16.8141592920354, 68.14159292035399, 92.92035398230087)),
        (V_TO_I, False, (17.1875, 66.40625, 93.75)),
        (I_TO_V, True, (15.929203539823009, 66.3716814159292, 93.80530973451326)),
        (V_TO_I, True, (21.09375, 66.40625, 95.3125)),
    ],
)
def test_the_numbers_are_those_of_idkl_on_features_of_any_length(
    llcm, direction, reranked, recorded
):
    """TEST.PROTOCOL.LLCM all_images, TEST.METRIC euclidean, with and without TEST.RERANK."""
    mean_precision = {
        (I_TO_V, False): 19.106177892807548,
        (V_TO_I, False): 20.050329774784156,
        (I_TO_V, True): 19.07871256738346,
        (V_TO_I, True): 20.458407911482748,
    }[direction, reranked]
    rows = torch.from_numpy(np.stack([llcm_feature(item, unit=False) for item in llcm.items]))
    evaluator = VIReIDEvaluator(
        [LLCMProtocol(direction, variant="all_images")],
        llcm.dataset,
        dataset_name="LLCM",
        metric="euclidean",
        reranking=Reranking(20, 6, 0.3) if reranked else None,
    )
    (row,) = evaluator.evaluate(dataclasses.replace(llcm.features, features=rows)).rows
    found = [row.mean[name] for name in ("Rank-1", "Rank-5", "Rank-10", "mAP")]
    np.testing.assert_allclose(found, [*recorded, mean_precision], rtol=0, atol=1e-9)


def test_the_released_code_searches_all_visible_images_with_drawn_infrared_ones(llcm):
    paper = list(LLCMProtocol(V_TO_I).trials(llcm.dataset))
    released = list(LLCMProtocol(V_TO_I, variant="released_code").trials(llcm.dataset))
    assert len(paper) == len(released) == 10
    for one, other in zip(paper, released):
        np.testing.assert_array_equal(other.query, one.gallery)  # the same draw
        np.testing.assert_array_equal(other.gallery, one.query)
        assert {llcm.items[row].modality for row in other.query} == {1}
    assert len({trial.query.tobytes() for trial in released}) > 1


def test_every_line_says_which_variant_it_is(llcm):
    table = table_of(
        llcm,
        *(LLCMProtocol(way, 2, variant) for variant, way in RECORDED),
    )
    facts = {line["key"]: line for line in table.protocol_facts()}
    assert list(facts) == [
        *("LLCM/infrared_to_visible/single", "LLCM/visible_to_infrared/single"),
        *("LLCM/infrared_to_visible/released_code", "LLCM/visible_to_infrared/released_code"),
        *("LLCM/infrared_to_visible/all_images", "LLCM/visible_to_infrared/all_images"),
    ]
    swapped = facts["LLCM/visible_to_infrared/released_code"]
    assert swapped["direction"] == V_TO_I  # the released code's word
    assert swapped["gallery_rule"] == (
        "all visible images, queries infrared: random, 1 per id and camera (released code)"
    )
    assert (swapped["queries"], swapped["gallery"], swapped["trials"]) == (57, 128, 2)
    assert facts["LLCM/visible_to_infrared/single"]["gallery_rule"] == "random, 1 per id and camera"
    assert facts["LLCM/visible_to_infrared/all_images"]["trials"] == 1
    assert {line["cmc"] for line in facts.values()} == {"identity"}
    hidden = {key: line["never_compared"] for key, line in facts.items()}
    assert hidden["LLCM/visible_to_infrared/all_images"] == ""
    assert hidden["LLCM/visible_to_infrared/released_code"] == (
        "images of one person by one camera"
    )
    assert "| identities " in table.format_table() and "released code" in table.format_table()


def test_a_rehearsal_knows_that_the_queries_are_drawn(llcm):
    """All galleries are the same, and the trials differ in their queries."""
    found = rehearse(LLCMProtocol(V_TO_I, 3, "released_code"), llcm.dataset, "LLCM")
    assert found.smallest_gallery == 128
    assert not [remark for remark in found.remarks if "trials do not differ" in remark]


@pytest.mark.parametrize("variant", ["paper", "released_code", "all_images"])
def test_pairs_are_left_out_by_the_rule_of_the_variant(llcm, variant):
    *_, across = pair_sets(llcm.features, llcm.dataset, LLCMProtocol(V_TO_I, 1, variant))
    assert across.rules.skip_same_camera == (variant != "all_images")
    assert not across.rules.skip_camera_pairs  # or rows and columns could not change places


def test_a_check_of_the_dataset_tries_all_variants():
    keys = SimpleNamespace(TRIALS=7, DIRECTIONS=(V_TO_I, I_TO_V), LLCM="paper")
    cfg = SimpleNamespace(TEST=SimpleNamespace(PROTOCOL=keys))
    found = LLCMProtocol.for_check(cfg, None)
    assert {(one.variant, one.direction) for one in found} == {
        (variant, way) for variant, way in RECORDED
    }
    assert {(one.variant, one.num_trials) for one in found} == {
        *(("paper", 7), ("released_code", 7), ("all_images", 1))
    }


@pytest.mark.parametrize("word", ["Paper", "released", "", None, True])
def test_an_unknown_variant_gets_the_valid_words(word):
    with pytest.raises(UserError, match="TEST.PROTOCOL.LLCM.*'paper', 'released_code', 'all_ima"):
        LLCMProtocol(V_TO_I, variant=word)


@pytest.mark.parametrize(
    "cmc,recorded",
    [
        ("image", (20.3125, 50.78125, 70.3125, 92.96875)),
        ("identity", (20.3125, 61.71875, 96.09375, 100.0)),
    ],
)
def test_regdb_counts_images_or_identities(llcm, cmc, recorded):
    """Rank-20 of the identities was not recorded: there are twelve."""
    table = table_of(llcm, RegDBProtocol(V_TO_I, cmc))
    (row,) = table.rows
    found = [row.mean[f"Rank-{rank}"] for rank in (1, 5, 10, 20)]
    np.testing.assert_allclose(found, recorded, rtol=0, atol=1e-5)
    assert row.mean["mAP"] == pytest.approx(21.05942664972819, abs=1e-5)
    assert row.mean["mINP"] == pytest.approx(12.914741557375553, abs=1e-5)
    words = {"image": "images", "identity": "identities"}[cmc]
    assert f"| {words} " in table.format_table() and table.protocol_facts()[0]["cmc"] == cmc


@pytest.mark.parametrize("word", ["images", "", None, True])
def test_an_unknown_cmc_rule_gets_the_valid_words(word):
    with pytest.raises(UserError, match="TEST.PROTOCOL.REGDB_CMC.*'image', 'identity'"):
        RegDBProtocol(V_TO_I, word)
