"""Which configs are meant, what they are called, and which runs may continue."""

import dataclasses

import pytest
import yaml

from vireid_plugins.comparison import entries
from vireid_plugins.comparison.config_files import (
    expand_configs,
    hide_paths,
    shown_path,
    unique_names,
)
from vireid_plugins.comparison.entries import build_entries
from vireid_plugins.comparison.runs import differing_settings, plan_runs
from vireid_plugins.errors import MissingFileError, PlanError
from vireid_plugins.runs.names import LAST, SETTINGS

from tests.comparison.fakes import SYNTHETIC, fake_runs, finish, write_config
from tests.engine.small import ROOT


def test_a_row_can_be_a_second_training_of_the_same_seeds(tmp_path):
    """Seed 1 of a row that adds 100 trains with SEED 101, in the folder of seed 1."""
    first, second = fake_runs(tmp_path, ["first", "second"], [1])
    second = dataclasses.replace(second, entry=dataclasses.replace(second.entry, add_to_seed=100))
    assert (first.cfg.SEED, second.cfg.SEED) == (1, 101) and second.folder.name == "seed1"
    finish(second, 30, 20)  # a result of seed 1
    assert second.state != "done" and "seed 101, found 1" in second.kept().damaged[0].reason
    finish(second, 30, 20, seed=101, config=second.cfg.dump())
    assert second.state == "done"


def test_patterns_that_no_shell_expanded(tmp_path, monkeypatch):
    """Here, or below configs/; sorted; each file once, also by another name."""
    for name in ("b", "a"):
        (tmp_path / f"{name}.yml").write_text("SEED: 1\n")
    monkeypatch.chdir(tmp_path)
    assert [p.name for p in expand_configs(["b.yml", "*.yml", "./b.yml"])] == ["b.yml", "a.yml"]
    below = expand_configs(["configs/agw/s*.yml"])
    assert below == expand_configs(["agw/s*.yml"]) == sorted(ROOT.glob("configs/agw/s*.yml"))
    assert [p.name for p in expand_configs(["**/synthetic.yml", "agw/regdb.yml"])][-1] == (
        "regdb.yml"
    )
    for missing, error in (("agw/n*.yml", PlanError), ("agw/nowhere.yml", MissingFileError)):
        with pytest.raises(error, match=r"agw/n"):
            expand_configs([missing])


@pytest.mark.parametrize(
    "paths,names",
    [
        (["/c/mrda/full.yml", "/c/agw/base.yml"], ["full", "base"]),
        (["/c/mrda/sysu.yml", "/c/agw/sysu.yml", "/c/agw/x.yml"], ["mrda/sysu", "agw/sysu", "x"]),
        (["/c/mrda/sysu.yml", "/c/agw/sysu.yml"], ["mrda", "agw"]),
        (["/c/a/x/s.yml", "/c/b/x/s.yml", "/c/y/s.yml"], ["a", "b", "y"]),
        (
            [f"/c/{folder}/s.yml" for folder in ("p/x", "q/x", "p/y", "q/y")],
            ["p/x", "q/x", "p/y", "q/y"],
        ),
    ],
)
def test_names_are_as_short_as_they_can_be(tmp_path, paths, names):
    assert unique_names([tmp_path / path[1:] for path in paths]) == names


def test_a_single_file_of_a_method_is_named_after_the_method(tmp_path):
    """A comparison with other methods looks for its runs under the same names."""
    assert unique_names([ROOT / "configs/agw/regdb.yml"]) == ["agw"]
    assert unique_names([ROOT / "configs/mrda/ablation/full.yml"]) == ["full"]
    assert unique_names([tmp_path / "agw" / "regdb.yml"]) == ["regdb"]


def test_files_that_differ_in_their_suffix_alone_are_refused(tmp_path):
    with pytest.raises(PlanError, match="cannot be told apart"):
        unique_names([tmp_path / "a.yml", tmp_path / "a.yaml"])


def test_seeds_come_before_configs(tmp_path):
    runs = fake_runs(tmp_path, ["a", "x/b"], [3, 1])
    assert [(run.entry.name, run.seed) for run in runs] == [
        ("a", 3),
        ("x/b", 3),
        ("a", 1),
        ("x/b", 1),
    ]
    assert runs[1].folder == tmp_path / "x" / "b" / "seed3"
    assert runs[1].cfg.SEED == 3 and runs[1].cfg.OUTPUT_DIR == runs[1].folder.as_posix()


@pytest.mark.parametrize(
    "keys,opts,message",
    [
        ({"SOLVER__BASE_LRS": 1}, [], "b.yml: .*SOLVER.BASE_LR'"),
        ({"MODEL__META_ARCHITECTURE": "DualStreamBasline"}, [], "b.yml: .*'DualStreamBaseline'"),
        ({"MODEL__BACKBONE__UNSHARED_STAGES": 9}, [], "b.yml: .*expected 0 to 5"),
        ({"TEST__METRIC": "cosin"}, [], "b.yml: .*cosin"),
        ({"DATASETS__TESTS": "('RegDB',)"}, [], "in the same way.*a.yml.*SYSUMM01.*b.yml.*RegDB"),
        ({"TEST__PROTOCOL__GALLERY": "official"}, [], "gallery random, 1 .* b.yml .*official, 1 "),
        ({"TEST__PROTOCOL__MODES": "('all',)"}, [], r"indoor/single.* b.yml by SYSUMM01/all/s"),
        ({"TEST__PROTOCOL__TRIALS": 3}, [], "in the same way.*; 10 trials.*b.yml.*; 3 trials"),
        (
            {"TEST__PROTOCOL__LLCM": "released_code"},
            ["DATASETS.TESTS", "('LLCM',)"],
            "in the same way.*infrared/single.*b.yml.*infrared/released_code.*released code",
        ),
        (
            {"TEST__PROTOCOL__REGDB_CMC": "identity"},
            ["DATASETS.TESTS", "('RegDB',)"],
            "in the same way.*CMC counts images.*b.yml.*CMC counts identities",
        ),
        (
            {"MODEL__META_ARCHITECTURE": "NFormer"},
            [],
            "b.yml: NFormer .*ENCODER names none",
        ),
        ({}, ["SOLVER.MAX_EPOCHS", "1"], "a.yml: .*'SOLVER.MAX_EPOCH'"),
        ({}, ["SEED", "1"], "--set SEED: use --seeds"),
        ({}, ["TEST.EVAL_PERIOD", "1"], "TEST.EVAL_PERIOD: leave it out"),
    ],
)
def test_mistakes_are_found_before_anything_runs(tmp_path, keys, opts, message):
    paths = [write_config(tmp_path, "a"), write_config(tmp_path, "b", **keys)]
    with pytest.raises(PlanError, match=f"(?is){message}"):
        build_entries(paths, opts)


def test_another_file_takes_the_place_of_what_configs_inherit(tmp_path):
    """Their own keys stay, those of synthetic.yml go."""
    path = write_config(tmp_path, "a", MODEL__BACKBONE__UNSHARED_STAGES=3)
    base = str(ROOT / "configs/agw/regdb.yml")
    opts = ["MODEL.DEVICE", "cpu"]
    (inherited,), (moved,) = build_entries([path], opts), build_entries([path], opts, base)
    assert inherited.cfg.DATASETS.TESTS == ("SYSUMM01",)
    assert inherited.cfg.MODEL.BACKBONE.DEPTH == "18x"
    assert moved.cfg.DATASETS.TESTS == ("RegDB",) and moved.cfg.MODEL.BACKBONE.DEPTH == "50x"
    assert moved.cfg.MODEL.BACKBONE.UNSHARED_STAGES == 3


def test_a_finished_run_of_other_settings_is_refused(tmp_path):
    """The message names run, key, both values and what to do."""
    (run,) = fake_runs(tmp_path, ["a"], [0])
    finish(run, 30.0, 20.0)
    assert plan_runs([run.entry], [0], tmp_path)[0].state == "done"
    run.entry.cfg.SOLVER.BASE_LR = 0.5
    with pytest.raises(PlanError, match=r"a seed 0 was run .*SOLVER.BASE_LR: was 0.001, is 0.5"):
        plan_runs([run.entry], [0], tmp_path)


def test_an_unfinished_run_of_other_settings_is_refused(tmp_path):
    """Only once it has a checkpoint; before that nothing is lost by the new settings."""
    (run,) = fake_runs(tmp_path, ["a"], [0])
    run.folder.mkdir(parents=True)
    (run.folder / SETTINGS).write_text(run.cfg.dump())
    run.entry.cfg.SOLVER.BASE_LR = 0.5
    assert plan_runs([run.entry], [0], tmp_path)[0].state == "to do"
    (run.folder / LAST).write_text("model_0000.pth")
    (run.folder / "model_0000.pth").touch()
    assert run.state == "to resume"
    with pytest.raises(PlanError, match="was begun .*--output, or move .* away"):
        plan_runs([run.entry], [0], tmp_path)


def test_only_a_change_of_meaning_is_a_difference(tmp_path):
    """Another folder is none, nor a key that did not exist then and has its default."""
    (run,) = fake_runs(tmp_path, ["a"], [0])
    now = yaml.safe_load(run.cfg.dump())
    then = yaml.safe_load(run.cfg.dump())
    then["OUTPUT_DIR"] = "elsewhere"
    del then["TEST"]["RETRIEVAL_PICTURES"]
    assert differing_settings(then, now) == []
    now["TEST"]["RETRIEVAL_PICTURES"] = 3
    then["SOLVER"]["GONE"] = 1
    assert differing_settings(then, now) == [
        "SOLVER.GONE: was 1, is absent",
        "TEST.RETRIEVAL_PICTURES: was 8, is 3",
    ]


def test_only_a_users_mistake_becomes_a_plan_error(tmp_path, monkeypatch):
    path = write_config(tmp_path, "a", SOLVER__BASE_LRR=1)
    with pytest.raises(PlanError, match=r"a.yml: .*SOLVER.BASE_LRR"):
        build_entries([path], [])
    monkeypatch.setattr(entries, "build_evaluator", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # keeps its traceback
        build_entries([write_config(tmp_path, "b")], [])


def test_paths_are_shown_without_the_machine(tmp_path, monkeypatch):
    assert shown_path(SYNTHETIC) == "configs/agw/synthetic.yml"
    assert shown_path(tmp_path / "deep" / "a.yml") == "a.yml"
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "deep" / "a.yml") == "deep/a.yml"


@pytest.mark.parametrize(
    "text,shown",
    [
        ("no folder /data/me/SYSU-MM01.", "no folder …/SYSU-MM01."),
        (r"at C:\Users\me\a.yml", "at …/a.yml"),
        ("'/data/x/a.yml': bad", "'…/a.yml': bad"),
        ("logs/compare/x and ../a/b and 3/4", "logs/compare/x and ../a/b and 3/4"),
        ("see https://host.org/a/b", "see https://host.org/a/b"),
    ],
)
def test_absolute_paths_are_hidden(text, shown):
    assert hide_paths(text) == shown
