"""A method that trains on the features of a frozen, trained model.

*Here*: ``OnFrozenEncoder``, the base of ``nformer.py``. ``engine/encoder.py`` takes config and
weights from the encoder's checkpoint; ``engine/sequences.py`` makes the batches of features.

B images of a batch, D features.
"""

from typing import Any, Dict, Sequence

import torch
from torch import Tensor, nn

from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keypoints import standing_person
from ...modality import Modality
from ...registry import lookup
from ..gather import gather_outputs
from ..losses import LossTerms
from .base import DualStreamBaseline

_NODE = "MODEL.NFORMER"


class OnFrozenEncoder(DualStreamBaseline):
    """The base of a model on a frozen encoder, whose network, head and mean pixel it has.

    Attributes:
        encoder: a trained model, always in evaluation mode.
    """

    encoder: nn.Module
    trains_on_features = True  # see ``engine/sequences.py``

    @property
    def backbone(self) -> Any:
        """Return the encoder's backbone."""
        return self.encoder.backbone

    @property
    def heads(self) -> Any:
        """Return the encoder's head."""
        return self.encoder.heads

    @property
    def map_tap(self) -> Any:  # type: ignore[override]  # a module of the encoder
        """Return where the encoder's feature map can be read."""
        return self.encoder.map_tap

    @property
    def pixel_mean(self) -> Any:  # type: ignore[override]  # a buffer of the encoder
        """Return the mean of the three channels, in 0..255."""
        return self.encoder.pixel_mean

    @property
    def pixel_std(self) -> Any:  # type: ignore[override]  # a buffer of the encoder
        """Return the deviation of the three channels, in 0..255."""
        return self.encoder.pixel_std

    @property
    def needs_keypoints(self) -> bool:  # type: ignore[override]  # that of the encoder
        """Return whether the encoder needs key points."""
        return getattr(self.encoder, "needs_keypoints", False)

    @property
    def test_feature(self) -> str:
        """Return in words what the encoder's features are."""
        return getattr(self.encoder, "test_feature", "")

    def train(self, mode: bool = True) -> "OnFrozenEncoder":
        """Set the mode of all parts but the encoder, which stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def encoded(self, batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Return one sequence of the features of a batch of images, or of all processes' batches.

        Rows can look only at what is in their sequence, so it is gathered before they do.
        """
        self.modalities_of(batch)  # checks the labels
        with torch.no_grad():
            tensors = {**self.labels(batch), "features": self.encoder(batch)}
        if self.gather_features:
            tensors = gather_outputs(tensors, len(batch["images"]), type(self).__name__)
        return {**tensors, "features": tensors["features"][None]}


def build_encoder(cfg: Any) -> nn.Module:
    """Build the encoder that a config describes, without its losses.

    Raises:
        UserError: the encoder has an encoder itself, or is not known.
    """
    node = cfg.MODEL.NFORMER
    name = node.ENCODER_ARCHITECTURE or "DualStreamBaseline"
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = name
    cfg.MODEL.LOSSES.NAME = tuple(node.ENCODER_LOSSES) or cfg.MODEL.LOSSES.NAME
    # Views are for training, which the encoder has behind it; CAJ+ and MMT refuse less than two.
    cfg.INPUT.NUM_VIEWS.VISIBLE = cfg.INPUT.NUM_VIEWS.INFRARED = 2
    method = lookup(META_ARCH_REGISTRY, name, f"{_NODE}.ENCODER_ARCHITECTURE")
    if getattr(method, "trains_on_features", False):
        raise UserError(f"{_NODE}.ENCODER is itself an {name}. Name the checkpoint of its encoder.")
    encoder = method(cfg)
    if isinstance(getattr(encoder, "loss_terms", None), LossTerms):
        encoder.loss_terms = LossTerms({}, {})
    return encoder


@torch.no_grad()
def feature_size(encoder: nn.Module, size: Sequence[int]) -> int:
    """Return D, found by the features of one image of each modality, of ``size`` (height, width).

    The encoder is in evaluation mode afterward.
    """
    encoder.eval()
    count = len(Modality)
    zeros = torch.zeros(count, dtype=torch.int64)
    batch: Dict[str, Any] = {
        "images": torch.zeros(count, 3, *size),
        "keypoints": standing_person(count, (size[0], size[1])),
        "modalities": torch.arange(count),
        **{name: zeros for name in ("targets", "camids", "index")},
    }
    return int(encoder(batch).shape[1])
