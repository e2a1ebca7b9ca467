"""A training on clusters in two processes, for ``test_clusters``: each saves what it holds."""

import sys
from pathlib import Path

import torch

import vireid_plugins  # noqa: F401  first: it repairs FastReID
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.launch import launch

from fastreid.utils import comm

from tests.engine.planted import planted_cfg


def main(folder, images):
    trainer = VIReIDTrainer(planted_cfg(Path(folder) / "run", images))
    trainer.resume_or_load(resume=False)
    trainer.train()
    found = trainer.data_loader.state_dict()
    found["weights"] = dict(trainer.unwrapped_model.named_parameters())
    torch.save(found, Path(folder) / f"rank{comm.get_rank()}.pt")


if __name__ == "__main__":
    launch(main, 2, args=tuple(sys.argv[1:]), device="cpu")
