"""Datasets whose published row is the mean over models of several trials: which are run."""

from typing import Any, Dict, List, Optional, Sequence

from ..data.datasets.trials import SeparateTrials, check_trials
from ..data.labels import first_few
from ..errors import PlanError
from ..keys import value_of
from .entries import Entry
from .runs import DONE, PlannedRun

_MOST = 20  # how many numbers a message names


def choose_trials(
    entries: Sequence[Entry], wanted: Optional[Sequence[int]], opts: Sequence[Any]
) -> Optional[List[int]]:
    """Return the trials that are run, ascending; None if the comparison has no such variable.

    Args:
        entries: the configs.
        wanted: numbers; empty: all trials of the dataset; None: trials are not asked for.
        opts: KEY VALUE pairs for all configs.

    Raises:
        PlanError: a config has no trials, or other trials; a number is none of them, or the key of
            the trial is set too.
    """
    if wanted is None:
        return None
    trials = _common_trials(entries)
    if trials.key in opts[0::2]:
        raise PlanError(f"--set {trials.key}: leave it out; --trials names the trials.")
    numbers = sorted(wanted) or list(trials.numbers)
    strange = [number for number in numbers if number not in trials.numbers]
    if strange or len(set(numbers)) < len(numbers):
        raise PlanError(
            f"--trials is {' '.join(map(str, wanted))}; {trials.dataset} has the trials "
            f"{first_few(trials.numbers, _MOST)}. Name each at most once, or none of them: "
            "--trials alone runs all."
        )
    return numbers


def _common_trials(entries: Sequence[Entry]) -> SeparateTrials:
    found: Dict[SeparateTrials, str] = {}
    for entry in entries:
        if entry.trials is None:
            names = ", ".join(entry.cfg.DATASETS.NAMES) or "nothing"
            raise PlanError(
                f"--trials: {entry.shown_path} trains on {names}, which has no trials that need a "
                "model each: one model is evaluated by all trials of its protocol. Leave --trials "
                "out."
            )
        found.setdefault(entry.trials, entry.shown_path)
    if len(found) > 1:
        (first, path), (other, second) = list(found.items())[:2]
        raise PlanError(
            f"--trials: {path} has the trials of {first.dataset} ({first.key}), and {second} those "
            f"of {other.dataset} ({other.key}). Compare them separately."
        )
    return next(iter(found))


def check_lists(runs: Sequence[PlannedRun]) -> None:
    """Read the lists of all trials that are not done, before the first training.

    Raises:
        DatasetError: lists of a trial are absent or wrong; the message names all such trials.
    """
    todo = [run for run in runs if run.trial is not None and run.state != DONE]
    trials = todo[0].entry.trials if todo else None
    if trials is not None:
        asked = sorted({run.trial for run in runs if run.trial is not None})
        numbers = sorted({run.trial for run in todo if run.trial is not None})
        check_trials(todo[0].entry.cfg, trials, numbers, asked)


def trial_words(entries: Sequence[Entry], numbers: Optional[Sequence[int]]) -> List[str]:
    """Return the words of a command line that name the trials; none are named if all are run."""
    if numbers is None:
        return []
    trials = entries[0].trials
    whole = trials is not None and list(numbers) == list(trials.numbers)
    return ["--trials", *(() if whole else map(str, numbers))]


def hint(entries: Sequence[Entry], numbers: Optional[Sequence[int]]) -> str:
    """Return a sentence for those who run one trial of a dataset that has several; or nothing."""
    trials = entries[0].trials
    if numbers is not None or trials is None:
        return ""
    chosen = sorted({value_of(entry.cfg, trials.key) for entry in entries})
    return (
        f"{trials.dataset} has {len(trials.numbers)} {trials.word}s, and each needs a model of its "
        f"own; a published row is the mean over all of them. This comparison trains "
        f"{trials.word} {first_few(chosen, _MOST)} alone; add --trials to run all."
    )
