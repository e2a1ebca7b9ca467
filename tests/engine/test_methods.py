"""Every method trains through the whole engine and resumes exactly; found by its config."""

import pytest
import torch

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import ROOT, small_cfg
from tests.every_key.narrow import NAME

CONFIGS = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("configs/*/synthetic.yml"))
# A map of 2 x 1, which two stripes cut.
SMALL = {
    "MODEL__BACKBONE__LAST_STRIDE": 1,
    "MODEL__HEADS__NUM_STRIPES": 2,
    "MODEL__HEADS__ATTENTION__STRIPES": 2,
    "MODEL__HEADS__ATTENTION__KEPT": 1,
    "MODEL__MSCLNET__PARTS": 2,
}
# Of one method alone: batches that eight identities can fill, and few of them; narrow networks, as
# otherwise each checkpoint has the moments of 25 million weights (``test_hicmd_training.py``).
OWN = {
    "configs/hicmd/synthetic.yml": {
        "DATALOADER__NEGATIVES": 2,
        "DATALOADER__EPOCH_BATCHES": 3,
        "MODEL__BACKBONE__NAME": NAME,
        "MODEL__HEADS__EMBEDDING_DIM": 8,
        "MODEL__HEADS__TRIPLET_DIM": 8,
        "MODEL__HICMD__MLP_WIDTH": 4,
        "MODEL__HICMD__DISCRIMINATOR_WIDTH": 2,
    }
}


def small_words_of(config):
    """What a config gets for images of 32 x 16."""
    return {**SMALL, **OWN.get(config, {})}


def trained(config, folder, epochs, resume=False):
    cfg = small_cfg(folder, config, SOLVER__MAX_EPOCH=epochs, **small_words_of(config))
    trainer = VIReIDTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return read_checkpoint(f"{folder}/model_final.pth")["model"]


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_two_runs_of_two_epochs_equal_one_of_four(config, datasets, tmp_path):
    """Bitwise, weights and buffers; STEPS and MAX_EPOCH do not tell an epoch's rate apart."""
    whole = trained(config, tmp_path / "whole", 4)
    trained(config, tmp_path / "parts", 2)
    parts = trained(config, tmp_path / "parts", 4, resume=True)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
