"""Test a model that is in memory, on every test set of a config, and record the results."""

import logging
import os
from typing import Any, Callable, Dict

from torch import nn

from fastreid.utils import comm

from .. import evaluation
from ..drawing import save_retrieval_pictures
from ..keys import Key, between, declare
from ..runs.record import record_results

logger = logging.getLogger(__name__)

declare(
    "TEST",
    Key("RETRIEVAL_PICTURES", 8, between(0, 100), "queries drawn at the end; 0: none"),
)


def evaluate_sets(build_test_loader: Callable, cfg: Any, model: nn.Module) -> Dict[str, float]:
    """Evaluate on every dataset of ``DATASETS.TESTS``, and record it in ``OUTPUT_DIR``.

    Args:
        build_test_loader: returns the loader of a dataset's test images, and the dataset, for the
            config and the name of the dataset.
        cfg: the config.
        model: the model.

    Returns:
        Flat metrics in percent, see ``evaluation``; ``metric`` is that of the first dataset. Empty
        on all processes but the main one.
    """
    found = evaluation.TestMetrics()
    for name in cfg.DATASETS.TESTS:
        loader, dataset = build_test_loader(cfg, name)
        evaluation.build_evaluator(cfg, name, dataset).rehearse()  # before features, not after
        features = evaluation.extract_features(model, loader, **evaluation.flip_options(cfg))
        if not comm.is_main_process():
            continue
        table = evaluation.evaluate(cfg, name, dataset, features)
        logger.info("Results on %s:\n%s", name, table.format_table())
        found.add(table)
        if cfg.OUTPUT_DIR and cfg.TEST.RETRIEVAL_PICTURES > 0:
            folder = os.path.join(cfg.OUTPUT_DIR, "retrieval")
            save_retrieval_pictures(cfg, name, dataset, features, folder)
    record(cfg, found, weights=cfg.MODEL.WEIGHTS)
    return found


def keep_best_candidate(
    model: Any, test: Callable[[nn.Module], Dict[str, float]]
) -> Dict[str, float]:
    """Test the model; if it has several candidates, all of them, and keep the best by mAP.

    That is a choice by test labels, which a method makes only if its config says so.

    Args:
        model: the model; ``num_candidates`` says how many there are, ``choose`` takes one.
        test: returns the metrics of a model.
    """
    count = getattr(model, "num_candidates", 1)
    if count == 1:
        return test(model)
    scores, found = [], {}
    for place in range(count):
        model.choose(place)
        found = test(model)
        scores.append(next((v for name, v in found.items() if name.endswith("/mAP")), 0.0))
    best = comm.all_gather(scores.index(max(scores)))[0]
    logger.warning(
        "mAP of %d networks on the test set: %s; number %d is kept. It is chosen by test "
        "labels, as the config says.",
        *(count, ", ".join(f"{score:.2f}" for score in scores), best + 1),
    )
    if best == count - 1:
        return found
    model.choose(best)
    return test(model)  # again: its pictures and records stay


def record(cfg: Any, found: Dict[str, float], weights: str) -> None:
    """Write the results of an evaluation into ``OUTPUT_DIR``, if that folder exists.

    A subclass may have a ``test`` that returns a plain dict. It does not say how its numbers were
    made, so they are not recorded.
    """
    if isinstance(found, evaluation.TestMetrics) and found and os.path.isdir(cfg.OUTPUT_DIR):
        record_results(cfg.OUTPUT_DIR, found, weights)
