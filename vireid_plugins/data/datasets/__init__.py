"""Visible-infrared datasets; importing this package registers them in ``DATASET_REGISTRY``."""

from .base import CrossModalityDataset, DatasetError
from .csv_dataset import CSVDataset
from .llcm import LLCM
from .regdb import RegDB
from .sysu_mm01 import SYSUMM01

__all__ = ["CSVDataset", "CrossModalityDataset", "DatasetError", "LLCM", "RegDB", "SYSUMM01"]
