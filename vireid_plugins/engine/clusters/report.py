"""What is said about a clustering: numbers for the log, none of which is used in training."""

from typing import Any, Dict, Hashable, Sequence

import numpy as np


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
    if found:
        parts.append(f"NMI {found['nmi']:.3f}, purity {found['purity']:.3f} (only reported)")
    return ", ".join(parts)
