"""CM-LSP-GE (reconstruction): cross-modal local shortest path and global enhancement.

*Paper*: X. Wang, C. Li, X. Ma, "Cross-modal Local Shortest Path and Global Enhancement for
Visible-Thermal Person Re-Identification", 2022, arXiv 2206.04401 (no public code).
*Idea*: two images are compared by their horizontal stripes along the cheapest monotone path, so
that the parts of a shifted or half-hidden body are still compared with the same parts; a global
feature is learned together with its "enhanced", batch-normalized form, which the test uses.
*A reconstruction*: it was written from the paper's equations of d_ij, S_ij, the losses and their
sum. Its figures, and all numbers except those of the abstract, were not available. It claims none
of the paper's results.
*Here*: ``BatchNormEnhancement`` (BN-GE), ``StripeBranch``, ``CMLSPGEHead``, ``PathRescorer``,
``CMLSPGE`` (L_total). d_ij and S_ij: ``layers/path_distance.py``; L_PA: ``PathTripletLoss``;
L_tri: ``HeteroCenterTripletLoss``; L_id: ``LabelSmoothingCrossEntropyLoss``.
*Departs*, or decides what is not known:

- BN-GE is drawn, not described: f^eg is f^g after a batch norm whose bias stays 0. It is a
  registered module (``GLOBAL_ENHANCEMENT_REGISTRY``), to be replaced if the paper says otherwise.
- "Attention-based": the non-local blocks of AGW after layer2 and layer3, or (``CBAM``) one CBAM on
  the last map, before both branches.
- R = 6 stripes of 256 features as in the hetero-center triplet's public code: pooled like the
  global feature, then 1x1 convolution, batch norm, ReLU. There each stripe has its own; here all
  share one, as in AlignedReID, because d_ij compares *different* stripes (``SHARED_EMBEDDING``).
- d_ij: mean, max and min run over the channels of one stripe; the L1 norm is divided by their
  number, without which a margin of 0.3 says nothing (``MODEL.LOSSES.PATH_TRIPLET.REDUCTION``).
- L_PA prints Euclidean distances stripe by stripe and no path, against its text: here the triplet
  on the path distance, its rows mined by the Euclidean distance of f^g as in AlignedReID
  (``PATH_TRIPLET.DISTANCE``, ``MINING`` give the printed ones).
- All printed triplets lack the hinge; the sums over stripes begin at the second, which reads as a
  slip: all stripes count. L_id^lv and L_id^lt are summed over the stripes, as printed, and are
  means over the rows of their modality. L_PA is a mean over the anchors, L_tri over the centers
  (``HETERO_CENTER.REDUCTION``), where sums are printed.
- Classifiers of f^g and f^eg are bias-free, those of the stripes are not. Margins 0.3 and AGW's
  recipe. Test: f^eg; re-scoring by f^eg and path together (AlignedReID's sum) is off.

*Config*: ``configs/cm_lsp_ge``; ``MODEL.CM_LSP_GE``, ``MODEL.HEADS.NUM_STRIPES``, ``STRIPE_DIM``,
``POOL_LAYER``, ``MODEL.LOSSES.{LABEL_SMOOTHING,HETERO_CENTER,PATH_TRIPLET}``.

B images, C x H x W a feature map, R stripes of S features, N identities.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Optional, Tuple, Union

from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.layers import pooling
from fastreid.layers.weight_init import weights_init_kaiming
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY
from fastreid.utils.registry import Registry

from ...errors import UserError
from ...keys import SWITCH, Key, at_least, check_values, declare, text
from ...modality import modality_rows
from ...registry import lookup
from ..heads.evaluated import (
    CHOICES,
    ONE_FEATURE,
    check_choice,
    evaluated_feature,
    feature_words,
    refuse_bnneck,
)
from ..heads.stripe_branch import StripeBranch
from ..layers import CBAM, candidate_path_distances
from ..losses.base import require_choice
from ..maps import class_scores_tap, recorded_maps
from .base import DualStreamBaseline

declare(
    "MODEL.CM_LSP_GE",
    Key("ENHANCEMENT", "BatchNormEnhancement", text("a name"), "turns f^g into f^eg; empty: off"),
    Key("LOCAL", True, SWITCH, "the stripes (HEADS.NUM_STRIPES, STRIPE_DIM) and their losses"),
    Key("SHARED_EMBEDDING", True, SWITCH, "one 1x1 convolution for all stripes; False: one each"),
    Key("CBAM", False, SWITCH, "a CBAM refines the last map"),
)
declare(  # choices of the evaluation, which its result names
    "MODEL.CM_LSP_GE",
    Key("RESCORE_TOP", 0, at_least(0), "nearest images re-scored at test (K); 0: off"),
    Key("RESCORE_WEIGHT", 0.5, at_least(0), "weight of the path distance in the re-scoring"),
    features=False,
)


GLOBAL_ENHANCEMENT_REGISTRY = Registry("GLOBAL_ENHANCEMENT")
GLOBAL_ENHANCEMENT_REGISTRY.__doc__ = "f^g to f^eg: ``cls(C)`` maps (B, C) to (B, C)."

_POOLINGS = tuple(name for name in pooling.__all__ if name not in ("Identity", "Flatten"))
IDENTITY, CENTERS, PATH = (
    "LabelSmoothingCrossEntropyLoss",
    "HeteroCenterTripletLoss",
    "PathTripletLoss",
)


@GLOBAL_ENHANCEMENT_REGISTRY.register()
class BatchNormEnhancement(nn.BatchNorm1d):
    """BN-GE as reconstructed: f^eg = BN(f^g), with a bias that stays 0.

    Args:
        in_channels: C.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.bias.requires_grad_(False)


@REID_HEADS_REGISTRY.register()
class CMLSPGEHead(nn.Module):
    """A global feature, its enhanced form, and stripes; each with classifiers of its own.

    ``MODEL.HEADS.WITH_BNNECK`` must be False: BN-GE replaces the BNNeck.

    Args:
        in_channels: C, of the feature map.
        num_classes: N.
        pool_layer: turns a map (B, C, H, W) into (B, C, 1, 1).
        enhancement: turns f^g (B, C) into f^eg (B, C); None: there is no f^eg, the test uses f^g.
        local: the branch of the stripes; None: there is none.
        attention: refines the map before both branches; None: no attention.
        evaluated: the feature for evaluation: ``"bn"``: f^eg, ``"pooled"``: f^g, or ``"both"``, see
            ``heads/evaluated.py``.

    Raises:
        UserError: ``evaluated`` is not ``"bn"`` where there is no f^eg.

    Attributes:
        outputs: names of the tensors that training returns.
    """

    takes_modalities = True

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        pool_layer: nn.Module,
        enhancement: Optional[nn.Module] = None,
        local: Optional[StripeBranch] = None,
        attention: Optional[nn.Module] = None,
        evaluated: str = "bn",
    ) -> None:
        super().__init__()
        self.pool_layer, self.evaluated = pool_layer, evaluated
        self.enhancement, self.local, self.attention = enhancement, local, attention
        self.classifier = nn.Linear(in_channels, num_classes, bias=False)
        self.classifier.apply(weights_init_kaiming)
        self.scores_tap = class_scores_tap()
        self.outputs: Tuple[str, ...] = ("features", "logits")
        if enhancement is not None:
            self.enhanced_classifier = nn.Linear(in_channels, num_classes, bias=False)
            self.enhanced_classifier.apply(weights_init_kaiming)
            self.outputs += ("enhanced_features", "enhanced_logits")
        if local is not None:
            self.outputs += ("stripe_features", "stripe_logits")
        check_choice(self, evaluated)

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.HEADS`` and ``MODEL.CM_LSP_GE``.

        Raises:
            UnknownNameError: ``ENHANCEMENT`` is not registered.
            UserError: ``POOL_LAYER`` is unknown or pools nothing, or a key asks for a BNNeck, an
                embedding or another classifier.
        """
        heads, node, channels = cfg.MODEL.HEADS, cfg.MODEL.CM_LSP_GE, cfg.MODEL.BACKBONE.FEAT_DIM
        refuse_bnneck(
            cfg, "CMLSPGEHead has BN-GE (MODEL.CM_LSP_GE.ENHANCEMENT) instead of a BNNeck"
        )
        if heads.EMBEDDING_DIM > 0 or heads.CLS_LAYER != "Linear":
            raise UserError(
                "CMLSPGEHead classifies the pooled feature by a linear layer; set "
                f"MODEL.HEADS.EMBEDDING_DIM 0 (now {heads.EMBEDDING_DIM}) and CLS_LAYER Linear "
                f"(now {heads.CLS_LAYER})."
            )
        require_choice("MODEL.HEADS", "POOL_LAYER", heads.POOL_LAYER, _POOLINGS)
        enhancement = local = None
        if node.ENHANCEMENT:
            key = "MODEL.CM_LSP_GE.ENHANCEMENT"
            enhancement = lookup(GLOBAL_ENHANCEMENT_REGISTRY, node.ENHANCEMENT, key)(channels)
        if node.LOCAL:
            local = StripeBranch(
                channels,
                heads.NUM_CLASSES,
                heads.NUM_STRIPES,
                heads.STRIPE_DIM,
                node.SHARED_EMBEDDING,
            )
        return {
            "in_channels": channels,
            "num_classes": heads.NUM_CLASSES,
            "pool_layer": getattr(pooling, heads.POOL_LAYER)(),
            "enhancement": enhancement,
            "local": local,
            "attention": CBAM(channels) if node.CBAM else None,
            "evaluated": cfg.TEST.FEATURE,
        }

    @property
    def test_feature(self) -> str:
        """Return in words which features evaluation uses."""
        enhanced = self.enhancement is not None
        return feature_words(self.evaluated, "after BN-GE") if enhanced else "pooled"

    @property
    def test_choices(self) -> Tuple[str, ...]:
        """Return the values of ``TEST.FEATURE`` that this head has."""
        return CHOICES if self.enhancement is not None else ONE_FEATURE

    def forward(
        self,
        feature_map: Tensor,
        targets: Optional[Tensor] = None,
        modalities: Optional[Tensor] = None,
    ) -> Union[Tensor, Dict[str, Tensor]]:
        """Return at test the features that ``evaluated`` names; in training a dict:

        - ``features``, ``logits``: f^g (B, C) and its classifier's (B, N);
        - ``enhanced_features``, ``enhanced_logits``: of f^eg;
        - ``stripe_features`` (B, R, S), ``stripe_logits`` (B, R, N).
        """
        if self.attention is not None:
            feature_map = self.attention(feature_map)
        features = self.pool_layer(feature_map)[..., 0, 0]  # f^g
        outputs = {"features": features}
        if self.enhancement is not None:
            outputs["enhanced_features"] = self.enhancement(features)  # f^eg
        if self.local is not None and (self.training or self.local.tap.wanted):
            outputs["stripe_features"] = self.local(feature_map, self.pool_layer)
        if not self.training:
            tested = outputs.get("enhanced_features", features)
            if self.scores_tap.wanted:
                enhanced = self.enhancement is not None
                classify = self.enhanced_classifier if enhanced else self.classifier
                self.scores_tap(classify(tested))
            return evaluated_feature(self.evaluated, features, tested)
        outputs["logits"] = self.classifier(features)
        if self.enhancement is not None:
            outputs["enhanced_logits"] = self.enhanced_classifier(outputs["enhanced_features"])
        if self.local is not None:
            outputs["stripe_logits"] = self.local.classify(outputs["stripe_features"])
        return outputs


@dataclass(frozen=True)
class PathRescorer:
    """Add, at test, the path distance of stripes for the nearest images of each query.

    The total distance is ``1 - cos(f^eg, f^eg') + weight * S``. S adds 2R - 1 mean absolute
    differences of normalized stripes, whatever reduction the training has. With a weight of 1/2
    the order is that of ``||f - f'||^2 + S`` on features of length 1, AlignedReID's sum.

    Args:
        top: candidates of each query, at least 1.
        weight: of S, 0 or more.

    Raises:
        UserError: a number is out of its range.
    """

    top: int
    weight: float = 0.5

    def __post_init__(self) -> None:
        check_values("MODEL.CM_LSP_GE", RESCORE_TOP=self.top, RESCORE_WEIGHT=self.weight)
        if self.top == 0:
            raise UserError("PathRescorer needs at least one candidate of each query; got top 0.")

    @property
    def description(self) -> str:
        """Return the words that tables of results show."""
        return f"path distance × {self.weight:g}, top {self.top}"

    @contextmanager
    def recording(self, model: nn.Module) -> Iterator[Callable[[], Tensor]]:
        """Yield a function that returns the stripes (B, R, S) of the last forward pass."""
        with recorded_maps(model, "stripe_features") as maps:
            yield lambda: maps["stripe_features"]

    def distances(self, query: Tensor, gallery: Tensor, candidates: Tensor) -> Tensor:
        """Compute S (Q, K) of queries (Q, R, S) and their ``candidates`` (Q, K) in the gallery.

        Args:
            query: (Q, R, S).
            gallery: (G, R, S).
            candidates: (Q, K) row numbers of ``gallery``.
        """
        return candidate_path_distances(query, gallery, candidates)


@META_ARCH_REGISTRY.register()
class CMLSPGE(DualStreamBaseline):
    """The dual-stream network with the seven-term objective.

    ``loss_terms`` hold ``LabelSmoothingCrossEntropyLoss`` and ``HeteroCenterTripletLoss``, and
    ``PathTripletLoss`` for L_PA; any other loss that the config names is added on f^g and its
    logits.

    Args:
        rescorer: for evaluation (``evaluation/ranking/rescoring.py``); None: rank by f^eg alone.
        baseline: arguments of ``DualStreamBaseline``; the head is a ``CMLSPGEHead``.

    Raises:
        UserError: a loss or the stripes are missing, or another head is given.
    """

    training_only = ("heads.classifier", "heads.enhanced_classifier", "heads.local.classifiers")
    own_weight_keys = {
        "loss_id_global": "MODEL.LOSSES.LABEL_SMOOTHING.SCALE",
        "loss_id_enhanced": "MODEL.LOSSES.LABEL_SMOOTHING.SCALE",
        "loss_id_local_visible": "MODEL.LOSSES.LABEL_SMOOTHING.SCALE",
        "loss_id_local_infrared": "MODEL.LOSSES.LABEL_SMOOTHING.SCALE",
        "loss_triplet_global": "MODEL.LOSSES.HETERO_CENTER.SCALE",
        "loss_triplet_enhanced": "MODEL.LOSSES.HETERO_CENTER.SCALE",
    }

    @configurable
    def __init__(self, *, rescorer: Optional[PathRescorer] = None, **baseline: Any) -> None:
        super().__init__(**baseline)
        if not isinstance(self.heads, CMLSPGEHead):
            raise UserError(
                f"CMLSPGE needs MODEL.HEADS.NAME CMLSPGEHead; got {type(self.heads).__name__}."
            )
        missing = [name for name in (IDENTITY, CENTERS) if name not in self.loss_terms]
        if missing:
            raise UserError(
                f"CMLSPGE needs MODEL.LOSSES.NAME to list {IDENTITY} and {CENTERS} (and {PATH} "
                f"for L_PA); missing: {', '.join(missing)}."
            )
        if rescorer is not None and self.heads.local is None:
            raise UserError(
                f"MODEL.CM_LSP_GE.RESCORE_TOP is {rescorer.top}, but there are no stripes to "
                "re-score by: set MODEL.CM_LSP_GE.LOCAL True, or RESCORE_TOP 0."
            )
        self.rescorer = rescorer

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.CM_LSP_GE`` and those of the baseline.

        Raises:
            UserError: re-scoring is on together with a setting in ``TEST`` that it does not allow.
        """
        node, test = cfg.MODEL.CM_LSP_GE, cfg.TEST
        if node.RESCORE_TOP and (test.RERANK.ENABLED or test.METRIC != "cosine"):
            raise UserError(
                f"MODEL.CM_LSP_GE.RESCORE_TOP is {node.RESCORE_TOP}: that needs "
                f"TEST.RERANK.ENABLED False (now {test.RERANK.ENABLED}) and TEST.METRIC cosine "
                f"(now {test.METRIC}). Set them so, or RESCORE_TOP 0."
            )
        rescorer = PathRescorer(node.RESCORE_TOP, node.RESCORE_WEIGHT) if node.RESCORE_TOP else None
        return {**super().from_config(cfg), "rescorer": rescorer}

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute the terms of L_total, each times its ``SCALE``, of the branches that are on."""
        labels = self.labels(batch)
        tensors = {**outputs, **labels}
        y, m = labels["targets"], labels["modalities"]
        terms = {
            "loss_id_global": self._identity(outputs["logits"], y, m),  # L_id^g
            "loss_triplet_global": self._centers(outputs["features"], y, m),  # L_tri^g
        }
        if self.heads.enhancement is not None:
            enhanced, logits = outputs["enhanced_features"], outputs["enhanced_logits"]
            terms["loss_id_enhanced"] = self._identity(logits, y, m)  # L_id^eg
            terms["loss_triplet_enhanced"] = self._centers(enhanced, y, m)  # L_tri^eg
        if self.heads.local is not None:
            visible, infrared = modality_rows(m)
            logits = outputs["stripe_logits"]
            terms["loss_id_local_visible"] = self._stripes(logits, y, m, visible)  # L_id^lv
            terms["loss_id_local_infrared"] = self._stripes(logits, y, m, infrared)  # L_id^lt
        if PATH in self.loss_terms:
            terms.update(self.loss_terms(tensors, [PATH]))  # L_PA^vt: loss_path_triplet
        others = [name for name in self.loss_terms if name not in (IDENTITY, CENTERS, PATH)]
        return {**terms, **self.loss_terms(tensors, others)}

    def _identity(self, logits: Tensor, targets: Tensor, modalities: Tensor) -> Tensor:
        loss, scale = self.loss_terms[IDENTITY], self.loss_terms.scales[IDENTITY]
        return scale * loss(logits, targets, modalities)

    def _centers(self, features: Tensor, targets: Tensor, modalities: Tensor) -> Tensor:
        loss, scale = self.loss_terms[CENTERS], self.loss_terms.scales[CENTERS]
        return scale * loss(features, targets, modalities)

    def _stripes(self, logits: Tensor, targets: Tensor, modalities: Tensor, rows: Tensor) -> Tensor:
        """Sum the identity loss of ``rows`` over the stripes, from logits (B, R, N)."""
        count = logits.shape[1]
        # All stripes have the same number of rows: R times the mean over all is the sum of means.
        return count * self._identity(
            logits[rows].flatten(0, 1),
            targets[rows].repeat_interleave(count),
            modalities[rows].repeat_interleave(count),
        )
