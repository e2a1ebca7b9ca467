"""Say below a table what its numbers are."""

from typing import List, Sequence

from .columns import COMPARED, SHOWN
from .contrasts import Contrasts
from .noise import student
from .summary import Row

_OVER_SEEDS = """\
`a ± s`: mean and sample standard deviation (n - 1) over seeds; `trials`: mean over seeds \
of the standard deviation over the galleries that the protocol draws."""
_OVER_TRIALS = """\
`a ± s`: mean and population standard deviation over the {number} {word}s of {dataset}, each of \
which has a model of its own."""
_INCOMPLETE = " **Some rows lack runs**; they are over those that are complete."
_AND_SEEDS = """\
 With several seeds, s is the mean over seeds of that deviation; `seeds` is the sample standard \
deviation (n - 1) over seeds of the mean over {word}s."""
_DIFFERENCE = """\
Δ: mean minus that of {baseline}, with its 95 % interval, Δ ± t · s · sqrt(1/n₁ + 1/n₂); *beyond \
noise* means that 0 lies outside. s is the deviation over seeds, **pooled over all rows**: \
{pooled}."""
_POOLED = "{values}, with {degrees} degrees of freedom (the sum of n - 1), so t = {t:.2f}"
_UNEVEN = """\
**The rows do not scatter alike**: over seeds, {metric} of *{row}* has a deviation of {std:.2f}, \
and that of the other rows {others:.2f}. So the intervals of differences to or from this row are \
too narrow, and all other intervals are too wide."""
_UNKNOWN = "not known yet, since no row has two seeds"
_PAIRED = """\
Δ: mean of the differences to {baseline} {word} by {word}, over those n that both have, with its \
95 % interval, Δ ± t · s/√n; *beyond noise* means that 0 lies outside. s is the sample standard \
deviation of these differences, and t Student's for n - 1 degrees of freedom."""
_CHANCE = """\
Without any true difference, one in twenty would be beyond noise; {number} {are} judged here."""
_WEIGHTS = """\
Every number is of `{weights}`, the weights after the last iteration; none was chosen on the test \
set. Training: mean wall time of all epochs, without start-up, checkpoints and evaluation{jobs}."""
_COSTS = """\
Parameters: all of the model in training, classifiers included. FLOPs: two per multiply-add, of \
convolutions and matrix products. Memory: {memory}, mean over {runs}."""
_MEMORY = {
    "cuda": "largest that PyTorch allocated on the GPU in training",
    "cpu": "largest resident set of the training process, without those that load images",
}


def format_notes(
    contrasts: Contrasts, protocols: Sequence[str], baseline: str = "", with_costs: bool = True
) -> str:
    """Return what the columns of the table mean. At least one run must be complete.

    Args:
        contrasts: the table.
        protocols: the protocol lines that are shown.
        baseline: what the rows are compared with, in words; empty: the only baseline.
        with_costs: whether the table has columns of parameters, operations and memory.
    """
    rows = contrasts.rows
    over_trials = rows[0].over_trials
    results = [result for row in rows for result in row.results]
    devices = sorted({result["device"] for result in results})
    jobs = max(result["runs_at_once"] for result in results)
    weights = _WEIGHTS.format(
        weights=results[0]["weights"],
        jobs=f" (up to {jobs} runs shared the machine: compare with care)" if jobs > 1 else "",
    )
    costs = _COSTS.format(
        memory="; ".join(_MEMORY.get(device, device) for device in devices),
        runs="runs" if over_trials else "seeds",
    )
    baseline = baseline or f"the baseline ({', '.join(contrasts.baselines)})"
    parts = [spread_over_trials(rows) if over_trials else _OVER_SEEDS]
    if contrasts.against and over_trials:
        parts += [_PAIRED.format(baseline=baseline, word=_word(rows[0]))]
    elif contrasts.against:
        parts += [_DIFFERENCE.format(baseline=baseline, pooled=_pooled(contrasts, protocols))]
        parts += uneven(contrasts, protocols)
    parts += chance(contrasts, protocols)
    return " ".join(["Percent.", *parts, weights, *([costs] if with_costs else [])])


def _pooled(contrasts: Contrasts, protocols: Sequence[str]) -> str:
    """Return the pooled deviations of the metrics that are compared, in words."""
    values, degrees = [], 0
    for protocol in protocols:
        for metric in COMPARED:
            noise = contrasts.noise(protocol, metric)
            if noise is not None:
                values.append(f"{SHOWN.get(metric, metric)} {noise.std:.2f}")
                degrees = noise.degrees
    if not values:
        return _UNKNOWN
    return _POOLED.format(values=", ".join(values), degrees=degrees, t=student(degrees))


def uneven(contrasts: Contrasts, protocols: Sequence[str]) -> List[str]:
    """Return a sentence for each metric in which one row scatters more than the others."""
    found = []
    for protocol in protocols:
        for metric in COMPARED:
            outlier = contrasts.scatters_more(protocol, metric)
            if outlier is not None:
                row = contrasts.rows[outlier.index].name
                words = {"row": row, "std": outlier.std, "others": outlier.others.std}
                found.append(_UNEVEN.format(metric=SHOWN.get(metric, metric), **words))
    return found


def chance(contrasts: Contrasts, protocols: Sequence[str]) -> List[str]:
    """Return a sentence on how many differences are judged; nothing if none is."""
    found = [
        contrasts.difference(row, other, protocol, metric)
        for row, other in contrasts.pairs
        for protocol in protocols
        for metric in COMPARED
    ]
    number = sum(one is not None and one.bound is not None for one in found)
    return [_CHANCE.format(number=number, are="is" if number == 1 else "are")] if number else []


def spread_over_trials(rows: Sequence[Row]) -> str:
    """Return what ± means in a table of trials that have a model each."""
    trials = rows[0].runs[0].entry.trials
    assert trials is not None, "rows are over trials only if their dataset has some"
    words = {"number": len(rows[0].trials), "word": trials.word, "dataset": trials.dataset}
    several = any(len({run.seed for run in row.runs}) > 1 for row in rows)
    lacking = any(len(row.results) < len(row.runs) for row in rows)
    parts = _OVER_TRIALS + (_AND_SEEDS if several else "") + (_INCOMPLETE if lacking else "")
    return parts.format(**words)


def trial_facts(rows: Sequence[Row]) -> List[str]:
    """Return which trials of the dataset the runs have; nothing if it has no separate ones."""
    trials = rows[0].runs[0].entry.trials
    if trials is None:
        return []
    numbers = sorted({run.chosen_trial for row in rows for run in row.runs})
    told = f"Trials of {trials.dataset}: {', '.join(map(str, numbers))}"
    if len(numbers) == len(trials.numbers):
        return [f"{told}; a model for each"]
    return [
        f"{told}, of {len(trials.numbers)}; **a published row is the mean over all "
        f"{len(trials.numbers)}** (`--trials`)"
    ]


def _word(row: Row) -> str:
    trials = row.runs[0].entry.trials
    return "trial" if trials is None else trials.word
