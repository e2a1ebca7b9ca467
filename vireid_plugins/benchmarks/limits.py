"""Measure this machine's own rates: what no program on it can exceed by much.

Products of matrices, copies in memory, pages that the system has just given, decoding of JPEG
images, and sorting; with one thread, and with all. Every other topic states its times as fractions
of the limit that these rates set.
"""

import os
from typing import Any, Dict, List

from ..engine.devices import check_device
from .machine import machine
from .measuring import markdown_table
from .rates import JPEG_SIZE, RESOURCES, RUNS, Rate, measured_rate


def run(
    *, threads: int = os.cpu_count() or 1, device: str = "cpu", processor_time: bool = False
) -> Dict[str, Any]:
    """Measure each rate with one thread and with ``threads``; the result has a table.

    Args:
        threads: CPU threads; default: as many as there are cores.
        device: where products and copies are made, such as ``"cuda"``.
        processor_time: measure seconds of the processor, see ``times_in_turn``.

    Raises:
        UserError: the device is unknown or absent.
    """
    check_device(device, "--device")
    numbers = sorted({1, threads})
    rates = {
        str(number): {
            name: measured_rate(name, number, processor_time, device) for name in RESOURCES
        }
        for number in numbers
    }
    return {
        "rates": {
            number: {name: rate._asdict() for name, rate in found.items()}
            for number, found in rates.items()
        },
        "table": f"{_table(rates)}\n{_note(processor_time)}\n",
    }


def _table(rates: Dict[str, Dict[str, Rate]]) -> str:
    heads = ["1 thread" if number == "1" else f"{number} threads" for number in rates]
    lines = [["a second's work, at most", *heads, "unit"]]
    for name in RESOURCES:
        of = [found[name] for found in rates.values()]
        lines.append([name, *map(rate_text, of), of[0].unit])
    return markdown_table(lines)


def rate_text(rate: Rate) -> str:
    """Return the fastest and the slowest run, in billions or millions a second."""
    slowest = rate.amount / max(rate.seconds)
    divisor, word = (1e9, "billion") if rate.per_second >= 1e9 else (1e6, "million")
    return f"{rate.per_second / divisor:.3g} {word} (slowest {slowest / divisor:.3g})"


def _note(processor_time: bool) -> str:
    facts = machine()
    found: List[str] = facts["bfloat16 instructions"]
    half = f"bfloat16 instructions: {', '.join(found)}" if found else "bfloat16 is emulated"
    clock = "processor time of all threads together" if processor_time else "clock time"
    height, width = JPEG_SIZE
    return (
        f"{facts['processor']} (family and model {facts['family and model'] or 'unknown'}), "
        f"{facts['cores']} cores, {facts['instructions']}; {half}; {clock}; fastest of {RUNS} "
        f"runs. A JPEG image of {height} x {width} has {height * width:,} pixels."
    )
