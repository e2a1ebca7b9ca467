"""Read the rates that ``vireid bench limits`` has written."""

from typing import Any, Dict, List

from ..errors import UserError
from ..readers.json_file import read_json
from ..readers.shape import expect, field
from .machine import machine
from .rates import RESOURCES, Rate

_REMEDY = "Write it anew with `vireid bench limits`."


def read_rates(path: str, threads: int, processor: bool, device: str) -> Dict[str, Rate]:
    """Return the rates in a file, by resource.

    Args:
        path: a JSON file that the topic ``limits`` has written.
        threads, processor, device: how and where they must have been measured.

    Raises:
        UserError: the file cannot be read, or its rates were measured otherwise or elsewhere.
    """
    found = read_json(path, remedy=_REMEDY)
    options = field(found, "options", dict, path, _REMEDY)
    of = field(found, "rates", dict, path, _REMEDY)
    wrong = [
        f"{name} {there!r} there, {here!r} here"
        for name, there, here in (
            ("machine", found.get("machine"), machine()),
            ("processor time", bool(options.get("processor_time")), processor),
            ("device", options.get("device", "cpu"), device),
        )
        if there != here
    ]
    if str(threads) not in of:
        wrong.append(f"threads {', '.join(of)} there, {threads} here")
    if wrong:
        clock = " --processor-time" if processor else ""
        raise UserError(
            f"{path} does not fit: {'; '.join(wrong)}. Write it anew with "
            f"`vireid bench limits --threads {threads} --device {device}{clock}`."
        )
    rates = rates_in(of[str(threads)], f"{path}: rates: {threads}")
    missing = sorted(set(RESOURCES) - set(rates))
    if missing:
        raise UserError(f"{path} lacks the rates of {', '.join(missing)}. {_REMEDY}")
    return rates


def rates_in(values: Any, where: str) -> Dict[str, Rate]:
    """Return the rates that a mapping of a result holds.

    Raises:
        FileContentError: it holds something else.
    """
    rates = {}
    for name, value in expect(values, dict, where, _REMEDY).items():
        place = f"{where}: {name}"
        seconds: List[Any] = field(value, "seconds", list, place, _REMEDY)
        rates[name] = Rate(
            field(value, "per_second", float, place, _REMEDY),
            field(value, "unit", str, place, _REMEDY),
            field(value, "amount", float, place, _REMEDY),
            [expect(one, float, place, _REMEDY) for one in seconds],
        )
    return rates
