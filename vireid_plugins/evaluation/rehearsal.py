"""Rehearse an evaluation on the labels alone, to find its problems before there are features.

A rehearsal draws the galleries of every trial and applies the rules about cameras, just as the
evaluation does later, and needs neither images nor features. Counting is done per pair of an
identity and a camera, so a test set of SYSU-MM01's size takes a fraction of a second. Shapes: Q
queries, G gallery images, K pairs of (identity, camera).
"""

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from ..data.item import test_items
from ..data.labels import number_labels
from ..errors import UserError
from .ranking.arguments import integers
from .result import RANKS
from .rules import Labels, RankRules


@dataclass(frozen=True)
class Tally:
    """Numbers of the queries of one trial and of their matches in the gallery."""

    queries: int
    gallery: int
    identities: int  # in the gallery
    absent: int  # queries whose identity is not in the gallery
    hidden: int  # queries whose identity is there, but all of their pairs are hidden by rules
    pairs: int  # of a query and a gallery image of its identity
    hidden_pairs: Dict[str, int]  # how many of them each rule hides, by the rule in words

    @property
    def left_out(self) -> int:
        """The number of queries without a valid match."""
        return self.absent + self.hidden


def test_labels(dataset: Any) -> Labels:
    """Return the labels of all test images, as the loader numbers them.

    Raises:
        UserError: an identity or a camera is beyond 64 bits.
    """
    items = test_items(dataset)
    columns = []
    for name in ("pid", "camid"):
        values = [getattr(item, name) for item in items]
        numbers = number_labels(values)
        columns.append(integers([numbers[value] for value in values], name))
    return Labels(*columns)


def tally(query: Labels, gallery: Labels, rules: RankRules) -> Tally:
    """Count what queries find in a gallery under ``rules``."""
    asked, asked_counts = _pairs(query)
    found, found_counts = _pairs(gallery)
    # ``found`` is sorted by identity: the cameras of one identity stand side by side.
    starts = np.searchsorted(found[:, 0], asked[:, 0], side="left")
    widths = np.searchsorted(found[:, 0], asked[:, 0], side="right") - starts
    left = np.repeat(np.arange(len(asked)), widths)
    right = np.arange(len(left)) - np.repeat(np.cumsum(widths) - widths - starts, widths)
    cameras = asked[left, 1], found[right, 1]
    same = np.ones(len(left), bool)
    weights = asked_counts[left] * found_counts[right]
    shown = ~rules.hides(same, *cameras)
    seen = np.bincount(left[shown], minlength=len(asked)) > 0
    return Tally(
        queries=len(query),
        gallery=len(gallery),
        identities=len(np.unique(gallery.targets)),
        absent=int(asked_counts[widths == 0].sum()),
        hidden=int(asked_counts[(widths > 0) & ~seen].sum()),
        pairs=int(weights.sum()),
        hidden_pairs={
            part.words(): int(weights[part.hides(same, *cameras)].sum()) for part in rules.parts()
        },
    )


def _pairs(labels: Labels) -> Any:
    """Return the distinct pairs (identity, camera) (K, 2), sorted, and how often each occurs."""
    camids = np.zeros_like(labels.targets) if labels.camids is None else labels.camids
    table = np.stack([labels.targets, camids], axis=1)
    return np.unique(table, axis=0, return_counts=True)


class Rehearsal(NamedTuple):
    """The findings of the rehearsal of one protocol."""

    remarks: List[str]  # sentences about what is odd but possible, such as queries without a match
    smallest_gallery: int  # images
    fewest_queries: int


def rehearse(protocol: Any, dataset: Any, name: str) -> Rehearsal:
    """Draw all trials of ``protocol`` and apply its rules, without features.

    Args:
        dataset: has ``query`` and ``gallery``.
        name: what messages call the data set and the protocol.

    Raises:
        UserError: the galleries cannot be drawn, or a trial has no query with a valid match; the
            message says why, and what to change.
    """
    labels, rules = test_labels(dataset), protocol.rules()
    trials = list(protocol.trials(dataset))
    tallies = []
    for number, trial in enumerate(trials):
        query, gallery = labels.take(trial.query), labels.take(trial.gallery)
        tallies.append(tally(query, gallery, rules))
        if tallies[-1].left_out == tallies[-1].queries:
            place = f"{name}, trial {number}"
            raise UserError(why_no_match(protocol, dataset, place, query, gallery))
    smallest = min(counts.gallery for counts in tallies)
    fewest = min(counts.queries for counts in tallies)
    return Rehearsal(_remarks(protocol, trials, tallies), smallest, fewest)


def why_no_match(protocol: Any, dataset: Any, name: str, query: Labels, gallery: Labels) -> str:
    """Return why no query of a trial has a valid match, and what to change."""
    rules = protocol.rules()
    counts = tally(query, gallery, rules)
    names = getattr(dataset, "label_name", str)  # identities in the words of the dataset's lists
    head = (
        f"{name}: none of {counts.queries} queries has a valid match among {counts.gallery} "
        "gallery images. "
    )
    if counts.pairs == 0:
        return head + (
            "All query identities do not appear in gallery (none of them does): the queries have "
            f"{_few(query.targets, names)}, the gallery {_few(gallery.targets, names)}. Check "
            "the identities and splits of the test lists."
        )
    shared = np.intersect1d(query.targets, gallery.targets)
    key = getattr(dataset, "camera_rule_key", "")
    fix = f"Check the camera numbers, or set {key} False" if key else "Check the camera numbers"
    assert query.camids is not None and gallery.camids is not None
    return head + (
        f"Identities {_few(shared, names)} are in both, but their {counts.pairs} pairs are never "
        f"compared: query cameras {_few(query.camids)}, gallery cameras {_few(gallery.camids)}; "
        f"the protocol leaves out {_hidden_words(counts)}. {fix}."
    )


def _hidden_words(counts: Tally) -> str:
    return "; ".join(f"{rule} ({number} pairs)" for rule, number in counts.hidden_pairs.items())


def _remarks(protocol: Any, trials: Sequence[Any], tallies: Sequence[Tally]) -> List[str]:
    found = [_left_out(tallies)]
    size = min(t.identities if protocol.cmc == "identity" else t.gallery for t in tallies)
    what = "identities" if protocol.cmc == "identity" else "images"
    beyond = [f"Rank-{rank}" for rank in RANKS if rank >= size and rank > 1]
    if beyond:
        found.append(
            f"a gallery has {size} {what}, so {', '.join(beyond)} say nothing: every match is "
            "among them"
        )
    if len(trials) > 1 and len(set(map(_images_of, trials))) == 1:
        found.append(f"all {len(trials)} galleries hold the same images, so trials do not differ")
    return [f"{protocol.key}: {remark}" for remark in found if remark]


def _images_of(trial: Any) -> Tuple[bytes, bytes]:
    """Return which images are the queries, and which the gallery, in any order."""
    return np.sort(trial.query).tobytes(), np.sort(trial.gallery).tobytes()


def _left_out(tallies: Sequence[Tally]) -> str:
    worst = max(tallies, key=lambda counts: counts.left_out)
    if worst.left_out == 0:
        return ""
    where = "" if len(tallies) == 1 else f" (in the worst of {len(tallies)} trials)"
    reasons = []
    if worst.absent:
        reasons.append(f"{worst.absent} of identities that the gallery lacks")
    if worst.hidden:
        reasons.append(f"{worst.hidden} whose matches are never compared: {_hidden_words(worst)}")
    return (
        f"{worst.left_out} of {worst.queries} queries{where} have no valid match and are left out "
        f"of every metric: {', '.join(reasons)}"
    )


def _few(values: np.ndarray, names: Callable[[int], str] = str, most: int = 5) -> str:
    unique = np.unique(values).tolist()
    more = f", ... ({len(unique)})" if unique[most:] else ""
    return ", ".join(map(names, unique[:most])) + more
