"""``plot.py retrieval``: queries and their nearest gallery images, of one model or of two."""

import argparse
import logging
import os
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from ..drawing.retrieval import BEST, GIVEN, RANDOM, WORST, GallerySearch, Retrieval, choose
from ..drawing.retrieval_page import retrieval_page, rules_in_words
from ..drawing.style import write_figure, write_numbers
from ..errors import PlotError
from ..evaluation.protocols import Trial
from ..registry import nearest
from .kinds import Kind, register_kind
from .subject import Subject, check_same_images

logger = logging.getLogger(__name__)

CHOICES = (BEST, WORST, RANDOM)
_WHY = {
    BEST: "best (first ✓ ranked earliest, then highest average precision; one of a person)",
    WORST: "worst (first ✓ ranked latest, then lowest average precision; one of a person)",
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


@register_kind("retrieval", help="queries and their nearest gallery images, right or wrong")
class RetrievalFigure(Kind):
    """Rankings of one trial of one protocol line."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--queries",
            nargs="+",
            default=[BEST, WORST, RANDOM],
            metavar="WHICH",
            help="best, worst, random (all three by default), or paths of query images",
        )
        parser.add_argument(
            "--count", type=int, default=2, metavar="N", help="queries of each choice; default 2"
        )
        parser.add_argument(
            "--topk", type=int, default=10, metavar="K", help="gallery images; default 10"
        )
        parser.add_argument(
            "--seed", type=int, default=0, metavar="N", help="of the random choice; default 0"
        )
        parser.add_argument(
            "--protocol", default="", metavar="KEY", help="such as all/single; default: the first"
        )
        parser.add_argument(
            "--trial", type=int, default=0, metavar="N", help="number of the gallery; default 0"
        )

    def draw(self, subjects: Sequence[Subject], args: argparse.Namespace, folder: str) -> List[str]:
        _check(args)
        first = subjects[0]
        check_same_images(subjects)
        protocol = _find_protocol(first, args.protocol)
        rules = _rules(subjects, protocol)
        trial = _find_trial(protocol, first.dataset, args.trial)
        searches = [
            GallerySearch(
                subject.features, subject.dataset, trial, protocol, subject.cfg.TEST.METRIC
            )
            for subject in subjects
        ]
        rows, chosen, why = _choose(searches[0], args)
        if len(subjects) > 1:
            why += f" Chosen by {first.label}."
        rankings = [search.retrievals(rows, chosen, args.topk) for search in searches]
        labels = [subject.label for subject in subjects]
        key = f"{first.dataset_name}/{protocol.key}"
        logger.info("%s, trial %d. %s", key, args.trial, why)
        page = retrieval_page(
            rankings,
            labels,
            title=f"{' and '.join(labels)} on {key}, trial {args.trial}",
            note=f"{why}   {rules}",
        )
        paths = write_figure(page.figure, folder, "retrieval")
        return [*paths, write_numbers(folder, "retrieval", HEADER, _numbers(labels, rankings))]


def _rules(subjects: Sequence[Subject], protocol: Any) -> str:
    metrics = {subject.cfg.TEST.METRIC for subject in subjects}
    if len(metrics) > 1:
        raise PlotError(
            f"TEST.METRIC is {' and '.join(subject.cfg.TEST.METRIC for subject in subjects)}; "
            "rankings beside each other need one: add TEST.METRIC cosine."
        )
    return rules_in_words(metrics.pop(), protocol)


def _check(args: argparse.Namespace) -> None:
    for word, value, least in (
        ("count", args.count, 1),
        ("topk", args.topk, 1),
        ("seed", args.seed, 0),
    ):
        if value < least:
            raise PlotError(f"--{word} is {value}; expected {least} or more.")
    if args.topk > 50:
        raise PlotError(f"--topk is {args.topk}; a page has room for 50 images beside each other.")


def _find_protocol(subject: Subject, key: str) -> Any:
    protocols = {protocol.key: protocol for protocol in subject.protocols}
    if key and key not in protocols:
        raise PlotError(
            f"--protocol {key!r} is no line of {subject.dataset_name}. {nearest(key, protocols)}"
        )
    return protocols[key] if key else subject.protocols[0]


def _find_trial(protocol: Any, dataset: Any, number: int) -> Trial:
    trials: Iterator[Trial] = protocol.trials(dataset)
    count = 0
    for count, trial in enumerate(trials, start=1):
        if count - 1 == number:
            return trial
    raise PlotError(f"--trial is {number}; {protocol.key} has trials 0 to {count - 1}.")


def _choose(search: GallerySearch, args: argparse.Namespace) -> Tuple[np.ndarray, List[str], str]:
    """Test rows, why each was chosen, and the same in words for the picture."""
    words = list(dict.fromkeys(args.queries))
    paths = [word for word in words if word not in CHOICES]
    choices = [word for word in words if word in CHOICES]
    given = _given(search, paths)
    pool = np.random.default_rng(args.seed).permutation(search.queries)
    pool = pool[~np.isin(pool, given)]
    rows, chosen = np.array(given, dtype=np.int64), [GIVEN] * len(given)
    if choices:
        found, why = choose(search, pool, choices, args.count)
        rows, chosen = np.concatenate([rows, found]), chosen + why
    if not len(rows):
        raise PlotError("No query of this trial has a valid match, so there is none to choose.")
    counts = {word: chosen.count(word) for word in dict.fromkeys(chosen)}
    said = ", ".join(f"{number} {_WHY[word]}" for word, number in counts.items())
    seed = f", seed {args.seed}" if choices else ""
    return rows, chosen, f"Queries: {said}; of {len(search.queries)}{seed}."


def _given(search: GallerySearch, paths: Sequence[str]) -> List[int]:
    """Test rows of query images that are named by path, or by the end of their path.

    Raises:
        PlotError: no test image, or several, or one that is no query.
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
            what = f"the end of {len(found)} test images" if found else "no image of the test set"
            raise PlotError(
                f"--queries: {path!r} is {what}. Expected best, worst, random, or the path of a "
                f"query such as {search.paths[int(search.queries[0])]}"
            )
        if found[0] not in queries:
            raise PlotError(
                f"--queries: {path} is in the test set, but no query of this protocol; a query is "
                f"for example {search.paths[int(search.queries[0])]}"
            )
        rows += found
    return rows


def _numbers(
    labels: Sequence[str], rankings: Sequence[Sequence[Retrieval]]
) -> Iterator[Sequence[Any]]:
    for label, retrievals in zip(labels, rankings):
        for one in retrievals:
            query = one.query
            head = (label, query.path, one.chosen, query.target, query.camid)
            head += (one.first_correct, f"{one.average_precision:.4f}")
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
