"""Rows of the ablations change what they are named after, and nothing else. Oracle: written out."""

import pytest
import yaml

from vireid_plugins.engine.setup import build_config
from vireid_plugins.merge import flat_values

from tests.engine.small import ROOT

CONFIGS = ROOT / "configs"
TERMS = ("LabelSmoothingCrossEntropyLoss", "CorrelationConsistencyLoss")
CORRELATION = "MODEL.LOSSES.CORRELATION"
MRDA = {  # rows beside the whole method, which are not printed
    "batch_hard": {
        "MODEL.LOSSES.NAME": (TERMS[0], "BatchHardTripletLoss", TERMS[1], "RegionalCenterLoss")
    },
    "correlation_bn": {f"{CORRELATION}.FEATURE": "bn_features"},
    "correlation_cmnas": {
        f"{CORRELATION}.FEATURE": "bn_features",
        f"{CORRELATION}.LEVEL": "image",
        f"{CORRELATION}.NORM": "row",
        f"{CORRELATION}.REDUCTION": "mse",
        f"{CORRELATION}.SCALE": 5.0,
    },
    "cross_masked": {"MODEL.LOSSES.REGIONAL_CENTER.CROSS_TERM": "masked"},
    "hetero_center_02": {"MODEL.LOSSES.HETERO_CENTER.SCALE": 0.2},
    "hetero_center_sum": {"MODEL.LOSSES.HETERO_CENTER.REDUCTION": "sum"},
    "learned_exponent": {"MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPoolingP"},
    "mask_normalized": {"MODEL.MRDA.MASK_INPUT": "normalized"},
    "mean_view": {"MODEL.MRDA.TEST_VIEW": "mean"},
    "original_losses": {"MODEL.MRDA.LOSS_VIEWS": "original"},
    "paper_batch": {"DATALOADER.NUM_INSTANCE": 6, "SOLVER.IMS_PER_BATCH": 36},
    "precise_bn": {"TEST.PRECISE_BN.ENABLED": True, "TEST.PRECISE_BN.NUM_ITER": 20},
    "without_regional_center": {
        "MODEL.LOSSES.NAME": (TERMS[0], "HeteroCenterTripletLoss", TERMS[1])
    },
    "zero_start": {"MODEL.HEADS.ATTENTION.ZERO_START": True},
}
FIG_3 = {
    **{f"alpha_{value}": {"MODEL.MUTUAL_PREDICTION.ALPHA": value} for value in (0.1, 1, 4, 20, 35)},
    **{f"beta_{value}": {"MODEL.MUTUAL_PREDICTION.BETA": value} for value in (0, 0.1, 1, 4, 10)},
}
PLANS = (
    "adaptive_triplet/ablation_plan caj/ablation_plan cm_lsp_ge/ablation_plan maum/sgd_plan "
    "mrda/ablation_plan msclnet/ablation_plan mutual_prediction/ablation_plan"
).split()


def keys_of(file):
    """Return all keys and values of a config below ``configs``."""
    cfg = build_config(str(CONFIGS / file), [])
    return {key: value for key, value in flat_values(cfg).items() if key != "OUTPUT_DIR"}


@pytest.mark.parametrize(
    ("method", "row", "changed"),
    [("mrda", row, changed) for row, changed in MRDA.items()]
    + [("mutual_prediction", row, changed) for row, changed in FIG_3.items()],
)
def test_a_row_differs_from_the_whole_method_in_what_it_names(method, row, changed):
    whole, own = keys_of(f"{method}/ablation/full.yml"), keys_of(f"{method}/ablation/{row}.yml")
    assert whole.keys() == own.keys()
    assert {key: value for key, value in own.items() if value != whole[key]} == changed


@pytest.mark.parametrize("row", ["hetero_center_02", "batch_hard"])
def test_a_row_and_its_own_baseline_have_the_same_triplet(row):
    """Like with like: what is changed in the method is changed in its baseline."""
    losses = [keys_of(f"mrda/ablation/{name}.yml") for name in (row, f"{row}_baseline")]
    names = [set(keys["MODEL.LOSSES.NAME"]) for keys in losses]
    assert names[0] - names[1] == {"RegionalCenterLoss"} and names[1] < names[0]
    scales = [keys["MODEL.LOSSES.HETERO_CENTER.SCALE"] for keys in losses]
    assert scales[0] == scales[1]


@pytest.mark.parametrize("plan", PLANS)
def test_every_row_of_an_ablation_is_in_its_plan(plan):
    """Fig. 3 has a plan of its own."""
    folder = CONFIGS / plan.split("/")[0]
    planned = set()
    for path in {CONFIGS / f"{plan}.yml", *folder.glob("fig*_plan.yml")}:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        groups = content.get("groups", [content])
        planned |= {row["config"] for group in groups for row in group["rows"]}
    rows = {f"{folder.name}/ablation/{path.name}" for path in folder.glob("ablation/*.yml")}
    assert rows <= planned
