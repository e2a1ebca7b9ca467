"""PMT through the trainer. Oracles: the uninterrupted run, bit by bit; the images that the network
gets in each epoch; the terms in the log."""

import json
import shutil

import pytest
import torch

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.modality import Modality
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import small_cfg

pytest.importorskip("timm")

OPTIONS = dict(
    MODEL__BACKBONE__TIMM_OPTIONS="['depth=1','embed_dim=16','num_heads=2','patch_size=8']",
    INPUT__GREY__EPOCHS="[1,3]",
    INPUT__JITTER_OR_BLUR__KERNEL=5,
    INPUT__CHANNEL_ERASING__ENABLED=False,  # its colors would be those of a gray image, too
    SOLVER__SCHED="CosineLRScheduler",
    SOLVER__LOG_PERIOD=1,
)
EPOCHS, GRAY = 4, (1, 2)


def run(folder, resume=False, seen=None):
    trainer = VIReIDTrainer(
        small_cfg(folder, "configs/pmt/synthetic.yml", SOLVER__MAX_EPOCH=EPOCHS, **OPTIONS)
    )
    trainer.resume_or_load(resume=resume)
    if seen is not None:
        trainer.model.register_forward_pre_hook(
            lambda model, inputs: seen.append((trainer.epoch, model.phase, inputs[0]))
        )
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def whole(tiny_root, tmp_path_factory):
    """The folder of the uninterrupted run, and what the model got: (epoch, phase, batch)."""
    folder, seen = tmp_path_factory.mktemp("whole"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        run(folder, seen=seen)
    return folder, seen


def test_visible_images_are_gray_exactly_in_the_first_stage(whole):
    batches = [entry for entry in whole[1] if entry[1] in ("gray", "color")]
    assert {epoch for epoch, *_ in batches} == set(range(EPOCHS))
    for epoch, phase, batch in batches:
        images = batch["images"][batch["modalities"] == Modality.VISIBLE]
        assert phase == ("gray" if epoch in GRAY else "color")
        assert bool((images == images[:, :1]).all()) == (epoch in GRAY)


def test_the_log_holds_the_terms_of_each_stage(whole):
    lines = [json.loads(line) for line in (whole[0] / "metrics.json").read_text().splitlines()]
    per_epoch = max(line["iteration"] + 1 for line in lines) // EPOCHS
    for line in (line for line in lines if "loss_id" in line):
        gray = line["iteration"] // per_epoch in GRAY
        assert ("loss_intra_triplet" in line) == gray
        for name in ("loss_batch_hard", "loss_dcl", "loss_msel"):
            assert (name in line) != gray, name


@pytest.mark.slow
@pytest.mark.parametrize("epoch", range(EPOCHS - 1))
def test_a_run_that_stops_in_a_stage_goes_on_in_it_bitwise(datasets, whole, tmp_path, epoch):
    """After epoch 0 (the first stage follows), 1 (inside it) and 2 (the second one follows)."""
    name = f"model_{epoch:04d}.pth"
    shutil.copy(whole[0] / name, tmp_path)
    (tmp_path / "last_checkpoint").write_text(name)
    trainer = run(tmp_path, resume=True)
    assert trainer.start_epoch == epoch + 1
    a, b = (read_checkpoint(folder / "model_final.pth") for folder in (whole[0], tmp_path))
    assert a["model"].keys() == b["model"].keys()
    assert all(torch.equal(value, b["model"][name]) for name, value in a["model"].items())
    for key, state in a["optimizer"]["state"].items():
        assert torch.equal(state["exp_avg"], b["optimizer"]["state"][key]["exp_avg"])
