"""Say below a table what its numbers are."""

from typing import List, Sequence

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
Δ: mean minus the baseline's ({baseline}); *beyond noise* means |Δ| > 2 · sqrt(s₁²/n₁ + s₂²/n₂)."""
_PAIRED = """\
Δ: mean of the differences to the baseline ({baseline}) {word} by {word}, over those n that both \
have; *beyond noise* means |Δ| > 2 · s/√n, with s the sample standard deviation of these \
differences."""
_COSTS = """\
Every number is of `{weights}`, the weights after the last iteration; none was chosen on the test \
set. Training: mean wall time of all epochs, without start-up, checkpoints and evaluation{jobs}. \
Parameters: all of the model in training, classifiers included. FLOPs: two per multiply-add, of \
convolutions and matrix products. Memory: {memory}, mean over {runs}."""
_MEMORY = {
    "cuda": "largest that PyTorch allocated on the GPU in training",
    "cpu": "largest resident set of the training process, without those that load images",
}


def format_notes(rows: Sequence[Row], baseline: Row) -> str:
    """Return what the columns of the table mean. At least one run must be complete."""
    results = [result for row in rows for result in row.results]
    devices = sorted({result["device"] for result in results})
    jobs = max(result["runs_at_once"] for result in results)
    costs = _COSTS.format(
        weights=results[0]["weights"],
        jobs=f" (up to {jobs} runs shared the machine: compare with care)" if jobs > 1 else "",
        memory="; ".join(_MEMORY.get(device, device) for device in devices),
        runs="runs" if baseline.over_trials else "seeds",
    )
    if not baseline.over_trials:
        parts = [_OVER_SEEDS, _DIFFERENCE.format(baseline=baseline.name)]
    else:
        parts = [spread_over_trials(rows)]
        word = _word(baseline)
        parts += [_PAIRED.format(baseline=baseline.name, word=word)] if len(rows) > 1 else []
    return " ".join(["Percent.", *parts, costs])


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
