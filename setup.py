"""Packaging: metadata, what pip may install, and configs/ inside the wheel."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
README = ROOT / "README.md"


def read_version() -> str:
    """Return ``__version__`` of vireid_plugins/version.py without importing the package."""
    source = (ROOT / "vireid_plugins" / "version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"', source, re.MULTILINE).group(1)


setup(
    name="vireid_plugins",
    version=read_version(),
    description="Visible-infrared person re-identification as a plugin for FastReID",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.9",
    packages=find_packages(include=["vireid", "vireid.*", "vireid_plugins", "vireid_plugins.*"])
    + ["vireid_plugins.configs"],
    # configs/ stands at the root, where FastReID's users look for it; in a wheel it travels inside
    # the package. An editable install reads the root folder itself.
    package_dir={"vireid_plugins.configs": "configs"},
    package_data={
        "vireid": ["py.typed"],
        "vireid_plugins": ["py.typed"],
        "vireid_plugins.configs": ["**/*.yml", "**/*.md"],
        "vireid_plugins.reporting": ["*.html", "*.css", "*.js"],
    },
    include_package_data=False,
    entry_points={"console_scripts": ["vireid = vireid.cli:main"]},
    # torch, torchvision, fastreid, opencv and faiss are missing on purpose: each comes in several
    # builds (CPU, CUDA, headless, ...) and pip would replace the one that the user has chosen.
    # No version stands below, so pip leaves alone whatever is installed.
    install_requires=[
        "filelock",
        "matplotlib",
        "numpy",
        "pillow",
        "platformdirs",
        "scikit-learn",
        "scipy",
        "tabulate",
        "tensorboard",
        "termcolor",
        "tqdm",
        "yacs",
    ],
    extras_require={
        # one of the two, never both: they install the same module
        "cpu": ["faiss-cpu"],
        "gpu": ["faiss-gpu; platform_system == 'Linux'"],
        "fast": ["numba"],  # compiles the loops that rank on a CPU
        "onnx": ["onnx", "onnxruntime"],
        "timm": ["timm"],  # more networks for two streams; it takes the PyTorch that is there
        "vit": ["timm", "safetensors"],  # the same, for vision transformers and their files
        "pose": ["ai-edge-litert"],  # runs BlazePose, which `vireid pose` fetches
        "umap": ["umap-learn"],  # another map of features beside t-SNE
        "dev": ["hypothesis", "mypy", "pytest", "pytest-xdist", "ruff"],
    },
    classifiers=[
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
