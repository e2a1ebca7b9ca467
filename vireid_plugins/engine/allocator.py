"""Keep freed memory in the process, so that a training step does not request it again.

glibc returns every large block to the system as soon as it is freed. A step on a CPU frees and
requests the same gigabytes again and again, and the system clears each page before it hands it
out: this takes up to half of the time of a step. Keeping the memory changes no numbers. The price
is that the process keeps the memory of its largest step until it ends. So do the processes that it
forks to load images; each of them keeps at most what it needed itself.

The setting holds for the whole process, so only a run changes it (the trainer, the command line);
a model or a ``FeatureExtractor`` inside another program never does.
"""

import ctypes
import logging
import platform
from typing import Any, Set

from ..keys import SWITCH, Key, declare

logger = logging.getLogger(__name__)

declare(
    "RUNTIME",
    Key("KEEP_MEMORY", True, SWITCH, "on a CPU, keep freed memory: same numbers, faster (glibc)"),
)

# From glibc's malloc.h: two parameters of mallopt, and a value that stands for "never".
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _NEVER = -1, -4, -1

_said: Set[str] = set()  # lines that were logged in this run


def keep_freed_memory(cfg: Any) -> bool:
    """Keep freed memory in this process, where ``RUNTIME.KEEP_MEMORY`` and the system allow it.

    It may be called many times; each outcome is logged only once per run.

    Returns:
        Whether memory is kept. The setting holds until the process ends.
    """
    reason = _obstacle(cfg)
    if not reason and not _set_up():
        reason = "glibc refused it"
    if reason:
        _say(f"Freed memory goes back to the system: {reason}.")
    else:
        _say("Freed memory is kept for the next step (RUNTIME.KEEP_MEMORY); numbers are the same.")
    return not reason


def _obstacle(cfg: Any) -> str:
    """Return in words why memory cannot be kept; empty if it can."""
    if not cfg.RUNTIME.KEEP_MEMORY:
        return "RUNTIME.KEEP_MEMORY is False"
    if str(cfg.MODEL.DEVICE).startswith("cuda"):
        return "the model is on a GPU, whose memory PyTorch keeps by itself"
    if platform.system() != "Linux":
        return f"{platform.system()} has no setting for it"
    if platform.libc_ver()[0] != "glibc":
        return "the C library is not glibc"
    return ""


def _set_up() -> bool:
    """Take every block from the heap and never shrink the heap; return whether that worked."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another allocator, or none that can be set
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))


def forget_what_was_said() -> None:
    """Let the next call log its outcome again: another run has a log of its own."""
    _said.clear()


def _say(line: str) -> None:
    if line not in _said:
        _said.add(line)
        logger.info(line)
