"""Datasets on disk, samplers, transforms for each modality, and data loaders.

Importing this package registers the datasets in FastReID's ``DATASET_REGISTRY``.
"""

from ..readers.image import ImageError, read_image
from .build import build_test_loader, build_train_loader
from .checks import check_dataset
from .config_checks import check_config
from .dataset import VIReIDDataset, collate
from .datasets import LLCM, SYSUMM01, CrossModalityDataset, CSVDataset, DatasetError, RegDB
from .datasets.build import build_dataset, dataset_root
from .item import Item
from .sampler import CrossModalityIdentitySampler
from .transforms import build_transforms

__all__ = [
    "CSVDataset",
    "CrossModalityDataset",
    "CrossModalityIdentitySampler",
    "DatasetError",
    "ImageError",
    "Item",
    "LLCM",
    "RegDB",
    "SYSUMM01",
    "VIReIDDataset",
    "build_dataset",
    "build_test_loader",
    "build_train_loader",
    "build_transforms",
    "check_config",
    "check_dataset",
    "collate",
    "dataset_root",
    "read_image",
]
