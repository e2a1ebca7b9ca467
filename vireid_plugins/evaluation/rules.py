"""Who is compared with whom, and how hits are counted: decided here and nowhere else.

Two rules leave out pairs of a query and a gallery image. A *camera pair* (query camera, gallery
camera) is never compared, whoever the people are: the two cameras see the same place. Images of
the query's *own camera* are left out where they show the query's identity: they would be found
without any re-identification.

Shapes: Q queries, G gallery images.
"""

from dataclasses import dataclass, replace
from typing import Any, List, Optional, Tuple, TypeVar, Union

import numpy as np
from torch import Tensor

from ..errors import UserError
from .arguments import MOST_PLACES, shown, switch, whole_number, word

CMC_RULES = ("image", "identity")
#: what each rule counts, in the words of tables
CMC_COUNTS = {"image": "images", "identity": "identities"}
#: SYSU-MM01: infrared camera 3 and visible camera 2 see the same place
SYSU_SKIPPED_PAIRS = ((3, 2),)

ArrayT = TypeVar("ArrayT", np.ndarray, Tensor)
Rows = Union[slice, np.ndarray]


@dataclass(frozen=True)
class Labels:
    """Who is on N images, and which cameras took them."""

    targets: np.ndarray  # (N,) int64
    camids: Optional[np.ndarray] = None  # (N,) int64; None: unknown

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Rows) -> "Labels":
        """Return the labels of some of the images."""
        return Labels(self.targets[rows], None if self.camids is None else self.camids[rows])


@dataclass(frozen=True)
class RankRules:
    """Rules for which images are compared, and how hits are counted.

    Attributes:
        skip_camera_pairs: pairs (query camera, gallery camera) that are never compared.
        skip_same_camera: a query is never compared with images of its identity *and* camera.
        cmc: ``"image"``, or ``"identity"``: each gallery identity counts once, at its best rank.
        max_rank: length of the CMC curve.

    Raises:
        UserError: ``cmc`` is unknown, ``max_rank`` is below 1, or an entry of
            ``skip_camera_pairs`` is not a pair of camera numbers; the message names the argument.
    """

    skip_camera_pairs: Tuple[Tuple[int, int], ...] = ()
    skip_same_camera: bool = False
    cmc: str = "image"
    max_rank: int = 20

    def __post_init__(self) -> None:
        word(self.cmc, "cmc", CMC_RULES)
        checked = {
            "skip_camera_pairs": camera_pairs(self.skip_camera_pairs),
            "skip_same_camera": switch(self.skip_same_camera, "skip_same_camera"),
            "max_rank": whole_number(self.max_rank, "max_rank", 1, MOST_PLACES),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def needs_cameras(self) -> bool:
        """Whether camera numbers decide who is compared."""
        return bool(self.skip_camera_pairs) or self.skip_same_camera

    def parts(self) -> List["RankRules"]:
        """Return the rules about cameras one by one: a pair is hidden if one of them hides it."""
        pairs = [
            replace(self, skip_camera_pairs=(pair,), skip_same_camera=False)
            for pair in self.skip_camera_pairs
        ]
        own = [replace(self, skip_camera_pairs=())] if self.skip_same_camera else []
        return pairs + own

    def hidden(self, query: Labels, gallery: Labels) -> np.ndarray:
        """Return which gallery images each query must not see: (Q, G) bool."""
        same_identity = query.targets[:, None] == gallery.targets[None]
        if not self.needs_cameras:
            return np.zeros_like(same_identity)
        assert query.camids is not None and gallery.camids is not None
        return self.hides(same_identity, query.camids[:, None], gallery.camids[None])

    def hides(self, same_identity: ArrayT, query_camids: ArrayT, gallery_camids: ArrayT) -> ArrayT:
        """Return for each pair of a query and a gallery image whether it is never compared.

        The arguments are arrays, or tensors, that broadcast together; the result has their common
        shape. A camera pair is hidden whatever ``same_identity`` is. So a call with
        ``same_identity`` False everywhere tells which pairs of cameras are never compared at all.

        Args:
            same_identity: bool, whether both images show one person.
            query_camids: the query's camera.
            gallery_camids: the gallery image's camera.
        """
        hidden = same_identity & (query_camids == gallery_camids) & self.skip_same_camera
        for own, other in self.skip_camera_pairs:
            hidden = hidden | ((query_camids == own) & (gallery_camids == other))
        return hidden

    def words(self, query: str = "query", gallery: str = "gallery") -> str:
        """Return in words what is never compared; empty if everything is compared.

        An example: "query camera 3 with gallery camera 2; images of one person by one camera".

        Args:
            query: what a query camera is called.
            gallery: what a gallery camera is called.
        """
        parts = [
            f"{query} camera {own} with {gallery} camera {other}"
            for own, other in self.skip_camera_pairs
        ]
        if self.skip_same_camera:
            parts.append("images of one person by one camera")
        return "; ".join(parts)


def camera_pairs(pairs: Any) -> Tuple[Tuple[int, int], ...]:
    """Return pairs (query camera, gallery camera), each once, in ascending order.

    Raises:
        UserError: ``pairs`` holds anything else.
    """
    try:
        return tuple(sorted({_camera_pair(pair) for pair in pairs}))
    except TypeError:
        raise _no_camera_pair(pairs) from None


def _camera_pair(pair: Any) -> Tuple[int, int]:
    limits = np.iinfo(np.int64)
    try:
        query, gallery = (
            whole_number(camera, "a camera", int(limits.min), int(limits.max)) for camera in pair
        )
    except (TypeError, ValueError):
        raise _no_camera_pair(pair) from None
    return query, gallery


def _no_camera_pair(value: Any) -> UserError:
    return UserError(
        "skip_camera_pairs must hold pairs (query camera, gallery camera), such as {(3, 2)}; "
        f"got {shown(value)}."
    )
