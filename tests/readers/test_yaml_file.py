"""YAML is read or refused in a sentence. Oracle: ``yaml.safe_load``, and the lines counted here."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import FileContentError, MissingFileError
from vireid_plugins.readers.yaml_file import parse_dumped_yaml, parse_yaml, read_yaml

CONFIG = """# 行人重识别 ±
_BASE_: Base.yml
MODEL:
  BACKBONE: {DEPTH: 50x, PRETRAIN: true}
  "LOSSES": [A, B]
SOLVER:
  BASE_LR: 0.1
  STEPS: [20, 50]
"""


def test_values_come_as_they_were_written(tmp_path):
    path = tmp_path / "a.yml"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text(CONFIG, encoding=encoding)
        assert read_yaml(path) == yaml.safe_load(CONFIG)
    path.write_bytes(CONFIG.replace("\n", "\r\n").encode())
    assert read_yaml(path) == yaml.safe_load(CONFIG)
    assert parse_yaml("{}", "a") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SEED: 1\nMODEL: {}\nSEED: 2\n", "line 3: the key 'SEED' appears twice"),
        ("A: {B: 1}\nC: 1\nA:\n  D: 1\n", "'A' appears twice in one group, in lines 1 and 3"),
        ("A:\n  B:\n    C: 1\n    D: 2\n    C: 1\n", "'C' appears twice in one group, in lines 3"),
        ("A: 1\n'A': 1\n", "'A' appears twice"),
        ("A: {B: 1, B: 2}\n", "'B' appears twice in one group, in lines 1 and 1"),
        ("X: &x {B: 1, B: 1}\nA: {<<: *x}\n", "'B' appears twice"),
        ("", "it holds no key"),
        ("# only a comment\n", "it holds no key"),
        ("- a\n- b\n", "expected keys with values, found a list of 2"),
        ("word\n", "expected keys with values, found 'word'"),
        ("12\n", "expected keys with values, found 12"),
        ("A: 1\n\tB: 2\n", "a tab stands where YAML expects spaces"),
        ("A: [1\n", "line 2"),
        ("A: 'x\n", "line 2"),
        ("A: 1\n--- \nB: 2\n", "line 2"),
        ("A: !!python/object/apply:os.system ['true']\n", "line 1: a tag (!...) is not allowed"),
        ("A: !!python/tuple [1, 2]\n", "a tag (!...) is not allowed here"),
        ("A: !own 1\n", "a tag (!...) is not allowed here"),
        ("A: *b\n", "line 1"),
        ("A: &a {B: *a}\n", "nested too deeply"),
        ("5: 1\n", "the key 5 is not text"),
        ("A: {on: 1}\n", "the key True is not text"),
        ("? [a]\n: 1\n", "line 1"),
        ("A: 2024-01-02\n", "is not a valid config value; quote it"),
        ("A: 2024-99-99\n", "a value is damaged"),
        ("A: !!int word\n", "a value is damaged"),
        ("A: !!float []\n", "line 1"),
        ("A: !!bool word\n", "a value is damaged"),
        ("A: !!binary '='\n", "not a valid config value"),
        ("A: !!set {a, b}\n", "not a valid config value"),
        ("A: \x07\n", "special characters are not allowed"),
        ("[" * 10_000, "nested too deeply"),
        (
            "A: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"{new}: &{new.lower()} [{', '.join(['*' + old] * 9)}]\n"
                for old, new in zip("abcdefg", "BCDEFGH")
            ),
            "aliases",
        ),
    ],
)
def test_what_is_wrong_is_told(text, words):
    with pytest.raises(FileContentError) as caught:
        parse_yaml(text, "a.yml", "Fix it.")
    told = str(caught.value)
    assert told.startswith("a.yml is not a config file (YAML with nested keys): ")
    assert words in told
    assert told.endswith("Fix it.")
    assert len(told) < 300
    assert "\n" not in told

    if "twice" not in words:  # what a program wrote is not searched for names that appear twice
        with pytest.raises(FileContentError) as also:
            parse_dumped_yaml(text, "a.yml", "Fix it.")
        assert str(also.value) == told


@pytest.mark.parametrize("fast", [True, False])
def test_what_a_program_wrote_is_read_alike(fast, monkeypatch):
    if not fast:
        monkeypatch.setattr("vireid_plugins.readers.yaml_file._FastLoader", None)
    dumped = yaml.safe_dump({**yaml.safe_load(CONFIG), "TEXT": ["1e-3", "on", "名"], "RATE": 1e-05})
    found = parse_dumped_yaml(dumped, "a.yml")
    assert repr(found) == repr(parse_yaml(dumped, "a.yml")) and found["TEXT"][1] == "on"


def test_names_taken_over_are_not_twice():
    text = "X: {A: &a {<<: &b {K: 1, L: 2}, K: 3}}\nY: {<<: *a, L: 4}\nZ: {<<: [*b, *a]}\n"
    assert parse_yaml(text, "a.yml") == yaml.safe_load(text)


def test_names_taken_over_in_one_another_do_not_fill_the_memory():
    text = "A: &a {X: 1, Y: 1}\n" + "".join(
        f"{new}: &{new.lower()} {{<<: [{', '.join(['*' + old] * 20)}]}}\n"
        for old, new in zip("abcdefg", "BCDEFGH")
    )
    try:
        assert parse_yaml(text, "a.yml")["H"] == {"X": 1, "Y": 1}  # PyYAML drops what is twice
        assert parse_dumped_yaml(text, "a.yml")["H"] == {"X": 1, "Y": 1}
    except FileContentError as error:  # an older PyYAML keeps it
        assert "too large" in str(error)


def test_other_bytes_and_absent_files_are_told(tmp_path):
    path = tmp_path / "a.yml"
    for encoding, words in (("utf-16", "found UTF-16"), ("gbk", "line 1"), ("latin-1", "line 1")):
        path.write_bytes(("é: 1\n" if encoding == "latin-1" else "名: 1\n").encode(encoding))
        with pytest.raises(FileContentError, match=words):
            read_yaml(path)
    with pytest.raises(MissingFileError):
        read_yaml(tmp_path / "absent.yml")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_config_gives_a_value_or_an_error(data):
    cut = data.draw(st.integers(0, len(CONFIG)))
    tokens = ["!!python/name:os.x ", "&a ", "*a", "<<: ", "? ", "|", "%", "\t", "!!timestamp "]
    inserted = data.draw(st.text(max_size=6) | st.sampled_from(tokens))
    skipped = data.draw(st.integers(0, 9))
    damaged = CONFIG[:cut] + inserted + CONFIG[cut + skipped :]
    try:
        values = parse_yaml(damaged, "a.yml")
    except FileContentError as error:
        assert str(error).startswith("a.yml is not a config file")
    else:
        assert values == yaml.safe_load(damaged)
