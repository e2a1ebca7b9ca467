"""The base of methods that let a structure map of the person guide attention and parts.

*Here*: ``StructureNetwork``, the base of ``spot.py``, which names the paper, its equations and what
departs from them. A method says where the structure map comes from.

B images, C channels of the backbone's map F_I, C_S of the structure map F_S, H' x W' positions.
"""

from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import torch
from torch import Tensor, nn

from fastreid.config import configurable

from ...errors import UserError
from ...keys import SWITCH, Key, above, at_least, check_values, declare, one_of, whole
from ..heads import build_head, retrieval_features, training_outputs
from ..layers import AttendedStructure, PartInteraction
from ..layers.part_interaction import NORMS
from ..losses import LossTerms, build_losses
from .base import DualStreamBaseline

NODE = "MODEL.STRUCTURE"
APPEARANCE, STRUCTURE, PARTS = "appearance", "structure", "parts"  # L_B, L_IS, L_IP
_WEIGHTS = {STRUCTURE: "LAMBDA_IS", PARTS: "LAMBDA_IP"}

declare(
    NODE,
    Key("ASR", True, SWITCH, "SPOT: attended structure representation"),
    Key("TPI", True, SWITCH, "SPOT: part interaction by a transformer"),
    Key("CHANNELS", 256, whole(at_least(4)), "channels of the structure map (C_S), 4, 8, 12, ..."),
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
    config_nodes = (NODE,)
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
