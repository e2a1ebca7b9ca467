"""Check files, counts and identities of datasets, images and queries before training."""

from .dataset import DatasetReport, check_dataset, dataset_class
from .images import find_broken_images, raise_if_broken
from .queries import check_queries

__all__ = [
    "DatasetReport",
    "check_dataset",
    "check_queries",
    "dataset_class",
    "find_broken_images",
    "raise_if_broken",
]
