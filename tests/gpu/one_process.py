"""What ``test_processes.py`` runs under torchrun: a step of DDP in a group of one process."""

import sys

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import vireid_plugins  # noqa: F401  first: it repairs FastReID
from vireid_plugins.engine.launch import launch

from tests.engine.two_processes import build, whole_batch


def stepped(device, wrapped):
    """Return the weights after an SGD step of AGW."""
    model, views = build("agw")
    model = model.to(device)
    run = DistributedDataParallel(model, broadcast_buffers=False) if wrapped else model
    batch = {name: value.to(device) for name, value in whole_batch(views).items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    sum(run(batch).values()).backward()
    optimizer.step()
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def main(device):
    """Write the backend, a sum over processes, and how far DDP's step is from a plain one."""
    summed = torch.full((3,), 2.0, device=device)
    distributed.all_reduce(summed)
    plain, ours = stepped(device, False), stepped(device, True)
    difference = ((ours - plain).norm() / plain.norm()).item()
    sys.stdout.write(f"{distributed.get_backend()} {summed.sum().item()} {difference:.3e}\n")


if __name__ == "__main__":
    launch(main, 1, args=(sys.argv[1],), device=sys.argv[1].split(":")[0])
