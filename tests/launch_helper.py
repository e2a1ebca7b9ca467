"""A script that FastReID's own ``launch`` runs in two processes; see ``test_compat.py``."""

import atexit
import sys
import weakref
from pathlib import Path

import vireid_plugins  # noqa: F401  first: it repairs FastReID

import torch  # isort: skip
from fastreid.engine import defaults, launch  # isort: skip
from fastreid.utils import comm  # isort: skip
from torch import nn  # isort: skip


def host_step(folder):
    """Take one DDP step of FastReID's wrapper on other data in each process; save the weights."""
    torch.manual_seed(0)
    model = defaults.DistributedDataParallel(
        nn.Linear(3, 1), device_ids=[comm.get_local_rank()], broadcast_buffers=False
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.full((2, 3), float(comm.get_rank() + 1))).sum().backward()
    optimizer.step()
    group = weakref.ref(comm._LOCAL_PROCESS_GROUP)
    atexit.register(report_group, group, Path(folder) / f"{comm.get_rank()}.txt")
    torch.save(model.module.weight.detach(), Path(folder) / f"{comm.get_rank()}.pt")


def report_group(group, file):
    """Say at the end of the process whether the group of processes is gone; its threads go too."""
    file.write_text("gone" if group() is None else "alive")


if __name__ == "__main__":
    launch(host_step, 2, dist_url="auto", args=(sys.argv[1],))
