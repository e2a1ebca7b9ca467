"""Say on which machine something was measured, as far as it decides times."""

import os
import platform
from typing import Any, Dict, List

import torch

# instructions that multiply bfloat16 numbers, as Linux names them; the others are Arm's
_BFLOAT16 = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "svebf16")
_FIELDS = {"model name": "processor", "cpu family": "family", "model": "model"}


def machine() -> Dict[str, Any]:
    """Return the processor, its instructions, and the numbers of cores and of a GPU's name.

    Two results can be compared in seconds if this is equal for both.
    """
    lines = _cpuinfo()
    named = {name: lines[field] for field, name in _FIELDS.items() if field in lines}
    flags = set(lines.get("flags", lines.get("Features", "")).split())
    found: Dict[str, Any] = {
        "processor": named.get("processor") or platform.processor() or platform.machine(),
        "family and model": " ".join(named[name] for name in ("family", "model") if name in named),
        "cores": os.cpu_count(),
        "instructions": _instructions(),
        "bfloat16 instructions": [name for name in _BFLOAT16 if name in flags],
    }
    if torch.cuda.is_available():
        found["GPU"] = torch.cuda.get_device_name(0)
    return found


def _instructions() -> str:
    """Return the widest instructions that PyTorch uses, such as AVX2."""
    ask = getattr(getattr(torch.backends, "cpu", None), "get_cpu_capability", None)
    return str(ask()) if ask else "unknown"  # PyTorch 1.13 has no such function


def _cpuinfo() -> Dict[str, str]:
    """Return what Linux says about the first core; nothing on other systems."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as handle:
            lines: List[List[str]] = [line.split(":", 1) for line in handle if ":" in line]
    except OSError:
        return {}
    found: Dict[str, str] = {}
    for name, value in lines:
        found.setdefault(name.strip(), value.strip())
    return found
