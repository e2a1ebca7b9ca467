"""Which rows of a table are compared with which, and the scatter by which they are judged."""

from dataclasses import dataclass
from functools import cached_property
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .noise import MeanDifference, Noise, Outlier, difference, pooled, scatters_more
from .summary import Row, choose_baseline


@dataclass(frozen=True)
class Contrasts:
    """The rows of one table, and for each the rows that it is compared with."""

    rows: Sequence[Row]
    against: Mapping[str, Sequence[str]]  # names of rows, by the name of a row

    def of(self, row: Row) -> List[Row]:
        """Return the rows that ``row`` is compared with, the most alike first."""
        return [self._by_name[name] for name in self.against.get(row.name, ())]

    @property
    def pairs(self) -> List[Tuple[Row, Row]]:
        """Return every row with every row that it is compared with, if both have results."""
        return [
            (row, other)
            for row in self.rows
            for other in self.of(row)
            if row.results and other.results
        ]

    @cached_property
    def baselines(self) -> List[str]:
        """Return the names of the rows that others are compared with, in order."""
        wanted = {name for names in self.against.values() for name in names}
        return [row.name for row in self.rows if row.name in wanted]

    def noise(self, protocol: str, metric: str) -> Optional[Noise]:
        """Return the scatter over seeds, pooled over all rows; None if no row has two seeds."""
        key = (protocol, metric)
        if key not in self._noise:
            self._noise[key] = pooled(row.estimate(protocol, metric) for row in self.rows)
        return self._noise[key]

    def scatters_more(self, protocol: str, metric: str) -> Optional[Outlier]:
        """Return the row that scatters more over seeds than the others do; None if none does."""
        return scatters_more([row.estimate(protocol, metric) for row in self.rows])

    def difference(
        self, row: Row, other: Row, protocol: str, metric: str
    ) -> Optional[MeanDifference]:
        """Return the mean of ``row`` minus that of ``other``; None if one has no result."""
        own, reference = row.estimate(protocol, metric), other.estimate(protocol, metric)
        if own is None or reference is None:
            return None
        return difference(own, reference, self.noise(protocol, metric))

    @cached_property
    def _by_name(self) -> Dict[str, Row]:
        return {row.name: row for row in self.rows}

    @cached_property
    def _noise(self) -> Dict[Tuple[str, str], Optional[Noise]]:
        return {}


def with_one_baseline(rows: Sequence[Row], wanted: Optional[str] = None) -> Contrasts:
    """Return the rows, each compared with one of them; see ``choose_baseline``."""
    baseline = choose_baseline(rows, wanted)
    others = [row.name for row in rows if row is not baseline]
    return Contrasts(rows, {name: [baseline.name] for name in others})
