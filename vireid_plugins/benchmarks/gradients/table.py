"""Write what was measured as Markdown, CSV and JSON."""

import statistics
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ..measuring import markdown_table
from .findings import RULE, Summary, findings, summaries, verdict
from .measure import BACKBONE, ELSEWHERE, PARTS
from .training import Watched

HEAD = ("term", "weight", "value", "gradient", "on", "share", "× others", "elsewhere", "remark")
CSV_HEAD = (
    *("update", "epoch", "phase", "term", "weight_key", "value", "gradient"),
    *PARTS,
    *("share", "times_others", "gradient_of_sum"),
)


def format_table(watched: Watched, title: str) -> str:
    """Return the tables and the findings as Markdown, for the screen and for a file."""
    done = f"{watched.updates} of {watched.whole} updates"
    parts = [f"# {title}\n\n{done}, {watched.per_epoch} in an epoch; seed {watched.seed}.\n"]
    every = summaries(watched)
    for phase in dict.fromkeys(one.phase for one in every):
        own = [one for one in every if one.phase == phase]
        updates = sorted({moment.update for one in own for moment in one.moments})
        at = ", ".join(map(str, updates))
        parts.append(f"## Phase {phase!r}: updates {at}\n")
        parts.append(markdown_table([list(HEAD), *map(_line, own)]))
        compared = on_backbone(own)
        if len(compared) > 1:
            parts.append("Mean cosines of the gradients on the backbone:\n")
            parts.append(markdown_table(_cosine_lines(compared)))
    parts.append("## What is found\n")
    parts.append("".join(f"- {sentence}\n" for sentence in findings(watched)))
    parts.append(f"{RULE} The table has medians (smallest to largest).\n")
    return "\n".join(parts)


def _line(one: Summary) -> List[str]:
    reached = [part for part in BACKBONE if one.norms(part)]
    places = ", ".join(f"{part} {number(statistics.median(one.norms(part)))}" for part in reached)
    return [
        one.name,
        one.key or "?",
        spread(one.values()),
        spread(one.gradients()),
        places or "–",
        spread([100 * share for share in one.shares()], " %"),
        spread(one.ratios()),
        spread(one.norms(ELSEWHERE)),
        verdict(one),
    ]


def spread(values: Sequence[float], unit: str = "") -> str:
    """Return the median, and the range if there are several values."""
    if not values:
        return "–"
    middle = f"{number(statistics.median(values))}{unit}"
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """Return a number with three digits."""
    return f"{value:.3g}"


def cosine_text(cosine: Optional[float]) -> str:
    """Return a cosine with two digits, without a sign before 0.00; "–": there is none."""
    return "–" if cosine is None else f"{round(cosine, 2) + 0.0:.2f}"


def on_backbone(own: Sequence[Summary]) -> List[Summary]:
    """Return the terms that reach the backbone: the others have no cosines."""
    return [one for one in own if one.gradients()]


def mean_cosine(one: Summary, other: Summary) -> Optional[float]:
    """Return the mean cosine of two terms over the moments at which both have a gradient."""
    found = [moment.cosine(one.name, other.name) for moment in one.moments]
    known = [cosine for cosine in found if cosine is not None]
    return statistics.fmean(known) if known else None


def _cosine_lines(own: Sequence[Summary]) -> List[List[str]]:
    lines = [["", *(one.name for one in own)]]
    for one in own:
        cosines = [mean_cosine(one, other) for other in own]
        lines.append([one.name, *map(cosine_text, cosines)])
    return lines


def csv_lines(watched: Watched) -> Tuple[List[str], Iterator[Tuple[Any, ...]]]:
    """Return the head and the lines of the CSV file: one for each moment and term."""
    names = list(dict.fromkeys(name for moment in watched.moments for name in moment.terms))
    head = [*CSV_HEAD, *(f"cosine_{name}" for name in names)]

    def lines() -> Iterator[Tuple[Any, ...]]:
        for moment in watched.moments:
            place = (moment.update, moment.epoch, moment.phase)
            for name, term in moment.terms.items():
                yield (
                    *place,
                    *(name, watched.weight_keys.get(name, "")),
                    *map(_cell, (term.value, term.gradient, *(term.norms[p] for p in PARTS))),
                    *map(_cell, (moment.share(name), moment.ratio(name), moment.objective)),
                    *(_cell(moment.cosine(name, other)) for other in names),
                )

    return head, lines()


def _cell(value: Optional[float]) -> Optional[str]:
    return None if value is None else f"{value:.6g}"


def as_json(watched: Watched) -> Dict[str, Any]:
    """Return everything that was measured as plain values."""
    return {
        "updates": watched.updates,
        "whole": watched.whole,
        "updates_per_epoch": watched.per_epoch,
        "seed": watched.seed,
        "phases": watched.phases,
        "weight_keys": watched.weight_keys,
        "findings": findings(watched),
        "moments": [
            {
                "update": moment.update,
                "epoch": moment.epoch,
                "phase": moment.phase,
                "gradient_of_sum": moment.objective,
                "terms": {
                    name: {
                        "value": term.value,
                        "gradient": term.gradient,
                        **term.norms,
                        "share": moment.share(name),
                        "times_others": moment.ratio(name),
                        "trains": list(term.trains),
                    }
                    for name, term in moment.terms.items()
                },
                "cosines": moment.cosines,
            }
            for moment in watched.moments
        ],
    }
