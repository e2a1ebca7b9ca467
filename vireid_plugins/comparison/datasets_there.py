"""Start no run if every run would end at once, because its datasets are not there."""

from typing import Optional, Sequence

from fastreid.config import CfgNode

from ..data.datasets.build import check_is_there
from ..errors import UserError
from .runs import PlannedRun


def check_datasets(runs: Sequence[PlannedRun]) -> None:
    """Raise ``UserError`` if no run finds its datasets; a run that does is not held up.

    Only folders and lists are looked for. Runs on a folder of their own are not checked here.
    """
    first: Optional[UserError] = None
    for run in runs:
        found = None if run.point is not None else _fault(run.entry.cfg)
        if found is None:
            return
        first = first or found
    if first is not None:
        raise first


def _fault(cfg: CfgNode) -> Optional[UserError]:
    """Return what a training and its test do not find; None: all is there."""
    try:
        for key in ("DATASETS.NAMES", "DATASETS.TESTS"):
            for name in cfg.DATASETS[key.partition(".")[2]]:
                check_is_there(cfg, name, key)
    except UserError as error:
        return error
    return None
