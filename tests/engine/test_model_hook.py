"""What the engine tells the model: each update of its weights."""

from types import SimpleNamespace

import pytest
import torch

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.hooks import ModelHook
from vireid_plugins.modeling.meta_arch import DualStreamBaseline

from tests.engine.small import small_cfg


def test_the_model_hears_of_each_update_with_the_new_weights(datasets, tmp_path, monkeypatch):
    seen = []

    def keep(model):
        seen.append(model.heads.weight.detach().clone())

    monkeypatch.setattr(DualStreamBaseline, "after_step", keep)
    trainer = VIReIDTrainer(small_cfg(tmp_path, SOLVER__MAX_EPOCH=2))
    before = trainer.model.heads.weight.detach().clone()
    trainer.train()
    assert len(seen) == trainer.max_iter > 1
    assert not any(torch.equal(a, b) for a, b in zip([before, *seen], seen))
    assert torch.equal(seen[-1], trainer.model.heads.weight)


def phases(*names):
    """A model whose epochs have these phases; the last one lasts."""
    model = torch.nn.Identity()
    model.phase_of = lambda epoch: names[min(epoch, len(names) - 1)]
    return model


@pytest.mark.parametrize(
    ("epochs", "said"),
    [
        (
            1,
            ["The phase 'color' of Identity begins with epoch 2 (from 0), and SOLVER.MAX"],
        ),
        (2, ["The phase 'color'"]),
        (3, []),
    ],
)
def test_a_phase_that_comes_too_late_is_one_warning(caplog, epochs, said):
    hook = ModelHook()
    hook.trainer = SimpleNamespace(model=phases("gray", "gray", "color"), max_epoch=epochs)
    hook.before_train()
    assert len(caplog.messages) == len(said)
    assert all(words in line for words, line in zip(said, caplog.messages))


def test_a_phase_that_a_schedule_leaves_out_is_no_warning(caplog):
    hook = ModelHook()
    hook.trainer = SimpleNamespace(model=phases("own", "crossed"), max_epoch=2)
    hook.before_train()
    assert not caplog.messages
