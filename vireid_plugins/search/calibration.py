"""A threshold for scores: from labelled images, for one model and one pair of modalities."""

import dataclasses
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from ..data import build_test_loader
from ..engine.feature_extractor import FeatureExtractor
from ..engine.loading import configure
from ..evaluation import RankRules, build_protocols, extract_features
from ..evaluation.pair_distances import (
    PairHistogram,
    PairSet,
    count_pairs,
    pair_sets,
    prepare_features,
)
from ..modality import Modality

_OPEN = ("DATASETS.", "DATALOADER.", "TEST.")  # keys that change no feature
_RATES = (10.0, 1.0, 0.1)  # percent of different people, for the table
_LEAST_ERRORS = 10  # pairs that a rate of the table must stand on


class Calibration(NamedTuple):
    """What scores mean between two modalities, as seen on labelled images; rates in percent."""

    threshold: float
    false_accepts: float  # of pairs of different people, those at or above the threshold
    false_rejects: float  # of pairs of the same person, those below it
    same_pairs: int
    different_pairs: int
    data: str  # which images and which pairs, in words
    others: List[Tuple[float, float, float]]  # threshold, false accepts, false rejects

    def describe(self) -> str:
        """What the threshold is, for people."""
        return (
            f"{self.threshold:.3f}, where as many different people pass as same people fail: on "
            f"{self.data} ({self.same_pairs:,} pairs of the same person, "
            f"{self.different_pairs:,} of different people), {self.false_accepts:.1f} % of "
            f"different people score at or above it and {self.false_rejects:.1f} % of same people "
            "below"
        )


def calibrate(
    extractor: FeatureExtractor, modality: Modality, dataset: str = "", opts: Sequence[str] = ()
) -> Dict[str, Calibration]:
    """Thresholds for queries of either modality among images of ``modality``.

    They are taken where the two rates of errors are equal, on the test images of a labelled
    dataset, whose people the model has not seen in training.

    Args:
        extractor: the model.
        modality: of the images that are searched.
        dataset: a registered name; empty: the first that the model was tested on.
        opts: KEY VALUE pairs of its config that say which data, such as
            ``DATASETS.CSV_FILE mine.csv``.

    Returns:
        By the query's modality, ``"visible"`` or ``"infrared"``; one without pairs is left out.

    Raises:
        ValueError: another key; a split whose people the model has seen; no pair of the same
            person, or none of different people, in any modality.
        KeyError, DatasetError: the dataset is unknown, or not as documented.
    """
    for key in opts[::2]:
        if not key.startswith(_OPEN):
            raise ValueError(f"calibrate takes keys of {', '.join(_OPEN)} only; got {key}.")
    own = extractor.cfg
    words = ["MODEL.DEVICE", own.MODEL.DEVICE, "TEST.DEVICE", own.TEST.DEVICE, *opts]
    words += ["DATASETS.TESTS", f"('{dataset}',)"] if dataset else []
    cfg = configure(own.MODEL.WEIGHTS, extractor.facts, opts=words)
    name = cfg.DATASETS.TESTS[0]
    loader, source = build_test_loader(cfg, name)
    batches = tqdm(loader, desc="features", unit="batch", disable=None)
    features = extract_features(extractor.model, batches)
    rows = prepare_features(features.features, "cosine")
    found = {}
    for query, pairs, words in _pairs_of(features, source, build_protocols(cfg, name)[0], modality):
        counted = count_pairs(rows, features.targets, features.camids, pairs)
        if counted.same.any() and counted.other.any():
            found[query.label] = from_histogram(counted, f"{name}'s test images, {words}")
    if not found:
        raise ValueError(
            f"{name}: its test images have no pair of the same person and of different people "
            f"with {modality.label} images: no threshold can be taken from them."
        )
    return found


def _pairs_of(
    features: Any, dataset: Any, protocol: Any, modality: Modality
) -> Iterator[Tuple[Modality, PairSet, str]]:
    """Pairs of a query and an image of ``modality``, by the query's modality, and in words."""
    for pairs in pair_sets(features, dataset, protocol):
        if not pairs.within:
            other = Modality.INFRARED if modality == Modality.VISIBLE else Modality.VISIBLE
            yield other, pairs, f"{pairs.name} pairs that its protocol compares"
        elif features.modalities[pairs.rows[0]] == modality:
            # Images of one person by one camera are often of one moment: too easy.
            several = len(np.unique(features.camids[pairs.rows])) > 1
            words = ", of one person by different cameras" if several else " by one camera"
            chosen = dataclasses.replace(pairs, rules=RankRules(skip_same_camera=several))
            yield modality, chosen, f"{pairs.name} pairs{words}"


def from_histogram(counted: PairHistogram, data: str) -> Calibration:
    """What the counted distances of labelled pairs, some of each kind, say about scores.

    Args:
        data: which pairs they are, in words.
    """
    accepts, passes = (100 * rates for rates in counted.roc())
    number = int(counted.other.sum())
    equal = counted.equal_error
    edges = [
        np.searchsorted(accepts, rate, side="right") - 1
        for rate in _RATES
        if number * rate / 100 >= _LEAST_ERRORS
    ]
    return Calibration(
        1 - equal.threshold,
        float(np.interp(equal.threshold, counted.edges, accepts)),
        100 - float(np.interp(equal.threshold, counted.edges, passes)),
        int(counted.same.sum()),
        number,
        data,
        [
            (1 - float(counted.edges[edge]), float(accepts[edge]), 100 - float(passes[edge]))
            for edge in edges
        ],
    )
