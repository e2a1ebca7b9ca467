"""The dual-stream baseline: backbone, head, weighted sum of losses.

*Papers*: M. Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook" (AGW),
TPAMI 2021, doi 10.1109/TPAMI.2021.3054775, is this class with the config ``configs/agw``.
*Here*: ``DualStreamBaseline``; every other method derives from it.
*Departs*: see ``configs/agw/README.md``.

B images, H x W pixels, D features, N identities.
"""

import copy
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import check_values
from ..clusters.found import FoundClusters
from ..gather import gather_outputs
from ..heads import build_head, retrieval_features, training_outputs
from ..heads.build import output_names
from ..losses import LossTerms, build_losses
from ..maps import FEATURE_MAP, Tap

# What a loss may ask of a batch; it has views where an image has several.
BATCH_TENSORS = ("targets", "modalities", "camids", "index", "views")


@META_ARCH_REGISTRY.register()
class DualStreamBaseline(nn.Module):
    """A model that returns features of images in evaluation, and named loss terms in training.

    Args:
        backbone: ``backbone(images, modalities)``, or one of FastReID's, which sees no modality.
        heads: see ``modeling/heads``; the name is FastReID's, so that its checkpoints fit.
        loss_terms: named, weighted losses.
        pixel_mean, pixel_std: mean and deviation of the three channels, in 0..255.
    """

    backbone: Any  # ours, or one of FastReID's
    heads: Any
    loss_terms: LossTerms
    pixel_mean: Tensor
    pixel_std: Tensor
    # Names of the phases of the schedule; ``phase_of`` returns the phase of an epoch.
    phases: Tuple[str, ...] = ("train",)
    # The current phase, set by the trainer before each epoch.
    phase = "train"
    # True in a method in which some phase leaves parameters without a gradient (DDP must know).
    may_leave_parameters_unused = False
    # If True, losses see the rows of all processes; set by the trainer, see ``objective``.
    gather_features = False
    # Names of the method's own parts that features do not pass through: an evaluation accepts
    # weights that lack them, or that have them in other sizes. A head may have such names, too.
    training_only: Tuple[str, ...] = ()
    # Whether batches must have ``keypoints`` (B, 17, 3), in training and at test.
    needs_keypoints = False
    # A sentence for users who have none: what can be trained instead.
    without_keypoints = ""
    # Whether a training, and nothing else, needs them.
    learns_keypoints = False
    # The config key of the weight of each term that ``loss_terms`` does not name, by log name.
    own_weight_keys: Mapping[str, str] = {}
    # Nodes of the config that are the class's own, besides those of its base class: runs of other
    # methods do not read them. It holds for the class that says it: a class that is derived from
    # it, and does not say its own, is taken to read every node (``engine/unread.py``).
    config_nodes: Tuple[str, ...] = ()
    # Keys that name further methods or losses of which a run of this class consists.
    names_parts: Tuple[str, ...] = ()
    # Whether the classes may be numbered anew, as clusters are (``engine/clusters``). It holds for
    # the class that says it, not for those derived from it: they may keep a row for each class.
    takes_clusters = True
    # Whether two networks of this class can be students of ``MMT``; it holds as the above does.
    may_be_student = True
    # Whether features by the average of a student need the student, see ``average_features``.
    guides_average = False
    # Whether it takes no loss of ``MODEL.LOSSES.NAME``, which must then be empty.
    has_own_losses = False
    # Whether it can be trained on clusters only, and which ``CLUSTERS.WITHIN`` it needs.
    needs_clusters = False
    clusters_within = ""

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
        self.map_tap = Tap(FEATURE_MAP, "the backbone's map, (B, C, H, W)")
        check_values("MODEL", PIXEL_MEAN=list(pixel_mean), PIXEL_STD=list(pixel_std))
        # They are not in checkpoints, as in FastReID: they belong to the config.
        for name, value in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(value).view(1, -1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from a config; the head's input size comes from the backbone."""
        backbone = build_backbone(cfg)
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.BACKBONE.FEAT_DIM = cls.head_channels(backbone, cfg)
        heads = build_head(cfg)
        return {
            "backbone": backbone,
            "heads": heads,
            "loss_terms": build_losses(cfg, cls.provided(heads)),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @classmethod
    def head_channels(cls, backbone: nn.Module, cfg: Any) -> int:
        """Return C of the map that the head is given: that of the backbone's."""
        return map_channels(backbone, cfg.INPUT.SIZE_TEST)

    @classmethod
    def provided(cls, heads: nn.Module) -> Tuple[str, ...]:
        """Return the names of the tensors that losses may take."""
        return output_names(heads) + BATCH_TENSORS

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self.pixel_mean.device

    @property
    def test_feature(self) -> str:
        """Return in words what the test features are; empty if the head does not say it."""
        return getattr(self.heads, "test_feature", "")

    @property
    def weight_keys(self) -> Dict[str, str]:
        """Return the config key of the weight of each term of the objective, by log name."""
        return {**self.loss_terms.weight_keys, **self.own_weight_keys}

    def phase_of(self, epoch: int) -> str:
        """Return the name, one of ``phases``, of the phase that ``epoch`` (from 0) belongs to."""
        return self.phases[0]

    def classifiers(self) -> List[Any]:
        """Return the heads whose classes are clusters, where a training finds its labels itself."""
        return [self.heads]

    def cluster_features(self, batch: Dict[str, Any]) -> Tensor:
        """Return the features (B, D) by which images are clustered; in evaluation mode."""
        features: Tensor = self(batch)
        return features

    def begin_clusters(self, centers: Tensor, labels: Tensor) -> None:
        """Take up new clusters: their centers (C, D) of length 1, and the labels (N,) of images.

        Label -1 is an outlier. The classifiers have been set to the centers already. A method with
        a memory of centers fills it here, in buffers, so that checkpoints hold it. Every process
        calls it, with the same centers.
        """

    def stage_of(self, phase: str) -> int:
        """Return the number of a phase's stage: where it changes, clusters are found anew."""
        return 0

    def more_labelings(self, phase: str) -> Tuple[str, ...]:
        """Return further values of ``CLUSTERS.WITHIN`` by which images are clustered as well.

        Batches of all labelings take turns; ``labeling`` in a batch is 0 for that of the config, 1
        for the first one of these, and so on.
        """
        return ()

    def match_clusters(self, found: FoundClusters) -> Optional[Tensor]:
        """Return which cluster of the other modality each cluster belongs to, (C,); -1: none.

        Process 0 calls it. None: nothing is matched.
        """
        return None

    def take_clusters(self, found: FoundClusters) -> None:
        """Take up new clusters by all that is known of them, after :meth:`begin_clusters`."""

    def start_run(self) -> None:
        """Prepare a run that does not resume another: memories forget what the weights held."""

    def after_step(self) -> None:
        """Act after each training step, on every process: memories store the new weights here.

        In float16 this is also called if the update was skipped and the weights have not changed:
        finding that out would cost a synchronization with the GPU.
        """
        self.loss_terms.after_step()

    def measures(self) -> Dict[str, Tensor]:
        """Return numbers () by name that describe the state of the method, for the log only.

        The main process asks for them whenever the log is written, after a step.
        """
        return {}

    def forward(self, batch: Dict[str, Any]) -> Union[Tensor, Dict[str, Tensor]]:
        """Return features (B, D) of a batch (``data/dataset.py``), or loss terms in training."""
        modalities = self.modalities_of(batch)
        feature_map = self.extract(self.normalize(batch["images"]), modalities)
        if not self.training:
            return retrieval_features(self.heads, feature_map, modalities)
        return self.objective(self.head_outputs(feature_map, batch), batch)

    def head_outputs(self, feature_map: Tensor, batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Return the tensors that the head gives in training, by name, for a map (B, C, H', W')."""
        modalities, targets = (batch[name].to(self.device) for name in ("modalities", "targets"))
        return training_outputs(self.heads, feature_map, targets, modalities)

    def extract(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Return the backbone's map (B, C, H', W') of normalized images (B, 3, H, W)."""
        if getattr(self.backbone, "takes_modalities", False):
            return self.map_tap(self.backbone(images, modalities))
        return self.map_tap(self.backbone(images))

    def objective(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute :meth:`losses` of this process's rows or, with ``gather_features``, of all rows.

        ``forward`` ends with this in training. With ``gather_features``, ``losses`` gets the
        outputs and the labels of the batches of all processes, but no images.
        """
        if not self.gather_features:
            return self.losses(outputs, batch)
        rows, owner = len(batch["images"]), type(self).__name__
        labels = gather_outputs(self.labels(batch), rows, owner)
        return self.losses(gather_outputs(outputs, rows, owner), labels)

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute the weighted terms; a method with an objective of another form overrides this."""
        return self.loss_terms({**outputs, **self.labels(batch)})

    # A student of ``MMT`` is a network for itself; what follows is how the two work together.

    def student_pass(self, batch: Dict[str, Any]) -> Tuple[Dict[str, Tensor], Tensor]:
        """Return the outputs for a batch in training, and the images that the average sees.

        The images are normalized, (B, 3, H, W). Outputs have a row for each image.
        """
        images = self.normalize(batch["images"])
        feature_map = self.extract(images, self.modalities_of(batch))
        return self.head_outputs(feature_map, batch), images

    def terms(
        self,
        losses: LossTerms,
        outputs: Dict[str, Tensor],
        second: Dict[str, Tensor],
        labels: Dict[str, Tensor],
    ) -> Dict[str, Tensor]:
        """Compute the weighted terms of a student by hard labels.

        Args:
            losses: those of ``MODEL.LOSSES.NAME``.
            outputs: its own, see :meth:`student_pass`.
            second: those of its average's head, for the images that :meth:`student_pass` returned.
            labels: (B,) each, by name.
        """
        return losses({**outputs, **labels})

    def averaged(self) -> "DualStreamBaseline":
        """Return a network for the average of the weights: those that have the same names."""
        return copy.deepcopy(self)

    def average_features(self, average: "DualStreamBaseline", batch: Dict[str, Any]) -> Tensor:
        """Return the features (B, D) by ``average``; in evaluation."""
        features: Tensor = average(batch)
        return features

    def weight_keys_for(self, losses: LossTerms) -> Dict[str, str]:
        """Return the config key of the weight of each term that :meth:`terms` adds."""
        return {}

    def labels(self, batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Return the labels of a batch that losses may take: (B,) each, by name, on the device."""
        return {n: batch[n].to(self.device) for n in BATCH_TENSORS if n in batch}

    def normalize(self, images: Tensor) -> Tensor:
        """Subtract the mean from images in 0..255, float or uint8, and divide by the deviation.

        The result has the type of the mean: float32, or float64 in a model made ``double()``. The
        batch is never changed: the difference is a copy, which is divided in place.
        """
        images = images.to(self.device)
        if images.dtype is not torch.uint8:  # those take the mean's type in the subtraction
            images = images.to(self.pixel_mean.dtype)
        return (images - self.pixel_mean).div_(self.pixel_std)

    def modalities_of(self, batch: Dict[str, Any]) -> Tensor:
        """Return the modalities (B,) of a batch.

        Raises:
            UserError: the batch has no modalities, as in FastReID's ``DefaultPredictor``, or not
                one for each image.
        """
        if not isinstance(batch, dict) or "modalities" not in batch:
            raise UserError(
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
                raise UserError(
                    f"The batch has {rows} images, and its {name!r} the shape "
                    f"{tuple(batch[name].shape)}; expected ({rows},), one row for each image."
                )
        if self.training and "targets" not in batch:
            raise UserError("A training batch needs 'targets' (B,), the class of each image.")


@torch.no_grad()
def map_channels(backbone: nn.Module, size: Sequence[int]) -> int:
    """Return the channels of the backbone's map; for one of FastReID's, run it on one image."""
    if hasattr(backbone, "feat_dim"):
        return int(backbone.feat_dim)  # type: ignore[arg-type]  # a number, not a module
    backbone.eval()
    channels = backbone(torch.zeros(1, 3, *size)).shape[1]
    backbone.train()
    return channels
