"""MAUM: memory-augmented unidirectional metrics. A reconstruction.

*Paper*: J. Liu, Y. Sun, F. Zhu, H. Pei, Y. Yang, W. Li, "Learning Memory-Augmented Unidirectional
Metrics for Cross-Modality Person Re-Identification", CVPR 2022, doi 10.1109/CVPR52688.2022.01876
(pp. 19344-19353 at IEEE, 19366-19375 in the open-access proceedings: the same paper). Its code
was announced and could not be found; this is written from notes on the paper.
*Idea*: a proxy of an identity (a weight vector of the classifier) that both modalities share
stands between them, and the two modalities may stay far from each other. Here each modality learns
its own proxies; features of one modality are then pulled to the proxies of the *other*, which are
constants. Past proxies are stored: since the model changes they differ, so there are more, and
harder, references.
*Here*: ``MAUM``; the loss is ``losses/unidirectional.py``, the memories ``modeling/memory.py``.
*Known*: the network (separate stems, global average), the three classifiers and their inputs,
the formulas of both losses, first-in-first-out memories of independent sizes that take up the
proxies after each iteration once these are trained. It is the variant without parts, "MAUM (G)".
*Departs*, or rather decides, as the notes do not say:

- alpha 20, delta 0.1, weight 0.25 for the metrics and 1 for the rest, memories of 8 and 8. At
  alpha 64 and weight 1 (the first choice here) the gradient of the metrics drowns that of the
  classifiers under SGD; at 1 / alpha it is 2 % of all gradients and gains little. 0.25 is the
  weight of PGM, the nearest public descendant (``configs/maum`` has the measurements). A memory's
  unit is a snapshot: the proxies of all identities after one update, of length 1.
- A snapshot is taken every N / P updates, when each identity has been drawn once on average, and
  not "after each iteration": neighboring ones are nearly equal (``PUSH_INTERVAL``).
- The sum over proxies grows with the size of the memory, by 2 log S inside the logarithm;
  ``REDUCTION: "mean"`` takes this out. The printed sum is the default.
- "Trained" means: from ``START_EPOCH`` 10 on, after the warm-up. All three classifiers go on
  learning then. A memory takes up its first snapshot after the first step of that phase (or
  later, ``PUSH_DELAY``); a loss whose memory is empty is 0.
- x is the same feature in all formulas: that after the BNNeck, which classifiers and test see
  too. Modality classifiers have no bias, as printed, and start as the head's. No triplet loss.
- Optimizer, rates, epochs, image size and batch: the recipe of AGW.

*Config*: ``configs/maum``; ``MODEL.MAUM``, ``MODEL.LOSSES.LABEL_SMOOTHING`` (of all classifiers).

B images, D features, N identities, S snapshots.
"""

import logging
import math
from typing import Any, Dict, Tuple

from torch import Tensor

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import Key, above, any_number, at_least, check_values, declare, one_of
from ...modality import apply_per_modality, modality_rows
from ..heads.build import output_names
from ..layers import modality_classifiers
from ..losses import LabelSmoothingCrossEntropyLoss, UnidirectionalMetricLoss
from ..losses.unidirectional import REDUCTIONS
from ..memory import SnapshotMemory
from .base import DualStreamBaseline

declare(
    "MODEL.MAUM",
    Key("ALPHA", 20.0, above(0), "scale of the unidirectional metrics (alpha)"),
    Key("DELTA", 0.1, any_number("similarities lie in -1..1"), "margin of the metrics (delta)"),
    Key("REDUCTION", "sum", one_of(*REDUCTIONS), "over the snapshots of a memory; paper: sum"),
    Key("VISIBLE_SIZE", 8, at_least(1), "snapshots in the visible memory (S_RGB)"),
    Key("INFRARED_SIZE", 8, at_least(1), "snapshots in the infrared memory (S_IR)"),
    Key("START_EPOCH", 10, at_least(0), "first epoch, from 0, with the unidirectional metrics"),
    Key(
        "PUSH_INTERVAL",
        0,
        at_least(0),
        "updates from one snapshot to the next; 0: N / P, until an identity returns",
    ),
    Key("PUSH_DELAY", 0, at_least(0), "steps from START_EPOCH on before the first snapshot"),
    Key("MODALITY_ID_SCALE", 1.0, at_least(0), "weight of L_RGB + L_IR"),
    Key("UNIDIRECTIONAL_SCALE", 0.25, at_least(0), "weight of both metrics; 0: without memories"),
    features=False,
)

PROXIES, METRICS = "proxies", "metrics"
UNTRAINED = 0.75  # of 2 log N: above this part, proxies are said to have hardly learned

logger = logging.getLogger(__name__)


@META_ARCH_REGISTRY.register()
class MAUM(DualStreamBaseline):
    """The baseline with a classifier for each modality, whose rows attract the other's features.

    Phases: ``"proxies"``: the common classifier's loss and L_RGB + L_IR; ``"metrics"``: also
    L_{R->I} + L_{I->R}, with a push to both memories every ``push_interval`` updates. Without the
    metrics (``unidirectional_scale`` 0) there is the first phase only, and there are no memories.

    Args:
        identity_loss: cross-entropy of the modality classifiers, ``per_modality``.
        metric_loss: L_{R->I} and L_{I->R}.
        visible_size, infrared_size: S_RGB and S_IR, snapshots, 1 or more.
        push_interval: updates from one snapshot to the next, 1 or more.
        push_delay: steps of the phase ``"metrics"`` before the first snapshot, 0 or more.
        start_epoch: first epoch of that phase, 0 or more.
        modality_id_scale: weight of L_RGB + L_IR, 0 or more.
        unidirectional_scale: weight of L_{R->I} + L_{I->R}, 0 or more.
        baseline: arguments of ``DualStreamBaseline``; the head is a ``BNNeckHead``.

    Raises:
        UserError: a number is out of its range, or the head has no ``bn_features``.
    """

    config_nodes = ("MODEL.MAUM", "MODEL.LOSSES.LABEL_SMOOTHING")
    phases: Tuple[str, ...] = (PROXIES, METRICS)
    training_only = (
        "visible_classifier",
        "infrared_classifier",
        "visible_memory",
        "infrared_memory",
    )
    own_weight_keys = {
        "loss_modality_id": "MODEL.MAUM.MODALITY_ID_SCALE",
        "loss_visible_to_infrared": "MODEL.MAUM.UNIDIRECTIONAL_SCALE",
        "loss_infrared_to_visible": "MODEL.MAUM.UNIDIRECTIONAL_SCALE",
    }

    @configurable
    def __init__(
        self,
        *,
        identity_loss: LabelSmoothingCrossEntropyLoss,
        metric_loss: UnidirectionalMetricLoss,
        visible_size: int = 8,
        infrared_size: int = 8,
        push_interval: int = 1,
        push_delay: int = 0,
        start_epoch: int = 10,
        modality_id_scale: float = 1.0,
        unidirectional_scale: float = 0.25,
        **baseline: Any,
    ) -> None:
        super().__init__(**baseline)
        check_values(
            "MODEL.MAUM",
            VISIBLE_SIZE=visible_size,
            INFRARED_SIZE=infrared_size,
            PUSH_INTERVAL=push_interval,
            PUSH_DELAY=push_delay,
            START_EPOCH=start_epoch,
            MODALITY_ID_SCALE=modality_id_scale,
            UNIDIRECTIONAL_SCALE=unidirectional_scale,
        )
        if push_interval == 0:  # N / P, which from_config computes
            raise UserError("MODEL.MAUM.PUSH_INTERVAL is 0; expected 1 or more updates.")
        if unidirectional_scale > 0 and modality_id_scale == 0:
            raise UserError(
                "MODEL.MAUM.MODALITY_ID_SCALE is 0, so the proxies never learn, but the metrics "
                f"need them (UNIDIRECTIONAL_SCALE {unidirectional_scale}); set both above 0, or "
                "UNIDIRECTIONAL_SCALE 0."
            )
        if "bn_features" not in output_names(self.heads):
            raise UserError(
                f"MAUM's classifiers take the feature after the BNNeck, which "
                f"{type(self.heads).__name__} does not give; set MODEL.HEADS.NAME BNNeckHead."
            )
        num_classes, feat_dim = self.heads.weight.shape
        self.visible_classifier, self.infrared_classifier = modality_classifiers(
            feat_dim, num_classes, bias=False
        )  # w^R, w^I
        self.identity_loss, self.metric_loss = identity_loss, metric_loss
        self.modality_id_scale = modality_id_scale
        self.unidirectional_scale = unidirectional_scale
        self.start_epoch = start_epoch
        self._judged = False  # whether the proxies of the first snapshot were judged
        if unidirectional_scale > 0:
            table = (num_classes, feat_dim, push_interval, push_delay)
            self.visible_memory = SnapshotMemory(visible_size, *table)
            self.infrared_memory = SnapshotMemory(infrared_size, *table)
            self._log_size()
        else:
            self.phases = (PROXIES,)
        self.phase = self.phase_of(0)

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.MAUM`` and those of the baseline."""
        node, epochs = cfg.MODEL.MAUM, cfg.SOLVER.MAX_EPOCH
        if node.UNIDIRECTIONAL_SCALE > 0 and node.START_EPOCH >= epochs:
            logger.warning(
                "MODEL.MAUM.START_EPOCH is %d of %d epochs (SOLVER.MAX_EPOCH): a training of this "
                "config never reaches the unidirectional metrics, MAUM's core.",
                *(node.START_EPOCH, epochs),
            )
        return {
            **super().from_config(cfg),
            "identity_loss": LabelSmoothingCrossEntropyLoss(
                cfg.MODEL.LOSSES.LABEL_SMOOTHING.SMOOTHING, per_modality=True
            ),
            "metric_loss": UnidirectionalMetricLoss(node.ALPHA, node.DELTA, node.REDUCTION),
            "visible_size": node.VISIBLE_SIZE,
            "infrared_size": node.INFRARED_SIZE,
            "push_interval": node.PUSH_INTERVAL or updates_until_return(cfg),
            "push_delay": node.PUSH_DELAY,
            "start_epoch": node.START_EPOCH,
            "modality_id_scale": node.MODALITY_ID_SCALE,
            "unidirectional_scale": node.UNIDIRECTIONAL_SCALE,
        }

    def phase_of(self, epoch: int) -> str:
        """Return ``"proxies"`` before ``start_epoch``, and always without the metrics."""
        return METRICS if METRICS in self.phases and epoch >= self.start_epoch else PROXIES

    def start_run(self) -> None:
        """Forget the proxies of the run whose weights were loaded."""
        if METRICS in self.phases:
            self.visible_memory.reset()
            self.infrared_memory.reset()

    def after_step(self) -> None:
        """Push the current proxies to both memories in the phase ``"metrics"``."""
        super().after_step()
        if self.phase == METRICS:
            self.visible_memory.push(self.visible_classifier.weight)
            self.infrared_memory.push(self.infrared_classifier.weight)

    def measures(self) -> Dict[str, Tensor]:
        """Return the cosines of the oldest and the newest proxies of both memories.

        A memory whose cosine is near 1 is inert: its proxies are all the same.
        """
        if METRICS not in self.phases:
            return {}
        cosines = {
            "visible_memory_cosine": self.visible_memory.cosine(),
            "infrared_memory_cosine": self.infrared_memory.cosine(),
        }
        return {name: value for name, value in cosines.items() if value is not None}

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute L_common + L_RGB + L_IR, in ``"metrics"`` also L_{R->I} + L_{I->R}."""
        if self.phase not in self.phases:
            raise UserError(f"phase is {self.phase!r}; expected one of {self.phases}.")
        terms = super().losses(outputs, batch)  # of the common classifier, both modalities
        tensors = {**outputs, **self.labels(batch)}
        identity = self.modality_identity(tensors)
        terms["loss_modality_id"] = self.modality_id_scale * identity
        if self.phase == METRICS:
            self._judge_proxies(identity)
            for name, value in self.unidirectional_metrics(tensors).items():
                terms[name] = self.unidirectional_scale * value
        return terms

    def modality_identity(self, tensors: Dict[str, Tensor]) -> Tensor:
        """Compute L_RGB + L_IR: each modality's classifier on its own rows, a mean for each."""
        modalities = tensors["modalities"]
        classifiers = (self.visible_classifier, self.infrared_classifier)
        logits = apply_per_modality(classifiers, tensors["bn_features"], modalities)
        return self.identity_loss(logits, tensors["targets"], modalities)

    def unidirectional_metrics(self, tensors: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Compute L_{R->I} and L_{I->R}: rows of a modality against past proxies of the other."""
        features, targets = tensors["bn_features"], tensors["targets"]
        visible, infrared = modality_rows(tensors["modalities"])
        return {
            "loss_visible_to_infrared": self.metric_loss(
                features[visible], targets[visible], self.infrared_memory.read()
            ),
            "loss_infrared_to_visible": self.metric_loss(
                features[infrared], targets[infrared], self.visible_memory.read()
            ),
        }

    def _judge_proxies(self, identity: Tensor) -> None:
        """Warn once, at the first snapshot, if ``identity``, L_RGB + L_IR (), is near chance."""
        held = 0 if self._judged else self.visible_memory.num_held
        self._judged = self._judged or held > 0  # with more snapshots, a resumed run: judged before
        if held != 1:
            return
        chance, found = 2 * math.log(len(self.heads.weight)), float(identity.detach())
        if found > UNTRAINED * chance:
            logger.warning(
                "The unidirectional metrics start while L_RGB + L_IR is %.2f on this batch; by "
                "chance it is 2 log N = %.2f. The proxies have hardly learned: raise "
                "MODEL.MAUM.START_EPOCH (or PUSH_DELAY).",
                *(found, chance),
            )

    def _log_size(self) -> None:
        sizes = [self.visible_memory.num_bytes, self.infrared_memory.num_bytes]
        logger.info(
            "MAUM's memories: %d visible and %d infrared snapshots of %d x %d proxies, "
            "%.1f + %.1f MB, in each checkpoint too.",
            *(self.visible_memory.capacity, self.infrared_memory.capacity),
            *self.heads.weight.shape,
            *(size / 1e6 for size in sizes),
        )


def updates_until_return(cfg: Any) -> int:
    """Return N / P, rounded up: the updates in which each identity is drawn once on average.

    Between two updates a proxy hardly moves unless its identity is in the batch, so snapshots of
    neighboring updates are nearly equal. N is ``MODEL.HEADS.NUM_CLASSES``; P counts the identities
    of all batches of an update.
    """
    batch = cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.ACCUMULATION
    identities = max(1, batch // (2 * cfg.DATALOADER.NUM_INSTANCE))
    return max(1, -(-cfg.MODEL.HEADS.NUM_CLASSES // identities))
