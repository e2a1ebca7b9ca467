"""Imports go one way. Oracle: the table of areas below, read against the package's syntax trees."""

import ast
from pathlib import Path

import pytest

PACKAGE = "vireid_plugins"
PACKAGE_DIR = Path(__file__).resolve().parent.parent / PACKAGE

# area -> the areas below it that it may import, besides itself; "base" is below every other area
MAY_IMPORT = {
    "base": set(),
    "clustering": set(),
    "synthvi": set(),
    "data": set(),
    "evaluation": {"data"},
    "solver": set(),
    "runs": {"evaluation"},
    "modeling.pieces": {"pretrained"},
    "pretrained": set(),
    "pose": {"pretrained"},
    "modeling.meta_arch": {"evaluation", "modeling.pieces"},  # how a method re-orders at test
    "modeling": {"modeling.pieces", "modeling.meta_arch"},  # its __init__, which registers them
    "drawing": {"data", "evaluation"},
    "engine": {
        "clustering",
        "data",
        "drawing",
        "evaluation",
        "runs",
        "solver",
        "modeling",
        "modeling.pieces",
        "modeling.meta_arch",
        "pretrained",
    },
    "__main__": set(),
    "comparison": {
        "data",
        "drawing",
        "engine",
        "evaluation",
        "modeling",
        "modeling.pieces",
        "runs",
    },
    "making": {"engine", "modeling.pieces", "pretrained", "runs", "synthvi"},
    "onnx_export": {"data", "engine"},
    "plots": {
        "data",
        "drawing",
        "engine",
        "evaluation",
        "modeling",
        "modeling.pieces",
        "runs",
    },
    "reporting": {
        "comparison",
        "data",
        "drawing",
        "engine",
        "evaluation",
        "plots",
        "runs",
    },
    "search": {"data", "drawing", "engine", "evaluation", "runs"},
    "video": {"drawing", "engine", "pretrained", "search"},
    "benchmarks": {
        "clustering",
        "comparison",
        "data",
        "drawing",
        "engine",
        "evaluation",
        "modeling",
        "modeling.meta_arch",
        "modeling.pieces",
        "runs",
        "search",
        "solver",
        "synthvi",
    },
}
# module (and all inside it) -> area; the longest name that fits holds
AREAS = {
    "__main__": "__main__",
    "cells": "base",
    "compat": "base",
    "late_imports": "base",
    "config": "base",
    "errors": "base",
    "files": "base",
    "locks": "base",
    "host_keys": "base",
    "host_model_keys": "base",
    "joints": "base",
    "keypoints": "base",
    "keys": "base",
    "merge": "base",
    "modality": "base",
    "readers": "base",
    "published": "base",
    "registry": "base",
    "removed_keys": "base",
    "turns": "base",
    "version": "base",
    "benchmarks": "benchmarks",
    "clustering": "clustering",
    "comparison": "comparison",
    "data": "data",
    "drawing": "drawing",
    "engine": "engine",
    "evaluation": "evaluation",
    "making": "making",
    "modeling.backbones": "modeling.pieces",
    "modeling.checkpointing": "modeling.pieces",
    "modeling.clusters": "modeling.pieces",
    "modeling.ema": "modeling.pieces",
    "modeling.gather": "modeling.pieces",
    "modeling.generation": "modeling.pieces",
    "modeling.heads": "modeling.pieces",
    "modeling.layers": "modeling.pieces",
    "modeling.losses": "modeling.pieces",
    "modeling.maps": "modeling.pieces",
    "modeling.memory": "modeling.pieces",
    "modeling.precision": "modeling.pieces",
    "modeling.sizes": "modeling.pieces",
    "modeling.meta_arch": "modeling.meta_arch",
    "onnx_export": "onnx_export",
    "plots": "plots",
    "pose": "pose",
    "pretrained": "pretrained",
    "reporting": "reporting",
    "runs": "runs",
    "search": "search",
    "solver": "solver",
    "synthvi": "synthvi",
    "train": "__main__",
    "video": "video",
}
# in meta_arch, what every paper may share; any other file there is one paper's
SHARED_META_ARCH = {"__init__", "base", "build", "mean_teachers", "on_encoder", "structure_network"}
# compat hands replacements of ours to the host, inside the repairs that need them: there it may
# import from anywhere, and at the top of its file only what "base" may
LATE_IMPORTS_ALLOWED = {"compat"}
# `python -m` of these hands its words to the command line, which is above everything else
MAY_CALL_THE_COMMAND_LINE = {"__main__", "train"}
# words of a command line are read in the package `vireid` alone
NOWHERE = {"argparse", "tests", "tools"}
# the renderer starts many processes, which must not pay for these
TOO_HEAVY = {"synthvi": {"torch", "torchvision", "fastreid"}}


def dotted_name(path, package_dir):
    """Return a file's module name inside the package ("" for the package's own __init__)."""
    parts = path.relative_to(package_dir).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def area_of(module):
    """Return the area of a module inside the package; None where AREAS does not place it."""
    if module == "modeling":
        return "modeling"
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((AREAS[name] for name in names if name in AREAS), None)


def absolute_base(node, path, package_dir):
    """Return the dotted name that an `import from` statement starts at."""
    if not node.level:
        return node.module
    folder = path.parent.relative_to(package_dir.parent).parts
    start = folder[: len(folder) - node.level + 1]
    return ".".join([*start, *([node.module] if node.module else [])])


def statements(tree, inside_functions):
    """Yield the nodes of a syntax tree, with or without those inside functions."""
    for node in ast.iter_child_nodes(tree):
        if inside_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
            yield from statements(node, inside_functions)


def imported_names(path, package_dir):
    """Return the absolute dotted names that a file imports, as a rule also inside functions."""
    names = set()
    late = dotted_name(path, package_dir) not in LATE_IMPORTS_ALLOWED
    for node in statements(ast.parse(path.read_text(encoding="utf-8")), late):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute_base(node, path, package_dir)
            for alias in node.names:
                inner = package_dir.parent.joinpath(*base.split("."), alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                names.add(f"{base}.{alias.name}" if is_module else base)
    return names


def papers_mix(importer, imported):
    """Return whether a file of meta_arch imports the file of another paper."""
    prefix = "modeling.meta_arch."
    if not (importer.startswith(prefix) and imported.startswith(prefix)):
        return False
    paper = imported[len(prefix) :].split(".")[0]
    return paper not in SHARED_META_ARCH and paper != importer[len(prefix) :].split(".")[0]


def complaint(importer, name):
    """Return what is wrong with the module `importer` importing `name`, or None."""
    top, _, imported = name.partition(".")
    area = area_of(importer)
    if top != PACKAGE:
        forbidden = TOO_HEAVY.get(area, set()) | NOWHERE
        if importer not in MAY_CALL_THE_COMMAND_LINE:
            forbidden |= {"vireid"}
        return f"{importer} ({area}) imports {name}" if top in forbidden else None
    if not imported:
        return f"{importer} imports the package's root; import the module that defines the name"
    target = area_of(imported)
    if papers_mix(importer, imported):
        return f"{importer} imports the paper's file {imported}; what two share moves down a layer"
    if target not in {area, "base"} | MAY_IMPORT[area]:
        return f"{importer} ({area}) imports {imported} ({target})"
    return None


def violations(package_dir):
    """Return one sentence for each import that goes the wrong way, sorted."""
    found = []
    for path in package_dir.rglob("*.py"):
        importer = dotted_name(path, package_dir)
        if not importer:
            continue  # the root registers everything
        if area_of(importer) is None:
            found.append(f"{importer} has no area: place it in AREAS of tests/test_imports.py")
            continue
        sentences = (complaint(importer, name) for name in imported_names(path, package_dir))
        found.extend(sentence for sentence in sentences if sentence)
    return sorted(found)


def test_package_imports_one_way():
    assert len(list(PACKAGE_DIR.rglob("*.py"))) > 5  # the right folder was read
    assert violations(PACKAGE_DIR) == []


@pytest.fixture
def skeleton(tmp_path):
    """A small package of the same shape, without imports."""
    for name in (
        "__init__",
        "registry",
        "engine/trainer",
        "data/build",
        "synthvi/render",
        "evaluation/ranking",
        "modeling/__init__",
        "modeling/losses/triplet",
        "modeling/meta_arch/__init__",
        "modeling/meta_arch/base",
        "modeling/meta_arch/agw",
        "modeling/meta_arch/ddag",
    ):
        path = tmp_path / PACKAGE / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return tmp_path / PACKAGE


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("data/build", "from vireid_plugins.modeling.losses import triplet"),
        ("data/build", "from ..modeling import losses"),
        ("data/build", "from .. import modeling"),
        ("data/build", "def f():\n    import vireid_plugins.engine.trainer"),
        ("synthvi/render", "import torch"),
        ("synthvi/render", "from ..data.build import anything"),
        ("evaluation/ranking", "from ..modeling.meta_arch.base import DualStreamBaseline"),
        ("evaluation/ranking", "import tools.bench"),
        ("engine/trainer", "from argparse import Namespace"),
        ("modeling/losses/triplet", "from ..meta_arch.base import DualStreamBaseline"),
        ("evaluation/ranking", "def f():\n    from vireid.cli import main"),
        ("modeling/losses/triplet", "from vireid_plugins import Modality"),
        ("modeling/meta_arch/agw", "from .ddag import Attention"),
        ("modeling/meta_arch/base", "from . import agw"),
        ("modeling/meta_arch/agw", "from ...engine import trainer"),
        ("registry", "from .data import build"),
        ("compat", "from .engine import trainer"),
    ],
)
def test_wrong_way_is_found(skeleton, file, line):
    """Each line is against a sentence of the design; without it the skeleton is clean."""
    assert violations(skeleton) == []
    (skeleton / f"{file}.py").write_text(line)
    assert len(violations(skeleton)) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engine/trainer", "from ..modeling.meta_arch import base"),
        ("modeling/meta_arch/agw", "from .base import DualStreamBaseline"),
        ("modeling/meta_arch/agw", "from ..losses.triplet import BatchHardTripletLoss"),
        ("modeling/losses/triplet", "from ...registry import lookup"),
        ("modeling/__init__", "from . import losses, meta_arch"),
        ("modeling/meta_arch/__init__", "from .agw import AGW"),
        ("evaluation/ranking", "import torch"),
        ("compat", "def repair():\n    from .engine import trainer"),
    ],
)
def test_right_way_passes(skeleton, file, line):
    (skeleton / f"{file}.py").write_text(line)
    assert violations(skeleton) == []


def test_unplaced_module_is_named(skeleton):
    (skeleton / "odds_and_ends.py").write_text("")
    assert violations(skeleton) == [
        "odds_and_ends has no area: place it in AREAS of tests/test_imports.py"
    ]
