"""The dual-stream baseline: backbone, head, weighted sum of losses.

*Papers*: M. Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook" (AGW),
TPAMI 2021, doi 10.1109/TPAMI.2021.3054775, is this class with the config ``configs/agw``.
*Here*: ``DualStreamBaseline``; every other method derives from it.
*Departs*: see ``configs/agw/README.md``.

B images, H x W pixels, D features, N identities.
"""

from typing import Any, Dict, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...keys import check_values
from ..gather import gather_outputs
from ..heads import build_head, head_outputs
from ..heads.build import output_names
from ..losses import LossTerms, build_losses
from ..maps import Tap

# What a loss may ask of a batch; it has views where an image has several.
BATCH_TENSORS = ("targets", "modalities", "camids", "index", "views")


@META_ARCH_REGISTRY.register()
class DualStreamBaseline(nn.Module):
    """Features per image in evaluation, named loss terms in training.

    Args:
        backbone: ``backbone(images, modalities)``, or one of FastReID's, which sees no modality.
        heads: see ``modeling/heads``; the name is FastReID's, so that its checkpoints fit.
        loss_terms: named, weighted losses.
        pixel_mean, pixel_std: of the three channels, in 0..255.
    """

    # Names of the phases of the schedule; ``phase_of`` says which an epoch belongs to.
    phases: Tuple[str, ...] = ("train",)
    # The one that holds now: set by the trainer before each epoch.
    phase = "train"
    # True in a method that leaves parameters without a gradient in some phase (DDP asks).
    may_leave_parameters_unused = False
    # True: with several processes, losses see the rows of all; set by the trainer, see objective.
    gather_features = False
    # Names of the method's own parts that features do not pass through: an evaluation takes
    # weights without them, or with those of other sizes.
    training_only: Tuple[str, ...] = ()

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        heads: nn.Module,
        loss_terms: LossTerms,
        pixel_mean: Any,
        pixel_std: Any,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = heads
        self.loss_terms = loss_terms
        self.map_tap = Tap("feature_map", "the backbone's map, (B, C, H, W)")
        # Not in checkpoints, as in FastReID: they belong to the config.
        for name, value in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            check_values("MODEL", **{name.upper(): list(value)})
            self.register_buffer(name, torch.tensor(value).view(1, -1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Explicit arguments from a config; the head's input size comes from the backbone."""
        backbone = build_backbone(cfg)
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.BACKBONE.FEAT_DIM = _feat_dim(backbone, cfg.INPUT.SIZE_TEST)
        heads = build_head(cfg)
        return {
            "backbone": backbone,
            "heads": heads,
            "loss_terms": build_losses(cfg, cls.provided(heads)),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @classmethod
    def provided(cls, heads: nn.Module) -> tuple:
        """Names of the tensors that losses may ask for."""
        return output_names(heads) + BATCH_TENSORS

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.pixel_mean.device

    @property
    def test_feature(self) -> str:
        """In words, what the features of evaluation are; empty if the head does not say."""
        return getattr(self.heads, "test_feature", "")

    def phase_of(self, epoch: int) -> str:
        """The name, one of ``phases``, of the phase that ``epoch`` (from 0) belongs to."""
        return self.phases[0]

    def start_run(self) -> None:
        """Called where a run begins that continues no other: banks forget what weights brought."""

    def after_step(self) -> None:
        """Called after each training step, on every process: banks take the weights up here.

        In float16 also after a step whose update was skipped, which leaves the weights as they
        were; to know of it would cost a synchronization with the GPU.
        """

    def forward(self, batch: Dict[str, Any]) -> Union[Tensor, Dict[str, Tensor]]:
        """A batch (see ``data/dataset.py``) to features (B, D), or in training to loss terms."""
        modalities = self.modalities_of(batch)
        feature_map = self.extract(self.normalize(batch["images"]), modalities)
        if not self.training:
            return head_outputs(self.heads, feature_map, modalities=modalities)
        targets = batch["targets"].to(self.device)
        outputs = head_outputs(self.heads, feature_map, targets, modalities)
        return self.objective(outputs, batch)

    def extract(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Normalized images (B, 3, H, W) to the backbone's map (B, C, H', W')."""
        if getattr(self.backbone, "takes_modalities", False):
            return self.map_tap(self.backbone(images, modalities))
        return self.map_tap(self.backbone(images))

    def objective(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """What ``forward`` ends with in training: :meth:`losses`, of whose rows is decided here.

        Those of this process or, with ``gather_features``, of all processes: then ``losses`` gets
        the gathered outputs, and of the batch its labels, gathered; the images stay where they are.
        """
        if not self.gather_features:
            return self.losses(outputs, batch)
        rows, owner = len(batch["images"]), type(self).__name__
        labels = gather_outputs(self.labels(batch), rows, owner)
        return self.losses(gather_outputs(outputs, rows, owner), labels)

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Weighted loss terms by name; a paper whose objective is no plain sum overrides this."""
        return self.loss_terms({**outputs, **self.labels(batch)})

    def labels(self, batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """The tensors (B,) of a batch that losses may ask for, by name, on the model's device."""
        return {n: batch[n].to(self.device) for n in BATCH_TENSORS if n in batch}

    def normalize(self, images: Tensor) -> Tensor:
        """Images in 0..255, float or uint8, minus mean, divided by deviation, in float32.

        The batch is never changed: the difference is a copy, and is divided where it lies.
        """
        images = images.to(self.device)
        if images.dtype is not torch.uint8:  # those become float32 in the subtraction
            images = images.to(torch.float32)
        return (images - self.pixel_mean).div_(self.pixel_std)

    def modalities_of(self, batch: Dict[str, Any]) -> Tensor:
        """(B,) modalities of a batch.

        Raises:
            ValueError: the batch has none, as that of FastReID's ``DefaultPredictor``, or some of
                its labels have not one row for each image.
        """
        if not isinstance(batch, dict) or "modalities" not in batch:
            raise ValueError(
                "This model needs to know which images are infrared: the batch has no "
                "'modalities' (B,), 0 visible, 1 infrared. For images of your own use "
                "vireid_plugins.FeatureExtractor(weights)(images, modality)."
            )
        if "images" in batch:
            self._check_rows(batch)
        return batch["modalities"].to(self.device)

    def _check_rows(self, batch: Dict[str, Any]) -> None:
        rows = len(batch["images"])
        for name in BATCH_TENSORS:
            if name in batch and tuple(batch[name].shape) != (rows,):
                raise ValueError(
                    f"The batch has {rows} images, and its {name!r} the shape "
                    f"{tuple(batch[name].shape)}; expected ({rows},), one row for each image."
                )
        if self.training and "targets" not in batch:
            raise ValueError("A training batch needs 'targets' (B,), the class of each image.")


@torch.no_grad()
def _feat_dim(backbone: nn.Module, size: Sequence[int]) -> int:
    """Channels of the backbone's map; FastReID's do not say, so one image of ``size`` is tried."""
    if hasattr(backbone, "feat_dim"):
        return backbone.feat_dim
    backbone.eval()
    channels = backbone(torch.zeros(1, 3, *size)).shape[1]
    backbone.train()
    return channels
