"""Which models can be trained on clusters."""

from typing import Any, List, Sequence

from ...errors import UserError
from ...modality import Modality
from ...modeling.heads.classes import takes_clusters
from ..checks import is_host_method

_WAYS = (
    "Set MODEL.META_ARCHITECTURE DualStreamBaseline (or Baseline of FastReID) and MODEL.HEADS.NAME "
    "BNNeckHead or EmbeddingHead, or CLUSTERS.ENABLED False."
)


def classifiers_of(model: Any) -> List[Any]:
    """Return the heads of a model whose classes are the clusters."""
    own = getattr(model, "classifiers", None)
    return list(own()) if own is not None else [model.heads]


def check_model(cfg: Any, model: Any) -> None:
    """Raise ``UserError`` if a model cannot be trained on clusters, or not without them.

    Each clustering numbers its clusters anew. A table with a row for each class, other than the one
    classifier of a head, would then belong to others.
    """
    method = type(model)
    if not cfg.CLUSTERS.ENABLED:
        if getattr(method, "needs_clusters", False):
            raise UserError(
                f"{method.__name__} learns from clusters, and CLUSTERS.ENABLED is False; set it to "
                "True."
            )
        return
    name = f"CLUSTERS.ENABLED is True, and {method.__name__}"
    # A method says it for itself: a class derived from one that does may keep tables.
    allowed = vars(method).get("takes_clusters", is_host_method(method) and hasattr(model, "heads"))
    if not allowed:
        raise UserError(
            f"{name} does not say that its classes may be numbered anew (`takes_clusters = True` "
            f"in the class). {_WAYS}"
        )
    within = getattr(method, "clusters_within", "")
    if within and cfg.CLUSTERS.WITHIN != within:
        raise UserError(f"{name} needs CLUSTERS.WITHIN {within}; it is {cfg.CLUSTERS.WITHIN}.")
    heads = classifiers_of(model)
    strange = [type(head).__name__ for head in heads if not takes_clusters(head)]
    if strange:
        raise UserError(
            f"{name} has the head {strange[0]}, which has no single classifier. {_WAYS}"
        )
    for loss in getattr(model, "loss_terms", {}).values():
        if getattr(loss, "keeps_classes", False):
            raise UserError(
                f"{name} has {type(loss).__name__}, which keeps a row for each class, and classes "
                "are numbered anew at each clustering. Leave it out of MODEL.LOSSES.NAME."
            )
    if cfg.TEST.FEATURE == "both":
        raise UserError(
            "CLUSTERS.ENABLED is True, and classifiers begin as centers of the features: "
            "TEST.FEATURE both has another size than a classifier's. Set it to bn."
        )


def check_modalities(model: Any, items: Sequence[Any]) -> None:
    """Raise ``UserError`` if a method that joins both modalities gets images of one.

    Args:
        model: a method; ``clusters_within`` says whether it clusters each modality for itself.
        items: the training items.
    """
    method, present = type(model), {int(item.modality) for item in items}
    if getattr(method, "clusters_within", "") != "modality":
        return
    for modality in Modality:
        if modality not in present:
            raise UserError(
                f"{method.__name__} learns from clusters of visible and of infrared images, and "
                f"DATASETS.NAMES has no {modality.label} training image. Choose a dataset with "
                "both; for one of visible images there is MODEL.META_ARCHITECTURE MMT "
                "(configs/mmt)."
            )
