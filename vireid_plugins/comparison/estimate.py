"""Means and deviations of one metric, over seeds alone or over trials and seeds."""

import statistics
from dataclasses import dataclass
from functools import cached_property
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union


@dataclass(frozen=True)
class Estimate:
    """One metric of one config, in percent, over seeds."""

    values: Sequence[float]  # one value for each seed
    trial_stds: Sequence[float]  # of each seed, over the protocol's trials; none: it has one trial

    @property
    def mean(self) -> float:
        """Return the mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> Optional[float]:
        """Return the sample standard deviation over seeds (n - 1); None for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def trials_std(self) -> Optional[float]:
        """Return the mean over seeds of the deviation over trials; None for one trial."""
        return statistics.fmean(self.trial_stds) if self.trial_stds else None

    @property
    def spread(self) -> Optional[float]:
        """Return what stands after ± in a table: the deviation over seeds."""
        return self.std


@dataclass(frozen=True)
class TrialEstimate:
    """One metric of one config, in percent, over trials that have a model each, and over seeds."""

    of_runs: Mapping[Tuple[int, int], float]  # by (trial, seed)

    @property
    def values(self) -> List[float]:
        """Return the value of every run."""
        return list(self.of_runs.values())

    @cached_property
    def by_trial(self) -> Dict[int, float]:
        """Return the mean over seeds of each trial."""
        trials = sorted({trial for trial, _ in self.of_runs})
        return {
            number: statistics.fmean(v for (trial, _), v in self.of_runs.items() if trial == number)
            for number in trials
        }

    @cached_property
    def by_seed(self) -> Dict[int, List[float]]:
        """Return the values of each seed that has every trial which any seed has."""
        found: Dict[int, List[float]] = {}
        for (_, seed), value in sorted(self.of_runs.items()):
            found.setdefault(seed, []).append(value)
        return {seed: of for seed, of in found.items() if len(of) == len(self.by_trial)}

    @property
    def mean(self) -> float:
        """Return the mean over trials; the value of a trial is the mean over its seeds."""
        return statistics.fmean(self.by_trial.values())

    @property
    def std(self) -> Optional[float]:
        """Return the sample standard deviation over seeds of the mean over trials.

        It is None if fewer than two seeds have every trial.
        """
        means = [statistics.fmean(of) for of in self.by_seed.values()]
        return statistics.stdev(means) if len(means) > 1 else None

    @property
    def trials_std(self) -> float:
        """Return the population standard deviation over trials, as the literature prints it.

        With several seeds it is the mean over those that have every trial, or else the deviation
        of the means over seeds.
        """
        single = [statistics.pstdev(of) for of in self.by_seed.values()]
        return statistics.fmean(single) if single else statistics.pstdev(self.by_trial.values())

    @property
    def spread(self) -> Optional[float]:
        """Return what stands after ± in a table: the deviation over trials; None for one trial."""
        return self.trials_std if len(self.by_trial) > 1 else None


AnyEstimate = Union[Estimate, TrialEstimate]
