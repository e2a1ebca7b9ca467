"""Write the outcome for a terminal and for a paper: means and deviations, a row for each config."""

from typing import List, Sequence

from tabulate import tabulate

from ..readers.text import readable
from .columns import count_runs, directions_of, metric_cells
from .notes import spread_over_trials, trial_facts
from .summary import Row, choose_protocols
from .transductive import transductive_words


def format_plain(rows: Sequence[Row], protocol: str = "") -> str:
    """Return a table for a terminal, with a line on what ± is; empty if no run is complete.

    Args:
        rows: the configs.
        protocol: the protocol line that is shown; empty: the first, in all its directions.
    """
    if not any(row.results for row in rows):
        return ""
    protocols = choose_protocols(rows, protocol)
    ends = directions_of(rows, protocols)
    lines = [{"config": r.name, "runs": count_runs(r), **metric_cells(r, ends)} for r in rows]
    text = tabulate(lines, headers="keys", tablefmt="simple", disable_numparse=True)
    said = [f"{row.name}: {transductive_words(one)}" for row in rows for one in row.results]
    kinds = "".join(f"\n{words}" for words in dict.fromkeys(said) if not words.endswith(": "))
    return readable(f"{text}\n{', '.join(protocols)}; {_meaning(rows)}{kinds}")


def _meaning(rows: Sequence[Row]) -> str:
    what = "`a ± s`: mean and sample standard deviation over seeds."
    if any(row.over_trials for row in rows):
        what = spread_over_trials(rows)
    facts = "".join(f" {one}." for one in trial_facts(rows))
    return f"percent. {what}{facts}".replace("**", "")


def format_latex(rows: Sequence[Row], protocol: str = "") -> str:
    r"""Return a LaTeX table with a row for each config; it needs ``\usepackage{booktabs}``.

    At least one run must be complete. Incomplete rows are marked.

    Args:
        rows: the configs.
        protocol: the protocol line that is shown; empty: the first, in all its directions.
    """
    protocols = choose_protocols(rows, protocol)
    ends = directions_of(rows, protocols)
    names = [_escaped(name) for name in metric_cells(rows[0], ends)]
    lines = [
        "% " + ", ".join(protocols),
        *(f"% {line}" for line in [_meaning(rows)]),
        rf"\begin{{tabular}}{{l{'c' * len(names)}}}",
        r"\toprule",
        " & ".join(["method", *names]) + r" \\",
        r"\midrule",
        *(_latex_row(row, list(metric_cells(row, ends).values())) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(row: Row, cells: List[str]) -> str:
    incomplete = f"  % incomplete: {count_runs(row)}" if len(row.results) < len(row.runs) else ""
    values = [cell.replace("±", r"$\pm$").replace("–", "--") for cell in cells]
    return " & ".join([_escaped(row.name), *values]) + r" \\" + incomplete


def _escaped(text: str) -> str:
    for sign in "&%$#_{}":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("→", r"$\to$")
