"""What the engine tells the model: each update of its weights."""

import torch

from vireid_plugins.engine import VIReIDTrainer
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
