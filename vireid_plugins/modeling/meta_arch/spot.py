r"""SPOT: where the joints are guides attention among positions, and parts that interact.

A reconstruction.

*Paper*: C. Chen, M. Ye, M. Qi, J. Wu, J. Jiang, C.-W. Lin, "Structure-Aware Positional Transformer
for Visible-Infrared Person Re-Identification", IEEE Transactions on Image Processing 31 (2022),
pp. 2352-2364. No public code was found.
*Idea*: the key points of a person mean the same in both modalities. A small network makes a
structure map of their heat maps. It decides which positions attend to which others (ASR) and what
the parts of the person are, whose features then pass a transformer (TPI); both are fused.
*Here*: ``SPOT``, on ``StructureNetwork`` (``structure_network.py``), which has all but the source
of the structure map.
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
- \bar M, which f_i is printed with, is read as M; K^i, over which the sum of part i is divided, is
  the sum of its map; ``NORM area``: H W.
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

from typing import Any, Dict

from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...joints import JOINTS
from ...keypoints import heat_maps, keypoints_of
from ...keys import SWITCH, Key, above, between, check_values, declare
from ..layers import LearnedStructureMap, RelationNetwork
from ..layers.structure import SHRINKS
from ..maps import Tap
from .structure_network import NODE, StructureNetwork

#: what a message says to a user who has no key points
INSTEAD = (
    "Without key points, configs/spot/learned_structure.yml (MODEL.META_ARCHITECTURE "
    "LearnedStructure) learns a structure map of its own; it is not SPOT."
)

declare(
    NODE,
    Key("SIGMA", 2.0, above(0), "deviation of a joint's Gaussian, in cells of the heat map"),
    Key("WEIGHTED", True, SWITCH, "multiply a joint's heat map by its confidence"),
    Key("LEAST_CONFIDENCE", 0.0, between(0, 1), "joints not above it have an empty heat map"),
)


@META_ARCH_REGISTRY.register()
class SPOT(StructureNetwork):
    """The structure map comes from heat maps of key points; a batch without them is refused.

    Args:
        sigma: deviation of a joint's Gaussian, in cells of the heat map.
        weighted: multiply a joint's heat map by its confidence.
        least: joints whose confidence is not above it have an empty heat map.
        network: arguments of ``StructureNetwork``.
    """

    config_nodes = (NODE,)
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

    config_nodes = (NODE,)

    @classmethod
    def make_structure_map(cls, channels: int, node: Any) -> nn.Module:
        """Return the 1 x 1 convolution."""
        return LearnedStructureMap(channels, node.CHANNELS)

    def structure_of(self, appearance: Tensor, batch: Dict[str, Any]) -> Tensor:
        """Return what stands for F_S; the key points of a batch are not looked at."""
        return self.structure_map(appearance)
