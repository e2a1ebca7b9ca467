"""Loading checkpoints from a mapped file. Oracle: what was saved."""

import pytest
import torch

from vireid_plugins.readers.checkpoint import read_checkpoint


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_mapped_checkpoint_holds_what_was_saved(tmp_path, zipped):
    """PyTorch maps only its zip format; a file in the older format is read as a whole."""
    path = str(tmp_path / "weights.pth")
    saved = {"model": {"weight": torch.arange(6.0).view(2, 3)}, "epoch": 3}
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    loaded = read_checkpoint(path, entries=())
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["model"]["weight"], saved["model"]["weight"])


def test_writing_to_a_mapped_tensor_leaves_the_file_as_it_was(tmp_path):
    path = str(tmp_path / "weights.pth")
    torch.save({"weight": torch.zeros(3)}, path)
    read_checkpoint(path, entries=())["weight"].fill_(1.0)
    assert torch.equal(read_checkpoint(path)["weight"], torch.zeros(3))
