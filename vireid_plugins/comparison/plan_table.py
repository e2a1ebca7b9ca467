"""Write the outcome of a plan: tables in groups, differences, figures."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from ..files import write_atomically
from ..readers.text import readable
from .carried import RESULTS, format_results
from .claims import Claim
from .columns import (
    SHOWN,
    Cells,
    count_cells,
    difference_cells,
    directions_of,
    format_seconds,
    markdown_table,
    metric_cells,
    remarks,
)
from .config_files import hide_paths, shown_path
from .contrasts import Contrasts
from .differing import DIFFERING, format_differing, unlike
from .entries import Entry
from .export import format_differences, format_runs, format_summary
from .gain_curves import draw_curves
from .gains import draw_gains
from .notes import format_notes
from .plan_file import Plan, PlanRow
from .plot import draw_plot
from .printed import format_latex
from .runs import DataPoint
from .short import format_short
from .summary import Row
from .table import LATEX, PLOT, RUNS, SUMMARY, TABLE, Outcome, provenance
from .transductive import PLAIN

DIFFERENCES, GAINS, CURVES = "differences.csv", "gains.png", "gain_curves.png"
SHORT = "short.md"


@dataclass(frozen=True)
class Section:
    """The table of one folder of datasets."""

    point: Optional[DataPoint]  # None: the plan names no folders
    contrasts: Contrasts
    protocols: Sequence[str]  # the lines that are shown; empty while no run is complete

    @property
    def suffix(self) -> str:
        """Return what its files' names end with: nothing, or ``-at-0.25``."""
        return "" if self.point is None else f"-{self.point.name}"


@dataclass(frozen=True)
class PlanOutcome:
    """All that the tables are made from."""

    plan: Plan
    sections: Sequence[Section]
    entries: Sequence[Entry]
    seeds: Sequence[int]
    command: str  # the command that repeats it
    title: str
    more_seeds: str  # what the rule says of more seeds; empty: none are planned

    @property
    def claims(self) -> Dict[str, Claim]:
        """Return what papers print, by the name of a row."""
        return {row.name: row.claim for row in self.plan.rows if row.claim}


def write_plan(outcome: PlanOutcome, folder: Path) -> List[Path]:
    """Write the tables and figures of all runs that are complete.

    ``table.md`` is for people, ``short.md`` for a README, and the CSV files are for programs.
    ``differing_keys.md`` lists the config keys in which rows differ from what they are compared
    with. ``runs.json`` has the results themselves, for ``--also`` on another machine. A kill never
    leaves an incomplete file.

    Returns:
        The files that were written; none while no run has ended.
    """
    known = [section for section in outcome.sections if section.protocols]
    if not known and not any(row.failures for s in outcome.sections for row in s.contrasts.rows):
        return []
    contents: Dict[str, bytes] = {TABLE: _text(format_plan(outcome, known))}
    contents[DIFFERING] = _text(format_differing(outcome.plan, outcome.entries))
    rows = [row for section in outcome.sections for row in section.contrasts.rows]
    contents[RUNS] = _text(format_runs(rows))
    contents[RESULTS] = format_results(rows).encode()
    for section in known:
        contents.update(_section_files(outcome, section))
    if outcome.plan.points and known:
        contents[CURVES] = draw_curves(known, outcome.plan.axis, outcome.title)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_atomically(folder / name, partial(_write, content))
    return [folder / name for name in contents]


def _section_files(outcome: PlanOutcome, section: Section) -> Dict[str, bytes]:
    contrasts, end = section.contrasts, section.suffix
    title = outcome.title + ("" if section.point is None else _at(outcome, section.point))
    files = {
        SUMMARY: _text(format_summary(contrasts)),
        DIFFERENCES: _text(format_differences(contrasts, outcome.claims)),
        LATEX: _text(format_latex(contrasts.rows, section.protocols[0])),
        PLOT: draw_plot(contrasts, section.protocols, title),
        SHORT: _text(format_short(contrasts, section.protocols[0])),
    }
    if contrasts.pairs:
        files[GAINS] = draw_gains(contrasts, section.protocols, outcome.claims, title)
    return {f"{Path(name).stem}{end}{Path(name).suffix}": one for name, one in files.items()}


def _text(text: str) -> bytes:
    return readable(text).encode()


def _write(content: bytes, file: Any) -> None:
    file.write(content)


def _at(outcome: PlanOutcome, point: DataPoint) -> str:
    return f", {outcome.plan.axis} {point.value:g}"


def format_plan(outcome: PlanOutcome, known: Sequence[Section]) -> str:
    """Return ``table.md``: what was planned, what decides the numbers, a table for each group."""
    parts = [f"# {outcome.title}", f"```\n{outcome.command}\n```", _what_was_planned(outcome)]
    if not known:
        failed = [
            f"- {row.name}: {hide_paths(text)}"
            for section in outcome.sections
            for row in section.contrasts.rows
            for text in row.failures
        ]
        return "\n\n".join([*parts, "No run is complete.", "\n".join(failed)]) + "\n"
    if outcome.plan.points:
        parts.append(f"![gains along {outcome.plan.axis}]({CURVES})")
    for section in known:
        parts += _section(outcome, section)
    return "\n\n".join(parts) + "\n"


def _what_was_planned(outcome: PlanOutcome) -> str:
    plan = outcome.plan
    facts = [f"Plan: `{shown_path(plan.path)}`"]
    if plan.setting:
        keys = ", ".join(f"{key} {value}" for key, value in plan.setting_pairs)
        facts.append(f"Setting of all rows: `{shown_path(plan.setting)}` ({hide_paths(keys)})")
    if plan.stop_rule:
        facts.append(f"Stop rule, written before the runs: {plan.stop_rule}")
    facts += [outcome.more_seeds] if outcome.more_seeds else []
    facts.append(f"Keys in which rows differ from what they are compared with: [list]({DIFFERING})")
    return "\n".join(f"- {fact}" for fact in facts)


def _section(outcome: PlanOutcome, section: Section) -> List[str]:
    """Return the parts of the text that are about one folder of datasets."""
    rows = section.contrasts.rows
    results = [result for row in rows for result in row.results]
    of_section = Outcome(rows, outcome.seeds, outcome.command)
    facts = provenance(results, section.protocols, of_section)
    parts = [] if section.point is None else [f"## {outcome.plan.axis}: {section.point.value:g}"]
    parts.append("\n".join(f"- {fact}" for fact in facts))
    for heading in outcome.plan.headings:
        of_group = [row for row in outcome.plan.rows if row.heading == heading]
        parts += [f"## {heading}"] if heading else []
        parts.append(_group_table(outcome, section, of_group))
    parts.append(format_notes(section.contrasts, section.protocols, "the row beside it", False))
    end = section.suffix
    if section.contrasts.pairs:
        parts.append(f"![gain of each row over the row beside it](gains{end}.png)")
    return [*parts, f"![rank-1 and mAP of all rows](plot{end}.png)"]


def _group_table(outcome: PlanOutcome, section: Section, planned: Sequence[PlanRow]) -> str:
    by_name = {row.name: row for row in section.contrasts.rows}
    entries = {entry.name: entry for entry in outcome.entries}
    ends = directions_of(section.contrasts.rows, section.protocols)
    lines = []
    for one in planned:
        row = by_name[one.name]
        cells: Cells = {"row": one.name, **count_cells(row), **metric_cells(row, ends)}
        others = [other.name for other in section.contrasts.of(row)] or one.against
        cells["compared with"] = "<br>".join(others) or "–"
        cells.update(difference_cells(row, section.contrasts, ends))
        cells["the paper"] = _printed(one)
        cells["here"] = _agreement(row, section, one.claim)
        cells["training"] = format_seconds(row.cost("train_seconds"))
        told = [unlike(entries[one.name], entries[other]) for other in one.against[:1]]
        cells["remarks"] = "; ".join(filter(None, [remarks(row), *told]))
        lines.append(cells)
        plain = by_name.get(one.name + PLAIN)
        if plain is not None:
            same = {"row": plain.name, **count_cells(plain), **metric_cells(plain, ends)}
            lines.append({**dict.fromkeys(cells, "–"), **same, "remarks": f"weights of {one.name}"})
    return markdown_table(lines)


def _printed(row: PlanRow) -> str:
    """Return what the paper prints; the row that it is about is named if there are several."""
    if row.claim is None:
        return "–"
    return row.claim.words + (f", over {row.claim.over}" if row.against[1:] else "")


def _agreement(row: Row, section: Section, claim: Optional[Claim]) -> str:
    """Return whether the differences here have the printed direction, by metric."""
    others = [other for other in section.contrasts.of(row) if claim and claim.over == other.name]
    if claim is None or not others:
        return "–"
    told = []
    for protocol, end in directions_of(section.contrasts.rows, section.protocols).items():
        for metric in claim.metrics:
            found = section.contrasts.difference(row, others[0], protocol, metric)
            words = claim.agreement(metric, found)
            told += [f"{SHOWN.get(metric, metric)}{end}: {words}"] if words else []
    return ", ".join(told) or "–"
