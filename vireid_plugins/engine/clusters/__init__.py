"""Clusters of the features as labels: every method that re-labels its images trains on this.

Before an epoch: features of all training images, without augmentation (``batches.py``); sparse
Jaccard distances and DBSCAN (``labels.py``); a line in the log (``report.py``); then batches by
these labels (``data/pseudo_labels.py``).
"""

from .batches import ClusterBatches, cluster_batches

__all__ = ["ClusterBatches", "cluster_batches"]
