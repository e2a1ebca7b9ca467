"""Build protocols and evaluators from a config."""

import logging
from typing import Any, List, Union

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.utils import comm

from ..data.datasets.build import build_dataset
from ..errors import UserError
from ..keys import SWITCH, Key, check_values, declare, declared_keys, one_of, text, value_of
from ..registry import PROTOCOL_REGISTRY, lookup, registered_names
from .evaluator import VIReIDEvaluator
from .features import TestFeatures
from .protocols import Protocol, SingleModalityProtocol
from .reranking.expansion import QueryExpansion
from .reranking.jaccard import DEFINITIONS
from .reranking.rerank import NEIGHBORS, AffinityInference, Reranking
from .result import ResultTable

logger = logging.getLogger(__name__)

RERANKING_METHODS = ("k_reciprocal", "aim")
#: keys of ``TEST.RERANK`` that METHOD aim does not read, with the value that each must have
_NOT_READ_BY_AIM = {
    "NEIGHBORS": "all",
    "CROSS_MODALITY": False,
    "DEFINITION": "original",
    "LAMBDA": 0.3,
}
#: keys that are read only if another one is True
_SWITCHES = {
    "TEST.FLIP.NORMALIZED": "TEST.FLIP.ENABLED",
    "TEST.RERANK.NEIGHBORS": "TEST.RERANK.ENABLED",
}

declare(
    "TEST",
    Key("DEVICE", "", text("a device"), "device that computes similarities; empty: MODEL.DEVICE"),
)
declare(
    "TEST.RERANK",
    Key("METHOD", "k_reciprocal", one_of(*RERANKING_METHODS), "aim: affinity inference of SAAI"),
    Key("DEFINITION", "original", one_of(*DEFINITIONS), "Jaccard distance; softmax: FastReID's"),
    Key("CROSS_MODALITY", False, SWITCH, "take neighbors from queries and gallery in turn"),
    Key("NEIGHBORS", "all", one_of(*NEIGHBORS), "who can be a neighbor; queries: as MPANet, IDKL"),
)


def build_protocols(cfg: Any, dataset_name: str) -> List[Protocol]:
    """Return the protocols of a registered dataset, as ``cfg.TEST.PROTOCOL`` asks for them.

    A dataset class names its protocol in the attribute ``protocol``, and may set arguments of that
    protocol in ``protocol_arguments``. A class without these attributes, such as FastReID's own
    datasets, is evaluated by ``SingleModalityProtocol``.

    Raises:
        UnknownNameError: the dataset or its protocol is not registered.
        UserError: the protocol does not know a value; the message names the valid values.
    """
    dataset_class = lookup(DATASET_REGISTRY, dataset_name, "DATASETS.TESTS")
    name = getattr(dataset_class, "protocol", "SingleModalityProtocol")
    protocol = lookup(PROTOCOL_REGISTRY, name, f"{dataset_name}.protocol")
    arguments_of = getattr(dataset_class, "protocol_arguments", None)
    decided = arguments_of(cfg) if arguments_of is not None else {}
    return protocol.from_config(cfg, **decided)


def build_reranking(cfg: Any) -> Union[Reranking, AffinityInference, None]:
    """Return the re-ranking that ``TEST.RERANK`` asks for; None if it is switched off.

    Raises:
        UserError: a word is unknown, or two keys contradict each other.
    """
    node = cfg.TEST.RERANK
    words = {name: node[name] for name in ("METHOD", "DEFINITION", "NEIGHBORS")}
    check_values("TEST.RERANK", **words)
    if not node.ENABLED:
        return None
    if node.METHOD == "aim":
        for key, value in _NOT_READ_BY_AIM.items():
            if node[key] != value:
                raise UserError(
                    f"TEST.RERANK.{key} is {node[key]!r}, but TEST.RERANK.METHOD aim takes its "
                    "neighbors from the gallery and has no Jaccard distance: "
                    f"set {key} {value}, or METHOD k_reciprocal."
                )
        return AffinityInference(node.K1, node.K2)
    return Reranking(
        node.K1,
        node.K2,
        node.LAMBDA,
        node.DEFINITION,
        node.CROSS_MODALITY,
        node.NEIGHBORS,
    )


def build_evaluator(cfg: Any, dataset_name: str, dataset: Any) -> VIReIDEvaluator:
    """Return an evaluator from ``cfg.TEST``: METRIC, RERANK, AQE, DEVICE and PROTOCOL.

    Raises:
        UserError: a value is unknown, or ROC is switched on, which only FastReID's own evaluator
            has.
    """
    if cfg.TEST.ROC.ENABLED:
        raise UserError("TEST.ROC.ENABLED is not supported; set it to False.")
    aqe, protocols = cfg.TEST.AQE, build_protocols(cfg, dataset_name)
    across = cfg.TEST.RERANK.ENABLED and cfg.TEST.RERANK.CROSS_MODALITY
    if across and any(isinstance(protocol, SingleModalityProtocol) for protocol in protocols):
        raise UserError(
            f"TEST.RERANK.CROSS_MODALITY is True, but {dataset_name} has one modality; set it "
            "to False."
        )
    return VIReIDEvaluator(
        protocols,
        dataset,
        dataset_name=dataset_name,
        metric=cfg.TEST.METRIC,
        reranking=build_reranking(cfg),
        expansion=QueryExpansion(aqe.QE_K, aqe.ALPHA, aqe.QE_TIME) if aqe.ENABLED else None,
        device=cfg.TEST.DEVICE or cfg.MODEL.DEVICE,
        feature="after BNNeck" if cfg.MODEL.HEADS.WITH_BNNECK else "pooled",
        note=getattr(dataset, "note", ""),
    )


def rehearse_tests(cfg: Any) -> None:
    """Rehearse the evaluation of every dataset of ``DATASETS.TESTS`` on its labels alone.

    This reads lists of images, but no image. For each dataset whose evaluation is possible but odd,
    one warning is logged, and one for keys of protocols that no dataset has, or of parts that are
    switched off.

    Raises:
        UserError: a dataset cannot be read, or its evaluation would fail; the message says why.
    """
    unread = _unread_keys(cfg)
    if unread and comm.is_main_process():
        logger.warning("No dataset of DATASETS.TESTS reads %s.", "; nor ".join(unread))
    for key, switch in _SWITCHES.items():
        value = value_of(cfg, key)
        wanted = value != declared_keys()[key].default and not value_of(cfg, switch)
        if wanted and comm.is_main_process():
            logger.warning("%s %s is not read, because %s is False.", key, value, switch)
    for name in dict.fromkeys(cfg.DATASETS.TESTS):
        dataset = build_dataset(cfg, name, "DATASETS.TESTS", mode="query")
        remarks = build_evaluator(cfg, name, dataset).rehearse()
        if remarks and comm.is_main_process():
            logger.warning("%s can be evaluated, but: %s.", name, "; ".join(remarks))


def _unread_keys(cfg: Any) -> List[str]:
    """Return the keys that are set, but belong to protocols that no test set has, with values."""
    if not cfg.DATASETS.TESTS:
        return []
    owners = {
        key: _test_sets_of(name) or name
        for name in registered_names(PROTOCOL_REGISTRY)
        for key in getattr(PROTOCOL_REGISTRY.get(name), "own_keys", ())
    }
    tested = [one for name in cfg.DATASETS.TESTS for one in build_protocols(cfg, name)]
    read = {key for protocol in tested for key in getattr(protocol, "own_keys", ())}
    return [
        f"TEST.PROTOCOL.{key} (now {cfg.TEST.PROTOCOL[key]!r}), which is for {owner}"
        for key, owner in owners.items()
        if key not in read
        and cfg.TEST.PROTOCOL[key] != declared_keys()[f"TEST.PROTOCOL.{key}"].default
    ]


def _test_sets_of(protocol: str) -> str:
    """Return the names of the registered datasets that are tested by a protocol."""
    names = registered_names(DATASET_REGISTRY)
    own = [
        name for name in names if getattr(DATASET_REGISTRY.get(name), "protocol", "") == protocol
    ]
    return ", ".join(own)


def evaluate(cfg: Any, dataset_name: str, dataset: Any, features: TestFeatures) -> ResultTable:
    """Return the table of a dataset's test features by the protocols that ``cfg`` names."""
    return build_evaluator(cfg, dataset_name, dataset).evaluate(features)
