"""The kind ``retrieval``: queries and their nearest gallery images, of one model or of two."""

import os
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from ..drawing.retrieval import BEST, GIVEN, RANDOM, WORST, GallerySearch, Retrieval, choose
from ..drawing.retrieval_page import retrieval_page, rules_in_words
from ..drawing.style import write_figure, write_numbers
from ..errors import PlotError
from ..evaluation.protocols import Trial
from ..registry import suggest
from .kinds import Drawn, Kind, register_kind
from .options import option
from .subject import Subject, check_same_images

CHOICES = (BEST, WORST, RANDOM)
_WHY = {
    BEST: "best (first ✓ ranked earliest, then highest average precision; one for each person)",
    WORST: "worst (first ✓ ranked latest, then lowest average precision; one for each person)",
    RANDOM: "drawn at random",
    GIVEN: "given",
}
HEADER = (
    "model",
    "query",
    "chosen",
    "query_identity",
    "query_camera",
    "first_correct",
    "average_precision",
    "rank",
    "gallery",
    "identity",
    "camera",
    "score",
    "correct",
)


@dataclass(frozen=True)
class RetrievalOptions:
    """Options of the rankings."""

    queries: Tuple[str, ...] = option(
        CHOICES,
        "best, worst, random (all three by default), or paths of query images",
        metavar="WHICH",
    )
    count: int = option(2, "queries of each choice", metavar="N")
    topk: int = option(10, "gallery images beside each query", metavar="K")
    seed: int = option(0, "seed of the random choice", metavar="N")
    protocol: str = option(
        "", "a line of the protocol such as all/single; default: the first", metavar="KEY"
    )
    trial: int = option(0, "number of the trial, from 0", metavar="N")

    def __post_init__(self) -> None:
        """Raise ``PlotError`` for a number that is out of range."""
        for word, value, least in (
            ("count", self.count, 1),
            ("topk", self.topk, 1),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise PlotError(f"--{word} is {value}; expected {least} or more.")
        if self.topk > 50:
            raise PlotError(
                f"--topk is {self.topk}; a page has room for 50 images beside each other."
            )


@register_kind("retrieval", help="queries and their nearest gallery images, right or wrong")
class RetrievalFigure(Kind):
    """The rankings of one trial of one protocol line."""

    Options = RetrievalOptions

    def draw(self, subjects: Sequence[Subject], options: RetrievalOptions, folder: str) -> Drawn:
        """Draw a line of images for each query; with two models, one line for each model."""
        first = subjects[0]
        check_same_images(subjects)
        protocol = _find_protocol(first, options.protocol)
        rules = _rules(subjects, protocol)
        trial = _find_trial(protocol, first.dataset, options.trial)
        searches = [
            GallerySearch(
                subject.features, subject.dataset, trial, protocol, subject.cfg.TEST.METRIC
            )
            for subject in subjects
        ]
        rows, chosen, why = _choose(searches[0], options)
        if len(subjects) > 1:
            why += f" Chosen by {first.label}."
        rankings = [search.retrievals(rows, chosen, options.topk) for search in searches]
        labels = [subject.label for subject in subjects]
        key = f"{first.dataset_name}/{protocol.key}"
        page = retrieval_page(
            rankings,
            labels,
            title=f"{' and '.join(labels)} on {key}, trial {options.trial}",
            note=f"{why}   {rules}",
        )
        paths = write_figure(page.figure, folder, "retrieval")
        numbers = write_numbers(folder, "retrieval", HEADER, _numbers(labels, rankings))
        return Drawn([*paths, numbers], [f"{key}, trial {options.trial}. {why}"])


def _rules(subjects: Sequence[Subject], protocol: Any) -> str:
    metrics = {subject.cfg.TEST.METRIC for subject in subjects}
    if len(metrics) > 1:
        raise PlotError(
            f"TEST.METRIC is {' and '.join(subject.cfg.TEST.METRIC for subject in subjects)}; "
            "rankings side by side need the same metric: add TEST.METRIC cosine."
        )
    return rules_in_words(metrics.pop(), protocol)


def _find_protocol(subject: Subject, key: str) -> Any:
    protocols = {protocol.key: protocol for protocol in subject.protocols}
    if key and key not in protocols:
        raise PlotError(
            f"--protocol {key!r} is not a protocol line of {subject.dataset_name}. "
            f"{suggest(key, protocols)}"
        )
    return protocols[key] if key else subject.protocols[0]


def _find_trial(protocol: Any, dataset: Any, number: int) -> Trial:
    trials: Iterator[Trial] = protocol.trials(dataset)
    count = 0
    for count, trial in enumerate(trials, start=1):
        if count - 1 == number:
            return trial
    raise PlotError(f"--trial is {number}; {protocol.key} has trials 0 to {count - 1}.")


def _choose(search: GallerySearch, options: RetrievalOptions) -> Tuple[np.ndarray, List[str], str]:
    """Return test rows, why each was chosen, and a sentence about all of them."""
    words = list(dict.fromkeys(options.queries))
    paths = [word for word in words if word not in CHOICES]
    choices = [word for word in words if word in CHOICES]
    given = _given(search, paths)
    pool = np.random.default_rng(options.seed).permutation(search.queries)
    pool = pool[~np.isin(pool, given)]
    rows, chosen = np.array(given, dtype=np.int64), [GIVEN] * len(given)
    if choices:
        found, why = choose(search, pool, choices, options.count)
        rows, chosen = np.concatenate([rows, found]), chosen + why
    if not len(rows):
        raise PlotError("No query of this trial has a valid match, so there is none to choose.")
    counts = {word: chosen.count(word) for word in dict.fromkeys(chosen)}
    said = ", ".join(f"{number} {_WHY[word]}" for word, number in counts.items())
    seed = f", seed {options.seed}" if choices else ""
    return rows, chosen, f"Queries: {said}; of {len(search.queries)}{seed}."


def _given(search: GallerySearch, paths: Sequence[str]) -> List[int]:
    """Return the test rows of query images that are named by their path or by its end.

    Raises:
        PlotError: a name fits no test image, several test images, or one that is not a query.
    """
    if not paths:
        return []
    known: Dict[str, int] = {os.path.realpath(p): row for row, p in enumerate(search.paths)}
    slashed = [path.replace(os.sep, "/") for path in search.paths]
    queries, rows = set(search.queries.tolist()), []
    for path in paths:
        found = [known[os.path.realpath(path)]] if os.path.realpath(path) in known else []
        end = "/" + path.replace(os.sep, "/").lstrip("/")
        found = found or [row for row, whole in enumerate(slashed) if whole.endswith(end)]
        if len(found) != 1:
            what = (
                f"the end of {len(found)} test images" if found else "not an image of the test set"
            )
            raise PlotError(
                f"--queries: {path!r} is {what}. Expected best, worst, random, or the path of a "
                f"query such as {search.paths[int(search.queries[0])]}"
            )
        if found[0] not in queries:
            raise PlotError(
                f"--queries: {path} is in the test set, but it is not a query of this protocol; a "
                f"query is for example {search.paths[int(search.queries[0])]}"
            )
        rows += found
    return rows


def _numbers(
    labels: Sequence[str], rankings: Sequence[Sequence[Retrieval]]
) -> Iterator[Sequence[Any]]:
    for label, retrievals in zip(labels, rankings):
        for one in retrievals:
            query = one.query
            head = (
                *(label, query.path, one.chosen, query.target, query.camid),
                *(one.first_correct, f"{one.average_precision:.4f}"),
            )
            for rank, match in enumerate(one.matches, start=1):
                photo = match.photo
                score = f"{match.score:.6f}"
                yield (
                    *head,
                    rank,
                    photo.path,
                    photo.target,
                    photo.camid,
                    score,
                    int(match.correct),
                )
