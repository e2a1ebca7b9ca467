"""Features that depend on each other: a model that sees all images of a trial at once.

Such a test is *transductive*: the answer to one query depends on the other queries, which a plain
test does not know. Its results are never in one line with others: each has a line of its own, whose
name ends in ``/transductive``, below the line of the same features image by image.

A model may have a :class:`Relation` as its attribute ``relation``. Shapes: N test images, M of them
in a trial (queries and gallery), D and E features.
"""

from dataclasses import dataclass
from typing import Callable

import numpy as np
import torch
from torch import Tensor

from .ranking.scores import Scores, TrialScorer

TRANSDUCTIVE = "transductive"  # end of the name of a line


@dataclass(frozen=True)
class Relation:
    """Computes the features of a trial from those of all its images.

    Args:
        name: what it is, with its parameters, for tables of results.
        relate: takes features (M, D) and modalities (M,), queries first, and returns features
            (M, E) in the same order, on the same device.
    """

    name: str
    relate: Callable[[Tensor, Tensor], Tensor]

    @property
    def description(self) -> str:
        """Return the text in the table's column *transductive*."""
        return f"{self.name}: all queries and the gallery of a trial in one pass"

    @property
    def left_out(self) -> str:
        """Return a sentence for whatever looks at one image at a time."""
        return (
            f"Features are computed image by image, without {self.name}, by which this model's "
            "evaluation relates all images of a test."
        )


class RelatedScorer:
    """Scores of related features, with one pass for each trial.

    Args:
        features: (N, D) of every test image.
        modalities: (N,) of the same images.
        relation: see :class:`Relation`.
        scorer: makes the scorer of related features (M, E).
    """

    pairwise = False  # the features of two images depend on who else is in the trial

    def __init__(
        self,
        features: Tensor,
        modalities: np.ndarray,
        relation: Relation,
        scorer: Callable[[Tensor], TrialScorer],
    ) -> None:
        self._features, self._modalities = features, torch.from_numpy(modalities)
        self._relation, self._scorer = relation, scorer

    def scores(self, query: np.ndarray, gallery: np.ndarray) -> Scores:
        """Return the scores that ``TrialScorer`` describes."""
        rows = torch.from_numpy(np.concatenate([query, gallery]))
        related = self._relation.relate(self._features[rows], self._modalities[rows])
        places = np.arange(len(rows))
        return self._scorer(related).scores(places[: len(query)], places[len(query) :])
