"""Write what all parts have found: a page to read, and one JSON file."""

from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

from .parts import PARTS
from .running import FINISHED, read_state, write_json

SUMMARY, RESULTS = "summary.md", "results.json"


def write_summary(folder: Path, notes: Dict[str, str]) -> Path:
    """Write ``summary.md`` and ``results.json``; return the former's path.

    Args:
        folder: of the run; each part has its JSON file there.
        notes: what this call did not do, by part.
    """
    states = {part.name: read_state(folder / f"{part.name}.json") for part in PARTS}
    lines = ["# GPU run", "", "| part | state | seconds | |", "|---|---|---|---|"]
    for part in PARTS:
        state = states[part.name]
        note = notes.get(part.name) or state.get("message", "")
        seconds = f"{state['seconds']:.0f}" if "seconds" in state else ""
        name = state.get("state", "not run")
        lines.append(f"| {part.title} (`{part.name}`) | {name} | {seconds} | {escaped(note)} |")
    for part in PARTS:
        found = states[part.name].get("result")
        show = SHOW[part.name]
        if found or part.name == "evidence":
            lines += ["", f"## {part.title}", "", *show(folder, found or {})]
    path = folder / SUMMARY
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(folder / RESULTS, states)
    return path


def escaped(text: str) -> str:
    """Return a text that fits into a cell of a table."""
    return " ".join(text.replace("|", "\\|").split())


def show_environment(folder: Path, found: Dict[str, Any]) -> Iterator[str]:
    """Yield the versions as a table."""
    yield "| | |"
    yield "|---|---|"
    for name, value in {**found, **found.get("device", {})}.items():
        if not isinstance(value, dict):
            yield f"| {escaped(str(name))} | {escaped(str(value))} |"


def show_tests(folder: Path, found: Dict[str, Any]) -> Iterator[str]:
    """Yield how many tests passed, which failed, and why others were skipped."""
    yield f"{found['passed']} of {found['run']} passed."
    yield from (f"- failed: `{name}`" for name in found["failed"])
    yield from (f"- {count} skipped: {why}" for why, count in found["skipped"].items())
    yield from (f"- slow: `{name}`, {value} s" for name, value in found["slowest"].items())


def show_ranking(folder: Path, found: Dict[str, Any]) -> Iterator[str]:
    """Yield the table of the topic, and how the loop was measured."""
    yield found.get("table", "").strip()
    yield ""
    yield "The loop always runs on the CPU, one trial of it, times the number of trials."


def show_training(folder: Path, found: Dict[str, Any]) -> Iterator[str]:
    """Yield the table of the topic."""
    yield found.get("table", "").strip()


def show_data(folder: Path, found: Dict[str, Any]) -> Iterator[str]:
    """Yield where the images are."""
    yield f"`{found['folder']}` ({' '.join(found['words'])})"


def show_evidence(folder: Path, found: Dict[str, Any]) -> Iterator[str]:
    """Yield the choices and the table of the rows that are complete."""
    choice = read_state(folder / "evidence" / "choice.json")
    if not choice:
        yield "Not begun."
        return
    updates = f" = {choice['updates']} updates" if "updates" in choice else ""
    yield f"Start: {choice['start']}. {choice['epochs']} epochs{updates} ({choice['why']})."
    yield ""
    place = folder / "evidence" / choice["folder"]
    table = place / "table.md"
    yield f"All of it: `{place}`."
    yield ""
    if table.is_file():
        yield from (f"#{line}" if line.startswith("#") else line for line in read_lines(table))
    else:
        yield "No row is complete yet."


def read_lines(path: Path) -> List[str]:
    """Return the lines of a text file."""
    return path.read_text(encoding="utf-8").splitlines()


SHOW: Dict[str, Callable[[Path, Dict[str, Any]], Iterator[str]]] = {
    "environment": show_environment,
    "tests": show_tests,
    "ranking": show_ranking,
    "training": show_training,
    "attention": show_training,
    "data": show_data,
    "evidence": show_evidence,
}


def all_finished(folder: Path) -> bool:
    """Return whether every part is finished."""
    return all(read_state(folder / f"{part.name}.json").get("state") == FINISHED for part in PARTS)
