"""Write the outcome as a table in Markdown, for people, and write all other files."""

import os
import shlex
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..evaluation.rules import CMC_COUNTS
from ..files import PACKAGE, write_atomically
from ..readers.text import readable
from .config_files import hide_paths
from .export import VERSIONS, format_runs, format_summary
from .kept import METRICS
from .plot import draw_plot
from .summary import Estimate, Row, choose_baseline, choose_protocol, difference

TABLE, RUNS, SUMMARY, PLOT = "table.md", "table.csv", "summary.csv", "plot.png"
_SHOWN = {"Rank-1": "rank-1"}
_COMPARED = ("Rank-1", "mAP")  # metrics that the Markdown table compares with the baseline
_NOTES = """\
Percent. `a ± s`: mean and sample standard deviation (n - 1) over seeds; `trials`: mean over seeds \
of the standard deviation over the galleries that the protocol draws. Δ: mean minus the baseline's \
({baseline}); *beyond noise* means |Δ| > 2 · sqrt(s₁²/n₁ + s₂²/n₂). \
Every number is of `{weights}`, the weights after the last iteration; none was chosen on the test \
set. Training: mean wall time of all epochs, without start-up, checkpoints and evaluation{jobs}. \
Parameters: all of the model in training, classifiers included. FLOPs: two per multiply-add, of \
convolutions and matrix products. Memory: {memory}, mean over seeds."""
_MEMORY = {
    "cuda": "largest that PyTorch allocated on the GPU in training",
    "cpu": "largest resident set of the training process, without those that load images",
}


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
    """Write ``table.md``, ``table.csv``, ``summary.csv`` and ``plot.png``.

    A kill never leaves an incomplete file.

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
        protocol = choose_protocol(outcome.rows, outcome.protocol)
        baseline = choose_baseline(outcome.rows, outcome.baseline)
        contents[SUMMARY] = readable(format_summary(outcome.rows, outcome.baseline)).encode()
        contents[PLOT] = draw_plot(
            outcome.rows, baseline, protocol, outcome.title or default_title(outcome)
        )
    for name, content in contents.items():
        write_atomically(folder / name, partial(_write, content))
    return [folder / name for name in contents]


def _write(content: bytes, file: Any) -> None:
    file.write(content)


def default_title(outcome: Outcome) -> str:
    """Return a title: how many configs are compared on which dataset."""
    tests = outcome.rows[0].runs[0].entry.cfg.DATASETS.TESTS
    return f"{len(outcome.rows)} configs on {', '.join(tests)}"


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
    protocol = choose_protocol(outcome.rows, outcome.protocol)
    baseline = choose_baseline(outcome.rows, outcome.baseline)
    facts = "\n".join(f"- {fact}" for fact in provenance(results, protocol, outcome))
    devices = sorted({result["device"] for result in results})
    jobs = max(result["runs_at_once"] for result in results)
    notes = _NOTES.format(
        baseline=baseline.name,
        weights=results[0]["weights"],
        jobs=f" (up to {jobs} runs shared the machine: compare with care)" if jobs > 1 else "",
        memory="; ".join(_MEMORY.get(device, device) for device in devices),
    )
    table = _markdown_table([_cells(row, baseline, protocol, folder) for row in outcome.rows])
    return f"{head}{command}\n{facts}\n\n{table}\n\n{notes}\n\n![rank-1 and mAP]({PLOT})\n"


def provenance(results: Sequence[Dict[str, Any]], protocol: str, outcome: Outcome) -> List[str]:
    """Return the facts that decide the numbers; if runs differ, each value with its count.

    Args:
        results: results of all complete runs.
        protocol: the protocol line that is shown.
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
        if line["key"] == protocol
    ]
    total = len(outcome.rows) * len(outcome.seeds)
    facts = [
        f"Data: {_distinct([_data_words(result) for result in results])}",
        f"Protocol: {_of_configs([(name, protocol_words(line)) for name, line in lines])}",
        f"Features: {_of_configs([(name, feature_words(line)) for name, line in lines])}",
        f"Seeds: {', '.join(map(str, outcome.seeds))} ({len(results)} of {total} runs complete)",
        f"Iterations: {_distinct([result['iterations'] for result in results])}; images per batch: "
        f"{_distinct([result['images_per_batch'] for result in results])}",
        f"Machine: {_distinct(machines)}",
        f"Versions: {_distinct(versions)}",
        f"Commit: {_distinct([result['commit'] or 'unknown' for result in results])}",
        f"Date: {_dates([result['finished'] for result in results])}",
    ]
    if len({result["train_fingerprint"] for result in results}) > 1:
        facts.insert(0, "**Runs were trained on different images: they cannot be compared.**")
    known = [result["test_sets"] for result in results if result.get("test_sets")]
    if any(one != known[0] for one in known):
        facts.insert(0, "**Runs were tested on different images: they cannot be compared.**")
    return facts


def protocol_words(line: Dict[str, Any]) -> str:
    """Return a protocol line in words: direction, gallery, trials, queries."""
    parts = [
        f"{line['key']}, {line['direction'].replace('_', ' ')}",
        f"gallery {line['gallery_rule']}",
        f"{line['trials']} trial{'s' * (line['trials'] != 1)}",
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
    return f"{line['feature']}, {line['metric']}, {flip}, {rerank}"


def _data_words(result: Dict[str, Any]) -> str:
    words = []
    for name, rendered in result["rendered"].items():
        settings = ", ".join(f"{key} {value}" for key, value in sorted(rendered.items()))
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


def _cells(row: Row, baseline: Row, protocol: str, folder: Path) -> Dict[str, str]:
    estimates = {metric: row.estimate(protocol, metric) for metric in METRICS}
    wanted, there = len(row.runs), len(row.results)
    cells = {
        "config": _link(row, folder),
        "seeds": str(there) if there == wanted else f"{there} of {wanted} seeds",
    }
    for metric, estimate in estimates.items():
        cells[_SHOWN.get(metric, metric)] = format_estimate(estimate)
    for metric in _COMPARED:
        reference = baseline.estimate(protocol, metric)
        cells[f"Δ {_SHOWN.get(metric, metric)}"] = (
            "baseline" if row is baseline else format_difference(estimates[metric], reference)
        )
    cells["training"] = format_seconds(row.cost("train_seconds"))
    cells["parameters (M)"] = _scaled(row.cost("parameters"), 1e6, 2)
    cells["GFLOPs per test image"] = _scaled(row.cost("flops_per_image"), 1e9, 3)
    cells["peak memory (MiB)"] = _scaled(row.cost("peak_memory_mib"), 1, 0)
    logs = f"; see `{row.name}/seed*/output.txt`" if row.failures else ""
    cells["remarks"] = hide_paths("; ".join(row.failures)) + logs
    return cells


def _markdown_table(lines: Sequence[Dict[str, str]]) -> str:
    names = [name for name in lines[0] if name != "remarks" or any(c[name] for c in lines)]
    text = [" | ".join(names), "|".join("---" for _ in names)]
    text += [" | ".join(cells[name].replace("|", r"\|") for name in names) for cells in lines]
    return "\n".join(f"| {line} |" if "---|" not in line else f"|{line}|" for line in text)


def _link(row: Row, folder: Path) -> str:
    """Return the name, as a link to the config if both belong to one checkout."""
    path, root = row.runs[0].entry.path, PACKAGE.parent.resolve()
    if root in path.resolve().parents and root in folder.resolve().parents:
        return f"[{row.name}]({Path(os.path.relpath(path, folder.resolve())).as_posix()})"
    return row.name


def format_estimate(estimate: Optional[Estimate]) -> str:
    """Return ``31.2 ± 1.1 (trials 2.0)``, or without ± for one seed."""
    if estimate is None:
        return "–"
    spread = "" if estimate.std is None else f" ± {estimate.std:.1f}"
    return f"{estimate.mean:.1f}{spread} (trials {estimate.trials_std:.1f})"


def format_difference(own: Optional[Estimate], baseline: Optional[Estimate]) -> str:
    """Return ``+2.3 (beyond noise)``."""
    if own is None or baseline is None:
        return "–"
    found = difference(own, baseline)
    return f"{found.delta:+.1f} ({found.verdict})"


def format_seconds(seconds: Optional[float]) -> str:
    """Return ``mm:ss``, or ``h:mm:ss`` from an hour on."""
    if seconds is None:
        return "n/a"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def _scaled(value: Optional[float], unit: float, digits: int) -> str:
    return "n/a" if value is None else f"{value / unit:.{digits}f}"


def repeat_command(words: Sequence[str]) -> str:
    """Return a line for a shell, without absolute paths."""
    return "vireid compare " + " ".join(shlex.quote(hide_paths(word)) for word in words)
