"""Measure what starting costs: processor seconds of imports, help, and one query of a search.

Every case runs in a fresh process, and the cases take turns. Processor seconds are those of the
process from its start to the end of the case: other programs disturb them less than the clock.
The query asks a small index, which this topic makes of random images and random weights.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import torch
from PIL import Image

from fastreid.modeling.meta_arch import build_model

from ..engine.feature_extractor import FeatureExtractor
from ..engine.setup import build_config
from ..files import PACKAGE
from ..runs.names import FACTS
from ..search import index_folder
from .measures import FLOOR, Measure
from .measuring import MEASURES, say_all

#: libraries that a query cannot do without
NEEDED = ("torch", "faiss", "numpy", "PIL.Image", "sqlite3")
#: case -> what it has to do anyway
FLOORS = {
    "import vireid_plugins": "import torch",
    "search query": "the imports that a query needs",
}
_CASE = """
{code}
import sys, time
sys.stdout.flush()
sys.stderr.write("\\n" + str(time.process_time()))
"""
_IMAGES = 20


def run(*, repeats: int = 5, threads: int = 1, depth: str = "18x") -> Dict[str, Any]:
    """Measure every case.

    Args:
        depth: ``MODEL.BACKBONE.DEPTH`` of the network that answers the query.
    """
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(Path(folder), depth)
        seconds: Dict[str, List[float]] = {name: [] for name in cases}
        for number in range(repeats + 1):
            for name, code in cases.items():
                measured = processor_seconds(code, threads)
                if number:  # the first run reads files from the disk
                    seconds[name].append(measured)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {
        f"ratio of {name} to {base}": middle[name] / middle[base] for name, base in FLOORS.items()
    }
    result: Dict[str, Any] = {**seconds, **ratios}
    say_all("startup", result)
    work = {name: {FLOOR: middle[base]} for name, base in FLOORS.items()}
    result[MEASURES] = [
        Measure(name, values, work.get(name, {}), case="startup")
        for name, values in seconds.items()
    ]
    return result


def make_cases(folder: Path, depth: str) -> Dict[str, str]:
    """Return the Python code of each case; ``folder`` will hold the index."""
    query = ["search", "query", *make_index(folder, depth)]
    cases = {
        "import torch": "import torch",
        "import vireid_plugins": "import vireid_plugins",
        "the imports that a query needs": f"import {', '.join(NEEDED)}",
        "search query": command(query),
    }
    for name, words in (
        ("vireid --help", ["--help"]),
        ("vireid train --help", ["train", "--help"]),
        ("vireid with a wrong word", ["trian"]),
    ):
        cases[name] = command(words)
    return cases


def command(words: List[str]) -> str:
    """Return code that runs ``vireid`` with ``words``."""
    call = f"main(json.loads({json.dumps(words)!r}))"
    return f"""import json
from vireid.cli import main
try:
    {call}
except SystemExit:
    pass"""


def make_index(folder: Path, depth: str) -> List[str]:
    """Make an index of random images by random weights; return the words of a query."""
    words = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.DEPTH", depth]
    cfg = build_config("agw/synthetic.yml", [*words, "MODEL.BACKBONE.PRETRAIN", "False"])
    cfg.MODEL.HEADS.NUM_CLASSES = 8
    state = {
        "model": build_model(cfg).state_dict(),
        FACTS: {"config": cfg.dump(), "num_classes": cfg.MODEL.HEADS.NUM_CLASSES},
    }
    weights, images = folder / "model_final.pth", folder / "images"
    torch.save(state, weights)
    images.mkdir()
    generator = np.random.default_rng(0)
    for number in range(_IMAGES):
        pixels = generator.integers(0, 255, (96, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    index_folder(
        FeatureExtractor(str(weights)),
        images,
        "visible",
        folder / "index",
        weights=str(weights),
        workers=0,
        progress=False,
    )
    return [
        str(folder / "index"),
        *("--image", str(images / "0.png"), "--modality", "visible", "--topk", "5"),
    ]


def processor_seconds(code: str, threads: int) -> float:
    """Return the processor seconds of a fresh process that runs ``code``.

    Raises:
        RuntimeError: the process ended with an error; the message is its output.
    """
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", _CASE.format(code=code)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        raise RuntimeError(f"{done.stdout}{done.stderr}")
    return float(done.stderr.splitlines()[-1])
