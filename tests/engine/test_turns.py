"""Several optimizers that take turns. Oracle: the same steps as a plain loop of PyTorch.

The method is ``Twins``: a critic, a generator and a classifier, each with an optimizer.
"""

import copy

import pytest
import torch
from torch import nn

from vireid_plugins.engine.step import StepTrainer
from vireid_plugins.engine.turns import TurnTrainer, build_stepper
from vireid_plugins.errors import CheckpointError, NonFiniteError, UserError
from vireid_plugins.readers.checkpoint import read_checkpoint
from vireid_plugins.solver import Optimizers, build_optimizer
from vireid_plugins.turns import OptimizerPart, Turn

from fastreid.utils.events import EventStorage

from tests.engine.small import small_cfg
from tests.engine.test_kills import assert_same, needs_fork
from tests.engine.test_trainer import same_state
from tests.engine.tiny import TinyTrainer, killed, make_tiny, run_tiny, story
from tests.engine.twins import JUDGE, LABEL, MAKE, Twins


class TwinsTrainer(TinyTrainer):
    @classmethod
    def build_model(cls, cfg):
        return Twins()

    @classmethod
    def build_optimizer(cls, cfg, model):
        return build_optimizer(cfg, model), None


def cfg_of(folder, **keys):
    return small_cfg(folder, SOLVER__OPT="SGD", SOLVER__BASE_LR=0.1, **keys)


def batches(count, rows=6):
    generator = torch.Generator().manual_seed(3)
    return [{"images": torch.randn(rows, 3, generator=generator)} for _ in range(count)]


class Loader(list):
    class batch_sampler:
        set_epoch = staticmethod(lambda epoch: None)


def stepper_of(model, cfg, found, *options):
    stepper = build_stepper(model, Loader(found), build_optimizer(cfg, model), *options)
    stepper.start_epoch(0)
    return stepper


def run(stepper, steps):
    with EventStorage(0) as storage:
        for number in range(steps):
            stepper.iter = storage.iter = number
            stepper.run_step()
        return {name: storage.history(name).values() for name in storage.histories()}


def test_turns_equal_a_loop_of_pytorch(tmp_path):
    """Four steps, two of them in the warm-up; Adam and SGD as PyTorch makes them."""
    torch.manual_seed(0)
    model = Twins()
    other, cfg, found = copy.deepcopy(model), cfg_of(tmp_path), batches(4)
    torch.manual_seed(1)
    log = run(stepper_of(model, cfg, found), 4)
    critic = torch.optim.Adam(other.critic.parameters(), 0.01, betas=(0.5, 0.999))
    makers = [*other.layer.parameters(), *other.norm.parameters()]
    generator = torch.optim.Adam(makers, 0.01)
    identity = torch.optim.SGD(
        [
            {"params": [other.classifier.weight], "weight_decay": cfg.SOLVER.WEIGHT_DECAY},
            {
                "params": [other.classifier.bias],
                "weight_decay": cfg.SOLVER.WEIGHT_DECAY_BIAS,
                "lr": 0.1 * cfg.SOLVER.BIAS_LR_FACTOR,
            },
        ],
        0.1,
        momentum=cfg.SOLVER.MOMENTUM,
        nesterov=cfg.SOLVER.NESTEROV,
    )
    torch.manual_seed(1)
    for number, batch in enumerate(found):
        terms = other(batch, Turn(JUDGE, ()))
        critic.zero_grad()
        terms["loss_critic"].backward()
        critic.step()
        terms = other(batch, Turn(MAKE + (LABEL if number >= 2 else ()), ()))
        for optimizer in (generator, identity):
            optimizer.zero_grad()
        sum(terms.values()).backward()
        generator.step()
        if number >= 2:
            identity.step()
    assert same_state(model.state_dict(), other.state_dict())
    assert [len(log[name]) for name in ("loss_critic", "loss_generator", "loss_id")] == [4, 4, 2]
    assert [value for value, _ in log["images_seen"]] == [6.0] * 4  # seen by two turns, once


def test_a_gradient_reaches_the_parameters_of_the_turns_optimizers_alone(tmp_path):
    """The generator's loss passes the critic, whose gradient stays that of its own turn."""
    torch.manual_seed(0)
    model, (batch,) = Twins(), batches(1)
    stepper = stepper_of(model, cfg_of(tmp_path), [batch])
    with_gradients = {}
    take = stepper._take_turn

    def watch(turn, *arguments, **options):
        model.zero_grad(set_to_none=True)
        reports = take(turn, *arguments, **options)
        names = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
        with_gradients[turn.losses] = names
        return reports

    stepper._take_turn = watch
    stepper.iter = 5
    with EventStorage(5):
        stepper.run_step()
    assert with_gradients == {JUDGE: {"critic"}, MAKE + LABEL: {"layer", "norm", "classifier"}}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_two_halves_step_as_the_whole(tmp_path):
    """Accumulation: each turn sees all batches of the update before the next turn begins."""
    found, cfg = batches(2, rows=6), cfg_of(tmp_path)
    joined = {"images": torch.cat([batch["images"] for batch in found])}
    states = []
    for parts, accumulation in (([joined], 1), (found, 2)):
        torch.manual_seed(0)
        model = Twins().double()
        rows = [{"images": batch["images"].double()} for batch in parts]
        stepper = stepper_of(model, cfg, rows, None, accumulation)
        model.eval()  # batch norm's statistics are not those of halves, and nothing is dropped
        stepper.iter = 5
        with EventStorage(5):
            stepper.run_step()
        states.append(model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("amp", [None, "bfloat16"])
def test_each_optimizer_clips_its_own_gradients(tmp_path, amp):
    cfg = cfg_of(
        tmp_path,
        SOLVER__CLIP_GRADIENTS__ENABLED=True,
        SOLVER__CLIP_GRADIENTS__CLIP_TYPE="norm",
        SOLVER__CLIP_GRADIENTS__CLIP_VALUE=1e-3,
    )
    model = Twins()
    stepper = stepper_of(model, cfg, batches(1), amp)
    stepper.iter = 5
    with EventStorage(5):
        stepper.run_step()
    norms = [parameter.grad.norm() for parameter in model.parameters()]
    assert len(norms) == 8 and all(0 < norm <= 1.001e-3 for norm in norms)


def test_two_and_two_epochs_equal_four(tmp_path):
    """Bitwise: weights, the states of three optimizers, the rates, and what is logged."""
    whole = run_tiny(tmp_path / "whole", trainer=TwinsTrainer)
    run_tiny(tmp_path / "parts", trainer=TwinsTrainer, SOLVER__MAX_EPOCH=2)
    parts = run_tiny(tmp_path / "parts", resume=True, trainer=TwinsTrainer)
    states = [read_checkpoint(f"{tmp_path}/{name}/model_final.pth") for name in ("whole", "parts")]
    assert set(states[0]["optimizer"]) == {"critic", "generator", "identity"}
    for part in ("model", "optimizer", "lr_sched"):
        assert same_state(states[0][part], states[1][part])
    assert whole.iter == parts.iter == 16
    rates = {group["lr"] / group["initial_lr"] for group in whole.optimizer.param_groups}
    assert len(rates) == 1 and rates.pop() < 1  # one schedule for all


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("point", [30, 44])
def test_a_killed_run_ends_as_the_whole_one(tmp_path, point):
    """Killed before the first checkpoint, and inside the writing of one."""
    run_tiny(tmp_path / "whole", trainer=TwinsTrainer)
    assert killed(tmp_path / "killed", point, trainer=TwinsTrainer)
    run_tiny(tmp_path / "killed", resume=True, trainer=TwinsTrainer)
    assert_same(tmp_path / "killed", (tmp_path / "whole", story(tmp_path / "whole")))


def test_a_resume_without_one_of_the_optimizers_is_refused(tmp_path):
    run_tiny(tmp_path, trainer=TwinsTrainer, SOLVER__MAX_EPOCH=2)
    path = tmp_path / "model_final.pth"
    for entry, words in (
        (lambda s: s.pop("critic"), "no states of the optimizers critic"),
        (lambda s: s["critic"]["param_groups"].pop(), r"\(optimizer 'critic'\)"),
    ):
        state = torch.load(path, weights_only=True)
        entry(state["optimizer"])
        state.pop("checksum", None)
        torch.save(state, path)
        with pytest.raises(CheckpointError, match=words):
            make_tiny(tmp_path, trainer=TwinsTrainer).resume_or_load(resume=True)
        run_tiny(tmp_path, trainer=TwinsTrainer, SOLVER__MAX_EPOCH=2)


@pytest.mark.parametrize(
    "parts, words",
    [
        ([OptimizerPart("a", ("critic.",))], "'layer.weight' to no optimizer"),
        ([OptimizerPart("a"), OptimizerPart("b")], "'critic.weight' to a and b"),
        ([OptimizerPart("a"), OptimizerPart("a", ("critic.",))], "two optimizers of one name"),
        ([OptimizerPart("a"), OptimizerPart("b", ("other.",))], "b of Twins have no parameter"),
    ],
)
def test_parts_that_do_not_share_all_parameters_are_named(tmp_path, parts, words):
    model = Twins()
    model.optimizer_parts = parts
    with pytest.raises(UserError, match=words):
        build_optimizer(cfg_of(tmp_path), model)


@pytest.mark.parametrize(
    "turns, words", [((), "no turn"), ((Turn(JUDGE, ("judge",)),), "expected some of")]
)
def test_turns_that_do_not_fit_the_optimizers_are_named(tmp_path, turns, words):
    model = Twins()
    model.turns_at = lambda iteration: turns
    with pytest.raises(UserError, match=words):
        run(stepper_of(model, cfg_of(tmp_path), batches(1)), 1)


def test_a_loss_that_is_not_finite_stops_before_its_optimizers_step(tmp_path):
    model = Twins()
    with torch.no_grad():
        model.classifier.weight.fill_(float("nan"))
    before = copy.deepcopy(model.layer.state_dict())
    model.warm_up = 0
    with pytest.raises(NonFiniteError, match="loss_id"):
        run(stepper_of(model, cfg_of(tmp_path), batches(1)), 1)
    assert same_state(model.layer.state_dict(), before)


def test_one_optimizer_makes_the_ordinary_step(tmp_path):
    model = nn.Linear(3, 1)
    optimizer = build_optimizer(cfg_of(tmp_path), model)
    assert type(build_stepper(model, Loader([]), optimizer)) is StepTrainer
    several = build_optimizer(cfg_of(tmp_path), Twins())
    assert isinstance(several, Optimizers)
    assert type(build_stepper(Twins(), Loader([]), several)) is TurnTrainer
