"""Checkpoints whose content is wrong are refused by a sentence. Oracle: files written here."""

import copy

import pytest
import torch
from torch import nn

from vireid_plugins.engine.checkpoint import AtomicCheckpointer, load_to_resume
from vireid_plugins.errors import CheckpointError, UserError

NAN, INF = float("nan"), float("inf")
ONES = torch.ones(3)


def small_run(folder, optimizer=torch.optim.SGD, **options):
    """A checkpointer and an optimizer that has made a step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    options = options or {"lr": 0.1, "momentum": 0.9}
    stepper = optimizer(model.parameters(), **options)
    model(torch.rand(4, 2)).square().sum().backward()
    stepper.step()
    return AtomicCheckpointer(model, str(folder), optimizer=stepper), stepper


@pytest.fixture
def content(tmp_path):
    """What a checkpoint holds, but its checksum."""
    small_run(tmp_path)[0].save("model", epoch=1, best_metric=50.0)
    found = torch.load(str(tmp_path / "model.pth"), weights_only=False)
    assert set(found.pop("checksum")) >= {"model.0.weight", "optimizer.state.0.momentum_buffer"}
    return found


def changed(content, *places, value):
    """``content`` with another value at a place; ``...``: without the entry."""
    content = copy.deepcopy(content)
    inside = content
    for place in places[:-1]:
        inside = inside[place]
    inside[places[-1]] = value
    if value is ...:
        del inside[places[-1]]
    return content


def resume(content, folder):
    torch.save(content, str(folder / "model.pth"))
    return load_to_resume(*small_run(folder), str(folder / "model.pth"))


def test_what_was_written_is_resumed(content, tmp_path):
    rest = resume(content, tmp_path)
    assert rest["epoch"] == 1 and rest["best_metric"] == 50.0


def test_damage_is_found_by_whoever_loads(tmp_path):
    checkpointer, optimizer = small_run(tmp_path)
    checkpointer.save("model", epoch=1)
    path = tmp_path / "model.pth"
    data = bytearray(path.read_bytes())
    place = data.index(checkpointer.model.state_dict()["0.weight"].numpy().tobytes())
    data[place : place + 8] = bytes(8)
    path.write_bytes(data)
    for need in ("some", "features", "all"):
        with pytest.raises(CheckpointError, match="model.pth.*model.0.weight does not match"):
            checkpointer.load(str(path), checkpointables=[], need=need)
    with pytest.raises(CheckpointError, match="no other checkpoint .* leave --resume out"):
        load_to_resume(checkpointer, optimizer, str(path))
    checkpointer.save("model_best", epoch=1)
    words = "0.weight does not match its checksum.* write 'model_best.pth' into .*last_checkpoint"
    with pytest.raises(CheckpointError, match=words):
        load_to_resume(checkpointer, optimizer, str(path))


@pytest.mark.parametrize(
    "name,value,words",
    [
        ("0.bias", torch.tensor([0, NAN, 0]), r"0.bias holds NaN or infinite values \(1 of 3\)"),
        ("0.bias", torch.tensor([INF, -INF, 0]), r"0.bias holds NaN or infinite values \(2 of 3\)"),
        ("1.running_mean", ONES * NAN, "1.running_mean holds NaN"),
        ("1.running_var", -ONES, "1.running_var holds negative values, which no variance has"),
        ("unknown", ONES * NAN, "unknown holds NaN"),
        ("0.bias", ONES.double() * 1e300, "0.bias holds NaN or infinite values"),  # in float32
        ("0.bias", ONES.long(), "0.bias holds numbers of the type torch.int64"),
        ("0.bias", ONES.bool(), "0.bias holds numbers of the type torch.bool"),
        ("0.bias", ONES.to(torch.complex64), "0.bias is complex"),
        ("0.bias", [1.0], "0.bias: expected a tensor, found an object of the type list"),
        ("0.bias", torch.ones(4), "another model.*such as 0.bias"),
        (7, ONES, "expected names of tensors, found 7"),
    ],
)
def test_wrong_weights_are_named(content, tmp_path, name, value, words):
    torch.save(changed(content, "model", name, value=value), str(tmp_path / "wrong.pth"))
    for need in ("features", "all"):
        with pytest.raises(CheckpointError, match=f"wrong.pth.*{words}"):
            small_run(tmp_path)[0].load(str(tmp_path / "wrong.pth"), [], need=need)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_converted(content, tmp_path, dtype):
    checkpointer, _ = small_run(tmp_path)
    tensors = {
        f"module.{name}": value.to(dtype) if value.is_floating_point() else value
        for name, value in content["model"].items()
    }
    torch.save({"model": tensors}, str(tmp_path / "other.pth"))
    checkpointer.load(str(tmp_path / "other.pth"), [], need="features")
    expected = content["model"]["0.weight"].to(dtype).float()
    assert torch.equal(checkpointer.model.state_dict()["0.weight"], expected)


@pytest.mark.parametrize(
    "places,value,words",
    [
        (["epoch"], ..., "has no 'epoch'"),
        (["epoch"], "three", "epoch: expected a whole number of at least 0, found 'three'"),
        (["epoch"], -1, "epoch: expected a whole number of at least 0, found -1"),
        (["epoch"], 1.5, "found 1.5"),
        (["epoch"], ONES, "found tensor"),
        (["best_metric"], "best", "best_metric: expected a number, found 'best'"),
        (["best_metric"], NAN, "best_metric: expected a number, found nan"),
        (["vireid"], "facts", "vireid: expected a mapping"),
        (["optimizer"], ..., "holds no state of the optimizer"),
        (["optimizer"], [1], "optimizer state is of the type list"),
        (["optimizer", "state"], ..., "lacks 'param_groups' or 'state'"),
        (["optimizer", "state"], {}, "the state of its optimizer is empty"),
        (["optimizer", "param_groups"], [], "has 0 groups, and that of this run has 1"),
        (["optimizer", "param_groups", 0, "params"], [0], "has 1 parameters instead of 4"),
        (["optimizer", "param_groups", 0, "momentum"], ..., "has no momentum"),
        (["optimizer", "param_groups", 0, "momentum"], "word", "has no momentum"),
        (["optimizer", "state", 0, "momentum_buffer"], ONES, r"has the shape \[3\]"),
        (["optimizer", "state", 1, "momentum_buffer"], ONES * NAN, "momentum_buffer holds NaN"),
        (["optimizer", "state", 1], 3, "of parameter 1 is not a dict"),
    ],
)
def test_a_wrong_state_is_not_resumed(content, tmp_path, places, value, words):
    with pytest.raises(UserError, match=f"model.pth.*{words}"):
        resume(changed(content, *places, value=value), tmp_path)


def test_the_state_of_another_optimizer_is_not_resumed(content, tmp_path):
    torch.save(content, str(tmp_path / "model.pth"))
    checkpointer, adam = small_run(tmp_path, torch.optim.Adam, lr=0.1)
    with pytest.raises(CheckpointError, match="group 0 of its optimizer has no betas"):
        load_to_resume(checkpointer, adam, str(tmp_path / "model.pth"))


@pytest.mark.parametrize("need", ["features", "some"])
@pytest.mark.parametrize("wrapper", ["state_dict", "net", ""])
def test_weights_under_another_name_are_found(content, tmp_path, wrapper, need):
    """Also with the ``module.`` of DDP; without an entry: the weights stand at the top."""
    weights = {f"module.{name}": one + 1 for name, one in content["model"].items()}
    torch.save({wrapper: weights} if wrapper else weights, str(tmp_path / "other.pth"))
    checkpointer, _ = small_run(tmp_path)
    checkpointer.load(str(tmp_path / "other.pth"), [], need=need)
    for name, value in checkpointer.model.state_dict().items():
        assert torch.equal(value, content["model"][name] + 1)


@pytest.mark.parametrize(
    "wrapper,need,words",
    [
        ("state_dict", "all", r"under 'state_dict'.*torch.load\(PATH\)\['state_dict'\]"),
        ("weights", "all", r"model with torch.save\({'model': state_dict}, PATH\)"),
        ("weights", "features", r"model with torch.save\({'model': state_dict}, PATH\)"),
    ],
)
def test_another_name_of_the_weights_is_told(content, tmp_path, wrapper, need, words):
    torch.save({wrapper: content["model"]}, str(tmp_path / "other.pth"))
    with pytest.raises(CheckpointError, match=f"holds no 'model'.*{words}"):
        small_run(tmp_path)[0].load(str(tmp_path / "other.pth"), [], need=need)


@pytest.mark.parametrize("wrapper", ["net", ""])
def test_weights_of_another_model_are_refused(tmp_path, wrapper):
    """A name for the entry would not help, so none is advised."""
    weights = {"trunk.weight": torch.zeros(2)}
    torch.save({wrapper: weights} if wrapper else weights, str(tmp_path / "other.pth"))
    with pytest.raises(CheckpointError, match="trunk.weight.*another model") as caught:
        small_run(tmp_path)[0].load(str(tmp_path / "other.pth"), [], need="features")
    assert "torch.save" not in str(caught.value)


def test_old_checkpoints_load_with_a_note(content, tmp_path, caplog):
    torch.save(content, str(tmp_path / "old.pth"))
    with caplog.at_level("INFO", logger="vireid_plugins"):
        small_run(tmp_path)[0].load(str(tmp_path / "old.pth"), [], need="features")
    assert caplog.text.count("has no checksum of its tensors") == 1
    caplog.clear()
    checkpointer, _ = small_run(tmp_path)
    with caplog.at_level("INFO", logger="vireid_plugins"):
        checkpointer.save("new")
        checkpointer.load(str(tmp_path / "new.pth"), [], need="features")
    assert "checksum" not in caplog.text
