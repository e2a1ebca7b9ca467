"""What queries see of a gallery, and where the images of their own identity stand in it.

Shapes: G gallery images, V of them that a query sees, I identities of the gallery.
"""

from typing import Dict, Iterator, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..rules import Labels, RankRules

#: the rank of what is no positive; it pads the ranks of a query
NEVER = np.iinfo(np.int64).max


class View(NamedTuple):
    """The V gallery images that queries of one camera see, in the order of the gallery.

    The place of an image is its number in this list, from 0.
    """

    images: np.ndarray  # (V,) int64 gallery index of each, ascending
    columns: Tensor  # (V,) int64, the column of each image's scores
    identity: Tensor  # (V,) int64, from 0 to I - 1
    members: Tensor  # (V,) int64, places ordered by identity; those of one identity ascend
    #: (I + 2,) int64, where each identity's places begin in ``members``. Number I stands for all
    #: identities that the gallery does not have: it has no places.
    starts: Tensor
    own_hidden: Tensor  # (V,) bool, which of them queries of the same identity do not see
    most_members: int  # of one identity


class Views:
    """The views of one gallery, by the query's camera.

    Args:
        gallery: the labels of the G images.
        columns: (G,) the column of each image's scores.
        rules: who is compared with whom.
    """

    def __init__(self, gallery: Labels, columns: Tensor, rules: RankRules) -> None:
        self._gallery, self._columns, self._rules = gallery, columns, rules
        self._names, self._identity = np.unique(gallery.targets, return_inverse=True)
        self._made: Dict[Optional[int], View] = {}  # by the query's camera

    def identity_of(self, targets: np.ndarray) -> np.ndarray:
        """Return the number of each identity (Q,), as in ``View.identity``; I for a foreign one."""
        if not len(self._names):
            return np.zeros(len(targets), np.int64)
        own = np.searchsorted(self._names, targets).clip(max=len(self._names) - 1)
        return np.where(self._names[own] == targets, own, len(self._names))

    def of_queries(self, query: Labels) -> Iterator[Tuple[View, np.ndarray]]:
        """Yield each view that some of the queries have, and the numbers of these queries."""
        if not self._rules.needs_cameras:
            yield self._of(None), np.arange(len(query), dtype=np.int64)
            return
        assert query.camids is not None
        for camera in np.unique(query.camids).tolist():
            yield self._of(camera), np.flatnonzero(query.camids == camera)

    def _of(self, camera: Optional[int]) -> View:
        if camera not in self._made:
            self._made[camera] = self._view(camera)
        return self._made[camera]

    def _view(self, camera: Optional[int]) -> View:
        strangers = own = np.zeros(len(self._gallery), bool)
        if camera is not None:
            assert self._gallery.camids is not None
            asked = np.full(len(self._gallery), camera)
            strangers = self._rules.hides(strangers, asked, self._gallery.camids)
            own = self._rules.hides(~own, asked, self._gallery.camids)
        images = np.flatnonzero(~strangers)
        identity = self._identity[images]
        members = np.argsort(identity, kind="stable")
        starts = np.searchsorted(identity[members], np.arange(len(self._names) + 2))
        device = self._columns.device

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        return View(
            images,
            self._columns[tensor(images)],
            tensor(identity),
            tensor(members),
            tensor(starts),
            tensor(own[images]),
            int(np.diff(starts).max()),
        )
