"""Start one process per device, by ``--num-gpus N`` or ``torchrun``, over NCCL or gloo."""

import datetime
import os
import re
import signal
import socket
import time
from typing import Any, Callable, Sequence, Tuple

import torch
import torch.distributed as dist
from torch import multiprocessing

from fastreid.utils import comm

from ..errors import UserError

# How long processes wait for each other. Process 0 computes the metrics of an evaluation alone, and
# this may take longer than the ten minutes that PyTorch allows on GPUs.
TIMEOUT = datetime.timedelta(hours=2)
PATIENCE = 30.0  # seconds that processes have to end after a signal


def launch(
    main: Callable,
    num_processes: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    args: Tuple[Any, ...] = (),
    device: str = "cuda",
) -> Any:
    """Call ``main(*args)`` in ``num_processes`` processes on each of ``num_machines`` machines.

    Under ``torchrun`` this process is already one of them, and the numbers are read from its
    environment variables. If one process is enough, it is this one: ``main`` is called directly.

    Args:
        main: called in every process.
        num_processes: processes per machine; on GPUs one per GPU.
        num_machines: machines that take part.
        machine_rank: the number of this machine, from 0.
        dist_url: where rank 0 listens, such as ``tcp://host:port``; ``"auto"``: a free port of
            this machine.
        args: arguments of ``main``.
        device: the kind of device; processes on the ``"cpu"`` use gloo, others NCCL.

    Returns:
        What ``main`` returns, if it runs in this process; otherwise None.

    Raises:
        UserError: less than one process is asked for, there are fewer GPUs than processes, or
            several machines are asked for without an address.
        KeyboardInterrupt: a signal has stopped this process; all others have ended.
    """
    _check_numbers(num_processes, num_machines, machine_rank)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _run_under_torchrun(main, args, device)
    world_size = num_processes * num_machines
    if world_size == 1:
        return main(*args)
    _check_devices(num_processes, device)
    if dist_url == "auto":
        if num_machines > 1:
            raise UserError("Several machines need --dist-url tcp://ADDRESS:PORT of rank 0.")
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    _check_url(dist_url)
    _spawn(num_processes, (main, world_size, num_processes, machine_rank, dist_url, args, device))
    return None


def _check_numbers(num_processes: int, num_machines: int, machine_rank: int) -> None:
    if num_processes < 1 or num_machines < 1:
        raise UserError(
            f"{num_processes} processes on {num_machines} machines were asked for; expected 1 or "
            "more of each. To train without a GPU: --num-gpus 1 MODEL.DEVICE cpu."
        )
    if not 0 <= machine_rank < num_machines:
        raise UserError(
            f"--machine-rank is {machine_rank}; with --num-machines {num_machines} it is 0 to "
            f"{num_machines - 1}, another on each machine."
        )


def _spawn(num_processes: int, arguments: Tuple[Any, ...]) -> None:
    """Call ``distributed_worker`` in new processes; a signal to this one stops all of them."""
    started = multiprocessing.spawn(
        distributed_worker, nprocs=num_processes, args=arguments, join=False
    )
    try:
        while not started.join():
            pass
    except KeyboardInterrupt as stop:
        _stop_all(started.processes, getattr(stop, "number", signal.SIGINT))
        raise


def _check_url(url: str) -> None:
    """Raise ``UserError`` if ``url`` is not ``tcp://ADDRESS:PORT``, of an address that is known."""
    match = re.fullmatch(r"tcp://(\[[^]]+\]|[^:/\[\]]+):(\d{1,5})", url)
    if match is None or not 0 < int(match[2]) < 2**16:
        raise UserError(
            f"--dist-url is {url!r}; expected tcp://ADDRESS:PORT of rank 0, such as "
            "tcp://192.168.0.1:29500."
        )
    try:
        socket.getaddrinfo(match[1].strip("[]"), int(match[2]))
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"--dist-url is {url!r}, and this machine does not know the address {match[1]} "
            f"({error}). Write the address of the machine of rank 0, such as an IP number."
        ) from error


def _stop_all(processes: Sequence[Any], number: int) -> None:
    """Stop all processes with a signal, and wait until they have saved their state and ended.

    They may already have got signal ``number`` from the terminal. The same signal again would end
    them at once, so they get another one.
    """
    other = signal.SIGINT if number != signal.SIGINT else signal.SIGTERM
    deadline = time.monotonic() + PATIENCE
    try:
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, other)
        for process in processes:
            process.join(max(0.1, deadline - time.monotonic()))
    finally:  # also after a second Ctrl-C
        for process in processes:
            if process.is_alive():
                process.kill()


def distributed_worker(
    local_rank: int,
    main: Callable,
    world_size: int,
    num_processes: int,
    machine_rank: int,
    dist_url: str,
    args: Tuple[Any, ...],
    device: str = "cpu",
) -> None:
    """Run one process of ``launch``. The arguments before ``device`` are those of FastReID."""
    # Processes share the cores; more threads than cores only slow each other down.
    if device == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_processes))
    rank = machine_rank * num_processes + local_rank
    _join(dist_url, world_size, rank, num_processes, device)
    try:
        main(*args)
        comm.synchronize()
    finally:
        _leave()


def _run_under_torchrun(main: Callable, args: Tuple[Any, ...], device: str) -> Any:
    """Join the processes of ``torchrun``, of which this is one, and call ``main``."""
    names = ("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE")
    wrong = [name for name in names if not os.environ.get(name, "").isdecimal()]
    if wrong:
        raise UserError(
            f"The environment variable TORCHELASTIC_RUN_ID says that torchrun started this process "
            f"and {', '.join(wrong)} should then be a number. Start it by torchrun, or unset "
            "TORCHELASTIC_RUN_ID."
        )
    world_size, rank, local_size = (int(os.environ[name]) for name in names)
    _check_devices(local_size, device)
    _join("env://", world_size, rank, local_size, device)
    try:
        result = main(*args)
        comm.synchronize()
        return result
    finally:
        _leave()


def _join(url: str, world_size: int, rank: int, local_size: int, device: str) -> None:
    backend = "gloo" if device == "cpu" else "nccl"
    dist.init_process_group(
        backend, init_method=url, world_size=world_size, rank=rank, timeout=TIMEOUT
    )
    if device != "cpu":
        torch.cuda.set_device(rank % local_size)
    for machine in range(world_size // local_size):
        first = machine * local_size
        # A new group would wait as long as PyTorch's default, not as long as the others.
        group = dist.new_group(list(range(first, first + local_size)), timeout=TIMEOUT)
        if first <= rank < first + local_size:
            comm._LOCAL_PROCESS_GROUP = group
    comm.synchronize()


def _leave() -> None:
    """Leave the process groups, and keep no reference to them.

    The threads of a group end with the last reference to it. A thread that still frees tensors when
    the interpreter ends would abort the process. The barrier after ``main`` lets each thread finish
    before that.
    """
    comm._LOCAL_PROCESS_GROUP = None
    dist.destroy_process_group()


def _check_devices(num_processes: int, device: str) -> None:
    available = torch.cuda.device_count()
    if device != "cpu" and num_processes > available:
        raise UserError(
            f"{num_processes} processes were asked for and this machine has {available} GPUs. "
            f"Use --num-gpus {max(available, 1)}, or MODEL.DEVICE cpu to train on the CPU."
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
