"""The result of an evaluation: a table with a row for each protocol, for people and for JSON."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional

from tabulate import tabulate

from .rules import CMC_COUNTS

RANKS = (1, 5, 10, 20)
METRIC_NAMES = (*(f"Rank-{rank}" for rank in RANKS), "mAP", "mINP")


class ImageSet(NamedTuple):
    """The images of a test set, by number and fingerprint."""

    name: str  # of the dataset
    number: int
    fingerprint: str  # see ``data.item.fingerprint_of``


@dataclass(frozen=True)
class ResultRow:
    """The row of one protocol: means and population standard deviations over trials, in percent."""

    key: str  # <dataset>/<mode or direction>/<single|multi|variant>
    direction: str
    gallery_rule: str
    num_trials: int
    num_queries: int
    num_invalid_queries: float  # mean over trials of queries left out for having no valid match
    num_gallery: float  # mean over trials
    mean: Dict[str, float]
    std: Dict[str, float]
    cmc: str = "image"  # or "identity", see ``RankRules``
    never_compared: str = ""  # in words, see ``RankRules.words``
    transductive: str = ""  # in words: what saw all images of a trial at once; empty: nothing


@dataclass(frozen=True)
class ResultTable:
    """Everything that was measured on one test set, and how."""

    rows: List[ResultRow]
    feature: str
    metric: str
    flip: bool
    reranking: str = ""  # in words: every step that uses more than the two images of a pair
    note: str = ""
    images: Optional[ImageSet] = None  # None: not known
    metrics: Dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", self._flat())

    def _flat(self) -> Dict[str, float]:
        """Return every metric of each row, ``<key>/<metric>`` and ``<key>/<metric>_std``.

        Another entry, ``metric``, is (Rank-1 + mAP) / 2 of the first row, or of the first
        transductive one if there is any. By it FastReID chooses the best model.
        """
        flat: Dict[str, float] = {}
        for row in self.rows:
            for name in METRIC_NAMES:
                flat[f"{row.key}/{name}"] = row.mean[name]
                flat[f"{row.key}/{name}_std"] = row.std[name]
        first = next((row for row in self.rows if row.transductive), self.rows[0]).mean
        flat["metric"] = (first["Rank-1"] + first["mAP"]) / 2
        return flat

    def protocol_facts(self) -> List[Dict[str, Any]]:
        """Return for each row everything that its numbers depend on, as plain values for JSON."""
        return [
            {
                "key": row.key,
                "direction": row.direction,
                "gallery_rule": row.gallery_rule,
                "trials": row.num_trials,
                "queries": row.num_queries,
                "queries_left_out": row.num_invalid_queries,
                "gallery": row.num_gallery,
                "cmc": row.cmc,
                "never_compared": row.never_compared,
                "feature": self.feature,
                "metric": self.metric,
                "flip": self.flip,
                "reranking": self.reranking,
                **({"transductive": row.transductive} if row.transductive else {}),
            }
            for row in self.rows
        ]

    def format_table(self) -> str:
        """Return the table for people; each line says what its numbers depend on."""
        header = ["protocol", "direction", "gallery", "trials", "queries (left out)"]
        header += ["gallery size", "CMC counts", "feature", "flip", "re-ranking", *METRIC_NAMES]
        lines = [self._cells(row) for row in self.rows]
        if any(row.transductive for row in self.rows):
            header.append("transductive")
            lines = [[*line, row.transductive or "no"] for line, row in zip(lines, self.rows)]
        text = tabulate(lines, headers=header, tablefmt="pipe", disable_numparse=True)
        text += "\nPercent; ± is the population standard deviation over trials."
        return text + (f"\n{self.note}" if self.note else "")

    def _cells(self, row: ResultRow) -> List[str]:
        scores = [
            f"{row.mean[name]:.2f} ± {row.std[name]:.2f}"
            if row.num_trials > 1
            else f"{row.mean[name]:.2f}"
            for name in METRIC_NAMES
        ]
        return [
            row.key,
            row.direction,
            row.gallery_rule,
            str(row.num_trials),
            f"{row.num_queries} ({row.num_invalid_queries:g})",
            f"{row.num_gallery:g}",
            CMC_COUNTS[row.cmc],
            f"{self.feature}, {self.metric}",
            "yes" if self.flip else "no",
            self.reranking or "no",
            *scores,
        ]


class TestMetrics(Dict[str, float]):
    """Metrics of all test sets by name, in percent, with the tables that they come from.

    ``metric`` is that of the first test set.
    """

    __test__ = False  # tells pytest that this is not a test class

    def __init__(self) -> None:
        super().__init__()
        self.tables: List[ResultTable] = []

    def add(self, table: ResultTable) -> None:
        """Add the metrics of a test set; a name that is already there keeps its value."""
        self.tables.append(table)
        for name, value in table.metrics.items():
            self.setdefault(name, value)

    def test_sets(self) -> Dict[str, Dict[str, Any]]:
        """Return number and fingerprint of the images of each test set, as values for JSON."""
        images = [table.images for table in self.tables if table.images is not None]
        return {one.name: {"images": one.number, "fingerprint": one.fingerprint} for one in images}
