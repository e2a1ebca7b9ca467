"""Keys in which the config of a run differs from its paper's base, and the files that set them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from fastreid.config import CfgNode, get_cfg

from ..config import add_vireid_config
from ..errors import UserError
from ..files import PACKAGE, find_config, training_configs
from ..keys import value_of
from ..merge import flat_keys, merge_config
from ..readers.config_file import ConfigFile, read_chain

# The recipe common to all papers: a paper's base is the file that inherits directly from it.
_COMMON = "Base-vireid.yml"
# Not counted as differences: where a run writes, and the number of classes, which its data gives.
_UNCOUNTED = ("OUTPUT_DIR", "MODEL.HEADS.NUM_CLASSES")


@dataclass(frozen=True)
class KeyDifference:
    """A key that has another value than in the paper's base."""

    key: str
    base: str
    value: str
    source: str  # the file that sets the value; empty: no file does


@dataclass(frozen=True)
class ConfigDifferences:
    """A config compared with its paper's base."""

    config_file: str  # the file that was run, as seen from the checkout
    base_file: str  # empty: the defaults of this package
    recorded: bool  # whether the run recorded its file; else the nearest one was taken
    differences: List[KeyDifference]
    has_encoder: bool = False  # whether a model that the run is built upon set keys, too

    @property
    def elsewhere(self) -> str:
        """Return in words what set a key that no file sets."""
        if not self.recorded:
            return "no file"
        return "command line, or the encoder" if self.has_encoder else "command line"


def compare_with_base(cfg: CfgNode, config_file: str) -> ConfigDifferences:
    """Return the differences between ``cfg`` and the base of the file that it was made from.

    Args:
        cfg: config of the run.
        config_file: the file that the run recorded; if it is empty or gone, the nearest config of
            this package is taken.
    """
    path = _recorded(config_file)
    recorded = path is not None
    path = path or _nearest(cfg)
    chain = read_chain(path) if path else []
    inherited = [one for one in chain if one.path.name != _COMMON]
    base = inherited[-1].path if inherited else None
    return ConfigDifferences(
        config_file=short_path(path),
        base_file=short_path(base),
        recorded=recorded,
        differences=_differences(cfg, _config_of(base), inherited[:-1]),
        has_encoder=bool(value_of(cfg, "MODEL.NFORMER.ENCODER_ARCHITECTURE", "")),
    )


def _recorded(config_file: str) -> Optional[Path]:
    try:
        path = Path(find_config(config_file)) if config_file else None
        return path if path and read_chain(path) else None
    except UserError:
        return None


def _nearest(cfg: CfgNode) -> Optional[Path]:
    """Return the config file of this package with the fewest differing keys.

    Of equal files, the one with the shortest name is taken. A run of another program does not say
    which file it was made from.
    """
    files = sorted(training_configs(), key=lambda one: (len(one.parts), str(one)))
    found: List[Tuple[int, int, Path]] = []
    for path in files:
        found.append((len(_differing(cfg, _config_of(path))), len(found), path))
    return min(found)[-1] if found else None


def _config_of(path: Optional[Path]) -> CfgNode:
    """Return the config of a file, or the defaults. The device is not checked."""
    cfg = get_cfg()
    add_vireid_config(cfg)
    merge_config(cfg, str(path or ""))
    return cfg


def _differing(cfg: CfgNode, base: CfgNode) -> List[str]:
    known = set(flat_keys(base))
    return [
        key
        for key in flat_keys(cfg)
        if key not in _UNCOUNTED
        and (key not in known or _plain(value_of(cfg, key)) != _plain(value_of(base, key)))
    ]


def _plain(value: Any) -> Any:
    """Return a tuple as a list: both are the same setting."""
    return list(value) if isinstance(value, tuple) else value


def _differences(cfg: CfgNode, base: CfgNode, files: Sequence[ConfigFile]) -> List[KeyDifference]:
    """Return the keys that differ from ``base``.

    Args:
        cfg: config of the run.
        base: config of the paper's base.
        files: the files between the run and the base, nearest to the run first.
    """
    known = set(flat_keys(base))
    set_by = {key: one.path for one in reversed(files) for key in _flat(one.values)}
    by_files = _config_of(files[0].path if files else None)
    found = []
    for key in _differing(cfg, base):
        value = value_of(cfg, key)
        as_in_file = key in set_by and _plain(value_of(by_files, key)) == _plain(value)
        found.append(
            KeyDifference(
                key=key,
                base=_words(value_of(base, key)) if key in known else "–",
                value=_words(value),
                source=short_path(set_by[key]) if as_in_file else "",
            )
        )
    return found


def _flat(values: Any, prefix: str = "") -> List[str]:
    if not isinstance(values, dict):
        return [prefix[:-1]]
    return [key for name, inner in values.items() for key in _flat(inner, f"{prefix}{name}.")]


def _words(value: Any) -> str:
    """Return ``value`` as a config file writes it; an empty string as two quotes."""
    if value == "":
        return '""'
    return str(list(value) if isinstance(value, tuple) else value)


def short_path(path: Optional[Path]) -> str:
    """Return ``configs/...`` for a file of this package, else the last two parts of the path."""
    if path is None:
        return ""
    for folder in (PACKAGE.parent, PACKAGE):
        try:
            return path.resolve().relative_to(folder.resolve()).as_posix()
        except ValueError:
            continue
    return "/".join(path.parts[-2:])


def recorded_config_file(sessions: Sequence[Dict[str, Any]]) -> str:
    """Return the config file of the last training session; empty if none is recorded."""
    named = [str(one.get("config_file") or "") for one in sessions if one.get("task") == "train"]
    return named[-1] if named else ""
