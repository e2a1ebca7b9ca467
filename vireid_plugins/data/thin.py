"""Make an unbalanced training set: keep only a part of one modality's images, drawn by a seed."""

import logging
from collections import defaultdict
from typing import Dict, Hashable, List, Optional, Sequence, Set, Tuple

from vireid_plugins.errors import UserError
from vireid_plugins.keys import Key, above, at_least, check_values, declare, one_of
from vireid_plugins.modality import MODALITY, Modality

from fastreid.config import CfgNode

from .item import Item
from .seeding import generator

logger = logging.getLogger(__name__)

declare(
    "DATASETS.THIN",
    Key("MODALITY", "", MODALITY | one_of(""), "use fewer images of this modality; empty: all"),
    Key("KEEP", 1.0, above(0, at_most=1), "share of each identity's images that stays; at least 1"),
    Key("SEED", 0, at_least(0), "seed of this draw, which does not depend on SEED"),
)


def thin_items(cfg: CfgNode, items: Sequence[Item]) -> List[Item]:
    """Return the items that ``DATASETS.THIN`` keeps, in their order.

    Of an identity's n images in the modality, ``round(KEEP * n)`` stay, at least one, drawn without
    replacement by ``SEED``. All images of the other modality stay.

    Args:
        cfg: the config.
        items: training items in a fixed order.

    Raises:
        UserError: the modality is unknown, ``KEEP`` is not in 0..1, or there is no image of the
            modality.
    """
    settings = _settings(cfg)
    if settings is None:
        return list(items)
    modality, keep, seed = settings
    places: Dict[Hashable, List[int]] = defaultdict(list)
    for place, item in enumerate(items):
        if item.modality == modality:
            places[item.pid].append(place)
    if not places:
        raise UserError(
            f"DATASETS.THIN.MODALITY is {modality.label!r}, and {', '.join(cfg.DATASETS.NAMES)} "
            "has no such training image."
        )
    draw = generator(seed)
    dropped: Set[int] = set()
    for own in places.values():
        order = draw.permutation(len(own))
        dropped.update(own[i] for i in order[max(1, round(keep * len(own))) :])
    number = sum(map(len, places.values()))
    logger.info(
        "DATASETS.THIN: %d of %d %s training images stay (KEEP %g, SEED %d).",
        *(number - len(dropped), number, modality.label, keep, seed),
    )
    return [item for place, item in enumerate(items) if place not in dropped]


def describe_thinning(cfg: CfgNode) -> str:
    """Return in words what ``DATASETS.THIN`` keeps, for a fingerprint; empty if all images stay."""
    settings = _settings(cfg)
    if settings is None:
        return ""
    modality, keep, seed = settings
    return f"{modality.label}-{keep:g}-{seed}"


def _settings(cfg: CfgNode) -> Optional[Tuple[Modality, float, int]]:
    """Return modality, share and seed; None if every image stays."""
    node = cfg.DATASETS.THIN
    if not node.MODALITY:
        if node.KEEP != 1:
            raise UserError(
                f"DATASETS.THIN.KEEP is {node.KEEP} and MODALITY is empty; name the modality to "
                "thin, visible or infrared, or set KEEP 1.0."
            )
        return None
    try:
        modality = Modality.parse(node.MODALITY)
    except ValueError as error:
        raise UserError(f"DATASETS.THIN.MODALITY: {error} Empty: keep all.") from None
    check_values("DATASETS.THIN", KEEP=node.KEEP, SEED=node.SEED)
    return None if node.KEEP == 1 else (modality, float(node.KEEP), int(node.SEED))
