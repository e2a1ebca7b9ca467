"""Gradient accumulation. Oracle: one step on the joined batch, where the loss is a mean."""

import pytest
import torch

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.errors import UserError
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import small_cfg
from tests.engine.test_trainer import same_state
from tests.engine.two_processes import accumulated, images


def assert_equal(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-14)


def test_two_halves_step_as_the_whole():
    halves, wholes = images(16).chunk(4), images(16).chunk(2)
    assert_equal(accumulated(halves, 2), accumulated(wholes, 1))
    assert not torch.allclose(  # else the comparison says nothing
        accumulated(halves, 1)["layers.0.weight"], accumulated(wholes, 1)["layers.0.weight"]
    )


def test_the_last_update_of_an_epoch_takes_what_is_left():
    """Five batches of 3 by threes: nine images, then six."""
    rows = images(15)
    assert_equal(accumulated(rows.chunk(5), 3), accumulated([rows[:9], rows[9:]], 1))


def trained(folder, epochs, resume=False, **options):
    """MAUM, whose memories take up a snapshot after each update; 4 batches in an epoch."""
    cfg = small_cfg(
        folder,
        "configs/maum/synthetic.yml",
        SOLVER__MAX_EPOCH=epochs,
        MODEL__MAUM__START_EPOCH=1,
        **{"SOLVER__ACCUMULATION": 3, **options},
    )
    trainer = VIReIDTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer, read_checkpoint(f"{folder}/model_final.pth")


@pytest.mark.slow
def test_two_and_two_epochs_equal_four(datasets, tmp_path):
    """Bitwise; an epoch of 4 batches has an update of 3 and one of 1."""
    trainer, whole = trained(tmp_path / "whole", 4)
    assert len(trainer.data_loader) == 4 and trainer.iters_per_epoch == 2 and trainer.iter == 8
    trained(tmp_path / "parts", 2)
    parts = trained(tmp_path / "parts", 4, resume=True)[1]
    for part in ("model", "optimizer", "lr_sched"):
        assert same_state(whole[part], parts[part])
    assert int(whole["model"]["visible_memory.num_pushed"]) == 3 * 2  # after updates, not batches
    seen = trainer.storage.history("images_seen").values()
    assert [int(images) for images, _ in seen[:2]] == [3 * 16, 16]


def test_rates_follow_the_epochs_whatever_the_updates(datasets, tmp_path):
    schedules = [
        VIReIDTrainer(small_cfg(tmp_path, SOLVER__ACCUMULATION=n, SOLVER__MAX_EPOCH=4))
        for n in (1, 2, 4)
    ]
    rates = [
        [t.scheduler["lr_sched"].rates(epoch * t.iters_per_epoch) for epoch in range(4)]
        for t in schedules
    ]
    assert rates[0] == rates[1] == rates[2] and rates[0][0] != rates[0][3]
    assert [t.iters_per_epoch for t in schedules] == [4, 2, 1]


@pytest.mark.parametrize("value, expected", [(0, "1 or more"), (-1, "1 or more"), (5, "1 .* to 4")])
def test_numbers_that_make_no_sense_are_refused(datasets, tmp_path, value, expected):
    with pytest.raises(UserError, match=f"SOLVER.ACCUMULATION is {value}; expected {expected}"):
        VIReIDTrainer(small_cfg(tmp_path, SOLVER__ACCUMULATION=value))


def test_a_bad_loss_in_any_of_the_batches_stops_before_the_update():
    bad = [*images(4).chunk(2)]
    bad[1] = bad[1] * float("nan")
    with pytest.raises(FloatingPointError, match="loss_a became infinite or NaN"):
        accumulated(bad, 2)
