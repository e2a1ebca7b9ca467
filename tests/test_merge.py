"""Config files and overrides that are wrong end in a sentence. Oracle: the values written here."""

import os
import subprocess
import sys

import pytest

from vireid_plugins import add_vireid_config
from vireid_plugins.errors import MissingFileError, UnknownNameError, UserError
from vireid_plugins.files import find_config
from vireid_plugins.merge import merge_config, merge_text

from fastreid.config import get_cfg


def fresh():
    cfg = get_cfg()
    add_vireid_config(cfg)
    return cfg


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="mine.yml", encoding="utf-8"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode(encoding))
        return str(path)

    return write_file


def refused(path):
    cfg = fresh()
    with pytest.raises(UserError) as caught:
        merge_config(cfg, path)
    told = str(caught.value)
    assert "\n" not in told
    assert len(told) < 500
    return told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SEED: 1\nSEED: 2\n", "the key 'SEED' appears twice in one group, in lines 1 and 2"),
        ("SOLVER: {OPT: SGD}\nMODEL: {}\nSOLVER: {OPT: Adam}\n", "in lines 1 and 3"),
        ("MODEL: 5\n", "MODEL is a group of keys, such as MODEL.DEVICE; found 5"),
        ("MODEL: [DEVICE, cpu]\n", "MODEL is a group of keys, such as MODEL.DEVICE; found a list"),
        ("MODEL:\n", "MODEL is a group of keys, such as MODEL.DEVICE; found nothing (null)"),
        ("MODEL: {BACKBONE: deep}\n", "MODEL.BACKBONE is a group of keys"),
        ("SOLVER: {BASE_LR: {A: 1}}\n", "SOLVER.BASE_LR is a group of keys; expected a number"),
        ("SOLVER: {STEPS: {A: 1}}\n", "SOLVER.STEPS is a group of keys; expected a list of numb"),
        ("SOLVER: {BASE_LR: null}\n", "SOLVER.BASE_LR is None; expected a number, such as"),
        ("SOLVER: {OPT: ~}\n", "SOLVER.OPT is None; expected a word, such as"),
        ("INPUT: {INFRARED_RANGE: [0, 9]}\n", "'auto'. Allowed: 'auto', 'file' or two numbers as"),
        ("SEED:\n", "SEED is None; expected a whole number, such as 0"),
        ("SEED: 1.5\n", "SEED is 1.5; expected a whole number"),
        ("SEED: true\n", "SEED is True; expected a whole number"),
        ("SEED: [1]\n", "SEED is [1]; expected a whole number"),
        ("SOLVER: {BASE_LR: fast}\n", "SOLVER.BASE_LR is 'fast'; expected a number"),
        ("SOLVER: {BASE_LR: '0,1'}\n", "SOLVER.BASE_LR is '0,1'; expected a number"),
        ("SOLVER: {AMP: {ENABLED: 1}}\n", "SOLVER.AMP.ENABLED is 1; expected True or False"),
        ("SOLVER: {STEPS: ['a']}\n", "SOLVER.STEPS is ['a']; expected a list of numbers"),
        ("SOLVER: {STEPS: [1, null]}\n", "SOLVER.STEPS is [1, None]; expected a list of numb"),
        ("SOLVER: {STEPS: [true]}\n", "SOLVER.STEPS is [True]; expected a list of numbers"),
        ("SOLVER: {STEPS: 5}\n", "SOLVER.STEPS is 5; expected a list of numbers"),
        ("SOLVER: {STEPS: '(1, x)'}\n", "SOLVER.STEPS is '(1, x)'; expected a list of numbers"),
        ("INPUT: {SIZE_TRAIN: [big, small]}\n", "INPUT.SIZE_TRAIN is ['big', 'small']; expected"),
        ("DATASETS: {NAMES: [1]}\n", "DATASETS.NAMES is [1]; expected a list of words"),
        ("DATASETS: {NAMES: SYSUMM01}\n", "DATASETS.NAMES is 'SYSUMM01'; expected a list of words"),
        ("INPUT: {FLIP: {VIEWS: [null]}}\n", "INPUT.FLIP.VIEWS is [None]; expected a list"),
        ("SOLVER: {OPT: 5}\n", "SOLVER.OPT is 5; expected a word"),
        ("SOLVER.BASE_LR: 0.1\n", "write the groups of a key nested: SOLVER: {BASE_LR: ...}"),
        ("SOLVER: {BASE_LRR: 1}\n", "Unknown config key 'SOLVER.BASE_LRR' in "),
        ("SOLVR: {BASE_LR: 1}\n", "Unknown config key 'SOLVR.BASE_LR' in "),
        ("NOTHING: {}\n", "Unknown config key 'NOTHING' in "),
        ("SOLVER: {BASE_LR: {{}: 1}}\n", "is not a config file"),
        ("1: 2\n", "the key 1 is not text"),
        ("_BASE_: [a.yml]\n", "_BASE_: expected the path of a config file, found a list of 1"),
        ("_BASE_: 5\n", "_BASE_: expected the path of a config file, found 5"),
        ("_BASE_: ''\n", "_BASE_: expected the path of a config file, found ''"),
        ("_BASE_: https://example.org/a.yml\n", "is not a path; download that file"),
        ("rows: []\n", "is the plan of a comparison, not a config of a training. Run it by vireid"),
        ("groups: []\n", "is the plan of a comparison"),
        ("_BASE_: absent.yml\n", "There is no file "),
        ("_BASE_: mine.yml\n", "inherit (_BASE_) in a circle: "),
        ("_BASE_: .\n", "is a folder; expected a file"),
        ("_BASE_: mine.yml/a.yml\n", "There is no file "),
    ],
)
def test_a_wrong_file_is_told_with_its_name(write, text, words):
    told = refused(write(text))
    assert "mine.yml" in told
    assert words in told


def test_a_wrong_value_of_a_base_names_the_base(write):
    write("SOLVER: {BASE_LR: fast}\n", "base.yml")
    path = write("_BASE_: base.yml\nSEED: 1\n")
    assert "base.yml: SOLVER.BASE_LR is 'fast'" in refused(path)
    write("SOLVER: [\n", "base.yml")
    assert "mine.yml cannot be read: " in refused(path)
    assert "base.yml is not a config file" in refused(path)
    write("_BASE_: sub/absent.yml\n", "base.yml")
    assert refused(path).endswith("base.yml inherits from it (_BASE_).")
    with pytest.raises(MissingFileError):
        merge_config(fresh(), path)


def test_a_circle_is_told_with_all_its_files(write):
    write("_BASE_: ../mine.yml\n", "sub/b.yml")
    told = refused(write("_BASE_: sub/b.yml\n"))
    assert told.count("mine.yml") == 2
    assert told.count("b.yml -> ") == 1


def test_values_of_files_replace_those_of_their_bases(write, tmp_path):
    write("SOLVER: {OPT: SGD, BASE_LR: 1}\nSEED: 3\n", "sub/c.yml")
    write("_BASE_: sub/c.yml\nSOLVER: {STEPS: [1, 2], BASE_LR: 1e-3}\n", "b.yml")
    path = write(f"_BASE_: {tmp_path}/b.yml\nSOLVER: {{STEPS: '(5,)'}}\nMODEL: {{}}\n")
    cfg = fresh()
    merge_config(cfg, path)
    assert (cfg.SOLVER.OPT, cfg.SOLVER.BASE_LR, cfg.SOLVER.STEPS) == ("SGD", 0.001, [5])
    assert cfg.SEED == 3
    other = fresh()
    merge_config(other, path, base_file=write("SOLVER: {OPT: Adam}\n", "other.yml"))
    assert (other.SOLVER.OPT, other.SOLVER.BASE_LR) == ("Adam", fresh().SOLVER.BASE_LR)
    assert other.SOLVER.STEPS == [5]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("OUTPUT_DIR", "2024", "2024"),
        ("OUTPUT_DIR", "None", "None"),
        ("OUTPUT_DIR", "'a b'", "a b"),
        ("OUTPUT_DIR", "行人", "行人"),
        ("SOLVER.BASE_LR", "1", 1.0),
        ("SOLVER.BASE_LR", 1, 1.0),
        ("SOLVER.STEPS", "(1, 2)", [1, 2]),
        ("DATASETS.NAMES", "['A']", ("A",)),
        ("DATASETS.NAMES", ["A"], ("A",)),
        ("SOLVER.STEP_FACTORS", "(0.1, 1)", (0.1, 1)),
    ],
)
def test_a_pair_takes_the_type_of_its_key(key, value, expected):
    cfg = fresh()
    merge_config(cfg, opts=[key, value])
    for part in key.split("."):
        cfg = cfg[part]
    assert cfg == expected
    assert type(cfg) is type(expected)


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        (["SEED"], "KEY VALUE pairs; got 1 words: SEED"),
        (["SEED", "1", "--resume"], "--resume must stand before the first KEY VALUE pair"),
        (["SEED", "1", "--resume", "2"], "--resume must stand before the first KEY VALUE pair"),
        (["SEED=1"], "Write a key and its value as two words: SEED 1; got 'SEED=1'"),
        (["SEED=1", "SOLVER.OPT=SGD"], "as two words: SEED 1"),
        (["SEED", "1", "2"], "KEY VALUE pairs; got 3 words"),
        (["SEED", "1", "SEDE", "2"], "Unknown config key 'SEDE' in the command line."),
        ([5, 1], "Unknown config key '5'"),
        (["", 1], "Unknown config key ''"),
        (["SOLVER..OPT", "SGD"], "Unknown config key 'SOLVER..OPT'"),
        (["SEED.X", "1"], "Unknown config key 'SEED.X'"),
        (["MODEL", "5"], "MODEL is a group of keys; name one of them, such as MODEL.DEVICE"),
        (["MODEL.BACKBONE", "{'DEPTH': '50x'}"], "MODEL.BACKBONE is a group of keys"),
        (["MODEL.FREEZE_LAYERS", "heads"], "'heads'; expected a list, such as ['heads']."),
        (["SEED", "{[]: 1}"], "SEED is '{[]: 1}'; expected a whole number, such as 0. Is the"),
        (["SEED", "(" * 500], "SEED is '((((("),
        (["SEED", None], "SEED is None; expected a whole number"),
        (["SEED", "a\0b"], "SEED is 'a\\x00b'; expected"),
        (["SEED", "1" * 5000], "SEED is '111"),
        (["SOLVER.BASE_LR", "1" + "0" * 400], "SOLVER.BASE_LR is '100"),
        (["SOLVER.STEPS", "['a']"], "SOLVER.STEPS is \"['a']\"; expected a list of numbers"),
        (["SOLVER.AMP.ENABLED", "yes"], "SOLVER.AMP.ENABLED is 'yes'; expected True or False"),
    ],
)
def test_wrong_pairs_are_told(opts, words):
    with pytest.raises(UserError) as caught:
        merge_config(fresh(), opts=opts)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_text_of_a_checkpoint_is_checked_alike():
    cfg = fresh()
    merge_text(cfg, fresh().dump(), "the config in the checkpoint")
    assert cfg == fresh()
    for text in ("A: [", "- a", "", "SEED: x", "SEED: !!python/name:os.system 1", "SEED: null"):
        with pytest.raises(UserError, match="the config in the checkpoint"):
            merge_text(fresh(), text, "the config in the checkpoint")
    with pytest.raises(UnknownNameError):
        merge_text(fresh(), "SEDE: 1", "the config in the checkpoint")


def test_names_of_configs(tmp_path):
    with pytest.raises(UserError, match="is a folder; name a config file in it"):
        find_config(str(tmp_path))
    for name in ("a" * 5000, "a\0b", "agw", os.fsdecode(b"\xff.yml")):
        with pytest.raises(UserError):
            find_config(name)


@pytest.mark.slow
def test_a_config_with_chinese_comments_is_the_same_in_any_locale(write):
    """Without UTF-8 mode, Python opens files in ASCII under the locale C."""
    path = write("# 行人重识别\nSEED: 5\nOUTPUT_DIR: 日志\n")
    code = (
        "import sys\nfrom tests.test_merge import fresh, merge_config\ncfg = fresh()\n"
        "merge_config(cfg, sys.argv[1])\nassert (cfg.SEED, ascii(cfg.OUTPUT_DIR)) == "
        "(5, ascii(chr(0x65e5) + chr(0x5fd7)))"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    env.update(LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    done = subprocess.run([sys.executable, "-c", code, path], env=env, capture_output=True)
    assert done.returncode == 0, done.stderr
