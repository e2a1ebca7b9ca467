"""Find the versions and the hardware that a run depends on."""

import importlib
import os
import platform
from importlib import metadata
from typing import Dict

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
