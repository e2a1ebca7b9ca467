"""Read a config file together with the files that it inherits from by ``_BASE_``."""

import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from ..errors import FileContentError, MissingFileError, UserError
from .shape import found
from .text import AnyPath, shown
from .yaml_file import read_yaml

BASE = "_BASE_"


class ConfigFile(NamedTuple):
    """What a config file itself sets."""

    path: Path
    values: Dict[str, Any]  # nested, as in the file, without _BASE_


def read_chain(path: AnyPath, alone: bool = False) -> List[ConfigFile]:
    """Return a config file, the file that it inherits from, and so on.

    ``_BASE_`` is a path, relative to the folder of the file that names it; ``~`` is the home.

    Args:
        path: a config file.
        alone: leave out the files that it inherits from.

    Raises:
        MissingFileError: a file does not exist.
        FileContentError: a file is not a config, or the files inherit from each other in a circle.
        UserError: a file cannot be read.
    """
    following = Path(path)
    chain: List[ConfigFile] = []
    seen: List[str] = []
    while True:
        seen.append(os.path.realpath(following))
        values = _read(following, chain)
        base = values.pop(BASE, None)
        chain.append(ConfigFile(following, values))
        if base is None or alone:
            return chain
        following = _path_of(base, following)
        if os.path.realpath(following) in seen:
            names = " -> ".join(shown(one) for one in [*(one.path for one in chain), following])
            raise FileContentError(f"Config files inherit ({BASE}) in a circle: {names}.")


def _read(path: Path, chain: List[ConfigFile]) -> Dict[str, Any]:
    try:
        return read_yaml(path)
    except UserError as error:
        if not chain:
            raise
        told = f"{shown(chain[0].path)} cannot be read: {error}"
        if len(chain) > 1:
            told += f" {shown(chain[-1].path)} inherits from it ({BASE})."
        kind = MissingFileError if isinstance(error, MissingFileError) else FileContentError
        raise kind(told) from error


def _path_of(base: Any, inheriting: Path) -> Path:
    if not isinstance(base, str) or not base.strip():
        raise FileContentError(
            f"{shown(inheriting)}: {BASE}: expected the path of a config file, found {found(base)}."
        )
    if "://" in base:
        raise FileContentError(
            f"{shown(inheriting)}: {BASE}: {base} is not a path; download that file and "
            "write its path here."
        )
    return inheriting.parent / os.path.expanduser(base)
