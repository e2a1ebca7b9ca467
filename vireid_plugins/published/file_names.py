"""Read what the public training scripts write into the names of their checkpoints.

Such as ``regdb_agw_p4_n8_lr_0.1_seed_0_trial_3_best.t`` (AGW), ``sysu_adp_joint_co_..._best.t``
(CAJ), ``regdb_c_tri_pcb_on_..._trial_1_best.t`` (HCT).
"""

import re
from typing import NamedTuple, Optional

#: the datasets as those names begin, and as this package calls them
DATASETS = {"sysu": "SYSUMM01", "regdb": "RegDB", "llcm": "LLCM"}
_DATASET = re.compile(r"(?:^|[^a-z])(sysu|regdb|llcm)(?:[^a-z]|$)", re.IGNORECASE)
_TRIAL = re.compile(r"(?:^|[^a-z])trial[_-]?(\d+)(?!\d)", re.IGNORECASE)
_METHODS = (
    (re.compile(r"_adp_|caj", re.IGNORECASE), "caj"),
    (re.compile(r"_a(gw|wg)_|agw", re.IGNORECASE), "agw"),  # one of its scripts spells it awg
)


class FileName(NamedTuple):
    """What the name of a checkpoint says.

    Attributes:
        dataset: the name here of the dataset, such as ``"RegDB"``; empty: not said.
        trial: the number of the split; None: not said.
        method: ``"agw"``, ``"caj"`` or empty.
    """

    dataset: str
    trial: Optional[int]
    method: str


def read_file_name(name: str) -> FileName:
    """Return what the name of a checkpoint, without its folder, says about its training."""
    datasets = {DATASETS[one.lower()] for one in _DATASET.findall(name)}
    trials = set(map(int, _TRIAL.findall(name)))
    method = next((method for pattern, method in _METHODS if pattern.search(name)), "")
    return FileName(
        datasets.pop() if len(datasets) == 1 else "",
        trials.pop() if len(trials) == 1 else None,
        "caj+" if method == "caj" and re.search(r"_m(INP|ap)_best", name) else method,
    )
