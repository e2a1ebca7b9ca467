"""Check before training that identities have the images that training and evaluation need."""

import logging
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Set, Tuple

from vireid_plugins.modality import Modality

from fastreid.data.datasets.bases import ImageDataset
from fastreid.utils import comm

from ..datasets import DatasetError
from ..item import Item
from ..labels import first_few, natural_key, sorted_labels

logger = logging.getLogger(__name__)


class Matches(NamedTuple):
    """What :func:`match_queries` found."""

    problems: List[str]  # no query can be evaluated
    notes: List[str]  # some queries cannot


def match_queries(query: Sequence[Sequence], gallery: Sequence[Sequence], name: str) -> Matches:
    """Find query identities without a gallery image in the other modality.

    If the test set has one modality, gallery images of that modality count. Rules about cameras
    belong to the protocol and are not considered here.

    Args:
        query, gallery: items.
        name: the dataset, for messages.
    """
    empty = [word for word, items in (("query", query), ("gallery", gallery)) if not items]
    if empty:
        return Matches([f"{name} has no {' and no '.join(empty)} image; it cannot be tested."], [])
    queries, wanted = _identities(query), _identities(gallery)
    cross = len({modality for _, modality in queries | wanted}) > 1
    unmatched = sorted(
        {pid for pid, m in queries if (pid, 1 - m if cross else m) not in wanted}, key=natural_key
    )
    if not unmatched:
        return Matches([], [])
    if len({pid for pid, _ in queries}) == len(unmatched):
        return Matches(
            [
                f"{name}: no query identity has a gallery image"
                f"{' in the other modality' if cross else ''}: {first_few(unmatched)}. The numbers "
                "of identities in the two lists must agree."
            ],
            [],
        )
    return Matches(
        [],
        [
            f"{name}: {len(unmatched)} query identities have no gallery image "
            f"({first_few(unmatched)}); protocols leave their images out."
        ],
    )


def check_queries(source: ImageDataset, name: str) -> None:
    """Note queries without a match, as :func:`match_queries` finds them, in the log.

    The rehearsal of the evaluation warns of them, with all other reasons.

    Raises:
        DatasetError: no query has a match.
    """
    matches = match_queries(source.query, source.gallery, name)
    if matches.problems:
        raise DatasetError("\n".join(matches.problems))
    for note in matches.notes if comm.is_main_process() else ():
        logger.info("%s", note)


def lacking_modality(train: Sequence[Item], label: Callable[[Any], str] = str) -> List[str]:
    """Return a message for each modality that some training identities lack.

    Args:
        train: the training items.
        label: returns an identity in the words of the user.
    """
    seen: Dict[int, Set[Any]] = {modality: set() for modality in Modality}
    for item in train:
        seen[item.modality].add(item.pid)
    messages = []
    for modality in Modality:
        lacking = sorted_labels(set().union(*seen.values()) - seen[modality])
        if lacking:
            messages.append(
                f"{len(lacking)} training identit(ies) have no {modality.label} image: "
                f"{first_few(list(map(label, lacking)))}. Training with "
                "CrossModalityIdentitySampler refuses them."
            )
    return messages


def too_few_identities(train: Sequence[Item]) -> List[str]:
    """Return a message if the training images show fewer than two persons."""
    pids = {item.pid for item in train}
    if len(pids) > 1:
        return []
    return [
        f"The training images show {len(pids)} identit(ies); two are the least from which a model "
        "learns to tell persons apart. Add images of others."
    ]


def _identities(items: Sequence[Sequence]) -> Set[Tuple]:
    return {(item.pid, item.modality) for item in map(Item.of, items)}
