"""Whatever happens to a checkpoint: the right value, or a sentence. Oracle: what was saved."""

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import UserError
from vireid_plugins.readers.checkpoint import read_checkpoint
from vireid_plugins.readers.checksum import CHECKSUM, tensor_sums
from vireid_plugins.readers.weights import check_weights
from vireid_plugins.runs.facts import best_metric, epochs_done, facts_in

QUICK = settings(max_examples=100, deadline=None, derandomize=True)
CONTENT = {
    "model": {"layer.weight": torch.arange(12.0).view(3, 4), "layer.count": torch.tensor(7)},
    "epoch": 3,
    "vireid": {"config": "MODEL: {}", "num_classes": 5, "train_datasets": ["RegDB"]},
}
CONTENT[CHECKSUM] = tensor_sums(CONTENT)
PLAIN = {name: value for name, value in CONTENT.items() if name != "model"}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.just(torch.ones(2))
    | st.just(torch.tensor(float("nan"))),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 3), inner, max_size=3)
    ),
    max_leaves=5,
)


def saved(content, zipped=True):
    """The bytes of a file."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


FILES = {zipped: saved(CONTENT, zipped) for zipped in (True, False)}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("property") / "weights.pth"


def right_or_sentence(path, data):
    """Read ``data``; what comes out is a ``UserError`` or what was saved."""
    path.write_bytes(data)
    try:
        loaded = read_checkpoint(str(path))
    except UserError as error:
        assert str(path) in str(error)
        return
    for name, value in CONTENT["model"].items():
        assert torch.equal(loaded["model"][name], value)
    assert {name: loaded[name] for name in PLAIN} == PLAIN


@QUICK
@given(st.integers(0, len(FILES[True]) - 1), st.binary(min_size=1, max_size=64))
def test_a_changed_archive(path, begin, other):
    data = FILES[True]
    right_or_sentence(path, data[:begin] + other + data[begin + len(other) :])


@QUICK
@given(st.booleans(), st.floats(0, 1), st.binary(max_size=20))
def test_a_file_that_is_cut_off(path, zipped, share, rest):
    data = FILES[zipped]
    right_or_sentence(path, data[: int(share * len(data))] + rest)


@QUICK
@given(st.integers(0, len(FILES[False]) - 1), st.binary(min_size=1, max_size=8))
def test_a_changed_file_of_the_older_format(path, begin, other):
    """It has no checksum but that of its tensors, so other numbers may be wrong."""
    data = FILES[False]
    path.write_bytes(data[:begin] + other + data[begin + len(other) :])
    try:
        read_checkpoint(str(path))
    except UserError:
        pass


@QUICK
@given(st.binary(max_size=200))
def test_other_bytes(path, data):
    right_or_sentence(path, data)


@QUICK
@given(VALUES)
def test_other_content(path, content):
    path.write_bytes(saved(content))
    try:
        loaded = read_checkpoint(str(path))
    except UserError:
        return
    assert isinstance(loaded, dict) and all(isinstance(name, str) for name in loaded)


@QUICK
@given(
    st.sampled_from(["config", "num_classes", "rendered", "seed", "train_datasets", "version"]),
    VALUES,
)
def test_other_facts(name, value):
    content = {**CONTENT, "vireid": {**CONTENT["vireid"], name: value}}
    try:
        facts = facts_in(content, "x.pth")
    except UserError as error:
        assert "x.pth: vireid" in str(error)
        return
    assert facts["num_classes"] >= 1 and isinstance(facts["config"], str)


@QUICK
@given(VALUES)
def test_other_facts_and_progress(value):
    for read in (
        lambda: facts_in({"vireid": value}, "x.pth"),
        lambda: epochs_done({"epoch": value}, "x.pth"),
        lambda: best_metric({"best_metric": value}, "x.pth", 0.0),
        lambda: check_weights(value, "x.pth"),
        lambda: check_weights({"a": value}, "x.pth"),
    ):
        try:
            read()
        except UserError as error:
            assert "x.pth" in str(error)
