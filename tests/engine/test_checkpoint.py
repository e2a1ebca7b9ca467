"""What a checkpoint must hold to be loaded. Oracle: files written here, tensor by tensor."""

import pytest
import torch
from torch import nn

from vireid_plugins.engine.checkpoint import AtomicCheckpointer
from vireid_plugins.errors import CheckpointError


def test_a_checkpoint_with_more_tensors_gives_features_but_cannot_be_resumed(tmp_path):
    path = str(tmp_path / "more.pth")
    tensors = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    torch.save({"model": {**tensors, "classifier": torch.ones(3)}}, path)
    model = nn.Linear(2, 2)
    AtomicCheckpointer(model).load(path, checkpointables=[], need="features")
    assert torch.equal(model.weight.detach(), tensors["weight"])
    with pytest.raises(CheckpointError, match="classifier"):
        AtomicCheckpointer(nn.Linear(2, 2)).load(path, checkpointables=[], need="all")
