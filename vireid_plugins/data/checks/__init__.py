"""Check files, counts and identities of datasets, images and queries before training."""

from .dataset import DatasetReport, check_dataset, dataset_class
from .identities import check_queries, too_few_identities
from .images import find_broken_images, raise_if_broken
from .sets import check_test_set, check_training_sets

__all__ = [
    "DatasetReport",
    "check_dataset",
    "check_queries",
    "check_test_set",
    "check_training_sets",
    "dataset_class",
    "find_broken_images",
    "raise_if_broken",
    "too_few_identities",
]
