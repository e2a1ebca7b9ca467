"""What is said about a clustering: numbers for the log, none of which is used in training."""

from collections import Counter
from typing import Any, Dict, Hashable, List, Sequence

import numpy as np

from ...modality import Modality


def agreement(labels: np.ndarray, identities: Sequence[Hashable]) -> Dict[str, float]:
    """Compare clusters with the true identities of the images.

    Outliers are left out of both numbers.

    Args:
        labels: (N,) cluster of each image; -1: outlier.
        identities: (N,) true identities.

    Returns:
        ``nmi``: normalized mutual information, 0 to 1 (the mutual information divided by the mean
        of both entropies); ``purity``: the share of images that have the most frequent identity of
        their cluster, 0 to 1. Empty if there is only one identity, or no cluster.
    """
    kept = np.flatnonzero(labels >= 0)
    numbers: Dict[Any, int] = {}
    true = np.array([numbers.setdefault(one, len(numbers)) for one in identities], np.int64)
    if len(numbers) < 2 or len(kept) == 0:
        return {}
    from sklearn.metrics import normalized_mutual_info_score  # slow to load

    own, true = labels[kept], true[kept]
    table = np.zeros((own.max() + 1, len(numbers)), np.int64)
    np.add.at(table, (own, true), 1)
    return {
        "nmi": float(normalized_mutual_info_score(true, own)),
        "purity": float(table.max(axis=1).sum() / len(kept)),
    }


def precision(labels: np.ndarray, partners: np.ndarray, identities: Sequence[Hashable]) -> float:
    """Return the share of matched pairs of clusters that show one person, 0 to 1.

    A cluster shows the most frequent identity of its images.

    Args:
        labels: (N,) cluster of each image; -1: outlier.
        partners: (C,) the cluster that each one was matched with, at least one; -1: none.
        identities: (N,) true identities.
    """
    counts: List[Counter] = [Counter() for _ in partners]
    for label, identity in zip(labels, identities):
        if label >= 0:
            counts[label][identity] += 1
    shown = [count.most_common(1)[0][0] if count else None for count in counts]
    pairs = {tuple(sorted((own, int(other)))) for own, other in enumerate(partners) if other >= 0}
    return sum(shown[own] == shown[other] for own, other in pairs) / len(pairs)


def measurements(
    found: Any, modalities: np.ndarray, identities: Sequence[Hashable]
) -> Dict[str, float]:
    """Return the numbers of a clustering for the log, by name.

    Those of the first labeling are ``clusters``, ``outliers``, ``clusters_nmi`` and
    ``clusters_purity``; where there are two modalities, also with ``_visible`` and ``_infrared``.
    Those of the second one begin with ``all_``. Matches have ``matches`` and
    ``matches_precision``.

    Args:
        found: a ``Clustering`` of N images.
        modalities: (N,).
        identities: (N,) true identities.
    """
    result: Dict[str, float] = {}
    labelings = zip(("", "all_"), (found.labels, *found.others))
    for prefix, labels in labelings:
        parts = {"": np.arange(len(labels))}
        if len(np.unique(modalities)) > 1:
            for modality in Modality:
                parts[f"_{modality.label}"] = np.flatnonzero(modalities == modality)
        for suffix, rows in parts.items():
            own = labels[rows]
            result[f"{prefix}clusters{suffix}"] = float(len(np.unique(own[own >= 0])))
            result[f"{prefix}outliers{suffix}"] = float((own < 0).sum())
            for name, value in agreement(own, [identities[int(row)] for row in rows]).items():
                result[f"{prefix}clusters_{name}{suffix}"] = value
    if found.partners is not None:
        pairs = sorted({tuple(sorted(p)) for p in enumerate(found.partners.tolist()) if p[1] >= 0})
        result["matches"] = float(len(pairs))
        if pairs and len(set(identities)) > 1:
            result["matches_precision"] = precision(found.labels, found.partners, identities)
    return result


def sentences(
    found: Any,
    modalities: np.ndarray,
    kinds: Sequence[str],
    measured: Dict[str, float],
    by_rule: bool,
) -> List[str]:
    """Return what the log says of a clustering: one part for each labeling, and the matches.

    Args:
        found: a ``Clustering`` of N images.
        modalities: (N,).
        kinds: ``CLUSTERS.WITHIN`` of each labeling.
        measured: those of :func:`measurements`.
        by_rule: whether the radii were found by the rule.
    """
    said, radii = [], list(found.radii)
    for prefix, kind, labels in zip(("", "all_"), kinds, (found.labels, *found.others)):
        number = len(np.unique(modalities)) if kind == "modality" else 1
        own, radii = radii[:number], radii[number:]
        named = f"all images ({kind}): " if prefix else ""
        said.append(named + describe(labels, own, by_rule, _agreement_of(measured, prefix, "")))
        for modality in Modality if f"{prefix}clusters_visible" in measured else ():
            suffix = f"_{modality.label}"
            count, outliers = (int(measured[f"{prefix}{n}{suffix}"]) for n in _COUNTS)
            words = [f"{modality.label}: {count} clusters", f"{outliers} outliers"]
            words += _agreement_words(_agreement_of(measured, prefix, suffix))
            said.append(", ".join(words))
    if "matches" in measured:
        words = [f"{int(measured['matches'])} pairs of clusters matched"]
        if "matches_precision" in measured:
            words.append(f"precision {measured['matches_precision']:.3f} (only reported)")
        said.append(", ".join(words))
    return said


_COUNTS = ("clusters", "outliers")


def _agreement_of(measured: Dict[str, float], prefix: str, suffix: str) -> Dict[str, float]:
    """Return the numbers of :func:`agreement` of one part, if they are known."""
    names = {name: f"{prefix}clusters_{name}{suffix}" for name in ("nmi", "purity")}
    return {name: measured[full] for name, full in names.items() if full in measured}


def _agreement_words(found: Dict[str, float]) -> List[str]:
    """Return these numbers in words."""
    return [f"NMI {found['nmi']:.3f}, purity {found['purity']:.3f}"] if found else []


def describe(
    labels: np.ndarray, radii: Sequence[float], by_rule: bool, found: Dict[str, float]
) -> str:
    """Return a line about a clustering: clusters, outliers, radius, and :func:`agreement`."""
    outliers = int((labels < 0).sum())
    parts = [
        f"{int(labels.max(initial=-1)) + 1} clusters of {len(labels) - outliers} images",
        f"{outliers} outliers ({100 * outliers / max(1, len(labels)):.1f} %)",
        f"radius {', '.join(f'{one:.4f}' for one in radii)}{' by the rule' if by_rule else ''}",
    ]
    parts += [f"{words} (only reported)" for words in _agreement_words(found)]
    return ", ".join(parts)
