"""MSCLNet: modality synergy, modality complement, cascaded aggregation. A reconstruction.

*Paper*: Y. Zhang, S. Zhao, Y. Kang, J. Shen, "Modality Synergy Complement Learning with Cascaded
Aggregation for Visible-Infrared Person Re-Identification", ECCV 2022, pp. 462-479, doi
10.1007/978-3-031-19781-9_27. Its repository, bitreidgroup/VI-ReID-MSCLNet, holds no code.
*Idea*: in training a recurrent network makes a third feature of each pair of a visible and an
infrared image. It learns local detail from the visible one and global structure from the infrared
one; then all three kinds of features are gathered by camera and by identity. The test uses only the
extractors.
*Here*: ``SynergyModule`` (S of Eq. 2, with ``layers/mogrifier_lstm.py``) and ``MSCLNet`` (Eq. 17).
``losses/modality_synergy.py``: Eq. 3, 6, 7; ``losses/cascaded_aggregation.py``: Eq. 10-13; L_t (Eq.
4) is the cross-entropy that ``MODEL.LOSSES.NAME`` lists.
*Departs*, or reads what the paper leaves open:

- S: the paper names a Mogrifier LSTM, and no sequence, size or round. Here one cell takes the steps
  v_1, r_1, ..., v_6, r_6, the means of six horizontal stripes of both instance-normalized maps;
  b^s_j is its state after r_j, f^s the mean of the six. State as wide as the map, 5 rounds,
  matrices of rank 256. MPANet's parts, which the text cites, are learned masks (``PARTITION``).
- Pairs: printed are images i and i. Nothing pairs them, so all pairs of an identity are taken, and
  N of Eq. 3, 6, 7 and 10-12 counts them for f^s; ``PAIRS`` "ranked" gives each image one partner.
- Eq. 1, 4: the mean of an instance-normalized map is its affine shift, the same for every image.
  Classifier, L_div, L_global, b^v and the test see the map as it is; only S sees the other.
- Eq. 3: a divergence of raw features is undefined: it is that of class probabilities (``OF``), up
  to 5 nats (``CLAMP``), as minus it has no lower bound, and from ``START_EPOCH`` on.
- Eq. 6 has a wrong sign (``LITERAL``), Eq. 12 no lower bound (``DISPERSION``): see the losses.
- Eq. 7, 10-12 are of L2-normalized features (``NORMALISE``): see ``CascadedAggregationLoss``.
- Eq. 10-12: printed for f^s; Eq. 16 constrains f^v, f^r and f^s, so the three count alike. f^v and
  f^r have the centers C_y in common, or nothing would gather the modalities; f^s has its own, and
  as its images have two cameras, the mean over both ways to sort it into sub-classes.
- Eq. 8: L_Com trains S only. Then it cannot change what is tested but through L_cascaded, and the
  gain of MC alone in Table 1 could not be; ``JOINT`` lets it reach the extractors.
- The total (Eq. 17) has no triplet loss, Table 1 names a baseline in every row: ``NAME`` decides.

*Config*: ``MODEL.MSCLNET``, ``MODEL.LOSSES.{DIVERSITY,LOCAL_COMPLEMENT,GLOBAL_COMPLEMENT,
CASCADED_AGGREGATION}`` (SCALE 0: off), ``SOLVER.STEP_FACTORS``; ``configs/msclnet``.

B images, C x H x W a feature map, n pairs, R parts, D features, N identities.
"""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import SWITCH, Key, at_least, check_values, declare, one_of
from ...modality import identity_pairs, modality_rows
from ..backbones.dual_stream import USE_STAGES
from ..heads import training_outputs
from ..layers import MogrifierLSTM, stripe_means
from ..losses import (
    CascadedAggregationLoss,
    DiversityLoss,
    GlobalComplementLoss,
    LocalComplementLoss,
)
from .base import DualStreamBaseline

declare(
    "MODEL.MSCLNET",
    Key("PARTS", 6, at_least(1), "parts that a map is cut into (n of Eq. 6)"),
    Key("PARTITION", "stripes", one_of("stripes", "masks"), "how a map is cut into parts"),
    Key("HIDDEN", 0, at_least(0), "size of the Mogrifier LSTM's state; 0: the map's channels"),
    Key("ROUNDS", 5, at_least(0), "rounds of the Mogrifier LSTM's gating"),
    Key("RANK", 256, at_least(0), "rank of the matrices of this gating; 0: full matrices"),
    Key("PAIRS", "all", one_of("all", "ranked"), "all pairs, or one pair for each image"),
    Key("JOINT", False, SWITCH, "L_Com trains the extractors too; False: only theta_s (Eq. 8)"),
)


PLAIN, DIVERSE = "plain", "diverse"  # phases: without and with L_div
Pairs = Tuple[Tensor, Tensor]
_NODES = {  # the losses of Eq. (17) to their config nodes
    "diversity": "DIVERSITY",
    "local": "LOCAL_COMPLEMENT",
    "global": "GLOBAL_COMPLEMENT",
    "cascade": "CASCADED_AGGREGATION",
}


class Synergy(NamedTuple):
    """The output of S for n pairs, and the parts that its own parts are compared with."""

    features: Tensor  # f^s (n, C)
    parts: Tensor  # b^s (n, R, C)
    visible_parts: Tensor  # b^v (n, R, C), of the map that is not normalized


class SynergyModule(nn.Module):
    """S of Eq. (2): a Mogrifier LSTM over the parts of both images of a pair.

    Args:
        in_channels: C.
        num_parts: R, at least 1.
        partition: ``"stripes"``, or ``"masks"``: R learned 1x1 convolutions with a sigmoid.
        hidden: size of the state; 0: C. Another size is brought back to C by a linear map.
        rounds, rank: of :class:`MogrifierLSTM`.

    Raises:
        UserError: an argument is out of range; in ``forward``: the map has fewer rows than
            stripes.
    """

    def __init__(
        self,
        in_channels: int,
        num_parts: int = 6,
        partition: str = "stripes",
        hidden: int = 0,
        rounds: int = 5,
        rank: int = 256,
    ) -> None:
        super().__init__()
        check_values("MODEL.MSCLNET", PARTITION=partition, PARTS=num_parts, HIDDEN=hidden)
        hidden = hidden or in_channels
        if rank >= min(in_channels, hidden):
            raise UserError(
                f"MODEL.MSCLNET.RANK is {rank}; expected less than the map's {in_channels} "
                f"channels and the state's {hidden} (HIDDEN), or it saves nothing. 0: full "
                "matrices."
            )
        self.num_parts = num_parts
        self.norm = nn.InstanceNorm2d(in_channels, affine=True)  # gamma, beta of Eq. (1)
        self.masks = nn.Conv2d(in_channels, num_parts, 1) if partition == "masks" else None
        self.encoder = MogrifierLSTM(in_channels, hidden, rounds, rank)
        same = hidden == in_channels
        self.project = nn.Identity() if same else nn.Linear(hidden, in_channels, bias=False)

    def forward(self, feature_map: Tensor, visible: Tensor, infrared: Tensor) -> Synergy:
        """Run S on a map (B, C, H, W) and the rows of each pair's images, (n,) each."""
        normalized = self.norm(feature_map)  # Eq. (1)
        parts, plain_parts = self.cut(normalized, feature_map)
        # v_1, r_1, v_2, r_2, ...: (n, 2R, C)
        steps = torch.stack([parts[visible], parts[infrared]], dim=2).flatten(1, 2)
        states = self.encoder(steps)[:, 1::2]  # after r_1, r_2, ...
        synergy_parts = self.project(states)
        return Synergy(synergy_parts.mean(dim=1), synergy_parts, plain_parts[visible])

    def cut(self, normalized: Tensor, plain: Tensor) -> Tuple[Tensor, Tensor]:
        """Cut both maps (B, C, H, W) into the same parts: (B, R, C) each."""
        if self.masks is None:
            parts, plain_parts = (stripe_means(m, self.num_parts) for m in (normalized, plain))
            return parts.transpose(1, 2), plain_parts.transpose(1, 2)
        masks = self.masks(normalized).sigmoid().flatten(2)  # (B, R, H * W)
        size = masks.shape[2]
        # b^v is the goal of b^s; it must not train the masks.
        return (
            masks @ normalized.flatten(2).transpose(1, 2) / size,
            masks.detach() @ plain.flatten(2).transpose(1, 2) / size,
        )


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
        pairs: ``"all"`` or ``"ranked"``.
        joint: L_local and L_global train the extractors, too.
        baseline: arguments of ``DualStreamBaseline``.

    Raises:
        UserError: a word is unknown, a number is negative, or a loss needs S, which is None.
    """

    training_only = ("synergy", "pair_losses")
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
        pairs: str = "all",
        joint: bool = False,
        **baseline: Any,
    ) -> None:
        super().__init__(**baseline)
        check_values("MODEL.MSCLNET", PAIRS=pairs)
        check_values("MODEL.LOSSES.DIVERSITY", OF=diversity_of, START_EPOCH=diversity_start)
        for name, node in _NODES.items():
            check_values(f"MODEL.LOSSES.{node}", SCALE=scales[name])
        self.complemented = scales["local"] + scales["global"] > 0
        self.cascaded = scales["cascade"] > 0
        if synergy is None and (self.complemented or self.cascaded):
            raise UserError(f"MSCLNet needs a synergy module for the weights {dict(scales)}.")
        if self.cascaded and "CascadedAggregationLoss" in self.loss_terms:
            raise UserError(
                "MSCLNet has L_sub, L_intra and L_inter of its own: take CascadedAggregationLoss "
                "out of MODEL.LOSSES.NAME, or set MODEL.LOSSES.CASCADED_AGGREGATION.SCALE 0."
            )
        self.synergy = synergy
        self.pair_losses = nn.ModuleDict(losses)
        self.scales = dict(scales)
        self.diversity_tensor = {"classes": "logits", "channels": "features"}[diversity_of]
        self.diversity_start = diversity_start
        self.pairing, self.joint = pairs, joint
        diverse = scales["diversity"] > 0
        self.phases = ((PLAIN,) if diversity_start or not diverse else ()) + (DIVERSE,) * diverse
        self.phase = self.phase_of(0)

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
            synergy = SynergyModule(
                in_channels=baseline["backbone"].feat_dim,
                num_parts=node.PARTS,
                partition=node.PARTITION,
                hidden=node.HIDDEN,
                rounds=node.ROUNDS,
                rank=node.RANK,
            )
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
            "pairs": node.PAIRS,
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
        self._check_labels(tensors)
        terms = self.loss_terms(tensors)  # lambda_t L_t, Eq. (4)
        pairs = self.pairs(tensors)
        if self.phase == DIVERSE:
            terms.update(self.diversity_term(tensors, pairs))
        elif self.phase != PLAIN:
            raise UserError(f"phase is {self.phase!r}; expected one of {self.phases}.")
        feature_map, features = tensors["feature_map"], tensors["features"]
        if self.synergy is None:
            return terms
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

    def _check_labels(self, tensors: Dict[str, Tensor]) -> None:
        needed = ("camids",) * self.cascaded + ("index",) * (self.pairing == "ranked")
        missing = [name for name in needed if name not in tensors]
        if missing:
            raise UserError(
                f"MSCLNet needs {' and '.join(missing)} (B,) in a training batch: camera numbers "
                "for its sub-classes, places in the dataset for MODEL.MSCLNET.PAIRS ranked."
            )

    def pairs(self, tensors: Dict[str, Tensor]) -> Pairs:
        """Return the rows of the visible and of the infrared image of each pair, (n,) each."""
        targets, modalities = tensors["targets"], tensors["modalities"]
        if self.pairing == "all":
            return identity_pairs(targets, modalities)
        rank = rank_in_identity(tensors)
        visible, infrared = identity_pairs(targets, modalities)
        partners = rank[visible] == rank[infrared]
        return visible[partners], infrared[partners]

    def diversity_term(self, tensors: Dict[str, Tensor], pairs: Pairs) -> Dict[str, Tensor]:
        """Compute lambda_div L_div, Eq. (3)."""
        loss: Any = self.pair_losses["diversity"]
        scores = tensors[self.diversity_tensor]
        visible, infrared = (scores[rows] for rows in pairs)
        return {loss.log_name: self.scales["diversity"] * loss(visible, infrared)}

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
        targets = labels["targets"]
        terms: Dict[str, Tensor] = {}
        loss: Any
        if self.scales["local"] > 0:
            loss = self.pair_losses["local"]
            value = loss(synergy.visible_parts, synergy.parts)
            terms[loss.log_name] = self.scales["local"] * value
        if self.scales["global"] > 0:
            loss, infrared = self.pair_losses["global"], modality_rows(labels["modalities"])[1]
            value = loss(synergy.features, targets[pairs[0]], features[infrared], targets[infrared])
            terms[loss.log_name] = self.scales["global"] * value
        return terms

    def cascade_terms(
        self, synergy: Synergy, tensors: Dict[str, Tensor], pairs: Pairs
    ) -> Dict[str, Tensor]:
        """Compute L_sub + L_intra + L_inter, Eq. (10)-(13), of f^v, f^r and f^s, Eq. (16)."""
        cascade: Any = self.pair_losses["cascade"]
        labels = [tensors[name] for name in ("targets", "camids", "modalities")]
        of_images = cascade.terms(tensors["features"], *labels)
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


def rank_in_identity(tensors: Dict[str, Tensor]) -> Tensor:
    """Rank each row among those of its identity and modality by ``index``: (B,) from 0.

    Rows of the same index (an image drawn twice, or its views) are ordered by the mean of their
    features, so that the order of the batch does not matter.
    """
    index, tie = tensors["index"], tensors["features"].detach().mean(dim=1)
    labels = torch.stack([tensors["targets"], tensors["modalities"]])
    same = (labels.unsqueeze(1) == labels.unsqueeze(2)).all(dim=0)
    before = index.unsqueeze(0) < index.unsqueeze(1)
    before = before | ((index.unsqueeze(0) == index.unsqueeze(1)) & (tie < tie.unsqueeze(1)))
    return (same & before).sum(dim=1)
