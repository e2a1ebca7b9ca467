"""Which of a head's features evaluation uses: ``TEST.FEATURE``.

``"bn"``
    The feature of the published method: after batch norm, where the head has one.
``"pooled"``
    The feature before batch norm.
``"both"``
    Both, each divided by its length, side by side: ``[pooled / |pooled|, bn / |bn|]``. The inner
    product of two such features is the sum of the two cosines, by which the public code of DEEN
    ranks; ``TEST.METRIC`` euclidean gives the same order. Without the division, the pooled feature,
    which no normalization has scaled, would decide nearly alone.

A head that has both features names them in ``test_choices``. All others have only ``"bn"``, which
then means their one feature.
"""

from typing import Any, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import UserError
from ...keys import Key, check_values, declare, one_of

CHOICES = ("bn", "pooled", "both")
ONE_FEATURE = ("bn",)

declare(
    "TEST",
    Key("FEATURE", "bn", one_of(*CHOICES), "the head's feature: after batch norm, pooled, or both"),
)


def evaluated_feature(choice: str, pooled: Tensor, normalized: Tensor) -> Tensor:
    """Return the features of a choice.

    Args:
        choice: ``"bn"``, ``"pooled"`` or ``"both"``.
        pooled: (B, C).
        normalized: (B, D), the features after batch norm.

    Returns:
        (B, D), (B, C) or (B, C + D).
    """
    if choice == "both":
        return torch.cat([F.normalize(pooled, dim=1), F.normalize(normalized, dim=1)], dim=1)
    return pooled if choice == "pooled" else normalized


def feature_words(choice: str, normalized: str) -> str:
    """Return a choice in the words of tables, from those of the feature after batch norm."""
    return {"bn": normalized, "pooled": "pooled", "both": f"pooled and {normalized}"}[choice]


def check_choice(head: Any, choice: str) -> None:
    """Check that a head has the feature that ``TEST.FEATURE`` names.

    Raises:
        UserError: the word is unknown, or the head has only one feature.
    """
    check_values("TEST", FEATURE=choice)
    known: Tuple[str, ...] = getattr(head, "test_choices", ONE_FEATURE)
    if choice not in known:
        name, words = type(head).__name__, getattr(head, "test_feature", "")
        raise UserError(
            f"TEST.FEATURE is {choice!r}, but this {name} has only one feature"
            f"{f' ({words})' if words else ''}, which TEST.FEATURE bn stands for. Set "
            "TEST.FEATURE bn, or use a head with a batch norm: MODEL.HEADS.NAME BNNeckHead and "
            "MODEL.HEADS.WITH_BNNECK True."
        )


def refuse_bnneck(cfg: Any, why: str) -> None:
    """Raise ``UserError`` if a config names a BNNeck, and so a table of results would, too.

    Args:
        cfg: the config of a head without one.
        why: what the head has instead, for the message.
    """
    if cfg.MODEL.HEADS.WITH_BNNECK:
        raise UserError(f"{why}; set MODEL.HEADS.WITH_BNNECK False.")
