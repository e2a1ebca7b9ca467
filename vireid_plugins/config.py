"""Every config key that this package adds to FastReID's, and what each of them means.

Keys are declared where they are read (``keys.py``); this file collects them. ``describe_keys``
lists them with their meaning.
"""

import copy
from typing import Any, Iterable, List, Set

from fastreid.config import CfgNode as CN
from fastreid.config import get_cfg

from . import host_keys, host_model_keys  # noqa: F401  they declare FastReID's keys
from .errors import UnknownNameError
from .keys import HOST_DEFAULT, Key, check_ranges, declare, declared_keys, exactly, value_of
from .registry import suggest

__all__ = ["add_vireid_config", "check_ranges", "describe_keys"]

declare("VIREID", Key("CONFIG_VERSION", 1, exactly(1), "version of these keys"))


def add_vireid_config(cfg: CN) -> None:
    """Add this package's keys, with their defaults, to a FastReID config, in place.

    A key that the config has already keeps its value, so calling it twice changes nothing.
    FastReID's global defaults are never edited.

    Raises:
        RuntimeError: ``cfg`` is frozen.
    """
    if cfg.is_frozen():
        raise RuntimeError(
            "add_vireid_config needs a config that is not frozen; call it right after get_cfg(), "
            "before cfg.freeze()."
        )
    for name, key in declared_keys().items():
        if key.default is HOST_DEFAULT:
            continue
        *nodes, last = name.split(".")
        node = cfg
        for part in nodes:
            node = node.setdefault(part, CN())
        node.setdefault(last, copy.deepcopy(key.default))


def describe_keys(prefix: str = "") -> str:
    """Return what the declared keys mean, FastReID's among them: two lines for each.

    Args:
        prefix: selects the keys whose name, or a later part of it, begins with this text, such as
            ``"MODEL.MAUM"`` or ``"maum"``, in upper or lower case; empty: all keys.

    Raises:
        UnknownNameError: no key begins with it; the message has the nearest keys.
    """
    keys = declared_keys()
    wanted = f".{prefix.upper()}"
    found = {name: key for name, key in keys.items() if wanted in f".{name}"}
    if not found:
        close = suggest(prefix, _beginnings(keys))
        if close.startswith("Valid"):  # no name is near: name the groups only
            close = suggest("", {name.split(".")[0] for name in keys})
        raise UnknownNameError(f"No config key begins with {prefix!r}. {close}")
    cfg = get_cfg()
    add_vireid_config(cfg)
    lines: List[str] = []
    for name, key in found.items():
        value: Any = value_of(cfg, name)
        lines += [f"{name}: {value!r} ({key.rule.words})", f"    {key.meaning}"]
    return "\n".join(lines)


def _beginnings(names: Iterable[str]) -> Set[str]:
    """Return all words that ``describe_keys`` finds keys by: whole nodes, and whole keys."""
    found = set()
    for name in names:
        parts = name.split(".")
        pairs = [(i, j) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)]
        found |= {".".join(parts[i:j]) for i, j in pairs}
    return found
