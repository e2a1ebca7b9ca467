"""A training step on the GPU equals the CPU's, for every method. Oracle: the CPU, in float64."""

import pytest
import torch

from tests.engine.two_processes import CASES, build, whole_batch

pytestmark = pytest.mark.gpu


def step(case, device, dtype=torch.float64):
    """Return the loss terms of each phase, and by how much its SGD step has moved the weights."""
    model, views = build(case)
    model = model.to(device=device, dtype=dtype)
    batch = {name: value.to(device) for name, value in whole_batch(views).items()}
    batch["images"] = batch["images"].to(dtype)
    before = [value.detach().clone() for value in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    losses = {}
    for phase in model.phases:
        model.phase = phase
        model.after_step()
        optimizer.zero_grad(set_to_none=True)
        terms = model(batch)
        losses.update({f"{phase} {name}": value.item() for name, value in terms.items()})
        sum(terms.values()).backward()
        optimizer.step()
    moved = [(now.detach() - old).flatten() for now, old in zip(model.parameters(), before)]
    return losses, torch.cat(moved).cpu().double()


@pytest.fixture(scope="module")
def on_cpu():
    """Return ``step`` of a case on the CPU; each case is computed once."""
    known = {}

    def look_up(case):
        if case not in known:
            known[case] = step(case, "cpu")
        return known[case]

    return look_up


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_every_method_equals_the_cpus(case, device, on_cpu):
    expected, moved = on_cpu(case)
    losses, moved_here = step(case, device)
    assert losses == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert moved.norm() > 0
    assert (moved_here - moved).norm() < 1e-5 * moved.norm()


@pytest.mark.parametrize("case", CASES)
def test_losses_in_float32_are_those_of_float64(case, device, on_cpu):
    """The first phase alone: in a later one, weights have taken a step of other hard examples."""
    expected, _ = on_cpu(case)
    losses, _ = step(case, device, torch.float32)
    first = next(iter(losses)).split(" ")[0]
    here = {name: value for name, value in losses.items() if name.startswith(f"{first} ")}
    wanted = {name: value for name, value in expected.items() if name in here}
    assert here and here == pytest.approx(wanted, rel=2e-3, abs=1e-4)
