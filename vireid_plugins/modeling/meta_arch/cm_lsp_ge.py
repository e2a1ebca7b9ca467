"""CM-LSP-GE (reconstruction): cross-modal local shortest path and global enhancement.

*Paper*: X. Wang, C. Li, X. Ma, "Cross-modal Local Shortest Path and Global Enhancement for
Visible-Thermal Person Re-Identification", 2022, arXiv 2206.04401 (no public code).
*Idea*: two images are compared by their horizontal stripes along the cheapest monotone path, so
that the parts of a shifted or half-hidden body are still compared with the same parts; a global
feature is learned together with its "enhanced", batch-normalized form, which the test uses.
*A reconstruction* from the paper's equations of d_ij, S_ij, the losses and their sum. The figures,
and the numbers outside the abstract, were not available. It claims none of the paper's results.
*Here*: ``BatchNormEnhancement`` (BN-GE), ``CMLSPGEHead``, ``CMLSPGE`` (L_total). d_ij and S_ij:
``layers/path_distance.py``; L_PA: ``PathTripletLoss``; L_tri: ``HeteroCenterTripletLoss``; L_id:
``LabelSmoothingCrossEntropyLoss``; re-scoring: ``Rescorer`` of ``evaluation``.
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

from typing import Any, Dict, Optional, Union

from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.layers import pooling
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY
from fastreid.utils.registry import Registry

from ...errors import UserError
from ...evaluation.ranking.rescoring import Rescorer, check_alone
from ...keys import SWITCH, Key, at_least, check_values, declare, text
from ...modality import modality_rows
from ...registry import lookup
from ..heads import BNNeckHead
from ..heads.evaluated import refuse_bnneck
from ..heads.stripe_branch import StripeBranch, stripe_arguments
from ..layers import CBAM, candidate_path_distances
from ..losses.base import require_choice
from ..maps import recorded_maps
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
_FIXED_KEYS = {"EMBEDDING_DIM": 0, "CLS_LAYER": "Linear", "NECK_FEAT": "before", "NECK_STD": 0.0}
IDENTITY, CENTERS = "LabelSmoothingCrossEntropyLoss", "HeteroCenterTripletLoss"


@GLOBAL_ENHANCEMENT_REGISTRY.register()
class BatchNormEnhancement(nn.BatchNorm1d):
    """BN-GE as reconstructed: f^eg = BN(f^g), (B, C) each, with a bias that stays 0."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.bias.requires_grad_(False)


@REID_HEADS_REGISTRY.register()
class CMLSPGEHead(BNNeckHead):
    """``BNNeckHead`` with BN-GE as its neck, a second classifier (of f^g), and stripes.

    The parameter ``weight`` classifies f^eg or, without BN-GE, f^g. In checkpoints its name is
    ``enhanced_classifier.weight`` or ``classifier.weight``.

    Args:
        enhancement: turns f^g (B, C) into f^eg (B, C); None: there is no f^eg, the test uses f^g.
        local: the branch of the stripes; None: there is none.
        attention: refines the map before both branches; None: no attention.
        head: arguments of ``BNNeckHead``, with ``neck_feat`` "before" and without a BNNeck.
    """

    config_nodes = ("MODEL.CM_LSP_GE",)
    neck_words = "after BN-GE"
    takes_clusters = False  # it has further classifiers
    _has_neck = False  # True with BN-GE

    @configurable
    def __init__(
        self,
        *,
        enhancement: Optional[nn.Module] = None,
        local: Optional[StripeBranch] = None,
        attention: Optional[nn.Module] = None,
        **head: Any,
    ) -> None:
        self._has_neck = enhancement is not None  # the base class asks for it
        self._name_in_files = f"{'enhanced_' * self._has_neck}classifier.weight"  # of ``weight``
        super().__init__(**head)
        self.enhancement, self.local, self.attention = enhancement, local, attention
        self.outputs = ("features", "logits")
        if enhancement is not None:
            self.classifier = nn.Linear(self.weight.shape[1], self.weight.shape[0], bias=False)
            nn.init.normal_(self.classifier.weight, std=self._classifier_std)
            self.outputs += ("enhanced_features", "enhanced_logits")
        if local is not None:
            self.outputs += ("stripe_features", "stripe_logits")

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.HEADS`` and ``MODEL.CM_LSP_GE``.

        Raises:
            UserError: ``ENHANCEMENT`` is not registered, ``POOL_LAYER`` is unknown or pools
                nothing, or a key asks for a BNNeck or has not its value in ``_FIXED_KEYS``.
        """
        heads, node, channels = cfg.MODEL.HEADS, cfg.MODEL.CM_LSP_GE, cfg.MODEL.BACKBONE.FEAT_DIM
        refuse_bnneck(cfg, "CMLSPGEHead has BN-GE (MODEL.CM_LSP_GE.ENHANCEMENT) instead")
        for key, value in _FIXED_KEYS.items():
            if heads[key] != value:
                raise UserError(
                    "CMLSPGEHead has losses of f^g and of f^eg, each with a linear classifier; "
                    f"set MODEL.HEADS.{key} {value} (now {heads[key]})."
                )
        require_choice("MODEL.HEADS", "POOL_LAYER", heads.POOL_LAYER, _POOLINGS)
        name, key, own = node.ENHANCEMENT, "MODEL.CM_LSP_GE.ENHANCEMENT", stripe_arguments(cfg)
        enhancement = lookup(GLOBAL_ENHANCEMENT_REGISTRY, name, key)(channels) if name else None
        local = StripeBranch(**own, shared_embedding=node.SHARED_EMBEDDING) if node.LOCAL else None
        return {
            **super().from_config(cfg),
            "enhancement": enhancement,
            "local": local,
            "attention": CBAM(channels) if node.CBAM else None,
        }

    def neck(self, pooled: Tensor) -> Tensor:
        """Compute f^eg (B, C) of pooled features (B, C, 1, 1); without BN-GE, f^g."""
        features = pooled[..., 0, 0]
        return features if self.enhancement is None else self.enhancement(features)

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
        stripes = {}
        if self.local is not None and (self.training or self.local.tap.wanted):
            stripes["stripe_features"] = self.local(feature_map, self.pool_layer)
            stripes["stripe_logits"] = self.local.classify(stripes["stripe_features"])
        found = super().forward(feature_map, targets, modalities)
        if isinstance(found, Tensor):  # at test
            return found
        features, logits = found["features"], found["logits"]
        if self.enhancement is None:
            return {"features": features, "logits": logits, **stripes}
        enhanced = {"enhanced_features": found["bn_features"], "enhanced_logits": logits}
        return {"features": features, "logits": self.classifier(features), **enhanced, **stripes}

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + self._name_in_files] = destination.pop(prefix + "weight")

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if prefix + self._name_in_files in state_dict:
            state_dict[prefix + "weight"] = state_dict.pop(prefix + self._name_in_files)
        super()._load_from_state_dict(state_dict, prefix, *args)


def path_rescorer(top: int, weight: float = 0.5) -> Rescorer:
    """Return the rescorer by S, the sum of 2R - 1 mean differences, whatever ``REDUCTION`` is.

    With a weight of 1/2 the order is that of ``||f - f'||^2 + S``, AlignedReID's sum.
    """
    distances = candidate_path_distances
    return Rescorer("path distance", top, weight, "stripe_features", recorded_maps, distances)


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

    config_nodes = ("MODEL.CM_LSP_GE",)
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
    def __init__(self, *, rescorer: Optional[Rescorer] = None, **baseline: Any) -> None:
        super().__init__(**baseline)
        if not isinstance(self.heads, CMLSPGEHead):
            raise UserError(
                f"CMLSPGE needs MODEL.HEADS.NAME CMLSPGEHead; got {type(self.heads).__name__}."
            )
        missing = [name for name in (IDENTITY, CENTERS) if name not in self.loss_terms]
        if missing:
            raise UserError(
                f"CMLSPGE needs MODEL.LOSSES.NAME to list {IDENTITY} and {CENTERS} (and "
                f"PathTripletLoss for L_PA); missing: {', '.join(missing)}."
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
        top, weight, rescorer = node.RESCORE_TOP, node.RESCORE_WEIGHT, None
        check_values("MODEL.CM_LSP_GE", RESCORE_TOP=top, RESCORE_WEIGHT=weight)
        if top:
            others = test.RERANK.ENABLED, test.AQE.ENABLED
            check_alone(f"MODEL.CM_LSP_GE.RESCORE_TOP {top}", *others, test.METRIC)
            rescorer = path_rescorer(top, weight)
        return {**super().from_config(cfg), "rescorer": rescorer}

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute the terms of L_total, each times its ``SCALE``, of the branches that are on."""
        tensors, terms = {**outputs, **self.labels(batch)}, {}
        for branch, of in (("global", ""), ("enhanced", "enhanced_")):
            if of + "logits" in outputs:
                logits, features = outputs[of + "logits"], outputs[of + "features"]
                terms[f"loss_id_{branch}"] = self._term(IDENTITY, tensors, logits=logits)
                terms[f"loss_triplet_{branch}"] = self._term(CENTERS, tensors, features=features)
        if self.heads.local is not None:
            visible, infrared = modality_rows(tensors["modalities"])
            terms["loss_id_local_visible"] = self._stripes(tensors, visible)  # L_id^lv
            terms["loss_id_local_infrared"] = self._stripes(tensors, infrared)  # L_id^lt
        # L_PA^vt (loss_path_triplet), and what else the config names
        others = [name for name in self.loss_terms if name not in (IDENTITY, CENTERS)]
        return {**terms, **self.loss_terms(tensors, others)}

    def _term(self, name: str, tensors: Dict[str, Tensor], **instead: Tensor) -> Tensor:
        """Compute one weighted loss of ``tensors``, with some of them replaced."""
        (term,) = self.loss_terms({**tensors, **instead}, [name]).values()
        return term

    def _stripes(self, tensors: Dict[str, Tensor], rows: Tensor) -> Tensor:
        """Sum the identity loss of ``rows`` over the R stripes."""
        logits = tensors["stripe_logits"][rows]  # (rows, R, N)
        count = logits.shape[1]
        labels = {n: tensors[n][rows].repeat_interleave(count) for n in ("targets", "modalities")}
        # All stripes have the same number of rows: R times the mean over all is the sum of means.
        return count * self._term(IDENTITY, tensors, logits=logits.flatten(0, 1), **labels)
