"""A group of keys: the config under which, and the observer by which, they are seen."""

from typing import Any, Dict, NamedTuple

from .narrow import NAME


class With(NamedTuple):
    """Another value of a key, with words that both configs have besides those of the group."""

    value: Any
    words: str


class Group(NamedTuple):
    """Keys that one observer sees under one config."""

    observer: str  # in facts.py
    config: str  # below configs/
    words: str  # KEY VALUE words besides those of tests/engine/small.py
    others: Dict[str, Any]  # another value of each key, or a ``With``


NARROW = f"MODEL.BACKBONE.NAME {NAME} MODEL.BACKBONE.LAST_STRIDE 1 "
TALL = NARROW + "INPUT.SIZE_TRAIN [96,32] INPUT.SIZE_TEST [96,32] "
SYSU = NARROW + "DATASETS.NAMES ('SYSUMM01',) DATASETS.TESTS ('SYSUMM01',) "
REGDB = NARROW + "DATASETS.NAMES ('RegDB',) DATASETS.TESTS ('RegDB',) "
CSV = NARROW + (
    "DATASETS.NAMES ('CSVDataset',) DATASETS.TESTS ('CSVDataset',) SOLVER.IMS_PER_BATCH 8 "
)
