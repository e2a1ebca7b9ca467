"""MSCLNet: modality synergy, modality complement, cascaded aggregation. A reconstruction.

*Paper*: Y. Zhang, S. Zhao, Y. Kang, J. Shen, "Modality Synergy Complement Learning with Cascaded
Aggregation for Visible-Infrared Person Re-Identification", ECCV 2022, pp. 462-479, doi
10.1007/978-3-031-19781-9_27. Its repository, bitreidgroup/VI-ReID-MSCLNet, holds no code.
*Idea*: in training a recurrent network makes a third feature of each pair of a visible and an
infrared image. It learns local detail from the visible one and global structure from the infrared
one; then all three kinds of features are gathered by camera and by identity. The test uses only the
extractors.
*Here*: ``MSCLNet`` (Eq. 17). ``layers/synergy.py``: S of Eq. 2, with ``layers/mogrifier_lstm.py``;
``losses/modality_synergy.py``: Eq. 3, 6, 7; ``losses/cascaded_aggregation.py``: Eq. 10-13. L_t (Eq.
4) and the losses of the baseline are those that ``MODEL.LOSSES.NAME`` lists. "MCLNet" below is the
code of the authors' earlier work, bitreidgroup/Modality-Confusion-Learning; ``configs/msclnet``
lists what it settles.
*Departs*, or reads what the paper leaves open:

- The total (Eq. 17) has no triplet loss, and Table 1 has a baseline B in every row, the last one
  too: B is AGW's identity loss and weighted triplet, as in MCLNet. Only ``NAME`` decides.
- S: the paper names a Mogrifier LSTM, and no sequence, size or round. Here one cell takes the steps
  v_1, r_1, ..., v_6, r_6, the means of six horizontal stripes of both instance-normalized maps;
  b^s_j is its state after r_j, f^s the mean of the six. State as wide as the map, 5 rounds,
  matrices of rank 256. MPANet's parts, which the text cites, are learned masks (``PARTITION``).
- Pairs: printed are images i and i, which MCLNet draws at random within an identity. Here every
  visible image is paired with every infrared one of its identity, which is the mean over all such
  draws; N of Eq. 3, 6, 7 and 10-12 counts these pairs for f^s.
- Extractors: Fig. 3 draws four convolution blocks for each modality. Here, as in AGW and MCLNet,
  only the stem is apart; ``MODEL.BACKBONE.UNSHARED_STAGES`` 5 is the figure.
- Eq. 1, 4: the mean of an instance-normalized map is its affine shift, the same for every image.
  Classifier, L_div, L_global, b^v and the test see the map as it is; only S sees the other.
- Eq. 3: a divergence of raw features is undefined: it is that of class probabilities (``OF``), up
  to 5 nats (``CLAMP``), as minus it has no lower bound, and from ``START_EPOCH`` on.
- Eq. 6 has a wrong sign (``LITERAL``): see ``LocalComplementLoss``.
- Eq. 7, 10-12 are of L2-normalized features (``NORMALISE``): see ``CascadedAggregationLoss``.
- Eq. 10-12 are of the features after batch norm (``FEATURE``), as MCLNet's centers: before it all
  features point in nearly one direction, and no center is far from another.
- Eq. 10-12: printed for f^s; Eq. 16 constrains f^v, f^r and f^s, so the three count alike. f^v and
  f^r have the centers C_y in common, or nothing would gather the modalities; f^s has its own, and
  as its images have two cameras, the mean over both ways to sort it into sub-classes.
- Eq. 8: L_Com trains S only. Then it cannot change what is tested but through L_cascaded, and the
  gain of MC alone in Table 1 could not be: ``JOINT``, on in the configs, lets it reach the
  extractors.

*Config*: ``MODEL.MSCLNET``, ``MODEL.LOSSES.{DIVERSITY,LOCAL_COMPLEMENT,GLOBAL_COMPLEMENT,
CASCADED_AGGREGATION}`` (SCALE 0: off), ``SOLVER.STEP_FACTORS``; ``configs/msclnet``.

B images, C x H x W a feature map, n pairs, R parts, D features, N identities.
"""

from typing import Any, Dict, Mapping, Optional, Tuple, Union

from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import SWITCH, Key, check_values, declare
from ...modality import identity_pairs, modality_rows
from ..backbones.dual_stream import USE_STAGES
from ..heads import training_outputs
from ..heads.build import output_names
from ..layers import Synergy, SynergyModule
from ..losses import (
    CascadedAggregationLoss,
    DiversityLoss,
    GlobalComplementLoss,
    LocalComplementLoss,
)
from .base import DualStreamBaseline

declare(
    "MODEL.MSCLNET",
    Key("JOINT", False, SWITCH, "L_Com trains the extractors too; False: only theta_s (Eq. 8)"),
    features=False,
)


PLAIN, DIVERSE = "plain", "diverse"  # phases: without and with L_div
Pairs = Tuple[Tensor, Tensor]
_NODES = {  # the losses of Eq. (17) to their config nodes
    "diversity": "DIVERSITY",
    "local": "LOCAL_COMPLEMENT",
    "global": "GLOBAL_COMPLEMENT",
    "cascade": "CASCADED_AGGREGATION",
}


@META_ARCH_REGISTRY.register()
class MSCLNet(DualStreamBaseline):
    """The baseline, and in training a synergy module with the losses of Eq. (17).

    Phases: ``"plain"``: without L_div; ``"diverse"``: with it. A loss of weight 0 is off, and
    there is no synergy module if no loss needs one.

    Args:
        synergy: S; None if no loss needs it.
        losses: the losses named ``"diversity"``, ``"local"``, ``"global"`` and ``"cascade"``.
        scales: their weights by the same names, 0 or more.
        diversity_of: ``"classes"`` or ``"channels"``, over which L_div takes distributions.
        diversity_start: first epoch with L_div.
        joint: L_local and L_global train the extractors, too.
        baseline: arguments of ``DualStreamBaseline``.

    Raises:
        UserError: a word is unknown, a number is negative, a loss needs S, which is None, or a
            feature that the head does not have.
    """

    config_nodes = ("MODEL.MSCLNET", *(f"MODEL.LOSSES.{node}" for node in _NODES.values()))
    training_only = ("synergy",)
    own_weight_keys = {
        DiversityLoss.log_name: "MODEL.LOSSES.DIVERSITY.SCALE",
        LocalComplementLoss.log_name: "MODEL.LOSSES.LOCAL_COMPLEMENT.SCALE",
        GlobalComplementLoss.log_name: "MODEL.LOSSES.GLOBAL_COMPLEMENT.SCALE",
        "loss_sub": "MODEL.LOSSES.CASCADED_AGGREGATION.SUB_SCALE",
        "loss_intra": "MODEL.LOSSES.CASCADED_AGGREGATION.INTRA_SCALE",
        "loss_inter": "MODEL.LOSSES.CASCADED_AGGREGATION.INTER_SCALE",
    }

    @configurable
    def __init__(
        self,
        *,
        synergy: Optional[SynergyModule],
        losses: Mapping[str, nn.Module],
        scales: Mapping[str, float],
        diversity_of: str = "classes",
        diversity_start: int = 0,
        joint: bool = False,
        **baseline: Any,
    ) -> None:
        super().__init__(**baseline)
        check_values("MODEL.LOSSES.DIVERSITY", OF=diversity_of, START_EPOCH=diversity_start)
        for name, node in _NODES.items():
            check_values(f"MODEL.LOSSES.{node}", SCALE=scales[name])
        self.complemented = scales["local"] + scales["global"] > 0
        self.cascaded = scales["cascade"] > 0
        if synergy is None and (self.complemented or self.cascaded):
            raise UserError(f"MSCLNet needs a synergy module for the weights {dict(scales)}.")
        self.synergy = synergy
        self.pair_losses: Dict[str, Any] = dict(losses)
        self.scales = dict(scales)
        if self.cascaded:
            self._check_cascade()
        self.diversity_tensor = {"classes": "logits", "channels": "features"}[diversity_of]
        self.diversity_start = diversity_start
        self.joint = joint
        diverse = scales["diversity"] > 0
        self.phases = ((PLAIN,) if diversity_start or not diverse else ()) + (DIVERSE,) * diverse
        self.phase = self.phase_of(0)

    def _check_cascade(self) -> None:
        if "CascadedAggregationLoss" in self.loss_terms:
            raise UserError(
                "MSCLNet has L_sub, L_intra and L_inter of its own: take CascadedAggregationLoss "
                "out of MODEL.LOSSES.NAME, or set MODEL.LOSSES.CASCADED_AGGREGATION.SCALE 0."
            )
        feature, names = self.pair_losses["cascade"].feature, output_names(self.heads)
        if feature not in names:
            raise UserError(
                f"MODEL.LOSSES.CASCADED_AGGREGATION.FEATURE is {feature!r}, which "
                f"{type(self.heads).__name__} does not give in training: it gives "
                f"{', '.join(names)}. Set MODEL.HEADS.NAME BNNeckHead, or FEATURE features."
            )

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.MSCLNET``, ``MODEL.LOSSES`` and those of the baseline.

        Raises:
            UserError: the backbone has no ``feat_dim``.
        """
        node, nodes = cfg.MODEL.MSCLNET, cfg.MODEL.LOSSES
        scales = {name: nodes[loss_node].SCALE for name, loss_node in _NODES.items()}
        baseline = super().from_config(cfg)
        synergy = None
        if scales["local"] + scales["global"] + scales["cascade"] > 0:
            if not hasattr(baseline["backbone"], "feat_dim"):
                raise UserError(
                    "MSCLNet sizes its synergy module by the backbone's feat_dim, which this "
                    f"backbone does not have: {USE_STAGES}."
                )
            channels = baseline["backbone"].feat_dim
            synergy = SynergyModule(channels, node.PARTS, node.PARTITION, node.ROUNDS, node.RANK)
        return {
            **baseline,
            "synergy": synergy,
            "losses": {
                "diversity": DiversityLoss(nodes.DIVERSITY.CLAMP),
                "local": LocalComplementLoss(nodes.LOCAL_COMPLEMENT.LITERAL),
                "global": GlobalComplementLoss(nodes.GLOBAL_COMPLEMENT.NORMALISE),
                "cascade": CascadedAggregationLoss.from_config(cfg),
            },
            "scales": scales,
            "diversity_of": nodes.DIVERSITY.OF,
            "diversity_start": nodes.DIVERSITY.START_EPOCH,
            "joint": node.JOINT,
        }

    def phase_of(self, epoch: int) -> str:
        """Return ``"plain"`` before the first epoch with L_div, and always without it."""
        return self.phases[-1] if epoch >= self.diversity_start else self.phases[0]

    def forward(self, batch: Dict[str, Any]) -> Union[Tensor, Dict[str, Tensor]]:
        """Turn a batch into features (B, D), without S; in training into the terms of Eq. (17)."""
        if not self.training:
            return super().forward(batch)
        modalities = self.modalities_of(batch)
        feature_map = self.extract(self.normalize(batch["images"]), modalities)
        targets = batch["targets"].to(self.device)
        outputs = training_outputs(self.heads, feature_map, targets, modalities)
        return self.objective({**outputs, "feature_map": feature_map}, batch)

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute the terms of Eq. (17), each times its weight."""
        tensors = {**outputs, **self.labels(batch)}
        if self.cascaded and "camids" not in tensors:
            raise UserError(
                "MSCLNet needs camids (B,) in a training batch: camera numbers for its sub-classes."
            )
        terms = self.loss_terms(tensors)  # lambda_t L_t, Eq. (4), and B
        pairs = identity_pairs(tensors["targets"], tensors["modalities"])
        if self.phase == DIVERSE:
            terms.update(self.diversity_term(tensors, pairs))
        elif self.phase != PLAIN:
            raise UserError(f"phase is {self.phase!r}; expected one of {self.phases}.")
        if self.synergy is None:
            return terms
        feature_map, features = tensors["feature_map"], tensors["features"]
        if self.cascaded or (self.complemented and self.joint):
            synergy = self.synergy(feature_map, *pairs)  # f^s, Eq. (2)
        if self.cascaded:
            terms.update(self.cascade_terms(synergy, tensors, pairs))
        if self.complemented:
            if not self.joint:  # Eq. (8): the extractors get no gradient from either side
                synergy = self.synergy(feature_map.detach(), *pairs)
                features = features.detach()
            terms.update(self.complement_terms(synergy, features, tensors, pairs))
        return terms

    def diversity_term(self, tensors: Dict[str, Tensor], pairs: Pairs) -> Dict[str, Tensor]:
        """Compute lambda_div L_div, Eq. (3)."""
        visible, infrared = (tensors[self.diversity_tensor][rows] for rows in pairs)
        return self._weighted("diversity", visible, infrared)

    def complement_terms(
        self, synergy: Synergy, features: Tensor, labels: Dict[str, Tensor], pairs: Pairs
    ) -> Dict[str, Tensor]:
        """Compute lambda_local L_local and lambda_global L_global, Eq. (6)-(8), if they are on.

        Args:
            synergy: the output of S for the pairs.
            features: (B, D), whose infrared rows guide f^s.
            labels: (B,) tensors by name.
            pairs: their rows.
        """
        targets, infrared = labels["targets"], modality_rows(labels["modalities"])[1]
        of_synergy, of_infrared = targets[pairs[0]], targets[infrared]
        return {
            **self._weighted("local", synergy.visible_parts, synergy.parts),
            **self._weighted(
                "global", synergy.features, of_synergy, features[infrared], of_infrared
            ),
        }

    def _weighted(self, name: str, *tensors: Tensor) -> Dict[str, Tensor]:
        """Compute a loss times its weight, under its name for the log; nothing if it is off."""
        loss, scale = self.pair_losses[name], self.scales[name]
        return {loss.log_name: scale * loss(*tensors)} if scale > 0 else {}

    def cascade_terms(
        self, synergy: Synergy, tensors: Dict[str, Tensor], pairs: Pairs
    ) -> Dict[str, Tensor]:
        """Compute L_sub + L_intra + L_inter, Eq. (10)-(13), of f^v, f^r and f^s, Eq. (16)."""
        cascade = self.pair_losses["cascade"]
        labels = [tensors[name] for name in ("targets", "camids", "modalities")]
        of_images = cascade.terms(tensors[cascade.feature], *labels)
        of_visible, of_infrared = (  # f^s by the camera of one of its images, then the other
            cascade.terms(synergy.features, *(label[rows] for label in labels)) for rows in pairs
        )
        scale = self.scales["cascade"]
        return {
            f"loss_{name}": scale * (2 * images + (visible + infrared) / 2) / 3
            for name, images, visible, infrared in zip(
                of_images._fields, of_images, of_visible, of_infrared
            )
        }
