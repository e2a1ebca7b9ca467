"""The sets of features that Hi-CMD's HFL learns from: of real images and of generated ones.

bismex/HiCMD, ``trainer.py``, ``gen_update``: ``samp_idx`` 1 to 8. With n pairs and m other images
of each modality there are 8 n + 2 m + ... rows: 20 with n = m = 2.

===  ==================================  ==================================
set  prototype of                        style of
===  ==================================  ==================================
1    the visible image                   the visible image
2    the infrared image                  the infrared image
3    the one made from the infrared one  the same
4    the one made from the visible one   the same
5    a visible image of somebody else    the same
6    an infrared image of somebody else  the same
7    the visible image                   the one made from the infrared one
7    the one made from the infrared one  the visible image
8    the infrared image                  the one made from the visible one
8    the one made from the visible one   the infrared image
===  ==================================  ==================================
"""

from typing import Dict, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

REAL_SETS = (1, 2, 5, 6)
SETS = (1, 2, 3, 4, 5, 6, 7, 8)
#: the anchors of the two triplet losses
PIVOTS = ((1, 3, 7), (2, 4, 8))
# set to the sources of its prototypes, those of its styles, and those of its labels
_ROWS: Dict[int, Sequence[Tuple[str, str, str]]] = {
    1: [("v", "v", "v")],
    2: [("i", "i", "i")],
    3: [("as_visible", "as_visible", "i")],
    4: [("as_infrared", "as_infrared", "v")],
    5: [("other_v", "other_v", "other_v")],
    6: [("other_i", "other_i", "other_i")],
    7: [("v", "as_visible", "v"), ("as_visible", "v", "i")],
    8: [("i", "as_infrared", "i"), ("as_infrared", "i", "v")],
}


class Vectors(NamedTuple):
    """What the feature of an image consists of."""

    prototypes: Tensor  # (n, C)
    styles: Tensor  # (n, S)


class FeatureSets(NamedTuple):
    """Rows of all sets."""

    vectors: Vectors  # (R, C) and (R, S)
    targets: Tensor  # (R,) int64
    sets: Tensor  # (R,) int64, the number of each row's set


def feature_sets(
    wanted: Sequence[int], found: Dict[str, Vectors], targets: Dict[str, Tensor]
) -> FeatureSets:
    """Join the rows of the sets.

    Args:
        wanted: numbers of sets.
        found: the vectors of ``"v"``, ``"i"``, ``"as_visible"``, ``"as_infrared"``, ``"other_v"``
            and ``"other_i"``; what is absent has no rows.
        targets: identities of the real images, by the same names.
    """
    prototypes: List[Tensor] = []
    styles: List[Tensor] = []
    labels: List[Tensor] = []
    numbers: List[Tensor] = []
    for number in wanted:
        for prototype, style, label in _ROWS[number]:
            if prototype not in found or style not in found:
                continue
            prototypes.append(found[prototype].prototypes)
            styles.append(found[style].styles)
            labels.append(targets[label])
            numbers.append(torch.full_like(targets[label], number))
    return FeatureSets(
        Vectors(torch.cat(prototypes), torch.cat(styles)), torch.cat(labels), torch.cat(numbers)
    )


def pivots_of(sets: Tensor) -> List[Tensor]:
    """Return which rows are anchors of each triplet loss, (R,) bool, by their sets (R,)."""
    return [torch.stack([sets == number for number in one]).any(dim=0) for one in PIVOTS]
