"""A threshold for scores: from labelled images, for one model and one pair of modalities.

Shapes: S pairs of images of the same person, F pairs of different people.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from ..data import build_test_loader
from ..engine.feature_extractor import FeatureExtractor
from ..engine.setup import build_carried_config
from ..evaluation import build_protocols, extract_features
from ..evaluation.similarity import normalise
from ..modality import Modality

_MOST_IMAGES = 4_000  # of a modality: bounds the number of pairs
_BLOCK = 256  # images compared with all others at once
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
        opts: KEY VALUE pairs of its config, such as ``DATASETS.CSV_FILE mine.csv``.

    Returns:
        By the query's modality, ``"visible"`` or ``"infrared"``; one without pairs is left out.

    Raises:
        ValueError: no pair of the same person, or none of different people, in any modality.
        KeyError, DatasetError: the dataset is unknown, or not as documented.
    """
    cfg = build_carried_config(extractor.facts, ["MODEL.DEVICE", extractor.cfg.MODEL.DEVICE, *opts])
    name = dataset or cfg.DATASETS.TESTS[0]
    loader, _ = build_test_loader(cfg, name)
    features = extract_features(extractor.model, loader)
    protocol = build_protocols(cfg, name)[0]
    found = {}
    for other in Modality:
        same, different, words = _similarities(features, other, modality, protocol)
        if len(same) and len(different):
            found[other.label] = _from_pairs(same, different, f"{name}'s test images, {words}")
    if not found:
        raise ValueError(
            f"{name}: its test images have no pair of the same person and of different people "
            f"with {modality.label} images: no threshold can be taken from them."
        )
    return found


def _from_pairs(same: np.ndarray, different: np.ndarray, data: str) -> Calibration:
    threshold = equal_error_threshold(same, different)
    seen = [rate for rate in _RATES if len(different) * rate / 100 >= _LEAST_ERRORS]
    others = [float(np.quantile(different, 1 - rate / 100)) for rate in seen]
    return Calibration(
        threshold,
        *_rates(same, different, threshold),
        len(same),
        len(different),
        data,
        [(other, *_rates(same, different, other)) for other in others],
    )


def _rates(same: np.ndarray, different: np.ndarray, threshold: float) -> Tuple[float, float]:
    return 100 * float((different >= threshold).mean()), 100 * float((same < threshold).mean())


def equal_error_threshold(same: np.ndarray, different: np.ndarray) -> float:
    """Where the share of ``different`` (F,) at or above is nearest to that of ``same`` (S,) below.

    Both are similarities, at least one each.
    """
    same, different = np.sort(same), np.sort(different)
    candidates = np.concatenate([same, different])
    accepts = 1 - np.searchsorted(different, candidates) / len(different)
    rejects = np.searchsorted(same, candidates) / len(same)
    return float(candidates[np.abs(accepts - rejects).argmin()])


def _similarities(
    features: Any, query: Modality, gallery: Modality, protocol: Any
) -> Tuple[np.ndarray, np.ndarray, str]:
    """Cosine similarities of all pairs that count: (S,), (F,), and which they are in words."""
    rows = [_rows(features.modalities, modality) for modality in (query, gallery)]
    several = len(np.unique(features.camids[rows[1]])) > 1
    words = f"{query.label}-{gallery.label} pairs"
    if query == gallery:
        words += " of different cameras" if several else " of one camera"
    elif protocol.skip_camera_pairs or protocol.skip_same_camera:
        words += " that its protocol compares"
    same, different = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for scores, ours, theirs in _blocks(features, *rows):
        counts = np.ones(scores.shape, bool)
        cameras = features.camids[ours][:, None], features.camids[theirs][None]
        if query == gallery:
            counts &= ours[:, None] < theirs[None]  # each pair once, none with itself
            if several:
                counts &= cameras[0] != cameras[1]
        else:
            counts &= ~_never_compared(*cameras, protocol.skip_camera_pairs)
        match = features.targets[ours][:, None] == features.targets[theirs][None]
        if query != gallery and protocol.skip_same_camera:
            counts &= ~(match & (cameras[0] == cameras[1]))
        same.append(scores[counts & match])
        different.append(scores[counts & ~match])
    return np.concatenate(same), np.concatenate(different), words


def _rows(modalities: np.ndarray, modality: Modality) -> np.ndarray:
    rows = np.flatnonzero(modalities == modality)
    return np.sort(np.random.default_rng(0).permutation(rows)[:_MOST_IMAGES])


def _blocks(
    features: Any, queries: np.ndarray, gallery: np.ndarray
) -> Iterator[Tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Scores of a block of queries with the gallery, and the rows of both."""
    unit = normalise(features.features).numpy()
    for begin in range(0, len(queries), _BLOCK):
        block = queries[begin : begin + _BLOCK]
        yield unit[block] @ unit[gallery].T, block, gallery


def _never_compared(
    first: np.ndarray, second: np.ndarray, pairs: Sequence[Tuple[int, int]]
) -> np.ndarray:
    """Which pairs of cameras, in either order, the protocol leaves out."""
    hidden = np.zeros(np.broadcast(first, second).shape, bool)
    for one, other in pairs:
        hidden |= ((first == one) & (second == other)) | ((first == other) & (second == one))
    return hidden
