"""The terms of RBNet's second pass: the losses of the first one, for masked images (Eq. 4).

P. Yu, Y. Piao, "Reverse backbone net for unsupervised person re-identification", Journal of Jilin
University (Engineering and Technology Edition), 2024. The labels of L_id2 are y, where f is
printed; lambda_4 and lambda_5 are 1.
"""

from typing import Dict, Union

from torch import Tensor

from ...keys import Key, at_least, check_values, declare
from .build import LossTerms

declare(
    "MODEL.RBNET",
    Key("MASKED_ID_SCALE", 1.0, at_least(0), "weight of losses of logits, masked (lambda_4)"),
    Key("MASKED_METRIC_SCALE", 1.0, at_least(0), "weight of the other losses, masked (lambda_5)"),
    features=False,
)


class MaskedPass:
    """lambda_4 L_id2 and lambda_5 L_tri2.

    Args:
        id_scale: weight of losses that take logits, 0 or more.
        metric_scale: weight of the others, 0 or more.

    Raises:
        UserError: a weight is not allowed.
    """

    def __init__(self, id_scale: float = 1.0, metric_scale: float = 1.0) -> None:
        check_values("MODEL.RBNET", MASKED_ID_SCALE=id_scale, MASKED_METRIC_SCALE=metric_scale)
        self.scales = {"ID": float(id_scale), "METRIC": float(metric_scale)}

    def weight_keys(self, losses: LossTerms) -> Dict[str, str]:
        """Return the config key of the weight of each term, by log name."""
        return {
            _masked(losses.loss(name).log_name): f"MODEL.RBNET.MASKED_{_kind(losses, name)}_SCALE"
            for name in losses
        }

    def terms(
        self, losses: LossTerms, outputs: Dict[str, Tensor], labels: Dict[str, Tensor]
    ) -> Dict[str, Tensor]:
        """Compute the weighted terms by log name.

        Args:
            losses: those of the first pass; their own weights, lambda_1 and lambda_2, do not count.
            outputs: of the head, for the masked images.
            labels: (B,) each, by name.
        """
        given, terms = {**outputs, **labels}, {}
        for name in losses:
            loss = losses.loss(name)
            value = loss(*(given[key] for key in loss.inputs))
            terms[_masked(loss.log_name)] = self.scales[_kind(losses, name)] * value
        return terms


def metric_sum(losses: LossTerms, terms: Dict[str, Tensor]) -> Union[Tensor, int]:
    """Return the sum of the terms whose losses take no logits; 0: there is none."""
    return sum(terms[losses.loss(n).log_name] for n in losses if _kind(losses, n) == "METRIC")


def marked(outputs: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Return outputs of the masked pass under names that those of the first do not have."""
    return {f"masked_{name}": value for name, value in outputs.items()}


def unmarked(outputs: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Return what :func:`marked` was given, from the outputs of both passes."""
    start = len("masked_")
    return {n[start:]: value for n, value in outputs.items() if n.startswith("masked_")}


def _kind(losses: LossTerms, name: str) -> str:
    return "ID" if "logits" in losses.loss(name).inputs else "METRIC"


def _masked(log_name: str) -> str:
    return log_name.replace("loss_", "loss_masked_", 1)
