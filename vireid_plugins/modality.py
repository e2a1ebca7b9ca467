"""The two modalities and everything that depends on how they are encoded.

No other file compares modality numbers, splits a batch by modality or averages by identity and
modality. Shapes: B rows in a batch, C, H, W as usual, D feature size, M distinct
(identity, modality) pairs.
"""

from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import Any, Callable, Iterator, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .errors import UserError
from .keys import Rule

# What apply_per_modality does instead of sorting rows, inside fixed_path.
_fixed_path: "ContextVar[Optional[Callable[..., Tensor]]]" = ContextVar("fixed_path", default=None)


class Modality(IntEnum):
    """What kind of camera took an image."""

    VISIBLE = 0
    INFRARED = 1

    @classmethod
    def parse(cls, name: str) -> "Modality":
        """Return the modality of this name; raise ``UserError`` if there is none."""
        try:
            return {"visible": cls.VISIBLE, "infrared": cls.INFRARED}[str(name).strip().lower()]
        except KeyError:
            meant = modality_meant(name)
            hint = f" Say {meant.label!r}." if meant is not None else ""
            raise UserError(
                f"Unknown modality {name!r}; expected 'visible' or 'infrared'.{hint}"
            ) from None

    @property
    def label(self) -> str:
        """Return the lower-case word used in tables, file names and error messages."""
        return self.name.lower()


_OTHER_WORDS = {
    Modality.VISIBLE: ("visible", "vis", "v", "rgb", "color", "visual"),
    Modality.INFRARED: ("infrared", "ir", "i", "nir", "lwir", "tir", "thermal", "t"),
}


def modality_meant(word: Any) -> Optional[Modality]:
    """Return the modality that a word such as "RGB" or "thermal" means; None if unknown.

    Such a word is never accepted; messages suggest the right one.
    """
    known = str(word).strip().lower()
    return next((kind for kind, words in _OTHER_WORDS.items() if known in words), None)


#: the words that name a modality in a config
MODALITY = Rule(
    " or ".join(repr(modality.label) for modality in Modality),
    lambda word: str(word).strip().lower() in [modality.label for modality in Modality],
)


def known_modality_mask(modalities: Tensor) -> Tensor:
    """Return which of ``modalities`` (B,) are one of the two known numbers, (B,) bool."""
    return (modalities == Modality.VISIBLE) | (modalities == Modality.INFRARED)


def check_modalities(modalities: Tensor) -> None:
    """Raise ``UserError`` if ``modalities`` (B,) holds anything but the two known numbers."""
    known = known_modality_mask(modalities)
    if not bool(known.all()):
        strange = sorted(set(modalities[~known].tolist()))
        raise UserError(
            f"modalities must be {int(Modality.VISIBLE)} (visible) or "
            f"{int(Modality.INFRARED)} (infrared); got {strange}."
        )


def modality_rows(modalities: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the rows of the visible and of the infrared images, ascending, (V,) and (I,).

    This waits for a GPU once, for the two counts.

    Raises:
        UserError: a number is unknown, or this is called inside :func:`fixed_path`.
    """
    if _fixed_path.get() is not None:
        raise UserError(
            "modality_rows was called while the model is being exported, where the steps must not "
            "depend on the modalities. Call apply_per_modality instead."
        )
    counts = torch.stack([(modalities == modality).sum() for modality in Modality]).tolist()
    if sum(counts) != len(modalities):
        check_modalities(modalities)
    rows = torch.sort(modalities, stable=True).indices
    return rows[: counts[0]], rows[counts[0] :]


def apply_per_modality(
    functions: Sequence[Callable[[Tensor], Tensor]], inputs: Tensor, modalities: Tensor
) -> Tensor:
    """Run each row through its own modality's function and keep the order of the rows.

    Args:
        functions: one for visible rows, one for infrared rows, in this order; both return
            tensors of the same shape per row.
        inputs: (B, ...).
        modalities: (B,).

    Returns:
        (B, ...) in the order of ``inputs``. The function of a modality without rows is not called:
        a batch of one modality is normal, and batch norm never gets an empty slice.
    """
    path = _fixed_path.get()
    if path is not None:
        return path(functions, inputs, modalities)
    visible, infrared = modality_rows(modalities)
    if len(infrared) == 0:
        return functions[0](inputs)
    if len(visible) == 0:
        return functions[1](inputs)
    outputs = torch.cat([functions[0](inputs[visible]), functions[1](inputs[infrared])])
    order = torch.argsort(torch.cat([visible, infrared]))
    return outputs[order]


def of_modality(values: Tensor, modalities: Tensor) -> Tensor:
    """Return each row's own one of the two ``values``.

    Args:
        values: (2, D), of visible and of infrared images.
        modalities: (B,), known numbers; others count as visible.

    Returns:
        (B, D).
    """
    visible, infrared = values.unbind()
    return torch.where((modalities == Modality.INFRARED).unsqueeze(1), infrared, visible)


@contextmanager
def fixed_path(modality: Optional[Modality] = None) -> Iterator[None]:
    """Make :func:`apply_per_modality` do the same steps whatever ``modalities`` holds.

    This is for exporters, which record the steps of one forward pass in evaluation mode: the number
    of visible rows is unknown there, so rows cannot be sorted. Every row passes both functions and
    keeps the result of its own modality; unknown modality numbers are not detected.

    Args:
        modality: treat all rows as of this modality, whatever ``modalities`` says, and do not run
            the function of the other one; None: rows may be of either.
    """

    def own_result(
        functions: Sequence[Callable[[Tensor], Tensor]], inputs: Tensor, modalities: Tensor
    ) -> Tensor:
        if modality is not None:
            return functions[modality](inputs)
        visible, infrared = functions[0](inputs), functions[1](inputs)
        is_infrared = (modalities == Modality.INFRARED).view(-1, *[1] * (visible.dim() - 1))
        return torch.where(is_infrared, infrared, visible)

    token = _fixed_path.set(own_result)
    try:
        yield
    finally:
        _fixed_path.reset(token)


class Centers(NamedTuple):
    """Mean features of each (identity, modality) pair present in a batch."""

    features: Tensor  # (M, D)
    targets: Tensor  # (M,) int64
    modalities: Tensor  # (M,) int64


def identity_pairs(targets: Tensor, modalities: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the rows of every pair of a visible and an infrared image of one identity: (n,), (n,).

    Args:
        targets, modalities: (B,).
    """
    visible, infrared = modality_rows(modalities)
    same = targets[visible].unsqueeze(1) == targets[infrared]
    first, second = torch.nonzero(same, as_tuple=True)
    return visible[first], infrared[second]


class GroupMeans(NamedTuple):
    """Mean features of the rows that share all labels."""

    features: Tensor  # (M, D)
    labels: Tensor  # (M, L) int64, ascending
    group_of: Tensor  # (B,) int64, number of each row's group


def group_means(features: Tensor, *labels: Tensor) -> GroupMeans:
    """Average ``features`` (B, D) over the rows that share every one of ``labels``, each (B,).

    Groups are ordered by the first label, then the next, whatever the order of the rows.
    """
    table = torch.stack([label.long() for label in labels], dim=1)
    groups, group_of, counts = torch.unique(table, dim=0, return_inverse=True, return_counts=True)
    sums = features.new_zeros((len(groups), features.shape[1])).index_add(0, group_of, features)
    return GroupMeans(sums / counts.to(features.dtype).unsqueeze(1), groups, group_of)


def identity_centers(features: Tensor, targets: Tensor, modalities: Tensor) -> Centers:
    """Average ``features`` (B, D) over the images of each identity in each modality.

    Pairs are ordered by identity, then modality, whatever the order of the rows, so a shuffled
    batch gives the same centers.
    """
    means = group_means(features, targets, modalities)
    return Centers(means.features, *means.labels.unbind(dim=1))


def shared_identity_rows(targets: Tensor, modalities: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the visible and the infrared rows, ascending, of the identities that have both.

    Args:
        targets, modalities: (B,).
    """
    visible, infrared = modality_rows(modalities)
    seen_visible, seen_infrared = targets[visible], targets[infrared]
    return (
        visible[torch.isin(seen_visible, seen_infrared)],
        infrared[torch.isin(seen_infrared, seen_visible)],
    )


def paired_centers(features: Tensor, targets: Tensor, modalities: Tensor) -> Tuple[Tensor, Tensor]:
    """Average ``features`` (B, D) of the identities that are seen in both modalities.

    Returns:
        Visible and infrared centers, (n, D) each, ordered by identity.
    """
    centers = identity_centers(features, targets, modalities)
    visible, infrared = shared_identity_rows(centers.targets, centers.modalities)
    return centers.features[visible], centers.features[infrared]
