"""Check before training that the queries of a test set have matches in the gallery."""

import logging
from typing import Sequence, Set, Tuple

from fastreid.data.datasets.bases import ImageDataset
from fastreid.utils import comm

from ..datasets import DatasetError
from ..item import Item
from ..labels import first_few, natural_key

logger = logging.getLogger(__name__)


def check_queries(source: ImageDataset, name: str) -> None:
    """Warn of query identities without a gallery image in the other modality.

    If the test set has one modality, gallery images of that modality count. Rules about cameras
    belong to the protocol and are not considered here.

    Raises:
        DatasetError: no query has a match.
    """
    both = {modality for _, modality in _identities(source.query + source.gallery)}
    cross = len(both) > 1
    gallery = _identities(source.gallery)
    queries = _identities(source.query)
    unmatched = sorted(
        {pid for pid, m in queries if (pid, 1 - m if cross else m) not in gallery}, key=natural_key
    )
    if not unmatched:
        return
    matched = len({pid for pid, _ in queries}) - len(unmatched)
    if matched == 0:
        raise DatasetError(
            f"{name}: no query identity has a gallery image"
            f"{' in the other modality' if cross else ''}: {first_few(unmatched)}. The numbers of "
            "identities in the two lists must agree."
        )
    if comm.is_main_process():
        logger.warning(
            "%s: %d query identities have no gallery image (%s); protocols leave their images out.",
            name,
            len(unmatched),
            first_few(unmatched),
        )


def _identities(items: Sequence[Sequence]) -> Set[Tuple]:
    return {(item.pid, item.modality) for item in map(Item.of, items)}
