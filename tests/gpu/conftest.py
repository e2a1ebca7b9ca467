"""Give every test here a device: a GPU, or the CPU where a rehearsal asks for it.

python -m pytest tests/gpu                              on the first GPU, or skipped
VIREID_TEST_DEVICE=cpu python -m pytest tests/gpu       a rehearsal on the CPU
"""

import os

import pytest
import torch

VARIABLE = "VIREID_TEST_DEVICE"


@pytest.fixture(scope="session")
def device():
    """Return the name of the device to compare with the CPU."""
    name = os.environ.get(VARIABLE, "cuda")
    if torch.device(name).type == "cuda" and not torch.cuda.is_available():
        pytest.skip(f"PyTorch {torch.__version__} sees no GPU")
    return name


@pytest.fixture(autouse=True)
def full_float32(device):
    """Switch off TF32, whose 10-bit fractions would hide an error; and so that no test runs
    where there is no device."""
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [kind.allow_tf32 for kind in kinds]
    for kind in kinds:
        kind.allow_tf32 = False
    yield
    for kind, value in zip(kinds, before):
        kind.allow_tf32 = value
