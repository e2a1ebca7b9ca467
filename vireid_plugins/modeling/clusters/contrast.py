"""The terms of a contrast with centers: how many there are, their weights, what fits together."""

from typing import Any, NamedTuple, Tuple

from ...errors import UserError
from ...keys import Key, at_least, check_values, declare, each, one_of
from .links import NONE, Links
from .memory import UPDATES

NODE = "MODEL.CLUSTER_CONTRAST"
CROSSES = (NONE, "alternate", "both")
GLOBALS = (NONE, "all", "balanced")

declare(
    NODE,
    Key(
        "UPDATE",
        ("rows", "rows"),
        each(one_of(*UPDATES)),
        "how a center follows its rows, in each of both stages",
    ),
    Key("MEAN_MARGIN", 0.2, at_least(0), "hybrid: what the loss of the mean centers must exceed"),
    Key("FIRST_EPOCHS", 0, at_least(0), "epochs of the first stage, within each modality"),
    Key("WITHIN_SCALE", 1.0, at_least(0), "weight of the terms within a modality"),
    Key("CROSS", NONE, one_of(*CROSSES), "which way images see centers of the other modality"),
    Key("CROSS_SCALE", 0.25, at_least(0), "weight of that term"),
    Key("GLOBAL", NONE, one_of(*GLOBALS), "a clustering of all images in the second stage"),
    Key("GLOBAL_SCALE", 1.0, at_least(0), "weight of the terms of these clusters"),
    Key("NEAREST", 50, at_least(2), "centers that an image is compared with there"),
    features=False,
)


class Contrast(NamedTuple):
    """What is contrasted with what, and how strongly."""

    update: Tuple[str, ...] = ("rows", "rows")  #: of both stages, of ``UPDATES``
    mean_margin: float = 0.2  #: see ``ClusterMemory.contrast``
    within_scale: float = 1.0  #: weight of the terms of the first stage
    cross: str = NONE  #: one of ``CROSSES``
    cross_scale: float = 0.25  #: weight
    all_images: str = NONE  #: ``GLOBAL``, one of ``GLOBALS``
    global_scale: float = 1.0  #: weight
    nearest: int = 50  #: see ``ClusterMemory.contrast_groups``

    @classmethod
    def from_config(cls, node: Any) -> "Contrast":
        """Read the numbers and words of ``MODEL.CLUSTER_CONTRAST``."""
        own = {name: node[name.upper()] for name in cls._fields if name != "all_images"}
        return cls(**{**own, "update": tuple(node.UPDATE)}, all_images=node.GLOBAL)


def check_parts(contrast: Contrast, links: Links) -> None:
    """Raise ``UserError`` if values are not allowed, or parts of the method do not fit."""
    update = contrast.update
    check_values(
        NODE,
        UPDATE=update,
        CROSS=contrast.cross,
        GLOBAL=contrast.all_images,
        NEAREST=contrast.nearest,
    )
    if len(update) != 2 or ("hybrid" in update) != (set(update) == {"hybrid"}):
        raise UserError(
            f"{NODE}.UPDATE is {list(update)}; expected one word for each of the two stages, and "
            "hybrid for both or none of them."
        )
    wanted = "AGGREGATION" if links.aggregation > 0 else "CROSS" if contrast.cross != NONE else ""
    if wanted and links.match == NONE:
        raise UserError(
            f"{NODE}.{wanted} needs clusters that are matched: set {NODE}.MATCH count or graph."
        )
    if links.match != NONE and not wanted:
        raise UserError(
            f"{NODE}.MATCH is {links.match}, and nothing uses the matches: set {NODE}.AGGREGATION "
            f"or {NODE}.CROSS, or MATCH none."
        )
