"""Declarations of keys: rules, messages, and that every number of the config has a rule."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vireid_plugins
from vireid_plugins import add_vireid_config, keys
from vireid_plugins.config import describe_keys
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.setup import build_carried_config, build_config
from vireid_plugins.errors import UnknownNameError, UserError
from vireid_plugins.files import find_config
from vireid_plugins.keys import (
    SWITCH,
    Key,
    above,
    any_number,
    at_least,
    between,
    check_ranges,
    check_values,
    declare,
    declared_keys,
    each,
    exactly,
    is_number,
    one_of,
    text,
    value_of,
)
from vireid_plugins.merge import flat_keys, merge_config

from fastreid.config import get_cfg

from tests.engine.small import ROOT


def fresh():
    cfg = get_cfg()
    add_vireid_config(cfg)
    return cfg


def numeric_keys():
    """Full names of the keys whose value is a number or holds numbers, by their defaults."""
    cfg, names = fresh(), []
    for name in flat_keys(cfg):
        value = value_of(cfg, name)
        if is_number(value) or (isinstance(value, (list, tuple)) and any(map(is_number, value))):
            names.append(name)
    return names


def put(cfg, name, value):
    *nodes, last = name.split(".")
    for node in nodes:
        cfg = cfg[node]
    cfg[last] = value


@pytest.fixture
def own_declarations(monkeypatch):
    """Declarations of a test are forgotten after it."""
    monkeypatch.setattr(keys, "_declared", dict(keys._declared))


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        (above(0), [1e-9, 1, 5.0], [0, 0.0, -1, math.inf, math.nan, True, "1", None]),
        (above(0, at_most=1), [0.1, 1], [0, 1.01, math.nan]),
        (at_least(0), [0, 3], [-1e-9, math.nan, False]),
        (at_least(0, below=1), [0, 0.99], [1, -0.1]),
        (between(0, 1), [0, 0.5, 1], [-0.1, 1.1, math.nan]),
        (at_least(0) | exactly(-1), [-1, 0, 2], [-0.5, -2, math.nan]),
        (any_number("why"), [-1e30, 0, 7], [math.inf, -math.inf, math.nan, True]),
        (SWITCH, [True, False], [0, 1, "on", None]),
        (one_of("a", "b"), ["a", "b"], ["c", "", "A", 1, None]),
        (text("a path"), ["", "x"], [1, None]),
        (each(at_least(1)), [(), [1, 2], (3, 1)], [[0], 1, [1, math.nan]]),
        (each(at_least(1), count=2), [(1, 1)], [(), (1,), (1, 2, 3), (1, 0)]),
        (each(at_least(0), ascending=True), [(), (1,), (1, 2)], [(2, 1), (1, 1), (-1, 2)]),
    ],
    ids=lambda value: value.words if isinstance(value, keys.Rule) else "",
)
def test_what_a_rule_allows(rule, allowed, refused):
    assert [value for value in allowed if not rule.allows(value)] == []
    assert [value for value in refused if rule.allows(value)] == []


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (above(0), "above 0"),
        (above(0, at_most=1), "above 0, at most 1"),
        (at_least(0, below=0.5), "0 or more, below 0.5"),
        (at_least(1) | exactly(-1), "1 or more, or -1"),
        (one_of("a", "b"), "'a' or 'b'"),
        (one_of("a", "b", "c"), "one of 'a', 'b', 'c'"),
        (each(between(0, 1), count=2), "2 entries, each 0 to 1"),
        (each(at_least(0), ascending=True), "each entry 0 or more, in ascending order"),
    ],
)
def test_what_a_rule_says(rule, words):
    assert rule.words == words


def test_a_method_of_ones_own_declares_its_keys(own_declarations):
    declare("MODEL.MINE", Key("PULL", 0.5, above(0), "pull of the centers (mu)"))
    cfg = fresh()
    assert cfg.MODEL.MINE.PULL == 0.5
    merge_config(cfg, opts=["MODEL.MINE.PULL", "-2"])
    with pytest.raises(UserError, match=r"MODEL\.MINE\.PULL is -2\.0; expected above 0: pull of"):
        check_ranges(cfg)


def test_keys_declared_later_are_added_without_touching_the_others(own_declarations):
    cfg = fresh()
    cfg.MODEL.MAUM.ALPHA = 3.0
    declare("MODEL.MAUM", Key("EXTRA", 1, at_least(0), "a key of a test"))
    add_vireid_config(cfg)
    assert (cfg.MODEL.MAUM.EXTRA, cfg.MODEL.MAUM.ALPHA) == (1, 3.0)


def test_two_configs_share_no_list():
    first, second = fresh(), fresh()
    first.MODEL.BACKBONE.NL_BLOCKS.append(9)
    assert second.MODEL.BACKBONE.NL_BLOCKS == [0, 2, 3, 0]


def test_a_key_is_declared_once(own_declarations):
    key = Key("PULL", 0.5, above(0), "pull")
    declare("MODEL.MINE", key)
    declare("MODEL.MINE", key)  # the same again, as when a cell of a notebook runs twice
    with pytest.raises(ValueError, match="MODEL.MINE.PULL is declared twice"):
        declare("MODEL.MINE", key._replace(default=0.7))
    with pytest.raises(ValueError, match="SOLVER.BASE_LR is declared twice"):
        declare("SOLVER", Key("BASE_LR", 0.1, above(0), "a key of FastReID"))


def test_a_default_obeys_its_own_rule(own_declarations):
    with pytest.raises(ValueError, match=r"default of MODEL\.MINE\.PULL, 0, is not above 0"):
        declare("MODEL.MINE", Key("PULL", 0, above(0), "pull"))


def test_every_key_of_the_config_has_a_rule():
    """A new key without a range fails here; ``any_number`` says why a number needs none."""
    numbers = numeric_keys()
    assert len(numbers) > 100 and {"SEED", "SOLVER.STEPS", "INPUT.REA.VALUE"} <= set(numbers)
    assert [name for name in flat_keys(fresh()) if name not in declared_keys()] == []


PLAIN = fresh()  # for tests that only read


@pytest.mark.parametrize("name", sorted(flat_keys(PLAIN)))
def test_no_key_takes_a_value_of_another_type(name):
    """A switch takes no number, a number no switch and no digits in words, no key takes None."""
    value, rule = value_of(PLAIN, name), declared_keys()[name].rule
    assert rule.allows(value)
    strange = [None, {}, b"1", [None], float("nan")]
    strange += [7] if isinstance(value, (bool, str)) else ["7", ["7"]] if value != [] else []
    strange += [] if isinstance(value, bool) else [True]
    strange += [] if isinstance(value, (list, tuple)) else [[], [value]]
    lists = {"SOLVER.HEADS_LR_LAYERS", "MODEL.LOSSES.NAME"}
    lists |= {"MODEL.PMT.GRAY_LOSSES", "MODEL.NFORMER.ENCODER_LOSSES"}
    lists |= {"MODEL.NFORMER.ENCODER_TRAINED_ON"}
    if name in {"DATASETS.NAMES", "DATASETS.TESTS", *lists}:
        strange = [value for value in strange if value != ["7"]]  # it holds words
    assert [one for one in strange if rule.allows(one)] == []


def whole_keys():
    """Keys whose default is one or several whole numbers, but for scales that FastReID lists so."""
    free = ("HEADS.SCALE", "CIRCLE.GAMMA", "COSFACE.GAMMA", "FL.GAMMA")
    for name in sorted(set(numeric_keys()) - {"SEED"}):
        value = value_of(PLAIN, name)
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if all(isinstance(number, int) for number in numbers) and not name.endswith(free):
            yield name


@pytest.mark.parametrize("name", list(whole_keys()))
def test_a_whole_number_stays_whole(name):
    """By type of the default: 2.5 where the default is a whole number is refused."""
    value, rule = value_of(PLAIN, name), declared_keys()[name].rule
    many = isinstance(value, (list, tuple))
    halves = [number + 0.5 for number in value] if many else value + 0.5
    assert not rule.allows(halves)


def test_every_key_of_ours_is_explained():
    """What FastReID has not is declared, with a meaning in words."""
    host = set(flat_keys(get_cfg()))
    ours = [name for name in flat_keys(fresh()) if name not in host]
    assert len(ours) > 100
    assert [name for name in ours if name not in declared_keys()] == []
    assert [
        n for n, key in declared_keys().items() if len(key.meaning) < 5 or "\n" in key.meaning
    ] == []


@pytest.mark.parametrize("name", numeric_keys())
def test_a_value_outside_its_range_is_refused_by_name(name):
    cfg = fresh()
    check_ranges(cfg)
    many = isinstance(value_of(cfg, name), (list, tuple))
    length = len(value_of(cfg, name)) if many else 1
    rule = declared_keys()[name].rule
    bounded = "any number" not in rule.words
    outside = [math.nan, math.inf, -math.inf]
    outside += [v for v in (-1e9, 1e9) if bounded and not rule.allows([v] * length if many else v)]
    assert len(outside) > 3 or not bounded
    for value in outside:
        put(cfg, name, [value] * length if many else value)
        with pytest.raises(UserError) as refusal:
            check_ranges(cfg)
        assert str(refusal.value).startswith(f"{name} is ")
        assert rule.words in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SOLVER.BASE_LR", -0.01, "above 0"),
        ("SOLVER.BASE_LR", 0.0, "above 0"),
        ("SOLVER.MOMENTUM", 1.0, "0 or more, below 1"),
        ("SOLVER.STEPS", (20, 10), "in ascending order"),
        ("SOLVER.MAX_EPOCH", 0, "1 or more"),
        ("DATALOADER.NUM_WORKERS", -1, "0 to 512"),
        ("DATALOADER.NUM_WORKERS", 100000, "0 to 512"),
        ("TEST.EVAL_PERIOD", -1, "0 or more"),
        ("TEST.RERANK.LAMBDA", 1.5, "0 to 1"),
        ("INPUT.REA.PROB", 1.5, "0 to 1"),
        ("INPUT.SIZE_TRAIN", (0, 128), "2 entries"),
        ("MODEL.PIXEL_STD", (58.0, 0.0, 57.0), "1 to 255"),
        ("MODEL.PIXEL_STD", (0.229, 0.224, 0.225), "1 to 255"),
        ("MODEL.PIXEL_STD", (58.0, math.nan, 57.0), "1 to 255"),
        ("MODEL.PIXEL_MEAN", (1.0, 2.0), "3 entries"),
        ("SOLVER.BASE_LR", 100.0, "at most 10"),
        ("SOLVER.BASE_LR", None, "above 0"),
        ("SOLVER.GAMMA", 1e9, "at most 1"),
        ("SOLVER.WEIGHT_DECAY", 1e9, "0 to 1"),
        ("SOLVER.STEPS", ("a",), "a whole number"),
        ("SOLVER.STEPS", (1.5,), "a whole number"),
        ("SOLVER.MAX_EPOCH", 1.5, "a whole number"),
        ("SOLVER.MAX_EPOCH", True, "a whole number"),
        ("INPUT.SIZE_TRAIN", (32.5, 16), "a whole number"),
        ("INPUT.NUM_VIEWS.VISIBLE", 1.5, "a whole number"),
        ("INPUT.FLIP.ENABLED", 1, "True or False"),
        ("INPUT.FLIP.VIEWS", (0.5,), "a whole number"),
        ("MODEL.BACKBONE.DEPTH", 50, "a name"),
        ("MODEL.BACKBONE.LAST_STRIDE", 1.5, "a whole number"),
        ("MODEL.BACKBONE.NL_BLOCKS", (0.5, 1, 1, 1), "a whole number"),
        ("MODEL.FREEZE_LAYERS", (1,), "each entry a name"),
        ("MODEL.LOSSES.NAME", "CrossEntropyLoss", "each entry a name"),
        ("SEED", 2**63, "at most 2**63 - 1"),
        ("SEED", 1.5, "a whole number"),
        ("TEST.RETRIEVAL_PICTURES", 1000, "0 to 100"),
        ("TEST.PROTOCOL.MODES", ("all", "all"), "none of them twice"),
        ("MODEL.LOSSES.CE.EPSILON", -0.5, "or -1"),
        ("MODEL.MAUM.REDUCTION", "median", "'sum' or 'mean'"),
    ],
)
def test_values_that_trained_silently_or_ended_in_a_traceback(name, value, expected):
    cfg = fresh()
    put(cfg, name, value)
    with pytest.raises(UserError) as refusal:
        check_ranges(cfg)
    assert str(refusal.value).startswith(f"{name} is {value!r}; expected ")
    assert expected in str(refusal.value)


def test_all_wrong_values_are_named_at_once():
    words = ["SOLVER.BASE_LR", "-0.01", "DATALOADER.NUM_WORKERS", "-1", "MODEL.DEVICE", "cpu"]
    with pytest.raises(UserError) as refusal:
        build_config("baseline/synthetic.yml", words)
    lines = str(refusal.value).splitlines()
    assert [line.split()[0] for line in lines] == ["DATALOADER.NUM_WORKERS", "SOLVER.BASE_LR"]


def test_a_checkpoint_keeps_the_values_that_it_was_trained_with():
    """Only what is asked for now is checked, or older checkpoints could not be opened."""
    cfg = fresh()
    cfg.SOLVER.STEPS, cfg.MODEL.DEVICE = [20, 10], "cpu"
    facts = {"config": cfg.dump(), "num_classes": 3}
    assert build_carried_config(facts, ["TEST.IMS_PER_BATCH", "8"]).SOLVER.STEPS == [20, 10]
    with pytest.raises(UserError, match="^TEST.IMS_PER_BATCH is -8; expected 1 or more[^\n]*$"):
        build_carried_config(facts, ["TEST.IMS_PER_BATCH", "-8"])


def test_every_file_that_declares_is_loaded_with_the_package():
    """Else its keys would be missing, or would depend on what else a program imports."""
    package = Path(vireid_plugins.__file__).parent
    files = [p for p in package.rglob("*.py") if re.search(r"^declare\w*\(", p.read_text(), re.M)]
    names = [".".join(p.relative_to(package.parent).with_suffix("").parts) for p in files]
    assert len(names) > 30
    code = f"import sys, vireid_plugins; print([n for n in {names} if n not in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stdout + done.stderr


def test_a_trainer_of_ones_own_script_checks_too(tmp_path):
    cfg = fresh()
    cfg.SOLVER.BASE_LR, cfg.OUTPUT_DIR = -0.01, str(tmp_path / "made")
    with pytest.raises(UserError, match="SOLVER.BASE_LR is -0.01"):
        VIReIDTrainer(cfg)
    assert not (tmp_path / "made").exists()  # before anything is built


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sorted((ROOT / "configs").rglob("*.yml"))
        if not path.name.endswith("plan.yml")
    ],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_every_shipped_config_passes(path):
    cfg = fresh()
    merge_config(cfg, find_config(str(path)))
    check_ranges(cfg)


def test_arguments_are_held_against_the_declaration():
    check_values("MODEL.MAUM", VISIBLE_SIZE=1, PUSH_DELAY=0)
    with pytest.raises(UserError, match=r"MODEL\.MAUM\.VISIBLE_SIZE is 0; expected 1 or more"):
        check_values("MODEL.MAUM", VISIBLE_SIZE=0)
    with pytest.raises(UserError, match=r"^Mine: visible_size is 0; expected 1 or more"):
        check_values("MODEL.MAUM", "Mine", VISIBLE_SIZE=0)


def test_keys_are_described():
    lines = describe_keys("MODEL.MAUM.ALPHA").splitlines()
    assert lines == [
        "MODEL.MAUM.ALPHA: 20.0 (above 0)",
        "    scale of the unidirectional metrics (alpha)",
    ]
    everything = describe_keys()
    assert "SOLVER.BASE_LR: 0.0003 (above 0, at most 10)" in everything
    assert len(everything.splitlines()) == 2 * len(declared_keys())
    assert describe_keys("maum") == describe_keys("MODEL.MAUM")
    with pytest.raises(UnknownNameError, match="'MODEL.MAUM.ALPHA'"):
        describe_keys("MODEL.MAUMM.ALPHA")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("MODEL.MAUMM", "MODEL.MAUM"),
        ("MAUMM", "MAUM"),
        ("MODEL.LOSES", "MODEL.LOSSES"),
        ("solvr", "SOLVER"),
        ("DATALODER.CACHE", "DATALOADER.CACHE"),
        ("BASE_LRR", "BASE_LR"),
    ],
)
def test_a_misspelled_node_is_suggested_too(word, meant):
    with pytest.raises(UnknownNameError, match=f"Did you mean {meant!r}"):
        describe_keys(word)
