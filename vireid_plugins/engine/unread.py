"""Find the config keys that a run does not read, because they belong to other methods or losses.

A config has the keys of all methods and losses. If the default of one of them changes, runs of all
others stay what they are. Methods say in ``config_nodes`` which nodes of the config they read, and
losses in ``config_node``; the config names the method and the losses of a run. What no method and
no loss calls its own (``MODEL.HEADS``, ``SOLVER``, ...) counts as read by every run.
"""

from typing import Any, FrozenSet, Iterable, List, Mapping, Optional, Set

from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from .. import modeling  # noqa: F401  # it registers methods, heads and losses
from ..keys import declared_keys
from ..registry import LOSS_REGISTRY

_METHOD = "MODEL.META_ARCHITECTURE"
_NAMES = (_METHOD, "MODEL.HEADS.NAME", "MODEL.LOSSES.NAME")
_REGISTRIES = (META_ARCH_REGISTRY, REID_HEADS_REGISTRY, LOSS_REGISTRY)
_PARENTS = ("MODEL", "MODEL.LOSSES")  # of the nodes of methods and of losses


def unread_keys(*configs: Mapping[str, Any]) -> FrozenSet[str]:
    """Return the keys that no run of these configs reads.

    A node of which the present code declares no key belongs to a method that was removed, or is
    not imported: no other method has a use for it.

    Args:
        configs: values by full names of keys, as ``flat_values`` returns them.

    Returns:
        Full names; none if a method or a head does not say which nodes it reads.
    """
    read: Set[str] = set()
    for config in configs:
        nodes = _nodes_of_run(config)
        if nodes is None:
            return frozenset()
        read |= nodes
    others = _nodes_of_all() - read
    known = _known_nodes()
    return frozenset(
        key
        for config in configs
        for key in config
        if (_inside(key, others) and not _inside(key, read)) or _of_absent_part(key, known)
    )


def _nodes_of_run(config: Mapping[str, Any]) -> Optional[Set[str]]:
    """Return the nodes that the parts of a run read; None: one of the parts does not say it."""
    if not config.get(_METHOD):
        return None
    keys, parts = list(_NAMES), []
    while keys:
        for name in _listed(config.get(keys.pop())):
            part = _part(name)
            if part not in parts:
                parts.append(part)
                keys.extend(getattr(part, "names_parts", ()))
    nodes = [_nodes_of_part(part) for part in parts]
    return None if None in nodes else {node for found in nodes for node in found or ()}


def _nodes_of_all() -> Set[str]:
    """Return the nodes that some method, head or loss calls its own."""
    parts = [part for registry in _REGISTRIES for part in registry._obj_map.values()]
    return {node for part in parts for node in _nodes_of_part(part) or ()}


def _nodes_of_part(part: Any) -> Optional[List[str]]:
    """Return the nodes of a method, a head or a loss; None: it does not say them."""
    if hasattr(part, "config_node"):
        return [f"MODEL.LOSSES.{part.config_node}"]
    if "config_nodes" in getattr(
        part, "__dict__", ()
    ):  # a class that derives from it may read more
        return [node for one in part.__mro__ for node in vars(one).get("config_nodes", ())]
    of_host = getattr(part, "__module__", "").partition(".")[0] == "fastreid"
    return [] if of_host and part in REID_HEADS_REGISTRY._obj_map.values() else None


def _part(name: str) -> Any:
    """Return what is registered under a name; None: nothing."""
    found = (registry._obj_map.get(name) for registry in _REGISTRIES)
    return next((part for part in found if part is not None), None)


def _listed(value: Any) -> List[str]:
    """Return the names in the value of a key: one, several or none."""
    if isinstance(value, (list, tuple)):
        return list(value)
    return [value] if value else []


def _inside(key: str, nodes: Iterable[str]) -> bool:
    return key.startswith(tuple(f"{node}." for node in nodes))


def _of_absent_part(key: str, known: Set[str]) -> bool:
    """Return whether a key is in a node of a method or a loss that declares no key."""
    node = key.rpartition(".")[0]
    return node.rpartition(".")[0] in _PARENTS and node not in known


def _known_nodes() -> Set[str]:
    """Return the nodes that hold declared keys, directly or below."""
    known: Set[str] = set()
    for key in declared_keys():
        node = key.rpartition(".")[0]
        while node:
            known.add(node)
            node = node.rpartition(".")[0]
    return known
