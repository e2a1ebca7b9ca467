"""Write the outcome as a table in Markdown, for people, and write all other files."""

import shlex
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..evaluation.rules import CMC_COUNTS
from ..files import write_atomically
from ..readers.rendering import complete, setting_words
from ..readers.text import readable
from .carried import RESULTS, format_results
from .columns import directions_of, markdown_table, row_cells, trial_cells
from .config_files import hide_paths
from .contrasts import with_one_baseline
from .export import VERSIONS, format_runs, format_summary
from .notes import format_notes, trial_facts
from .plot import draw_plot
from .printed import format_latex
from .summary import Row, choose_protocols

TABLE, RUNS, SUMMARY, PLOT = "table.md", "table.csv", "summary.csv", "plot.png"
LATEX = "table.tex"


@dataclass(frozen=True)
class Outcome:
    """All that the table is made from."""

    rows: Sequence[Row]
    seeds: Sequence[int]
    command: str  # the command that repeats the comparison
    title: str = ""
    protocol: str = ""  # the protocol line that is shown; empty: the first
    baseline: Optional[str] = None  # name of a config; None: as ``choose_baseline`` finds it


def write_outcome(outcome: Outcome, folder: Path) -> List[Path]:
    """Write ``table.md``, ``table.csv``, ``table.tex``, ``summary.csv`` and ``plot.png``.

    ``runs.json`` has the results themselves, for ``--also`` on another machine. A kill never leaves
    an incomplete file.

    Returns:
        The files that were written: none if no run has ended, the first two if all have failed.
    """
    has_results = any(row.results for row in outcome.rows)
    if not has_results and not any(row.failures for row in outcome.rows):
        return []
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        TABLE: readable(format_markdown(outcome, folder)).encode(),
        RUNS: readable(format_runs(outcome.rows)).encode(),
    }
    if has_results:
        protocols = choose_protocols(outcome.rows, outcome.protocol)
        contrasts = with_one_baseline(outcome.rows, outcome.baseline)
        latex = format_latex(outcome.rows, outcome.protocol)
        contents[LATEX] = readable(latex).encode()
        contents[SUMMARY] = readable(format_summary(contrasts)).encode()
        title = outcome.title or default_title(outcome)
        contents[PLOT] = draw_plot(contrasts, protocols, title)
        contents[RESULTS] = format_results(outcome.rows).encode()
    for name, content in contents.items():
        write_atomically(folder / name, partial(_write, content))
    return [folder / name for name in contents]


def _write(content: bytes, file: Any) -> None:
    file.write(content)


def default_title(outcome: Outcome) -> str:
    """Return a title: how many configs are compared on which dataset."""
    tests = outcome.rows[0].runs[0].entry.cfg.DATASETS.TESTS
    number = len(outcome.rows)
    return f"{number} config{'s' * (number != 1)} on {', '.join(tests)}"


def format_markdown(outcome: Outcome, folder: Path) -> str:
    """Return title, provenance, one line for each config, and what the columns mean.

    Args:
        outcome: what is written.
        folder: where the file will be, for links.
    """
    head = f"# {outcome.title or default_title(outcome)}\n\n"
    results = [result for row in outcome.rows for result in row.results]
    command = f"```\n{outcome.command}\n```\n"
    if not results:
        failed = [
            f"- {row.name}: {hide_paths(text)}" for row in outcome.rows for text in row.failures
        ]
        return head + command + "\nNo run is complete.\n\n" + "\n".join(failed) + "\n"
    protocols = choose_protocols(outcome.rows, outcome.protocol)
    contrasts = with_one_baseline(outcome.rows, outcome.baseline)
    facts = "\n".join(f"- {fact}" for fact in provenance(results, protocols, outcome))
    ends = directions_of(outcome.rows, protocols)
    table = markdown_table([row_cells(row, contrasts, ends, folder) for row in outcome.rows])
    notes = format_notes(contrasts, protocols)
    singles = [cells for row in outcome.rows for cells in trial_cells(row, ends)]
    each = f"\n## Each trial\n\n{markdown_table(singles)}\n" if singles else ""
    picture = f"![rank-1 and mAP]({PLOT})\n"
    return f"{head}{command}\n{facts}\n\n{table}\n\n{notes}\n\n{picture}{each}"


def provenance(
    results: Sequence[Dict[str, Any]], protocols: Sequence[str], outcome: Outcome
) -> List[str]:
    """Return the facts that decide the numbers; if runs differ, each value with its count.

    Args:
        results: results of all complete runs.
        protocols: the protocol lines that are shown.
        outcome: what is written.
    """
    environments = [result["environment"] for result in results]
    versions = [
        ", ".join(f"{name} {env[name]}" for name in VERSIONS if name in env) for env in environments
    ]
    machines = [
        env["GPU"]
        if "GPU" in env and result["device"] == "cuda"
        else f"{env['threads']} CPU thread{'s' * (env['threads'] != '1')} per run, {env['system']}"
        for env, result in zip(environments, results)
    ]
    lines = [
        (one["name"], line)
        for one in results
        for line in one["protocols"]
        if line["key"] in protocols
    ]
    models = len(outcome.rows[0].trials)
    first = [row for row in outcome.rows if not row.end]  # a second row has the same runs
    done, total = sum(len(row.results) for row in first), sum(len(row.runs) for row in first)
    facts = [
        f"Data: {_distinct([_data_words(result) for result in results])}",
        *(f"Protocol: {words}" for words in _by_protocol(lines, models)),
        f"Features: {_of_configs([(name, feature_words(line)) for name, line in lines])}",
        f"Seeds: {', '.join(map(str, outcome.seeds))} ({done} of {total} runs complete)",
        *trial_facts(outcome.rows),
        f"Iterations: {_distinct([result['iterations'] for result in results])}; images per batch: "
        f"{_distinct([result['images_per_batch'] for result in results])}",
        f"Machine: {_distinct(machines)}",
        f"Versions: {_distinct(versions)}",
        f"Commit: {_distinct([result['commit'] or 'unknown' for result in results])}",
        f"Date: {_dates([result['finished'] for result in results])}",
    ]
    for verb, name in (("trained", "train_fingerprint"), ("tested", "test_sets")):
        if _differ(outcome.rows, name):
            facts.insert(0, f"**Runs were {verb} on different images: they cannot be compared.**")
    if _differ(outcome.rows, "rendered"):
        facts.insert(
            0, "**Images were rendered with different settings: runs cannot be compared.**"
        )
    return facts


def _differ(rows: Sequence[Row], name: str) -> bool:
    """Return whether results on one trial have different values; unknown ones do not count."""
    first: Dict[Any, Any] = {}
    for row in rows:
        for run, result in zip(row.runs, row.found):
            value = result.get(name) if result else None
            if name == "rendered" and value:
                value = {dataset: complete(settings) for dataset, settings in value.items()}
            if value and first.setdefault(run.chosen_trial, value) != value:
                return True
    return False


def _by_protocol(lines: Sequence[Tuple[str, Dict[str, Any]]], models: int) -> List[str]:
    """Return each protocol line that is shown, in words; ``lines`` have the configs' names."""
    words: Dict[str, List[Tuple[str, str]]] = {}
    for name, line in lines:
        words.setdefault(line["key"], []).append((name, protocol_words(line, models)))
    return [_of_configs(of) for of in words.values()]


def protocol_words(line: Dict[str, Any], models: int = 0) -> str:
    """Return a protocol line in words: direction, gallery, trials, queries.

    Args:
        line: what a result says of the protocol.
        models: the number of trials that have a model each; 0: one model serves all.
    """
    trials = f"{line['trials']} trial{'s' * (line['trials'] != 1)}"
    parts = [
        f"{line['key']}, {line['direction'].replace('_', ' ')}",
        f"gallery {line['gallery_rule']}",
        f"{trials} with each of {models} models" if models else trials,
        f"{line['queries']} queries ({line['queries_left_out']:g} without a match left out)",
        f"{line['gallery']:g} gallery images",
    ]
    if "cmc" in line:  # older records do not say it
        parts.append(f"CMC counts {CMC_COUNTS.get(line['cmc'], line['cmc'])}")
    return ", ".join(parts)


def feature_words(line: Dict[str, Any]) -> str:
    """Return in words how images are compared: feature, metric, flip, re-ranking."""
    flip = "flip" if line["flip"] else "no flip"
    rerank = f"re-ranking {line['reranking']}" if line["reranking"] else "no re-ranking"
    words = f"{line['feature']}, {line['metric']}, {flip}, {rerank}"
    return f"{words}; transductive: {line['transductive']}" if line.get("transductive") else words


def _data_words(result: Dict[str, Any]) -> str:
    words = []
    for name, rendered in result["rendered"].items():
        settings = ", ".join(f"{k} {setting_words(v)}" for k, v in sorted(rendered.items()))
        words.append(f"{name}, rendered by SynthVI ({settings})" if rendered else name)
    trained = f"{result['train_identities']} identities, {result['train_images']} images"
    return f"{'; '.join(words)}; trained on {trained}"


def _distinct(values: Sequence[Any]) -> str:
    counts = Counter(map(str, values))
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(
        f"{value} ({count} run{'s' * (count != 1)})" for value, count in counts.most_common()
    )


def _of_configs(values: Sequence[Tuple[str, str]]) -> str:
    """Return what the configs have in common or, where they differ, each value with its configs."""
    names: Dict[str, List[str]] = {}
    for name, value in values:
        names.setdefault(value, []).append(name)
    if len(names) == 1:
        return next(iter(names))
    return "; ".join(f"{value} ({', '.join(dict.fromkeys(of))})" for value, of in names.items())


def _dates(finished: Sequence[str]) -> str:
    days = sorted({text[:10] for text in finished})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def repeat_command(words: Sequence[str]) -> str:
    """Return a line for a shell, without absolute paths."""
    return "vireid compare " + " ".join(shlex.quote(hide_paths(word)) for word in words)
