"""CAJ and CAJ+: channel-augmented joint learning.

*Paper*: M. Ye, W. Ruan, B. Du, M. Z. Shou, "Channel Augmented Joint Learning for Visible-Infrared
Recognition", ICCV 2021, pp. 13567-13576, doi 10.1109/ICCV48922.2021.01331 (CAJ); M. Ye, Z. Wu,
C. Chen, B. Du, "Channel Augmentation for Visible-Infrared Re-Identification", TPAMI 2024, doi
10.1109/TPAMI.2023.3332875 (CAJ+). Public code: mangye16/Cross-Modal-Re-ID-baseline, folders
ICCV21_CAJ and PAMI23_Supervised; "the code" below.
*Idea*: a visible image also enters with one of its color channels in all three, which looks more
like infrared. Original, exchanged and infrared images share one network, one classifier and one
triplet loss over all rows.
*Here*: ``CAJ``: the batch of three views, and what is added to its identity and triplet loss.
Views: ``data/transforms/channels.py``, in the chains of ``data/transforms/chains.py``. L_sq:
``WeightedTripletLoss`` with ``signed_square``. Network: AGW's, by configuration.
*Departs*, or reads what is left open:

- Where paper and code differ, the code holds: erasing fills one rectangle of all channels
  (``INPUT.CHANNEL_ERASING.PER_CHANNEL``: one for each, as printed) with constants in normalized
  space (``VALUE``; zeros are the printed channel means).
- L_KL: the code pairs row i of the original visible with row i of the infrared images. Here each
  original visible image is paired with all infrared images of its identity, so that the order of
  rows is free: the same where an identity has one image in each modality, else the mean over all
  such pairings. It is off in the code by default.
- CAJ+: the target of an image drawn twice is the mean over its exchanged rows; ``REFINE_PAIRS
  draw`` pairs row with row, as the code does. The code's other directions (also infrared images
  learn from the exchanged ones; or these from the originals) are not here.
- phi[0], not printed, is 0.
- Softmax weights without the anchor and non-local blocks of C/2 channels, as in AGW here;
  ``MODEL.LOSSES.WEIGHTED_TRIPLET.LEGACY_WEIGHTS`` and ``MODEL.BACKBONE.NL_LEGACY_WIDTH`` are the
  code's.

*Config*: ``configs/caj``; ``MODEL.CAJ``, ``INPUT.NUM_VIEWS``, ``INPUT.CHANNEL_ERASING``,
``CHANNEL_EXCHANGE``, ``ADAPTIVE_GREY``, ``MODEL.LOSSES.WEIGHTED_TRIPLET``.

B rows, N identities. View 0 of a visible image is the original, view 1 the exchanged one.
"""

from typing import Any, Dict

import torch
import torch.nn.functional as F
from torch import Tensor

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import Key, above, at_least, check_values, declare, one_of
from ...modality import identity_pairs, modality_rows
from ..heads.build import output_names
from ..losses.pairs import zero_of
from ..precision import at_least_float32, without_autocast
from .base import DualStreamBaseline

declare(
    "MODEL.CAJ",
    Key("KL_SCALE", 0.0, at_least(0), "weight of L_KL, visible toward infrared; 0: off"),
    Key("TEMPERATURE", 3.0, above(0), "temperature of L_KL (T)"),
    Key("REFINE_SCALE", 0.0, at_least(0), "weight of CAJ+'s term, view 0 to view 1; 0: off"),
    Key("REFINE_PAIRS", "image", one_of("image", "draw"), "an image drawn twice; code: draw"),
    features=False,
)


_ORIGINAL, _EXCHANGED = 0, 1
_KL_FLOOR = 1e-7  # what the code adds to each probability of the target


@META_ARCH_REGISTRY.register()
class CAJ(DualStreamBaseline):
    """The baseline on a batch of views, with L_KL and the co-refinement of CAJ+ where asked for.

    Args:
        kl_scale: weight of L_KL, 0 or more; 0: off.
        temperature: T of L_KL, above 0.
        refine_scale: weight of CAJ+'s co-refinement, 0 or more; 0: off.
        refine_pairs: ``"image"`` or ``"draw"``, see :func:`co_refinement`.
        baseline: arguments of ``DualStreamBaseline``.

    Raises:
        UserError: a number is out of its range, or a term needs logits and the head has none.
    """

    config_nodes = ("MODEL.CAJ",)
    own_weight_keys = {
        "loss_kl": "MODEL.CAJ.KL_SCALE",
        "loss_refine": "MODEL.CAJ.REFINE_SCALE",
    }

    @configurable
    def __init__(
        self,
        *,
        kl_scale: float = 0.0,
        temperature: float = 3.0,
        refine_scale: float = 0.0,
        refine_pairs: str = "image",
        **baseline: Any,
    ) -> None:
        super().__init__(**baseline)
        check_values(
            "MODEL.CAJ",
            KL_SCALE=kl_scale,
            TEMPERATURE=temperature,
            REFINE_SCALE=refine_scale,
            REFINE_PAIRS=refine_pairs,
        )
        for key, value in (("KL_SCALE", kl_scale), ("REFINE_SCALE", refine_scale)):
            if value > 0 and "logits" not in output_names(self.heads):
                raise UserError(
                    f"MODEL.CAJ.{key} is {value}, which compares logits, but "
                    f"{type(self.heads).__name__} gives none; set MODEL.HEADS.NAME BNNeckHead, or "
                    f"MODEL.CAJ.{key} 0."
                )
        self.kl_scale, self.temperature = kl_scale, temperature
        self.refine_scale, self.refine_pairs = refine_scale, refine_pairs

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.CAJ`` and those of the baseline.

        Raises:
            UserError: the co-refinement is on and visible images have one view.
        """
        node, views = cfg.MODEL.CAJ, cfg.INPUT.NUM_VIEWS.VISIBLE
        if node.REFINE_SCALE > 0 and views < 2:
            raise UserError(
                f"MODEL.CAJ.REFINE_SCALE is {node.REFINE_SCALE}, which compares two views of a "
                f"visible image; set INPUT.NUM_VIEWS.VISIBLE 2 (now {views}), or REFINE_SCALE 0."
            )
        return {
            **super().from_config(cfg),
            "kl_scale": node.KL_SCALE,
            "temperature": node.TEMPERATURE,
            "refine_scale": node.REFINE_SCALE,
            "refine_pairs": node.REFINE_PAIRS,
        }

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute L_id + L_sq over the rows of all views, and the two terms below.

        Raises:
            UserError: the co-refinement is on and the batch has no ``views`` or no ``index``.
        """
        terms = super().losses(outputs, batch)
        labels = self.labels(batch)
        targets, modalities = labels["targets"], labels["modalities"]
        views = labels.get("views", torch.zeros_like(targets))  # without views: originals
        if self.kl_scale > 0:
            divergence = modality_divergence(
                outputs["logits"], targets, modalities, views, self.temperature
            )
            terms["loss_kl"] = self.kl_scale * divergence
        if self.refine_scale > 0:
            missing = [name for name in ("views", "index") if name not in labels]
            if missing:
                raise UserError(
                    "MODEL.CAJ.REFINE_SCALE pairs two views of an image, but the batch has no "
                    f"{' and no '.join(missing)} (B,); INPUT.NUM_VIEWS.VISIBLE 2 lets the loader "
                    "give them. Or set REFINE_SCALE 0."
                )
            refinement = co_refinement(
                outputs["logits"], labels["index"], modalities, views, self.refine_pairs
            )
            terms["loss_refine"] = self.refine_scale * refinement
        return terms


def modality_divergence(
    logits: Tensor, targets: Tensor, modalities: Tensor, views: Tensor, temperature: float
) -> Tensor:
    """Compute L_KL = T^2 mean KL(softmax(z_infrared / T) || softmax(z_visible / T)), a scalar.

    The mean runs over the original visible images, and for each over the infrared images of its
    identity; those without one are left out. Only the visible images learn.

    Args:
        logits: z (B, N).
        targets, modalities, views: (B,).
        temperature: T.
    """
    logits = at_least_float32(logits)
    visible, infrared = identity_pairs(targets, modalities)
    original = views[visible] == _ORIGINAL
    visible, infrared = visible[original], infrared[original]
    if len(visible) == 0:
        return zero_of(logits)
    with without_autocast(logits):
        scaled = logits / temperature
        predicted = F.log_softmax(scaled, dim=1)[visible]
        wanted = F.softmax(scaled.detach(), dim=1)[infrared] + _KL_FLOOR
        divergences = (wanted * (wanted.log() - predicted)).sum(dim=1)  # one for each pair
        pairs_of = visible.bincount(minlength=len(logits))
        weights = 1 / pairs_of[visible].to(divergences)
        return temperature**2 * (weights * divergences).sum() / weights.sum()


def co_refinement(
    logits: Tensor, index: Tensor, modalities: Tensor, views: Tensor, pairs: str = "image"
) -> Tensor:
    """Compute CAJ+'s mean of -sum_c p_1c log p_0c over the original visible images, a scalar.

    p_0 is the prediction of an image's view 0, which learns; p_1 is that of its view 1, which does
    not learn. An image without a view 1 in the batch is left out of the mean.

    Args:
        logits: (B, N).
        index: (B,), the same for all views of an image.
        modalities, views: (B,).
        pairs: what an image that was drawn twice into the batch learns from. ``"image"``: the mean
            of its view 1 rows. ``"draw"``, as the code: its first view 0 row from its first view 1
            row, its second from its second, which are the views of one draw in batches of our
            loader.
    """
    logits = at_least_float32(logits)
    visible = modality_rows(modalities)[0]
    original = visible[views[visible] == _ORIGINAL]
    exchanged = visible[views[visible] == _EXCHANGED]
    same = index[original].unsqueeze(1) == index[exchanged]  # (originals, exchanged)
    if pairs == "draw":
        draws = [_occurrences(index[rows]) for rows in (original, exchanged)]
        same = same & (draws[0].unsqueeze(1) == draws[1])
    paired = same.any(dim=1)
    original, same = original[paired], same[paired].to(logits)
    if len(original) == 0:
        return zero_of(logits)
    with without_autocast(logits):
        wanted = same / same.sum(dim=1, keepdim=True) @ logits[exchanged].detach().softmax(dim=1)
        return -(wanted * F.log_softmax(logits[original], dim=1)).sum(dim=1).mean()


def _occurrences(index: Tensor) -> Tensor:
    """Return for each row of ``index`` (B,) how many earlier rows have the same number: (B,)."""
    return (index.unsqueeze(1) == index).tril(diagonal=-1).sum(dim=1)
