"""Run one measurement: a topic is a file of this folder with a function ``run``.

Seeds are fixed, first runs are dropped, the cases take turns, and medians and spreads (smallest to
largest) are shown. What is replaced is written in the topic's file from its definition, and used
nowhere else.
"""

import importlib
import inspect
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping

import torch
from threadpoolctl import threadpool_limits

from ..engine.checks import make_output_folder
from ..errors import UserError
from ..runs.environment import environment
from ..runs.record import source_commit, utc_now
from ..version import __version__
from .given_rates import read_rates
from .machine import machine
from .measures import as_json, measures_table, resources_of, take_measures
from .measuring import MEASURES, OUT, write_result
from .rates import Rate, measured_rate


def run_topic(topic: str, *, out: str = "", limits: str = "", **options: Any) -> List[Path]:
    """Measure, and write the result as JSON, and its table, if it has one, as Markdown.

    The times that the topic declares are shown as fractions of the limit that the machine sets.

    A topic that writes other files has a function ``write(out, words, result)``, which returns
    their paths.

    Args:
        topic: a file of this folder, such as ``"ranking"``.
        out: folder of results; empty: ``logs/bench``, or the topic's own.
        limits: a file that the topic ``limits`` has written; empty: the rates are measured.
        options: keywords of the topic's ``run``.

    Returns:
        The files of the result. The name of a JSON file carries PyTorch's version, the device and
        the threads.

    Raises:
        UserError: an option is out of range, ``limits`` is of another machine, or ``out`` cannot
            be written to.
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
    where = _where(words)
    rates = read_rates(limits, **where) if limits else {}
    torch.set_num_threads(words["threads"])
    with threadpool_limits(words["threads"]):  # NumPy's and faiss's
        result = module.run(**words)
    _add_limits(result, where, rates)
    sys.stdout.write(result.get("table", ""))
    written = getattr(module, "write", partial(_write, topic))(out, words, result)
    sys.stdout.write("".join(f"Written: {path}\n" for path in written))
    return [Path(path) for path in written]


def _where(words: Mapping[str, Any]) -> Dict[str, Any]:
    """Return how and where a topic with these words measures, as ``measured_rate`` takes it."""
    return {
        "threads": words["threads"],
        "processor": bool(words.get("processor_time", False)),
        "device": str(words.get("device", "cpu")),
    }


def _add_limits(
    result: Dict[str, Any], where: Mapping[str, Any], rates: Mapping[str, Rate]
) -> None:
    """Replace the measures in a result by plain JSON with limits, and add a table of them.

    Args:
        result: what the topic returned.
        where: of :func:`_where`; a topic that chooses its device by itself names it in its result.
        rates: those that were read from a file; what it lacks is measured.
    """
    measures = take_measures(result)
    if not measures:
        return
    place = {**where, "device": str(result.get("device", where["device"]))}
    known = rates if place == where else {}
    needed = resources_of(measures)
    used = {name: known.get(name) or measured_rate(name, **place) for name in needed}
    result[MEASURES] = [as_json(measure, used) for measure in measures]
    result["rates"] = {str(where["threads"]): {n: rate._asdict() for n, rate in used.items()}}
    before = f"{result['table']}\n" if result.get("table") else ""
    result["table"] = before + measures_table(measures, used)


def _facts(topic: str, words: Mapping[str, Any]) -> Dict[str, Any]:
    """Return what a reader of the result has to know about where it comes from."""
    return {
        "topic": topic,
        "version": __version__,
        "commit": source_commit(),
        "finished": utc_now(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": machine(),
        "environment": {**environment(), "threads": str(words["threads"])},
        "options": dict(words),
    }


def _write(topic: str, out: str, words: Mapping[str, Any], result: Dict[str, Any]) -> List[Path]:
    """Write the result as JSON, and its table, if it has one, as Markdown."""
    table = result.pop("table", "")
    facts = {"torch": torch.__version__, **words, **_facts(topic, words)}
    path = write_result(out or OUT, topic, {**facts, **result})
    if not table:
        return [path]
    path.with_suffix(".md").write_text(table, encoding="utf-8")
    return [path, path.with_suffix(".md")]
