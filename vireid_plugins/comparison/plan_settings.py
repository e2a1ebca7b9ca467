"""Find the files that a plan names, and read the config keys that it sets."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

from fastreid.config import CfgNode, get_cfg

from ..config import add_vireid_config
from ..errors import PlanError, UserError, message_of
from ..files import find_config
from ..merge import check_known_keys, flat_values, merge_config
from ..readers.config_file import read_chain

Pairs = Tuple[Tuple[str, Any], ...]  # keys and values of a config


@dataclass(frozen=True)
class Files:
    """Finds the files that a plan names."""

    folders: Sequence[Path]  # of the plan, and of those that it begins with

    def find(self, name: str, place: str) -> Optional[Path]:
        """Return the file; None for an empty name."""
        if not name:
            return None
        for folder in self.folders:
            beside = folder / os.path.expanduser(name)
            if beside.is_file():
                return beside.resolve()
        try:
            return Path(find_config(name)).resolve()
        except UserError as error:
            raise PlanError(f"{place}: {message_of(error)}") from error


def read_setting(path: Optional[Path]) -> Pairs:
    """Return the keys and values of a config file and of those that it inherits from.

    Raises:
        UserError: a key is unknown, or a value is of a wrong type; the message names the file.
    """
    if path is None:
        return ()
    merge_config(fresh_config(), str(path))  # checks it
    values: Dict[str, Any] = {}
    for file in reversed(read_chain(path)):
        values.update(flat_values(file.values))
    return _without_empty_groups(values)


def fresh_config() -> CfgNode:
    """Return FastReID's defaults with this package's keys."""
    cfg = get_cfg()
    add_vireid_config(cfg)
    return cfg


def read_pairs(values: Dict[str, Any], where: str) -> Pairs:
    """Return the keys and values of a ``set`` of the plan, whose names are checked."""
    pairs = flat_values(values)
    if not pairs:
        return ()
    check_known_keys(pairs, fresh_config(), f"{where}: set")
    return _without_empty_groups(pairs)


def _without_empty_groups(values: Dict[str, Any]) -> Pairs:
    """Return keys and values without groups that hold nothing, such as ``HEADS: {}``."""
    return tuple((key, value) for key, value in values.items() if value != {})
