"""Rehearse the evaluations of a dataset on its labels, and report problems."""

from types import SimpleNamespace
from typing import Any, List, Mapping, NamedTuple, Sequence

from vireid_plugins.errors import UserError
from vireid_plugins.registry import PROTOCOL_REGISTRY, lookup

from fastreid.config import CfgNode

from ..datasets import CrossModalityDataset
from ..item import Item


class RehearsalFindings(NamedTuple):
    """The findings of the rehearsals of all evaluations of a dataset."""

    notes: List[str]  # what is odd, but possible
    problems: List[str]  # what keeps a protocol from being evaluated


def rehearse_protocols(
    dataset: CrossModalityDataset, splits: Mapping[str, Sequence[Item]], cfg: CfgNode
) -> RehearsalFindings:
    """Rehearse every evaluation that is possible for a dataset.

    Args:
        dataset: names its protocol.
        splits: has the items of ``query`` and ``gallery``.
        cfg: the config; the arguments of ``dataset`` go before its keys.
    """
    kind = type(dataset)
    protocol = lookup(PROTOCOL_REGISTRY, kind.protocol, f"{kind.__name__}.protocol")
    cfg = cfg.clone()
    for argument, key in kind.config_keys.items():
        if hasattr(dataset, argument):
            _set_value(cfg, key, getattr(dataset, argument))
    test: Any = SimpleNamespace(
        query=splits["query"],
        gallery=splits["gallery"],
        dataset_dir=dataset.dataset_dir,
        camera_rule_key=dataset.camera_rule_key,
        label_name=dataset.label_name,
    )
    found = RehearsalFindings([], [])
    for each in protocol.for_check(cfg, test, **kind.protocol_arguments(cfg)):
        try:
            found.notes.extend(each.rehearse(test, f"{kind.__name__}/{each.key}").remarks)
        except UserError as error:
            found.problems.append(str(error))
    return RehearsalFindings(*(list(dict.fromkeys(part)) for part in found))


def _set_value(cfg: CfgNode, key: str, value: Any) -> None:
    """Set a key by its full name, also one that was not declared."""
    *nodes, name = key.split(".")
    for node in nodes:
        cfg = cfg.setdefault(node, CfgNode())
    cfg[name] = value
