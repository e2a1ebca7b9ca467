"""Run one measurement: a topic is a file of this folder with a function ``run``.

Seeds are fixed, first runs are dropped, the cases take turns, and medians and spreads (smallest to
largest) are shown. What is replaced is written in the topic's file from its definition, and used
nowhere else.
"""

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from ..errors import UserError
from .measuring import OUT, write_result


def run_topic(topic: str, *, out: str = OUT, **options: Any) -> Path:
    """Measure, and write the result as JSON, and its table, if it has one, as Markdown.

    Args:
        topic: a file of this folder, such as ``"ranking"``.
        out: folder of results.
        options: keywords of the topic's ``run``; all have defaults.

    Returns:
        The file of the result; its name carries PyTorch's version, the device and the threads.

    Raises:
        UserError: an option is out of range.
    """
    run = importlib.import_module(f"{__package__}.{topic}").run
    given = inspect.signature(run).bind(**options)
    given.apply_defaults()
    words = given.arguments
    if "out" in words:
        words["out"] = out
    for name in ("threads", "repeats"):
        if words.get(name, 1) < 1:
            raise UserError(f"--{name} must be at least 1; got {words[name]}")
    torch.set_num_threads(words["threads"])
    with threadpool_limits(words["threads"]):  # NumPy's and faiss's
        result = run(**words)
    table = result.pop("table", "")
    sys.stdout.write(table)
    path = write_result(out, topic, {"torch": torch.__version__, **words, **result})
    if table:
        path.with_suffix(".md").write_text(table, encoding="utf-8")
    sys.stdout.write(f"Written: {path}{' and .md' if table else ''}\n")
    return path
