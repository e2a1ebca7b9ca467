"""Use a GPU well for eight minutes: versions, tests, benchmarks, and the evidence table.

    make gpu                                        install, then run all parts on the first GPU
    make gpu ARGS="--no-setup"                      the same in the Python that is there
    make gpu ARGS="--device cpu --tiny"             rehearse all parts on the CPU, in two minutes
    python -m tools.gpu --only evidence --minutes 30

A second call skips the parts that are finished, goes on with the table, and runs failed parts
again. docs/gpu.md says more.

Exit status: 0: every part of this call is finished, or was stopped by the time; 1: a part failed;
2: a mistake in the words.
"""

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from .evidence import STARTS
from .parts import PARTS, Part
from .running import (
    FAILED,
    FINISHED,
    LEFT_OUT,
    ROOT,
    STOPPED,
    OutOfTime,
    PartError,
    Runner,
    Settings,
    read_state,
    write_json,
)
from .summary import write_summary

NEEDED = "environment"  # without it no other part is begun


def say(message: str) -> None:
    """Write one line of progress to standard output at once."""
    sys.stdout.write(f"[gpu] {message}\n")
    sys.stdout.flush()


def run_part(part: Part, folder: Path, settings: Settings, seconds: float) -> Dict[str, Any]:
    """Run one part for at most ``seconds``; return its state and write it to its file."""
    begin = time.monotonic()
    state: Dict[str, Any] = {"part": part.name, "asked": settings.fingerprint(part.about_rows)}
    runner = Runner(folder / part.name, settings, begin + seconds)
    try:
        state.update(state=FINISHED, result=part.work(runner))
    except OutOfTime:
        message = f"its time of {seconds:.0f} s was over; the same command runs it again"
        state.update(state=STOPPED, message=f"{message}, and goes on with the table")
    except PartError as error:
        state.update(state=FAILED, message=str(error))
    except KeyboardInterrupt:
        state.update(state=STOPPED, message="stopped by the user")
        raise
    finally:
        state["seconds"] = time.monotonic() - begin
        if "state" in state:
            write_json(folder / f"{part.name}.json", state)
    return state


def run(
    folder: Path, settings: Settings, names: Sequence[str], minutes: float
) -> Dict[str, Dict[str, Any]]:
    """Run the named parts that are not finished; return the states of this call.

    Args:
        folder: of all that is written.
        settings: what every part reads.
        names: of the parts.
        minutes: time for all of them.
    """
    deadline = time.monotonic() + 60 * minutes
    states: Dict[str, Dict[str, Any]] = {}
    notes: Dict[str, str] = {}
    for part in [one for one in PARTS if one.name in names]:
        left = deadline - time.monotonic()
        known = read_state(folder / f"{part.name}.json")
        asked = settings.fingerprint(part.about_rows)
        if known.get("state") == FINISHED and known.get("asked") == asked:
            say(f"{part.name}: finished before")
            states[part.name] = known
            continue
        if left < part.least:
            notes[part.name] = f"left out of this call: {left:.0f} s left, {part.least:.0f} needed"
            say(f"{part.name}: {notes[part.name]}")
            states[part.name] = {"state": LEFT_OUT}
            continue
        say(f"{part.name}: {part.title}, at most {min(left, part.most):.0f} s")
        try:
            states[part.name] = state = run_part(part, folder, settings, min(left, part.most))
        finally:
            write_summary(folder, notes)
        end = f": {state['message']}" if "message" in state else ""
        say(f"{part.name}: {state['state']} in {state['seconds']:.0f} s{end}")
        if part.name == NEEDED and state["state"] != FINISHED:
            break
    say(f"summary: {write_summary(folder, notes)}")
    return states


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's words."""
    words = argparse.ArgumentParser(
        prog="python -m tools.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [part.name for part in PARTS]
    add = words.add_argument
    add("--device", default="cuda", help="cuda, cuda:1, ...; cpu for a rehearsal; default cuda")
    add("--tiny", action="store_true", help="tiny sizes: a rehearsal, whose numbers mean nothing")
    add("--only", nargs="+", choices=names, metavar="PART", help=f"of: {', '.join(names)}")
    add("--minutes", type=float, default=8.0, help="time of this call; default 8")
    add("--rows", nargs="+", metavar="ROW", default=[], help="rows of the table; default all")
    add("--seeds", nargs="+", type=int, metavar="N", default=[0], help="of the table; default 0")
    add("--epochs", type=int, default=0, help="of every row; default: as many as fit, 2 or 3")
    starts = [start.weights for start in STARTS]
    add("--start", choices=starts, default="", help="of the table; default: the first that is here")
    add("--jobs", type=int, default=0, help="rows at once; default 2 on a GPU, 1 on the CPU")
    add("--afresh", action="store_true", help="delete earlier results of the parts first")
    add("--out", default="", help="folder; default logs/gpu, for a rehearsal logs/gpu_rehearsal")
    return words


def check(words: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with status 2 and one sentence if a number is out of range."""
    kind = options.device.split(":")[0]
    if kind not in ("cpu", "cuda"):
        words.error(f"--device is {options.device!r}; expected cuda, cuda:N or cpu")
    if not 0 < options.minutes < 24 * 60:
        words.error(f"--minutes is {options.minutes:g}; expected more than 0, less than a day")
    for name in ("epochs", "jobs"):
        if getattr(options, name) < 0:
            words.error(f"--{name} is {getattr(options, name)}; expected 1 or more")
    if options.epochs == 1:
        words.error("--epochs 1: expected 2 or more, since some methods change after an epoch")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command line and return its exit status."""
    words = parser()
    options = words.parse_args(argv)
    check(words, options)
    rehearsal = options.tiny or options.device == "cpu"
    folder = Path(options.out or ROOT / "logs" / ("gpu_rehearsal" if rehearsal else "gpu"))
    settings = Settings(
        device=options.device,
        tiny=options.tiny,
        jobs=options.jobs or (1 if options.device == "cpu" else 2),
        rows=tuple(options.rows),
        seeds=tuple(options.seeds),
        epochs=options.epochs,
        start=options.start,
    )
    names = options.only or [part.name for part in PARTS]
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if options.afresh:
        for name in names:
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / f"{name}.json").unlink(missing_ok=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also after `nohup` and `&`
    try:
        states = run(folder, settings, names, options.minutes)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on")
        return 130
    return int(any(state["state"] == FAILED for state in states.values()))


if __name__ == "__main__":
    sys.exit(main())
