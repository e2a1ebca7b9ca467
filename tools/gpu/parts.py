"""The parts of a GPU run. Each takes a ``Runner`` and returns what it has found, as plain JSON."""

import importlib.util
import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

from .evidence import evidence, render
from .running import PartError, Runner

# What the parts import, and the name under which pip knows it
LIBRARIES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "fastreid": "fastreid",
    "faiss": "faiss-cpu",
    "cv2": "opencv-python-headless",
    "filelock": "filelock",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "PIL": "pillow",
    "platformdirs": "platformdirs",
    "pytest": "pytest",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "tabulate": "tabulate",
    "tensorboard": "tensorboard",
    "termcolor": "termcolor",
    "tqdm": "tqdm",
    "yacs": "yacs",
    "yaml": "pyyaml",
}
FACTS = """
import json, pathlib, sys
from vireid_plugins.runs.environment import environment, gpu_facts
facts = {**environment(), "device": gpu_facts(sys.argv[1])}
pathlib.Path(sys.argv[2]).write_text(json.dumps(facts))
"""


class Part(NamedTuple):
    """A part of the run."""

    name: str
    title: str
    work: Callable[[Runner], Dict[str, Any]]
    least: float  # seconds without which it is not begun
    most: float  # seconds that it may take, also if there is more time
    about_rows: bool = False  # whether it depends on the rows, seeds and epochs of the table


def missing_libraries() -> List[str]:
    """Return pip's names of what this Python lacks."""
    return [name for word, name in LIBRARIES.items() if importlib.util.find_spec(word) is None]


def environment(runner: Runner) -> Dict[str, Any]:
    """Find versions, driver and GPU.

    Raises:
        PartError: this Python lacks a library, or PyTorch cannot compute on the device.
    """
    missing = missing_libraries()
    if missing:
        raise PartError(
            f"{sys.executable} lacks {', '.join(missing)}. Install with: python -m pip install "
            f"--no-deps {' '.join(missing)} (from carried wheels: docs/gpu.md)"
        )
    path = runner.folder / "environment.json"
    runner.python("-c", FACTS, runner.settings.device, path)
    found: Dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def tests(runner: Runner) -> Dict[str, Any]:
    """Run the tests of ``tests/gpu``.

    Raises:
        PartError: a test failed; the message names it.
    """
    report = runner.folder / "report.xml"
    report.unlink(missing_ok=True)
    words: List[Any] = ["tests/gpu", "-m", "gpu", "-q", f"--junitxml={report}"]
    words += [f"--basetemp={runner.folder / 'temporary'}", "-p", "no:cacheprovider"]
    if runner.settings.tiny:
        words += ["-k", "ranking or agw"]
    environment = {"VIREID_TEST_DEVICE": runner.settings.device}
    try:
        runner.python("-m", "pytest", *words, environment=environment, allowed=(0, 1))
    finally:
        found = read_report(report)
        (runner.folder / "tests.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    if found["failed"]:
        raise PartError(
            f"{len(found['failed'])} of {found['run']} tests failed: "
            f"{', '.join(found['failed'])}; see {runner.folder / 'log.txt'}"
        )
    if not found["passed"]:
        raise PartError(f"no test was run; see {runner.folder / 'log.txt'}")
    return found


def read_report(path: Path) -> Dict[str, Any]:
    """Return how many tests passed, which failed, and why others were skipped."""
    found: Dict[str, Any] = {"run": 0, "passed": 0, "failed": [], "skipped": {}, "slowest": {}}
    if not path.is_file():
        return found
    reasons: Counter = Counter()
    seconds: Dict[str, float] = {}
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname', '').rsplit('.', 1)[-1]}::{case.get('name')}"
        seconds[name] = float(case.get("time") or 0)
        found["run"] += 1
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            found["failed"].append(name)
        elif skipped is not None:
            reasons[str(skipped.get("message"))] += 1
        else:
            found["passed"] += 1
    found["skipped"] = dict(reasons)
    slowest = sorted(seconds, key=lambda name: -seconds[name])[:5]
    found["slowest"] = {name: round(seconds[name], 1) for name in slowest}
    return found


def ranking(runner: Runner) -> Dict[str, Any]:
    """Measure metrics beside the per-query loop."""
    words: List[Any] = ["--device", runner.settings.device]
    if runner.settings.tiny:
        words += ["--cases", "sysu-single", "--size", 32, "--repeats", 1]
    else:
        words += ["--cases", "sysu-single", "regdb", "--repeats", 5]
    return benchmark(runner, "ranking", words)


def training(runner: Runner) -> Dict[str, Any]:
    """Measure training steps of AGW on ResNet-50 beside the usual loop."""
    words: List[Any] = ["--device", runner.settings.device]
    if runner.settings.tiny:
        words = ["float32", *words, "--quick", "--warmup", 0]
    else:
        words = ["float32", "float32, NHWC", "bfloat16, NHWC", *words, "--sizes", "288x144"]
        words += ["--batch", 64, "--steps", 15, "--warmup", 5, "--turns", 1]
        words += ["--workers", min(8, os.cpu_count() or 1)]
    return benchmark(runner, "training", words)


def attention(runner: Runner) -> Dict[str, Any]:
    """Measure MRDA's attention beside full attention."""
    words: List[Any] = ["--device", runner.settings.device]
    if runner.settings.tiny:
        words += ["--batch", 2, "--channels", 8, "--repeats", 1]
    return benchmark(runner, "attention", words)


def benchmark(runner: Runner, topic: str, words: List[Any]) -> Dict[str, Any]:
    """Run ``vireid bench``; return its result, and its table as Markdown if it has one."""
    for path in runner.folder.glob(f"{topic}_*"):
        path.unlink()
    threads = 1 if runner.settings.tiny else min(8, os.cpu_count() or 1)
    runner.vireid("bench", topic, *words, "--threads", threads, "--out", runner.folder)
    (path,) = runner.folder.glob(f"{topic}_*.json")
    found: Dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    table = path.with_suffix(".md")
    if table.is_file():
        found["table"] = table.read_text(encoding="utf-8")
    return found


PARTS = (
    Part("environment", "Versions and GPU", environment, 5, 120),
    Part("tests", "Tests on the device", tests, 20, 150),
    Part("ranking", "Ranking beside the per-query loop", ranking, 20, 75),
    Part("training", "Training beside the usual loop", training, 30, 120),
    Part("attention", "MRDA's attention beside full attention", attention, 15, 45),
    Part("data", "Images of the table", render, 10, 240),
    Part("evidence", "Every method beside its baseline", evidence, 30, 7200, about_rows=True),
)
