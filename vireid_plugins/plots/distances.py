"""Histograms of the distances within and between identities, ROC curves, and a threshold."""

from dataclasses import dataclass
from typing import Any, Iterator, List, Sequence, Tuple

from tqdm import tqdm

from ..drawing.style import write_figure, write_numbers
from ..errors import PlotError
from ..evaluation.pair_distances import (
    PairHistogram,
    PairSet,
    count_pairs,
    greatest_distance,
    pair_sets,
    prepare_features,
)
from ..modality import Modality
from .distances_figure import Histograms, draw_distances, roc_points
from .kinds import Drawn, Kind, register_kind
from .options import option
from .subject import Subject

NAME = "distances"
COUNTS_HEADER = ("model", "pairs", "from", "to", "same_identity", "different_identities")
SUMMARY_HEADER = (
    "model",
    "pairs",
    "metric",
    "same_identity_pairs",
    "different_identities_pairs",
    "never_compared_pairs",
    "mean_same",
    "mean_different",
    "gap",
    "auc",
    "equal_error_rate",
    "threshold",
)
ROC_HEADER = ("model", "pairs", "threshold", "false_accept_rate", "true_accept_rate")
# Pairs are counted in at least this many bins, which decide how exact curve and threshold are.
_FINE, _MOST_BINS = 20000, 1000


@dataclass(frozen=True)
class DistanceOptions:
    """Options of the distances."""

    bins: int = option(200, "lines of the CSV file for each kind of pairs", metavar="N")

    def __post_init__(self) -> None:
        """Raise ``PlotError`` for a number that is out of range."""
        if not 1 <= self.bins <= _MOST_BINS:
            raise PlotError(f"--bins is {self.bins}; expected 1 to {_MOST_BINS}.")


@register_kind(NAME, help="distances within and between identities, ROC, equal-error threshold")
class Distances(Kind):
    """Distances of pairs within and across modalities."""

    Options = DistanceOptions

    def draw(self, subjects: Sequence[Subject], options: DistanceOptions, folder: str) -> Drawn:
        """Draw histograms and ROC curves, in a column for each of two models."""
        metric = _common_metric(subjects)
        _check_common_rules(subjects)
        measured = measure_distances(subjects, options.bins)
        labels = [subject.label for subject in subjects]
        named = list(zip(labels, measured))
        notes = [
            f"{label}, {name}: {describe(histogram, metric)}"
            for label, name, histogram in _each(named)
        ]
        note = _note(subjects[0])
        written = write_figure(draw_distances(measured, labels, metric, note), folder, NAME)
        counts, roc = _count_lines(named, options.bins), _roc_lines(named)
        written.append(write_numbers(folder, NAME, COUNTS_HEADER, counts))
        summary = _summary_lines(named, metric)
        written.append(write_numbers(folder, f"{NAME}_summary", SUMMARY_HEADER, summary))
        written.append(write_numbers(folder, f"{NAME}_roc", ROC_HEADER, roc))
        return Drawn(written, [*notes, note])


def _common_metric(subjects: Sequence[Subject]) -> str:
    metrics = {subject.label: subject.cfg.TEST.METRIC for subject in subjects}
    if len(set(metrics.values())) > 1:
        raise PlotError(
            f"The models are compared by different metrics: {metrics}. Name one for both: "
            "TEST.METRIC cosine"
        )
    return next(iter(metrics.values()))


def _check_common_rules(subjects: Sequence[Subject]) -> None:
    """Raise ``PlotError`` unless the protocols of all subjects leave out the same pairs."""
    rules = {subject.label: _never_compared(subject) for subject in subjects}
    if len(set(rules.values())) > 1:
        words = "; ".join(f"{label}: {never}" for label, never in rules.items())
        raise PlotError(
            f"The models are tested by protocols that never compare different pairs ({words}). "
            "Name one protocol for both, such as TEST.PROTOCOL.LLCM paper."
        )


def measure_distances(subjects: Sequence[Subject], bins: int = 200) -> List[Histograms]:
    """Count the distances of all pairs of each subject's test set into the same bins.

    Args:
        subjects: models with one ``TEST.METRIC``.
        bins: the number of bins is a multiple of this number.

    Raises:
        PlotError: a test set has no pair of images to compare.
    """
    device = str(subjects[0].cfg.TEST.DEVICE or subjects[0].cfg.MODEL.DEVICE)
    metric = subjects[0].cfg.TEST.METRIC
    rows = [prepare_features(one.features.features, metric, device) for one in subjects]
    upper = max(greatest_distance(one, metric) for one in rows)
    fine = bins * -(-_FINE // bins)
    found = []
    for subject, features in zip(subjects, rows):
        labels = subject.features
        sets = pair_sets(labels, subject.dataset, subject.protocols[0])
        total = sum(len(pairs.rows) * len(pairs.columns) for pairs in sets)
        if not total:
            raise PlotError(f"{subject.dataset_name} has no pair of images to compare.")
        with tqdm(
            total=sum(map(_number, sets)),
            desc=f"pairs of {subject.label}",
            unit="pair",
            unit_scale=True,
            disable=not subject.progress,
        ) as bar:
            found.append(
                {
                    pairs.name: count_pairs(
                        features,
                        labels.targets,
                        labels.camids,
                        pairs,
                        metric=metric,
                        upper=upper,
                        bins=fine,
                        advance=bar.update,
                    )
                    for pairs in sets
                }
            )
    return found


def _number(pairs: PairSet) -> int:
    """Return the number of pairs of a set, for the progress bar."""
    whole = len(pairs.rows) * len(pairs.columns)
    return whole // 2 if pairs.within else whole


def describe(histogram: PairHistogram, metric: str) -> str:
    """Return the numbers of one kind of pairs, in a sentence."""
    threshold, rate = histogram.equal_error
    words = (
        f"{histogram.same.sum()} pairs of one identity, mean {histogram.same_mean:.3f}; "
        f"{histogram.other.sum()} of different ones, mean {histogram.other_mean:.3f}; gap "
        f"{histogram.gap:.3f}; AUC {histogram.auc:.4f}; equal error {100 * rate:.2f} % at distance "
        f"{threshold:.4f}"
    )
    return f"{words} (similarity {1 - threshold:.4f})." if metric == "cosine" else f"{words}."


def _note(subject: Subject) -> str:
    """Return which pairs were counted, in words."""
    never = _never_compared(subject)
    gallery = subject.protocols[0].direction.partition("_to_")[2]
    if gallery in {modality.label for modality in Modality}:
        words = f"All pairs of test images of {subject.dataset_name}, also of one camera."
        return f"{words}\nNever compared across modalities: {never}."
    words = f"All queries of {subject.dataset_name} with its gallery."
    return f"{words}\nNever compared: {never}."


def _never_compared(subject: Subject) -> str:
    protocol = subject.protocols[0]
    query, _, gallery = protocol.direction.partition("_to_")
    return protocol.rules().words(query, gallery) or "none"


def _count_lines(named: Sequence[Tuple[str, Histograms]], bins: int) -> Iterator[Tuple[Any, ...]]:
    for label, name, histogram in _each(named):
        coarse = histogram.coarse(bins)
        limits = [f"{edge:.6g}" for edge in coarse.edges]
        for line in zip(limits[:-1], limits[1:], coarse.same, coarse.other):
            yield (label, name, *line)


def _summary_lines(
    named: Sequence[Tuple[str, Histograms]], metric: str
) -> Iterator[Tuple[Any, ...]]:
    for label, name, one in _each(named):
        numbers = (one.same_mean, one.other_mean, one.gap, one.auc)
        threshold, rate = one.equal_error
        yield (
            *(label, name, metric, one.same.sum(), one.other.sum(), one.skipped),
            *(f"{number:.6g}" for number in (*numbers, rate, threshold)),
        )


def _roc_lines(named: Sequence[Tuple[str, Histograms]]) -> Iterator[Tuple[Any, ...]]:
    for label, name, histogram in _each(named):
        for point in roc_points(histogram):
            yield (label, name, *(f"{number:.6g}" for number in point))


def _each(named: Sequence[Tuple[str, Histograms]]) -> Iterator[Tuple[str, str, PairHistogram]]:
    for label, histograms in named:
        for name, histogram in histograms.items():
            yield label, name, histogram
