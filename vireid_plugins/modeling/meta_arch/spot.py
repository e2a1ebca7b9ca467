r"""SPOT: where the joints are guides attention among positions, and parts that interact.

A reconstruction.

*Paper*: C. Chen, M. Ye, M. Qi, J. Wu, J. Jiang, C.-W. Lin, "Structure-Aware Positional Transformer
for Visible-Infrared Person Re-Identification", IEEE Transactions on Image Processing 31 (2022),
pp. 2352-2364. No public code was found.
*Idea*: the key points of a person mean the same in both modalities. A small network makes a
structure map of their heat maps. It decides which positions attend to which others (ASR) and what
the parts of the person are, whose features then pass a transformer (TPI); both are fused.
*Here*: ``SPOT``, and ``StructureNetwork``, which has all of it but the source of the structure map.
``layers/structure.py``: N_r, ASR; ``layers/part_interaction.py``: part maps, TPI, PE;
``vireid_plugins/keypoints.py``: heat maps. The losses of L_B are those of ``MODEL.LOSSES.NAME``.
``LearnedStructure`` sees no key points: a 1 x 1 convolution of F_I stands for the structure map.
It is **not SPOT**, and no result of it is one of SPOT.
*Known*, from detailed notes on the paper: all formulas below, by their left sides. *Not known*:
K_S, C_S, the size of the heat maps, N_r but for "four convolutions, two poolings", p, the
transformer, Q, lambda_1, lambda_2, what L_IS, L_IP and L_IF are, image size, batch, optimizer,
rates, epochs, and the test feature.
*Departs*, or decides what is not known (keys of ``MODEL.STRUCTURE``):

- Key points come from a file (``INPUT.KEYPOINTS``); the paper takes OpenPose's heat maps. K_S = 17
  joints of COCO; OpenPose has 18. A heat map is a Gaussian around the joint of ``SIGMA`` cells,
  times its confidence (``WEIGHTED``); S has four times the height and width of F_I, so that the two
  poolings end at F_I's size. An unknown joint has an empty map.
- N_r: 3 x 3 convolutions with batch norm and ReLU, a maximum of 2 x 2 after the second and the
  fourth; C_S = 256 (``CHANNELS``).
- phi_1 and phi_2 are 1 x 1 convolutions with batch norm; the formula has a ReLU after phi_1 alone.
- m_t,j is defined as normalized over j and used as m_j,t in a sum over t. Here position t takes
  sum_j m_t,j V(F_I,j), with m_t,j normalized over j. K and Q have C / 8 channels (``REDUCTION``).
  The printed affinity is not divided by a root (``SCALED``). Q has no bias: it would cancel.
- K^i, over which the sum of part i is divided, is the sum of its map; ``NORM area``: H W.
- F_IP is the mean of the p rows of \bar F_P, as W_gamma needs C values; F_IS is averaged over the
  positions before. p = 6, one layer of 8 heads as wide as F_I (``WIDTH``), hidden layer of the same
  width (``HIDDEN_RATIO``), dropout 0.1, Q = 10000.
- L_IS, L_IP and L_IF have the form of L_B, L_id + L_tri, each with a BNNeck and a classifier of its
  own; lambda_1 = lambda_2 = 1 (``LAMBDA_IS``, ``LAMBDA_IP``). The test feature is F_IF after batch
  norm.
- Without ASR, F_I takes the place of F_IS in the fusion, and there is no L_IS; without TPI,
  W_gamma sees F_IS alone. Both are for ablations.
- Image size, batch and optimizer: AGW's recipe.

*Config*: ``MODEL.STRUCTURE``, ``INPUT.KEYPOINTS``; ``configs/spot``.

B images of H x W pixels, C channels of the backbone's map, p parts.
"""

from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import torch
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...joints import JOINTS
from ...keypoints import heat_maps, keypoints_of
from ...keys import SWITCH, Key, above, at_least, between, check_values, declare, one_of, whole
from ..heads import build_head, retrieval_features, training_outputs
from ..layers import AttendedStructure, LearnedStructureMap, PartInteraction, RelationNetwork
from ..layers.part_interaction import NORMS
from ..layers.structure import SHRINKS
from ..losses import LossTerms, build_losses
from ..maps import Tap
from .base import DualStreamBaseline

NODE = "MODEL.STRUCTURE"
APPEARANCE, STRUCTURE, PARTS = "appearance", "structure", "parts"  # L_B, L_IS, L_IP
_WEIGHTS = {STRUCTURE: "LAMBDA_IS", PARTS: "LAMBDA_IP"}

#: what a message says to a user who has no key points
INSTEAD = (
    "Without key points, configs/spot/learned_structure.yml (MODEL.META_ARCHITECTURE "
    "LearnedStructure) learns a structure map of its own; it is not SPOT."
)

declare(
    NODE,
    Key("ASR", True, SWITCH, "SPOT: attended structure representation"),
    Key("TPI", True, SWITCH, "SPOT: part interaction by a transformer"),
    Key("CHANNELS", 256, whole(at_least(4)), "channels of the structure map (C_S), 4, 8, 12, ..."),
    Key("SIGMA", 2.0, above(0), "deviation of a joint's Gaussian, in cells of the heat map"),
    Key("WEIGHTED", True, SWITCH, "multiply a joint's heat map by its confidence"),
    Key("LEAST_CONFIDENCE", 0.0, between(0, 1), "joints not above it have an empty heat map"),
    Key("REDUCTION", 8, whole(at_least(1)), "ASR: K and Q have C / REDUCTION channels"),
    Key("SCALED", False, SWITCH, "ASR: divide affinities by the root of these channels"),
    Key("PARTS", 6, whole(at_least(1)), "TPI: parts (p)"),
    Key("NORM", "mask", one_of(*NORMS), "TPI: K^i; mask: sum of a part's map, area: positions"),
    Key("LAYERS", 1, whole(at_least(0)), "TPI: layers of the transformer"),
    Key("HEADS", 8, whole(at_least(1)), "TPI: heads of its attention"),
    Key("WIDTH", 0, whole(at_least(0)), "TPI: features in the transformer; 0: as many as F_I"),
    Key("HIDDEN_RATIO", 1.0, above(0), "TPI: hidden units of its feed-forward net, over WIDTH"),
    Key("POSITIONS", True, SWITCH, "TPI: add the sinusoidal positions (PE)"),
    Key("PERIOD", 10000.0, above(0), "TPI: Q of the sinusoidal positions"),
)
declare(
    NODE,
    Key("DROPOUT", 0.1, at_least(0, below=1), "TPI: dropout of the transformer"),
    Key("LAMBDA_IS", 1.0, at_least(0), "weight of L_IS (lambda_1); 0: off"),
    Key("LAMBDA_IP", 1.0, at_least(0), "weight of L_IP (lambda_2); 0: off"),
    features=False,
)


class StructureNetwork(DualStreamBaseline):
    """ASR and TPI on a structure map, their fusion, and the losses of all four features.

    Args:
        structure_map: makes F_S; :meth:`structure_of` calls it.
        attended: ASR; None: without it.
        interaction: TPI; None: without it.
        fusion: W_gamma.
        branches: heads of the features that have losses of their own, by ``"appearance"``,
            ``"structure"`` and ``"parts"``.
        branch_losses: the losses of each of them.
        scales: the weights of L_IS and L_IP, as ``"structure"`` and ``"parts"``.
        baseline: arguments of ``DualStreamBaseline``; ``heads`` and ``loss_terms`` are those of
            F_IF.
    """

    branch_losses: Any  # LossTerms by branch
    training_only: Tuple[str, ...] = ("branches",)

    @configurable
    def __init__(
        self,
        *,
        structure_map: nn.Module,
        attended: Optional[AttendedStructure],
        interaction: Optional[PartInteraction],
        fusion: nn.Module,
        branches: Mapping[str, nn.Module],
        branch_losses: Mapping[str, LossTerms],
        scales: Mapping[str, float],
        **baseline: Any,
    ) -> None:
        super().__init__(**baseline)
        self.structure_map = structure_map
        self.attended, self.interaction, self.fusion = attended, interaction, fusion
        self.branches = nn.ModuleDict(branches)
        self.branch_losses = nn.ModuleDict(branch_losses)
        self.scales = {APPEARANCE: 1.0, **scales}
        if self.branch_losses.state_dict():  # centers, for example
            self.training_only = ("branches", "branch_losses")
        for head in self.branches.values():  # at test only the fused feature is classified
            head.scores_tap = nn.Identity()

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.STRUCTURE`` and those of the baseline."""
        node = cfg.MODEL.STRUCTURE
        check_values(NODE, **{name: node[name] for name in node})
        if not (node.ASR or node.TPI):
            raise UserError(
                f"{NODE}.ASR and {NODE}.TPI are False, so nothing is left of the method. Set one "
                "of them True, or MODEL.META_ARCHITECTURE DualStreamBaseline."
            )
        baseline = super().from_config(cfg)
        channels = cls.head_channels(baseline["backbone"], cfg)
        appearance = baseline["heads"]  # it pools F_I as MODEL.HEADS says
        cfg = _for_vectors(cfg, channels)
        scales = {STRUCTURE: node.LAMBDA_IS * node.ASR, PARTS: node.LAMBDA_IP * node.TPI}
        branches = {APPEARANCE: appearance}
        branches.update({name: build_head(cfg) for name, scale in scales.items() if scale > 0})
        heads = build_head(cfg)
        provided = cls.provided(heads)
        return {
            **baseline,
            "heads": heads,
            "structure_map": cls.make_structure_map(channels, node),
            "attended": _attended(channels, node) if node.ASR else None,
            "interaction": _interaction(channels, node) if node.TPI else None,
            "fusion": nn.Linear(channels * (1 + node.TPI), channels, bias=False),
            "branches": branches,
            "branch_losses": {name: build_losses(cfg, provided) for name in branches},
            "scales": scales,
        }

    @classmethod
    def make_structure_map(cls, channels: int, node: Any) -> nn.Module:
        """Return the part that makes F_S, from ``MODEL.STRUCTURE``; F_I has ``channels``."""
        raise NotImplementedError

    def structure_of(self, appearance: Tensor, batch: Dict[str, Any]) -> Tensor:
        """Return F_S (B, C_S, H', W') of a batch whose F_I is ``appearance`` (B, C, H', W')."""
        raise NotImplementedError

    @property
    def weight_keys(self) -> Dict[str, str]:
        """Return the config key of the weight of each term, by log name."""
        found = super().weight_keys
        for branch, terms in self.branch_losses.items():
            for name, key in terms.weight_keys.items():
                known = f"{NODE}.{_WEIGHTS[branch]}" if branch in _WEIGHTS else key
                found[f"{name}_{branch}"] = known
        return found

    def after_step(self) -> None:
        """Let the losses of all features act after a training step."""
        super().after_step()
        for terms in self.branch_losses.values():
            terms.after_step()

    def forward(self, batch: Dict[str, Any]) -> Union[Tensor, Dict[str, Tensor]]:
        """Return the features (B, D) of F_IF or, in training, the terms of L_total."""
        modalities = self.modalities_of(batch)
        appearance = self.extract(self.normalize(batch["images"]), modalities)  # F_I
        maps = self.described(appearance, self.structure_of(appearance, batch))
        fused = maps.pop("fused")
        if not self.training:
            return retrieval_features(self.heads, fused, modalities)
        targets = batch["targets"].to(self.device)
        outputs = training_outputs(self.heads, fused, targets, modalities)
        for branch, head in self.branches.items():
            found = training_outputs(head, maps[branch], targets, modalities)
            outputs.update({f"{branch}.{name}": value for name, value in found.items()})
        return self.objective(outputs, batch)

    def described(self, appearance: Tensor, structure: Tensor) -> Dict[str, Tensor]:
        """Return the maps that the heads take: (B, C, 1, 1), but for ``"appearance"``.

        Args:
            appearance: F_I (B, C, H', W').
            structure: F_S (B, C_S, H', W').
        """
        attended = appearance
        if self.attended is not None:
            attended = self.attended(appearance, structure)  # F_IS
        pooled = attended.mean(dim=(2, 3))
        found = {APPEARANCE: appearance, STRUCTURE: pooled[..., None, None]}
        fused: List[Tensor] = [pooled]
        if self.interaction is not None:
            parts = self.interaction(appearance, structure).mean(dim=1)  # F_IP
            found[PARTS] = parts[..., None, None]
            fused.append(parts.to(pooled.dtype))
        together = self.fusion(torch.cat(fused, dim=1))  # F_IF = W_gamma [F_IS; F_IP]
        return {**found, "fused": together[..., None, None]}

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute the terms of L_total = L_B + lambda_1 L_IS + lambda_2 L_IP + L_IF."""
        labels = self.labels(batch)
        terms = self.loss_terms({**outputs, **labels})  # L_IF
        for branch, losses in self.branch_losses.items():  # L_B, L_IS, L_IP
            prefix = f"{branch}."
            own = {n[len(prefix) :]: t for n, t in outputs.items() if n.startswith(prefix)}
            for name, term in losses({**own, **labels}).items():
                terms[f"{name}_{branch}"] = self.scales[branch] * term
        return terms


@META_ARCH_REGISTRY.register()
class SPOT(StructureNetwork):
    """The structure map comes from heat maps of key points; a batch without them is refused.

    Args:
        sigma: deviation of a joint's Gaussian, in cells of the heat map.
        weighted: multiply a joint's heat map by its confidence.
        least: joints whose confidence is not above it have an empty heat map.
        network: arguments of ``StructureNetwork``.
    """

    needs_keypoints = True
    without_keypoints = INSTEAD

    @configurable
    def __init__(
        self, *, sigma: float = 2.0, weighted: bool = True, least: float = 0.0, **network: Any
    ) -> None:
        super().__init__(**network)
        check_values(NODE, SIGMA=sigma, WEIGHTED=weighted, LEAST_CONFIDENCE=least)
        self.sigma, self.weighted, self.least = sigma, weighted, least
        self.heat_tap = Tap("heat_maps", "S, a heat map of each joint, (B, 17, 4H', 4W') in 0..1")

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.STRUCTURE`` and those of the baseline."""
        node = cfg.MODEL.STRUCTURE
        return {
            **super().from_config(cfg),
            "sigma": node.SIGMA,
            "weighted": node.WEIGHTED,
            "least": node.LEAST_CONFIDENCE,
        }

    @classmethod
    def make_structure_map(cls, channels: int, node: Any) -> nn.Module:
        """Return N_r."""
        return RelationNetwork(len(JOINTS), node.CHANNELS)

    def structure_of(self, appearance: Tensor, batch: Dict[str, Any]) -> Tensor:
        """Return F_S = N_r(S).

        Raises:
            UserError: the batch has no key points, or not 17 for each image.
        """
        points = keypoints_of(batch, "SPOT", instead=self.without_keypoints)
        images = batch["images"]
        if len(points) != len(images):
            raise UserError(f"The batch has {len(images)} images, and key points of {len(points)}.")
        maps = heat_maps(
            points.to(self.device, self.pixel_mean.dtype),
            (int(images.shape[2]), int(images.shape[3])),
            (SHRINKS * int(appearance.shape[2]), SHRINKS * int(appearance.shape[3])),
            self.sigma,
            least=self.least,
            weighted=self.weighted,
        )
        return self.structure_map(self.heat_tap(maps))


@META_ARCH_REGISTRY.register()
class LearnedStructure(StructureNetwork):
    """Not SPOT: the structure map is a 1 x 1 convolution of F_I, and no key points are seen."""

    @classmethod
    def make_structure_map(cls, channels: int, node: Any) -> nn.Module:
        """Return the 1 x 1 convolution."""
        return LearnedStructureMap(channels, node.CHANNELS)

    def structure_of(self, appearance: Tensor, batch: Dict[str, Any]) -> Tensor:
        """Return what stands for F_S; the key points of a batch are not looked at."""
        return self.structure_map(appearance)


def _for_vectors(cfg: Any, channels: int) -> Any:
    """Return the config of a head that takes vectors (B, C, 1, 1), which may be negative."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.FEAT_DIM = channels
    cfg.MODEL.HEADS.POOL_LAYER, cfg.MODEL.HEADS.GEM_EXPONENT = "GlobalAvgPool", 3.0
    return cfg


def _attended(channels: int, node: Any) -> AttendedStructure:
    return AttendedStructure(channels, node.CHANNELS, node.REDUCTION, node.SCALED)


def _interaction(channels: int, node: Any) -> PartInteraction:
    return PartInteraction(
        channels,
        node.CHANNELS,
        parts=node.PARTS,
        layers=node.LAYERS,
        heads=node.HEADS,
        width=node.WIDTH,
        hidden_ratio=node.HIDDEN_RATIO,
        dropout=node.DROPOUT,
        positions=node.POSITIONS,
        period=node.PERIOD,
        norm=node.NORM,
    )
