"""Run one measurement: a topic is a file of this folder with a function ``run``.

Seeds are fixed, first runs are dropped, the cases take turns, and medians and spreads (smallest to
largest) are shown. What is replaced is written in the topic's file from its definition, and used
nowhere else.
"""

import importlib
import inspect
import sys
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping

import torch
from threadpoolctl import threadpool_limits

from ..engine.checks import make_output_folder
from ..errors import UserError
from .measuring import OUT, write_result


def run_topic(topic: str, *, out: str = "", **options: Any) -> List[Path]:
    """Measure, and write the result as JSON, and its table, if it has one, as Markdown.

    A topic that writes other files has a function ``write(out, words, result)``, which returns
    their paths.

    Args:
        topic: a file of this folder, such as ``"ranking"``.
        out: folder of results; empty: ``logs/bench``, or the topic's own.
        options: keywords of the topic's ``run``.

    Returns:
        The files of the result. The name of a JSON file carries PyTorch's version, the device and
        the threads.

    Raises:
        UserError: an option is out of range, or ``out`` cannot be written to.
    """
    module = importlib.import_module(f"{__package__}.{topic}")
    given = inspect.signature(module.run).bind(**options)
    given.apply_defaults()
    words = given.arguments
    if "out" in words:
        words["out"] = out or OUT
    for name in ("threads", "repeats"):
        if words.get(name, 1) < 1:
            raise UserError(f"--{name} must be at least 1; got {words[name]}")
    if out:
        make_output_folder(out, "--out")  # before a measurement of minutes, not after it
    torch.set_num_threads(words["threads"])
    with threadpool_limits(words["threads"]):  # NumPy's and faiss's
        result = module.run(**words)
    sys.stdout.write(result.get("table", ""))
    written = getattr(module, "write", partial(_write, topic))(out, words, result)
    sys.stdout.write("".join(f"Written: {path}\n" for path in written))
    return [Path(path) for path in written]


def _write(topic: str, out: str, words: Mapping[str, Any], result: Dict[str, Any]) -> List[Path]:
    """Write the result as JSON, and its table, if it has one, as Markdown."""
    table = result.pop("table", "")
    path = write_result(out or OUT, topic, {"torch": torch.__version__, **words, **result})
    if not table:
        return [path]
    path.with_suffix(".md").write_text(table, encoding="utf-8")
    return [path, path.with_suffix(".md")]
