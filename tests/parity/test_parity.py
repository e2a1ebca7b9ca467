"""Ten optimizer steps, and the weights after them, equal those of the public code.

Oracles: constants recorded by ``python -m tests.parity --record`` beside a checkout; each file in
``recorded/`` names repository, commit, script and versions. For the tools of the comparison:
PyTorch's own convolution, arithmetic by hand, and a public script that the test writes.
"""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from . import compare
from .__main__ import main
from .case import all_cases
from .numbers import picture, uniform
from .public import commit_of, opened
from .side import STEPS, Side, Trace, in_float64, trace

CASES = all_cases()
RUNS = [
    pytest.param(case, variant, marks=[pytest.mark.slow] if variant in ("off", "on") else [])
    for case in CASES.values()
    for variant in case.variants
]


@pytest.mark.parametrize("case, variant", RUNS, ids=lambda value: getattr(value, "name", value))
def test_ten_steps_equal_the_public_code(case, variant):
    for library in case.needs:
        pytest.importorskip(library)
    expected = compare.read(case)["variants"][variant]
    assert all(len(values) == STEPS for values in expected["terms"].values())
    terms, weights = compare.differences(case.trace_ours(variant), expected)
    assert terms[0] <= compare.LIMIT, terms
    assert weights[0] <= compare.LIMIT, weights


@pytest.mark.parametrize("name", CASES)
def test_constants_name_their_source(name):
    case, found = CASES[name], compare.read(CASES[name])
    assert found["source"] == f"https://github.com/{case.repository}"
    assert (found["commit"], found["script"]) == (case.commit, case.script)
    assert len(case.commit) == 40 and set(found["variants"]) == set(case.variants)
    assert set(found["recorded with"]) >= {"PyTorch", "torchvision", "NumPy", "Pillow"}


def test_the_commit_of_an_unpacked_archive_is_unknown(tmp_path):
    """Also inside another clone, whose commit git would give."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "archive").mkdir()
    assert commit_of(tmp_path / "archive") == "unknown"


def small_trace():
    change = uniform("change", (4, 5))
    return Trace(
        {"loss_id": [1.0, 2.0]}, {"w": change, "frozen": torch.zeros(3, dtype=torch.float64)}
    )


@pytest.mark.parametrize("recorded", [True, False])
def test_a_difference_is_found_and_placed(recorded):
    theirs = small_trace()
    expected = compare.constants(theirs) if recorded else theirs
    assert [d[0] for d in compare.differences(small_trace(), expected)] == [0.0, 0.0]
    found = small_trace()
    found.terms["loss_id"][1] *= 1 + 3e-8
    found.changes["w"] *= 1 + 1e-6
    terms, weights = compare.differences(found, expected)
    assert terms == (pytest.approx(3e-8, rel=1e-6), "loss_id, step 2")
    assert weights[1] == "w" and 1e-9 < weights[0] < 1e-5
    found.changes["frozen"][0] = 1e-30  # what must not move has moved
    worst = compare.differences(found, expected)[1]
    assert worst[0] > 0.01 and worst[1] == "frozen"


def test_what_only_one_side_has_is_an_error():
    for part, name in (("terms", "loss_kl"), ("changes", "bias")):
        found = small_trace()
        getattr(found, part)[name] = copy.deepcopy(next(iter(getattr(found, part).values())))
        with pytest.raises(AssertionError, match=name):
            compare.differences(found, small_trace())


def test_ten_steps_are_taken_and_changes_are_those_since_the_start():
    value = torch.zeros(2)

    def step(number):
        value.add_(number)
        return {"loss": float(number)}

    found = trace(Side(lambda: {"value": value}, step))
    assert found.terms == {"loss": [float(number) for number in range(10)]}
    assert found.changes["value"].tolist() == [45.0, 45.0]


@pytest.mark.parametrize(
    "kernel, stride, padding, dilation, bias",
    [(1, 1, 0, 1, True), (3, 2, 1, 1, False), (7, 2, 3, 1, False), (3, 1, 2, 2, True)],
)
def test_the_matrix_convolution_is_a_convolution(kernel, stride, padding, dilation, bias):
    layer = nn.Conv2d(3, 4, kernel, stride, padding, dilation, bias=bias).double()
    images = uniform("images", (2, 3, 9, 6)).requires_grad_()
    expected = layer(images)
    with in_float64():
        found = layer(images)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)
    weights = (layer.weight, images)
    wave = uniform("gradient", expected.shape)
    for a, b in zip(*(torch.autograd.grad(y, weights, wave) for y in (found, expected))):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_numbers_are_the_same_everywhere():
    assert uniform("a", (2, 2)).flatten().tolist() == pytest.approx(
        [-0.8485332468356812, 0.01832075448406256, -1.624907100227577, 1.1007522664713232],
        rel=1e-15,
    )
    gray = picture("b", (16, 8), gray=True)
    assert gray.shape == (16, 8, 3) and (gray == gray[..., :1]).all()


SCRIPT = """
import argparse
import helper
from tensorboardX import SummaryWriter
parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float, default=0.1)
args, unknown = parser.parse_known_args()
data = helper.load("no such data set")
if args.rate > 0.2:
    factor = 2
else:
    factor = 1
def train(epoch):
    print("dropped")
    square = torch.zeros(2, 2).cuda().add(1.0)
    return factor * square.addmm_(1, -2, square, square)[0, 0].item()
def test(epoch):
    raise RuntimeError
test(0)
"""


def test_parts_of_a_script_run_as_they_are(tmp_path, capsys):
    (tmp_path / "script.py").write_text("import torch" + SCRIPT)
    (tmp_path / "helper.py").write_text("def load(path):\n    raise OSError(path)\n")
    before, path = set(sys.modules), list(sys.path)
    with in_float64(), opened(tmp_path) as public:
        values = public.run("script.py", ("parser", "args", "factor", "train"), ("--rate", "0.3"))
        assert values["train"](0) == 2 * (1 - 2 * 2)
        assert not {"data", "test"} & set(values)
        assert public.module("helper").load
    assert set(sys.modules) == before and sys.path == path
    assert torch.get_default_dtype() == torch.float32 and capsys.readouterr().out == ""
    assert torch.zeros(1).addmm_ and torch.Tensor.cuda is not None


def test_a_missing_checkout_is_named_with_the_command_that_makes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tests.parity", "--checkouts", str(tmp_path), "hct"])
    assert main() == 2
    case, said = CASES["hct"], capsys.readouterr().out
    assert f"git clone https://github.com/{case.repository}" in said
    assert f"checkout {case.commit}" in said


def test_an_unknown_method_is_named_with_the_known_ones(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tests.parity", "--checkouts", ".", "agv"])
    with pytest.raises(SystemExit):
        main()
    assert "unknown method agv; known: agw, caj," in capsys.readouterr().err
