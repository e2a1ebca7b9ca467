"""Which rows of a batch are the pairs of a visible and an infrared image of one identity.

B rows, n pairs.
"""

from collections import defaultdict
from typing import Any, Dict, List, NamedTuple, Tuple

import torch
from torch import Tensor

from ...errors import UserError
from ...modality import Modality


class Pairs(NamedTuple):
    """Rows of a batch: row i of ``visible`` and of ``infrared`` show one identity."""

    visible: Tensor  # (n,) int64
    infrared: Tensor  # (n,) int64
    other_visible: Tensor  # int64, the visible rows without a partner: negatives
    other_infrared: Tensor  # int64, the infrared ones


def find_pairs(batch: Dict[str, Any], device: torch.device) -> Pairs:
    """Pair the images of each identity: the first visible with the first infrared, and so on.

    The order is that of the dataset (``index``), so that the order of rows has no meaning.

    Args:
        batch: with ``targets``, ``modalities`` and, where identities have several images of a
            modality, ``index``; (B,) each.
        device: of the result.

    Raises:
        UserError: no identity has images of both modalities.
    """
    rows = len(batch["targets"])
    index = batch.get("index", torch.arange(rows))
    columns = [batch[name].to(device) for name in ("targets", "modalities")] + [index.to(device)]
    table = torch.stack([column.long() for column in columns], dim=1).tolist()
    found: Dict[Tuple[int, int], List[int]] = defaultdict(list)
    for row in sorted(range(rows), key=lambda row: (table[row], row)):
        found[(table[row][0], table[row][1])].append(row)
    pairs = [
        pair
        for target in sorted({key[0] for key in found})
        for pair in zip(*(found.get((target, modality), []) for modality in Modality))
    ]
    if not pairs:
        raise UserError(
            "The batch has no identity with a visible and an infrared image, from which HiCMD "
            "makes new ones. Set DATALOADER.SAMPLER_TRAIN PairsAndNegativesSampler, or "
            "CrossModalityIdentitySampler."
        )
    paired = {row for pair in pairs for row in pair}
    others = [
        [row for key in sorted(found) if key[1] == m for row in found[key] if row not in paired]
        for m in Modality
    ]
    parts = [*map(list, zip(*pairs)), *others]
    return Pairs(*(torch.tensor(one, dtype=torch.int64, device=device) for one in parts))


def modalities_of_two(visible: Tensor, infrared: Tensor) -> Tensor:
    """Return the modalities of visible images (n, ...) followed by infrared ones (m, ...)."""
    counts = ((Modality.VISIBLE, len(visible)), (Modality.INFRARED, len(infrared)))
    return torch.cat([visible.new_full((n,), int(m), dtype=torch.int64) for m, n in counts])
