"""Compute a threshold for scores from labeled images, for one model and pair of modalities."""

import dataclasses
from typing import Any, Dict, Iterator, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from ..data import build_test_loader
from ..engine.feature_extractor import FeatureExtractor
from ..engine.loading import configure
from ..errors import UserError
from ..evaluation import RankRules, build_protocols, extract_features
from ..evaluation.pair_distances import (
    PairHistogram,
    PairSet,
    count_pairs,
    pair_sets,
    prepare_features,
)
from ..modality import Modality
from .threshold import Calibration

# Only such keys may be set: they choose images, and change no feature of the index.
_OPEN = ("DATASETS.", "DATALOADER.", "TEST.", "INPUT.KEYPOINTS.")
_RATES = (10.0, 1.0, 0.1)  # percent of different people, for the table
_LEAST_ERRORS = 10  # a rate of the table is based on at least this many pairs


def calibrate(
    extractor: FeatureExtractor, modality: Modality, dataset: str = "", opts: Sequence[str] = ()
) -> Dict[str, Calibration]:
    """Return thresholds for queries of either modality among images of ``modality``.

    At the threshold the two rates of errors are equal, on the test images of a labeled dataset,
    whose people the model has not seen in training.

    Args:
        extractor: the model.
        modality: the modality of the images that are searched.
        dataset: a registered name; empty: the first dataset that the model was tested on.
        opts: KEY VALUE pairs that override its config, such as ``DATASETS.CSV_FILE mine.csv``.

    Returns:
        Calibrations by the query's modality, ``"visible"`` or ``"infrared"``; a modality without
        pairs is absent.

    Raises:
        UserError: a key may not be set; the model has seen the people of the split; there is no
            pair of the same person, or none of different people, in any modality; or the dataset
            is unknown or not as documented.
    """
    for key in opts[::2]:
        if not key.startswith(_OPEN):
            raise UserError(f"calibrate takes keys of {', '.join(_OPEN)} only; got {key}.")
        if key == "TEST.FEATURE":
            raise UserError(
                "calibrate measures the feature that the index holds; TEST.FEATURE cannot be set "
                "here. Make the index with a checkpoint whose own config sets it."
            )
    own = extractor.cfg
    changes = ["MODEL.DEVICE", own.MODEL.DEVICE, "TEST.DEVICE", own.TEST.DEVICE, *opts]
    changes += ["DATASETS.TESTS", f"('{dataset}',)"] if dataset else []
    cfg = configure(own.MODEL.WEIGHTS, extractor.facts, opts=changes)
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
        raise UserError(
            f"{name}: its test images have no pair of the same person and of different people "
            f"with {modality.label} images: no threshold can be computed from them."
        )
    return found


def _pairs_of(
    features: Any, dataset: Any, protocol: Any, modality: Modality
) -> Iterator[Tuple[Modality, PairSet, str]]:
    """Yield the query's modality, pairs of queries and images of ``modality``, and their words."""
    for pairs in pair_sets(features, dataset, protocol):
        if not pairs.within:
            other = Modality.INFRARED if modality == Modality.VISIBLE else Modality.VISIBLE
            yield other, pairs, f"{pairs.name} pairs that its protocol compares"
        elif features.modalities[pairs.rows[0]] == modality:
            # Images of one person by one camera often show the same moment, which is too easy.
            several = len(np.unique(features.camids[pairs.rows])) > 1
            words = ", of one person by different cameras" if several else " by one camera"
            chosen = dataclasses.replace(pairs, rules=RankRules(skip_same_camera=several))
            yield modality, chosen, f"{pairs.name} pairs{words}"


def from_histogram(counted: PairHistogram, data: str) -> Calibration:
    """Return the calibration that counted distances of labeled pairs give.

    Args:
        counted: counts of pairs of the same person and of different people; neither is empty.
        data: which images and which pairs they are, in words.
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
