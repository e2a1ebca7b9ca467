"""Plans as they are written: what is taken from where, and a sentence for every mistake."""

import pytest
import yaml

from vireid_plugins.comparison.claims import read_claim
from vireid_plugins.comparison.entries import check_own_keys
from vireid_plugins.comparison.noise import MeanDifference
from vireid_plugins.comparison.plan_file import read_plan, row_folder
from vireid_plugins.errors import PlanError, UserError

from tests.engine.small import ROOT

BASE = {
    "rows": [
        {"name": "plain", "config": "baseline/synthetic.yml"},
        {"name": "mask", "config": "mrda/ablation/mask.yml", "against": ["plain"]},
    ]
}


def write(folder, values, name="plan.yml"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return path


def test_everything_that_a_plan_says(tmp_path):
    """Group over plan, row over group; files beside the plan come before those of configs/."""
    write(tmp_path, {"SOLVER": {"BASE_LR": 0.5, "MAX_EPOCH": 2}}, "setting.yml")
    write(tmp_path, {"SOLVER": {"OPT": "SGD"}}, "sgd.yml")
    write(tmp_path, {"_BASE_": (ROOT / "configs/agw/sysu.yml").as_posix()}, "own.yml")
    path = write(
        tmp_path,
        """
title: Masks
setting: setting.yml
seeds: [0, 2]
more_seeds: [3]
stop_rule: >
  First these,
  then stop.
groups:
  - heading: Adam
    rows:
      - {config: own.yml, name: 7, add_to_seed: 100}
      - config: mrda/ablation/mask.yml
        set: {SOLVER.OPT: AdamW, MODEL: {MRDA: {CONSTRAINT_STAGE: 2}}}
        against: 7
        claim: {rank-1: +2.5, mAP: -1, source: Table 4}
  - heading: SGD
    setting: sgd.yml
    set: {SOLVER.BASE_LR: 0.1}
    rows: [{config: agw/synthetic.yml, set: {SOLVER.BASE_LR: 0.2}}]
""",
    )
    plan = read_plan(str(path))
    assert (plan.title, plan.seeds, plan.more_seeds) == ("Masks", (0, 2), (3,))
    assert plan.stop_rule == "First these, then stop."
    assert [row.add_to_seed for row in plan.rows] == [100, 0, 0]
    assert plan.setting_pairs == (("SOLVER.BASE_LR", 0.5), ("SOLVER.MAX_EPOCH", 2))
    first, mask, sgd = plan.rows
    assert (first.name, mask.name, sgd.name) == ("7", "mask", "synthetic")
    assert first.config == (tmp_path / "own.yml").resolve()
    assert sgd.config == (ROOT / "configs/agw/synthetic.yml").resolve()
    assert dict(mask.pairs) == {"SOLVER.OPT": "AdamW", "MODEL.MRDA.CONSTRAINT_STAGE": 2}
    assert sgd.pairs == (
        ("SOLVER.OPT", "SGD"),
        ("SOLVER.BASE_LR", 0.1),
        ("SOLVER.BASE_LR", 0.2),  # the last one counts
    )
    assert mask.against == ("7",) and plan.headings == ["Adam", "SGD"]
    assert mask.claim.words == "rank-1 +2.5, mAP -1 (Table 4)"
    assert (mask.claim.sign("Rank-1"), mask.claim.sign("mAP"), mask.claim.sign("mINP")) == (
        1,
        -1,
        None,
    )


def test_a_plan_over_another_plan(tmp_path):
    """Its own rows of words replace those of the other; rows that are left out are not compared."""
    rows = [*BASE["rows"], {"name": "both", "config": "mrda/ablation/full.yml"}]
    rows[2] = {**rows[2], "against": ["mask", "plain"], "claim": {"mAP": 1, "over": "mask"}}
    write(tmp_path / "a", {"SOLVER": {"MAX_EPOCH": 2}}, "setting.yml")
    write(tmp_path / "a", {"rows": rows, "setting": "setting.yml", "seeds": [5]})
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()
    points = [{"value": n / 2, "folder": str(tmp_path / str(n))} for n in (0, 1)]
    over = {
        "_BASE_": "../a/plan.yml",
        "only": ["both", "plain"],
        "datasets": {"axis": "share", "points": points},
    }
    plan = read_plan(str(write(tmp_path / "b", over)))
    assert [row.name for row in plan.rows] == ["plain", "both"] and plan.seeds == (5,)
    assert plan.rows[1].against == ("plain",) and plan.rows[1].claim is None
    assert plan.setting == (tmp_path / "a" / "setting.yml").resolve()
    assert [(point.name, point.folder.name) for point in plan.points] == [
        ("at-0", "0"),
        ("at-0.5", "1"),
    ]
    with pytest.raises(PlanError, match="only: both is compared with mask, plain; name one"):
        read_plan(str(write(tmp_path / "b", {**over, "only": ["both"]})))


ROWS = BASE["rows"]


@pytest.mark.parametrize(
    "values,message",
    [
        ({**BASE, "seedz": [0]}, r"plan.yml: 'seedz' is no name of a plan. Did you mean 'seeds'"),
        ({**BASE, "groups": []}, "rows and groups: give one"),
        ({"title": "x"}, "there are no rows"),
        ({"rows": []}, "there are no rows"),
        ({"rows": [{"name": "x"}]}, "row 1: 'config' is missing"),
        ({"rows": [{"config": ""}]}, "row 1: config is empty"),
        ({"rows": [{"config": "agw/synthetik.yml"}]}, "row 1: No config file 'agw/synthetik.yml'"),
        ({"rows": ["agw/sysu.yml"]}, "row 1: expected a mapping of names to values, found 'agw"),
        ({"rows": [{**ROWS[0], "sett": {}}]}, "row 1: 'sett' is no name of a row. .*'set'"),
        ({"rows": [{**ROWS[0], "name": " "}]}, "row 1: name is empty"),
        ({"rows": [ROWS[0], ROWS[0]]}, "two rows are named 'plain'"),
        (
            {"rows": [ROWS[0], {**ROWS[0], "name": "Plain "}]},
            "two rows are named 'Plain' .*'plain'",
        ),
        ({"rows": [ROWS[1]]}, "mask is compared with 'plain', which is no row of this plan"),
        (
            {"rows": [{**ROWS[0], "name": "plaim"}, ROWS[1]]},
            "compared with 'plain', .* mean 'plaim'",
        ),
        ({"rows": [{**ROWS[0], "against": "plain"}]}, "plain is compared with itself"),
        (
            {"rows": [ROWS[0], {**ROWS[1], "against": ["plain", "plain"]}]},
            "against names one row twice",
        ),
        ({**BASE, "seeds": [0, 0]}, r"seeds is \[0, 0\]; expected different"),
        ({**BASE, "seeds": []}, r"seeds is \[\]; expected"),
        ({**BASE, "seeds": [-1]}, r"seeds is \[-1\]; expected"),
        ({**BASE, "seeds": ["a"]}, "seeds: expected a whole number, found 'a'"),
        ({**BASE, "seeds": 3}, "seeds: expected a list, found 3"),
        ({**BASE, "more_seeds": [2]}, "2 is in seeds and in more_seeds"),
        ({**BASE, "setting": "nowhere.yml"}, "setting: No config file 'nowhere.yml'"),
        ({**BASE, "only": ["masc"]}, "only: there is no row 'masc'. Did you mean 'mask'"),
        (
            {"rows": [{**ROWS[0], "set": {"SOLVER.BASE_LRR": 1}}]},
            "Unknown config key 'SOLVER.BASE_LRR' in .*plan.yml: row 1: plain: set. Did you",
        ),
        ({"rows": [{**ROWS[0], "set": ["a"]}]}, "row 1: set: expected a mapping"),
        (
            {"groups": [{"rows": ROWS, "set": {"SOLVER.OPTT": 1}}]},
            "'SOLVER.OPTT' in .*plan.yml: group 1: set",
        ),
        ({"groups": [{"heading": "x"}]}, "group 1: 'rows' is missing"),
        ({"groups": [{"rows": ROWS, "head": 1}]}, "group 1: 'head' is no name of a group"),
        ({**BASE, "datasets": {"axis": "x"}}, "datasets: 'points' is missing"),
        ({**BASE, "datasets": {"axis": "x", "points": []}}, "expected points with different"),
        (
            {**BASE, "datasets": {"axis": "x", "points": [{"value": 0, "folder": "no/where"}]}},
            "point 1: there is no folder no/where",
        ),
        (
            {**BASE, "datasets": {"axis": "x", "points": [{"value": "a", "folder": "."}]}},
            "point 1: value: expected a number, found 'a'",
        ),
        (
            {**BASE, "datasets": {"axis": "x", "points": [{"value": 1, "folder": "."}] * 2}},
            "expected points with different values",
        ),
    ],
)
def test_every_mistake_is_named_with_its_place(tmp_path, values, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        read_plan(str(write(tmp_path, values)))


def test_a_wrong_key_of_a_setting_is_named_with_its_file(tmp_path):
    write(tmp_path, {"SOLVER": {"BASE_LRR": 1}}, "setting.yml")
    with pytest.raises(UserError, match=r"'SOLVER.BASE_LRR' in .*setting\.yml"):
        read_plan(str(write(tmp_path, {**BASE, "setting": "setting.yml"})))


def test_an_empty_group_of_a_setting_sets_nothing(tmp_path):
    write(tmp_path, {"SOLVER": {"MAX_EPOCH": 2}, "MODEL": {"HEADS": {}}}, "setting.yml")
    rows = [{**ROWS[0], "set": {"MODEL": {"HEADS": {}}}}, ROWS[1]]
    plan = read_plan(str(write(tmp_path, {"rows": rows, "setting": "setting.yml"})))
    assert plan.setting_pairs == (("SOLVER.MAX_EPOCH", 2),) and plan.rows[0].pairs == ()


@pytest.mark.parametrize(
    "claim,message",
    [
        ({}, "give the printed gains"),
        ({"source": "Table 1"}, "give the printed gains"),
        ({"mAP": 1, "direction": "up"}, "give the printed gains"),
        ({"direction": "upp"}, "direction is 'upp'; expected up, down or same"),
        ({"rank1": 1}, "'rank1' is no name of a claim. Did you mean 'rank-1'"),
        ({"mAP": "1.0"}, "claim: mAP: expected a number, found '1.0'"),
        (
            {"mAP": 1, "over": "x"},
            r"over: expected one of the rows in against \(plain\), found 'x'",
        ),
    ],
)
def test_mistakes_of_a_claim(claim, message):
    with pytest.raises(UserError, match=message):
        read_claim(claim, ["plain"], "plan.yml: row 2: claim")


def test_a_claim_is_about_the_first_row_unless_it_names_another():
    assert read_claim({"mAP": 1}, ["like it", "plain"], "").over == "like it"
    assert read_claim({"mAP": 1, "over": "plain"}, ["like it", "plain"], "").over == "plain"


def test_a_claim_needs_a_row_that_it_is_about(tmp_path):
    with pytest.raises(PlanError, match="row 1: claim is a gain over another row; name"):
        read_plan(str(write(tmp_path, {"rows": [{**ROWS[0], "claim": {"mAP": 1}}]})))


@pytest.mark.parametrize(
    "claim,delta,bound,told",
    [
        ({"mAP": 2.0}, 1.1, 1.0, "as printed"),
        ({"mAP": 2.0}, 1.0, 1.0, "within noise"),
        ({"mAP": 2.0}, -1.1, 1.0, "opposite"),
        ({"mAP": -2.0}, -1.1, 1.0, "as printed"),
        ({"direction": "up"}, 1.1, 1.0, "as printed"),
        ({"direction": "down"}, 1.1, 1.0, "opposite"),
        ({"direction": "same"}, 0.5, 1.0, "as printed"),
        ({"direction": "same"}, 1.5, 1.0, "a change"),
        ({"rank-1": 2.0}, 1.5, 1.0, ""),  # of mAP nothing is claimed
        ({"mAP": 2.0}, 1.5, None, ""),  # nothing is known of the scatter
    ],
)
def test_directions_beside_the_papers(claim, delta, bound, told):
    found = read_claim(claim, ["a"], "claim").agreement("mAP", MeanDifference(delta, bound, 9))
    assert found == told


@pytest.mark.parametrize(
    "name,folder",
    [
        ("MRDA, batch-hard", "mrda-batch-hard"),
        ("CAJ+", "caj+"),
        ("a/b\\c: *?", "a-b-c"),
        ("..", "row"),
        ("λ 0.1", "λ-0.1"),
    ],
)
def test_a_folder_of_runs_is_named_after_its_row(name, folder):
    assert row_folder(name) == folder


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "configs").rglob("*plan.yml")),
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_every_shipped_plan_can_be_read(path, tmp_path, monkeypatch):
    """With the folders of datasets that it names."""
    monkeypatch.chdir(tmp_path)
    for point in (yaml.safe_load(path.read_text()).get("datasets") or {}).get("points", []):
        (tmp_path / point["folder"]).mkdir(parents=True)
    plan = read_plan(str(path))
    assert plan.setting is not None and plan.stop_rule and len(plan.rows) > 1
    for pairs in (plan.setting_pairs, *(row.pairs for row in plan.rows)):
        check_own_keys([key for key, _ in pairs], str(path))
