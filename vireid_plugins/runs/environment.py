"""Find the versions and the hardware that a run depends on."""

import importlib
import os
import platform
import subprocess
from importlib import metadata
from typing import Any, Dict

import torch

from ..version import __version__


def environment() -> Dict[str, str]:
    """Return the versions and the hardware that can change a result, by name."""
    found = {
        "vireid_plugins": __version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
    }
    for module, name in (
        ("fastreid", "FastReID"),
        ("torchvision", "torchvision"),
        ("numpy", "NumPy"),
        ("faiss", "faiss"),
    ):
        found[name] = _version_of(module)
    if torch.cuda.is_available():
        found["GPU"] = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return found


def _version_of(module: str) -> str:
    """Return the version in the package's metadata; FastReID 1.4.0 itself says 1.3."""
    try:
        imported = importlib.import_module(module)
    except ImportError:
        return "absent"
    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:  # a checkout; or a package of another name
        return str(getattr(imported, "__version__", "?"))


def gpu_facts(device: str) -> Dict[str, Any]:
    """Return what PyTorch and the driver say about a device.

    Args:
        device: such as ``"cuda"``, or ``"cpu"``, about which only its processor is said.

    Raises:
        RuntimeError, AssertionError: PyTorch cannot compute on the device.
    """
    where = torch.device(device)
    torch.ones(8, 8, device=where).mm(torch.ones(8, 8, device=where)).sum().item()
    facts: Dict[str, Any] = {"device": str(where), "processor": _processor()}
    for module in ("timm", "onnxruntime", "triton", "cv2", "sklearn"):
        facts[module] = _version_of(module)
    try:
        facts["faiss on GPUs"] = hasattr(importlib.import_module("faiss"), "StandardGpuResources")
    except ImportError:
        facts["faiss on GPUs"] = False
    if where.type != "cuda":
        return facts
    properties = torch.cuda.get_device_properties(where)
    facts.update(
        {
            "GPU": properties.name,
            "compute capability": f"{properties.major}.{properties.minor}",
            "memory in MiB": properties.total_memory // 2**20,
            "multiprocessors": properties.multi_processor_count,
            "GPUs": torch.cuda.device_count(),
            "driver": _driver(),
            "CUDA of PyTorch": str(torch.version.cuda),
            "cuDNN": str(torch.backends.cudnn.version()),
            "NCCL": ".".join(map(str, torch.cuda.nccl.version())),
            "bfloat16": torch.cuda.is_bf16_supported(),
            "TF32 in convolutions": torch.backends.cudnn.allow_tf32,
        }
    )
    return facts


def _driver() -> str:
    """Return the driver's version as ``nvidia-smi`` tells it."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return (done.stdout.splitlines() or ["unknown"])[0].strip()


def _processor() -> str:
    """Return the CPU's name; Linux knows it best."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as handle:
            named = [line.split(":", 1)[1].strip() for line in handle if "model name" in line]
    except OSError:
        named = []
    return named[0] if named else platform.processor()
