"""Hi-CMD: hierarchical cross-modality disentanglement, by generating persons.

*Paper*: S. Choi, S. Lee, Y. Kim, T. Kim, C. Kim, "Hi-CMD: Hierarchical Cross-Modality
Disentanglement for Visible-Infrared Person Re-Identification", CVPR 2020, pp. 10254-10263, doi
10.1109/CVPR42600.2020.01027. Public code: bismex/HiCMD, commit 48a96ed ("the code" below).
*Idea*: a person's prototype (what is where) and style (the clothes) belong to the identity; pose
and illumination do not. A network that can put the pose and the illumination of an infrared image
on the person of a visible one has told them apart. A search compares only prototype and style.
*Here*: ``HiCMD``: the encoders, HFL (feature learning) and its losses. ID-PIG (generation), feature
sets, keys: ``modeling/generation``; losses: ``losses/{reconstruction,adversarial,pivot_triplet}``;
``heads/hicmd_head.py``; three optimizers: ``turns.py``; batches: ``data/pairs_sampler.py``.
*Known* from the code: all sizes, weights and rates of ``configs/hicmd``; and that each modality of
real, of generated and of other images has its own statistics of batch norm in training.
*Departs*:

- Same-modality reconstruction: the code takes the style of the *other* image of the pair; here
  each image is made of its own codes, as the formula says. ``SAME paired`` is the code's.
- Cycle: the code takes the attributes of the first images again; here they are read from the
  crossed ones (a-hat), as the formula says. ``CYCLE kept`` is the code's.
- The formulas KL(a^ex || N(0, 1)) and the logarithms of the adversarial term are, as in the code,
  the mean of squares, and least squares with a penalty.
- Flipping at test: the code never looks at the flipped image. ``TEST.FLIP`` works, and is off.
- The code's swap within a modality (``apply_pos_cnt``, each 1,000,000th iteration) is not here, nor
  is its first iteration, in which everything trains whatever the warm-ups are.
- Attribute encoder and HFL are stages of any network. Where its second layer takes other channels
  than a prototype has (``PROTOTYPE_WIDTH``), a 1 x 1 convolution stands between them.

*Config*: ``configs/hicmd``; ``MODEL.HICMD``, ``MODEL.HEADS.{DROPOUT,TRIPLET_DIM}``, ``DATALOADER``.

B images, n pairs, H x W pixels, C channels of a prototype, D length of an attribute code.
"""

from typing import Any, Dict, Optional, Tuple, Union

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...modality import Modality, apply_per_modality
from ...turns import OptimizerPart, Turn
from ..gather import gather_outputs
from ..generation import (
    Codes,
    FeatureSets,
    ImageGeneration,
    Images,
    Mix,
    Pairs,
    PrototypeEncoder,
    RectangleDropout,
    Settings,
    Vectors,
    build_id_pig,
    crossed,
    deep_layers,
    feature_sets,
    find_pairs,
)
from ..generation.codes import check_length, style_length, style_of
from ..generation.feature_sets import pivots_of
from ..generation.grids import mosaic, swap_grids
from ..generation.hicmd_settings import WEIGHT_KEYS
from ..generation.pairs import modalities_of_two
from ..generation.swaps import TwoImages
from ..heads import build_head, training_outputs
from ..losses import LossTerms
from ..losses.pivot_triplet import pivot_triplet
from ..precision import at_least_float32
from .base import DualStreamBaseline

DISCRIMINATOR, GENERATION, IDENTITY = "discriminator", "generation", "identity"
EVERYTHING = Turn((DISCRIMINATOR, GENERATION, IDENTITY), ())


@META_ARCH_REGISTRY.register()
class HiCMD(DualStreamBaseline):
    """Prototype and style of a person, told from pose and illumination by generating.

    A feature passes the prototype encoder and the attribute encoder of its modality, two layers of
    a network, and the head: the identity path. Decoder and discriminators are for training.

    Args:
        backbone: the attribute encoders: all stages apart, see ``TwoStreams``.
        layers: second and third layer of a network, for maps of prototypes.
        prototype_width: w of the prototype encoders.
        mix: joins both vectors.
        id_pig: decoder and discriminators; None: the identity path alone.
        erasing: probability of a hole.
        settings: see :class:`Settings`.
        baseline: other arguments of ``DualStreamBaseline``.

    Raises:
        UserError: an attribute code has a length that cannot be cut.
    """

    config_nodes = ("MODEL.HICMD",)
    has_own_losses = True
    takes_clusters = False
    training_only: Tuple[str, ...] = ("id_pig",)
    #: the parts whose parameters are those of a pretrained network, for the optimizer
    backbones = ("backbone", "layers")
    own_weight_keys = WEIGHT_KEYS
    id_pig: Optional[ImageGeneration]

    @configurable
    def __init__(
        self,
        *,
        layers: nn.Module,
        prototype_width: int,
        mix: Mix,
        id_pig: Optional[ImageGeneration],
        erasing: float = 0.5,
        settings: Optional[Settings] = None,
        **baseline: Any,
    ) -> None:
        super().__init__(**baseline)
        check_length(self.backbone.feat_dim)
        first, second = PrototypeEncoder(prototype_width), PrototypeEncoder(prototype_width)
        second.load_state_dict(first.state_dict())  # a copy in the code
        self.prototypes = nn.ModuleDict({"visible": first, "infrared": second})
        self.layers, self.mix, self.id_pig = layers, mix, id_pig
        self.erasing = RectangleDropout(erasing)
        self.settings = settings or Settings()
        if id_pig is None:
            self.training_only = ()

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.HICMD``, and build two networks of ``MODEL.BACKBONE``.

        Raises:
            UserError: the network has no stages, or a key of ``MODEL.HICMD`` is wrong.
        """
        backbone, settings = build_backbone(cfg), Settings.from_config(cfg)
        layers, width, length = deep_layers(cfg, backbone)
        node, code_length = cfg.MODEL.HICMD, backbone.feat_dim
        mix = Mix(node.MIX_LR, node.VECTORS)
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.BACKBONE.FEAT_DIM = mix.length(length, style_length(code_length))
        return {
            "backbone": backbone,
            "heads": build_head(cfg),
            "loss_terms": LossTerms({}, {}),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "layers": nn.Identity() if node.VECTORS == "style" else layers,
            "prototype_width": width,
            "mix": mix,
            "id_pig": build_id_pig(cfg, width, code_length) if node.GENERATION else None,
            "erasing": node.ERASING,
            "settings": settings,
        }

    # --------------------------------------------------------------------------- the optimizers

    @property
    def optimizer_parts(self) -> Tuple[OptimizerPart, ...]:
        """Return Adam for what makes codes and images, Adam for what judges them, and SGD."""
        return self.settings.optimizer_parts(generates=self.id_pig is not None)

    def turns_at(self, iteration: int) -> Tuple[Turn, ...]:
        """Return the turns of an iteration: first the discriminators learn, then all others.

        The encoders learn from the losses of both. In the first warm-up there is no HFL, in the
        second none of ID-PIG's losses.
        """
        warm, node = self.id_pig is not None, self.settings
        only_images = warm and iteration < node.warm_generation
        only_identity = not warm or (
            not only_images and iteration < node.warm_generation + node.warm_identity
        )
        if only_identity:
            return (Turn((IDENTITY,), ("generator", "identity")),)
        judge = Turn((DISCRIMINATOR,), ("discriminator",))
        if only_images:
            return judge, Turn((GENERATION,), ("generator",))
        return judge, Turn((GENERATION, IDENTITY), ("generator", "identity"))

    def measures(self) -> Dict[str, Tensor]:
        """Return w, the share of the prototype in a feature."""
        return {} if self.mix.weight is None else {"prototype_share": self.mix.weight.detach()}

    # -------------------------------------------------------------------------- the two encoders

    def encode(self, images: Tensor, modalities: Tensor) -> Codes:
        """Return the prototypes (B, C, H/4, W/4) and attributes (B, D) of normalized images."""
        encoders = [self.prototypes[modality.label] for modality in Modality]
        attributes = self.backbone(images, modalities).mean(dim=(2, 3))
        return Codes(apply_per_modality(encoders, images, modalities), attributes)

    def decode(self, prototypes: Tensor, attributes: Tensor) -> Tensor:
        """Return the images (B, 3, H, W), normalized, of prototypes and attributes.

        Raises:
            UserError: the model has no decoder.
        """
        if self.id_pig is None:
            raise UserError("This HiCMD makes no images: it was built with GENERATION False.")
        images: Tensor = self.id_pig.decoder(prototypes, attributes)
        return images

    def pictures(self, batch: Dict[str, Any]) -> Dict[str, np.ndarray]:
        """Return ``"swaps"``, all grids of the images of a batch, (3, H, W) uint8, for the log."""
        if self.id_pig is None:
            return {}
        images, persons = self.normalize(batch["images"]), batch["targets"].tolist()
        names = [str(one) for one in persons]
        grids = swap_grids(self, images, self.modalities_of(batch), persons, names)
        return {"swaps": mosaic(grids, self.pixel_mean, self.pixel_std)}

    def vectors(self, images: Tensor, modalities: Tensor) -> Vectors:
        """Return the prototype vectors (B, C') and styles (B, S) of normalized images."""
        codes = self.encode(images, modalities)
        if self.training:  # each modality has its own statistics of batch norm
            maps = apply_per_modality([self.layers, self.layers], codes.prototypes, modalities)
        else:
            maps = self.layers(codes.prototypes)
        return Vectors(self.map_tap(maps).mean(dim=(2, 3)), style_of(codes.attributes))

    def extract(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Return f_0 of normalized images (B, 3, H, W), as (B, D_0, 1, 1)."""
        return self.mix(self.vectors(images, modalities))[..., None, None]

    # ------------------------------------------------------------------------------ the training

    def forward(
        self, batch: Dict[str, Any], turn: Turn = EVERYTHING
    ) -> Union[Tensor, Dict[str, Tensor]]:
        """Return features (B, D) of a batch; in training the terms of a turn, or of all turns."""
        if not self.training:
            return super().forward(batch)
        self.modalities_of(batch)  # checks the rows
        images, pairs = self.normalize(batch["images"]), find_pairs(batch, self.device)
        terms: Dict[str, Tensor] = {}
        if self.id_pig is not None and DISCRIMINATOR in turn.losses:
            with torch.no_grad():
                known = self._read(images, pairs)
            terms.update(self.id_pig.discriminator_terms(known))
        made: Optional[TwoImages] = None
        if self.id_pig is not None and {GENERATION, IDENTITY} & set(turn.losses):
            known = self._read(images, pairs)
            made = crossed(self.id_pig.decoder, known.visible, known.infrared)
            if GENERATION in turn.losses:
                terms.update(self.id_pig.terms(known, made, self._encode_both))
        if IDENTITY in turn.losses:
            sets = self.sets_of(images, pairs, made, batch["targets"].to(self.device))
            terms.update(self.identity_terms(sets))
        return terms

    def _read(self, images: Tensor, pairs: Pairs) -> Images:
        """Return the images of the pairs and their codes."""
        real = images[pairs.visible], images[pairs.infrared]
        codes, n = self._encode_both(*real), len(pairs.visible)
        return Images(real, codes.rows(0, n), codes.rows(n, 2 * n))

    def _encode_both(self, visible: Tensor, infrared: Tensor) -> Codes:
        """Return the codes of visible images, and then those of infrared ones."""
        return self.encode(torch.cat([visible, infrared]), modalities_of_two(visible, infrared))

    def sets_of(
        self, images: Tensor, pairs: Pairs, made: Optional[TwoImages], targets: Tensor
    ) -> FeatureSets:
        """Return what HFL learns from: holes are cut, and no gradient enters a generated image."""
        sources = [("v", "i", images[pairs.visible], images[pairs.infrared])]
        if made is not None:
            sources.append(("as_visible", "as_infrared", made[0].detach(), made[1].detach()))
        others = pairs.other_visible, pairs.other_infrared
        sources.append(("other_v", "other_i", images[others[0]], images[others[1]]))
        found: Dict[str, Vectors] = {}
        for first, second, visible, infrared in sources:
            n, both = len(visible), self.erasing(torch.cat([visible, infrared]))
            if len(both) == 0:
                continue
            vectors = self.vectors(both, modalities_of_two(visible, infrared))
            found[first] = Vectors(*(one[:n] for one in vectors))
            found[second] = Vectors(*(one[n:] for one in vectors))
        rows = {"v": pairs.visible, "i": pairs.infrared, "other_v": others[0], "other_i": others[1]}
        labels = {name: targets[own] for name, own in rows.items()}
        return feature_sets(self.settings.sets, found, labels)

    def identity_terms(self, sets: FeatureSets) -> Dict[str, Tensor]:
        """Compute the cross-entropy of all rows, and a triplet loss for each modality's anchors."""
        node, targets = self.settings, sets.targets
        features = self.mix(sets.vectors)[..., None, None]
        outputs = training_outputs(self.heads, features, targets, torch.zeros_like(targets))
        rows = {name: outputs[name] for name in ("triplet_features", "logits")}
        rows.update(targets=targets, sets=sets.sets)
        if self.gather_features:
            rows = gather_outputs(rows, len(targets), type(self).__name__)
        triplets = [
            pivot_triplet(rows["triplet_features"], rows["targets"], own, node.margin, node.pull)
            for own in pivots_of(rows["sets"])
        ]
        classified = F.cross_entropy(at_least_float32(rows["logits"]), rows["targets"])
        terms = {"id": classified, "triplet": torch.stack(triplets).sum()}
        return {f"loss_{name}": node.scales[name] * term for name, term in terms.items()}
