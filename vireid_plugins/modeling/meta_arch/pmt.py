"""PMT: a transformer that both modalities share, and that sees gray visible images first.

*Paper*: H. Lu, X. Zou, P. Zhang, "Learning Progressive Modality-Shared Transformers for Effective
Visible-Infrared Person Re-identification", AAAI 2023, doi 10.1609/aaai.v37i2.25273, arXiv
2212.00226. Public code: hulu88/PMT; "the code" below.
*Idea*: in the first epochs visible images are gray, and the triplet loss compares images of one
modality only, so that the network learns persons without colors before it closes the gap. Then
colors come, and two losses draw the modalities together: MSEL and DCL.
*Here*: ``PMT``: which losses are used while visible images are gray, and which afterwards. Gray
images: ``INPUT.GREY`` with ``EPOCHS``. Losses: ``ModalitySharedEnhancementLoss`` (MSEL),
``DiscriminativeCenterLoss`` (DCL), ``IntraModalityTripletLoss``, and those of the baseline. Other
augmentation: ``data/transforms/jitter_or_blur.py`` and ``ChannelErasing``. Network:
``DualStreamViT`` without separate stages.
*Departs*, or reads what is left open. The formulas are those of the code: of the paper, only the
abstract was at hand, so that its equations are named here by their losses, without numbers.

- Identity and modality of a row come from its labels, in the code from its place: losses do not
  depend on the order of rows. On the code's batches the losses are the same numbers.
- An image equal to another one, or to its center, counts as any other; the code leaves distances
  below 10^-6 out of the means of DCL.
- Where the images of other identities are equally far from a center, all of them count; the code
  divides by zero there.
- Position embeddings are resized bicubically (bilinearly in the code). Layer norms add 10^-6, as
  timm's (10^-5 in the code). Dropout and drop-path, the optimizer, the rates of its three groups
  and the schedule are the code's.
- The last checkpoint is reported (in the code, the best on the test set).
- Images are resized once. The code resizes RegDB twice, through 288 x 144.
- Batches are drawn by the rules of ``CrossModalityIdentitySampler``. ``DATALOADER.IDENTITY_DRAW
  independent`` and ``EXTRA_BATCHES 1`` are the code's.
- float32. The code trains with float16: ``SOLVER.AMP.ENABLED True``.

*Config*: ``configs/pmt``; ``MODEL.PMT``, ``INPUT.GREY.EPOCHS``, ``MODEL.LOSSES.MODALITY_SHARED``,
``DISCRIMINATIVE_CENTER``, ``INTRA_TRIPLET``, ``SOLVER.SCHED``, ``SOLVER.HEADS_LR_LAYERS``.

B images, N identities.
"""

from typing import Any, Dict, List, Sequence, Tuple

from torch import Tensor

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import Key, declare, each, text
from ...modality import Modality
from ...registry import LOSS_REGISTRY, lookup
from ..losses import check_loss_names
from .base import DualStreamBaseline

declare(
    "MODEL.PMT",
    Key(
        "GRAY_LOSSES",
        ("LabelSmoothingCrossEntropyLoss", "IntraModalityTripletLoss"),
        each(text("the name of a loss")),
        "losses while visible images are gray, in the place of MODEL.LOSSES.NAME",
    ),
    features=False,
)

GRAY, COLOR = "gray", "color"


@META_ARCH_REGISTRY.register()
class PMT(DualStreamBaseline):
    """The baseline with other losses in the epochs in which visible images are gray.

    Phases: ``"gray"``: CE + triplets inside each modality; ``"color"``: CE + triplets over all
    images + DCL + MSEL (with the losses that ``configs/pmt`` names).

    Args:
        gray_losses: names of the losses of the phase ``"gray"``; not read if it does not occur.
        color_losses: names of those of the phase ``"color"``.
        gray_epochs: the first epoch of the phase ``"gray"``, and the first one after it; empty:
            it does not occur, and ``phases`` does not have it.
        baseline: arguments of ``DualStreamBaseline``; ``loss_terms`` has all of these losses.

    Raises:
        UserError: a phase has no loss, or names one twice or one that ``loss_terms`` lacks.
    """

    config_nodes = ("MODEL.PMT",)
    names_parts = ("MODEL.PMT.GRAY_LOSSES",)
    phases: Tuple[str, ...] = (GRAY, COLOR)

    @configurable
    def __init__(
        self,
        *,
        gray_losses: Sequence[str],
        color_losses: Sequence[str],
        gray_epochs: Sequence[int] = (0, 6),
        **baseline: Any,
    ) -> None:
        super().__init__(**baseline)
        self.names = {COLOR: tuple(color_losses)}
        if gray_epochs:
            self.names = {GRAY: tuple(gray_losses), **self.names}
        self.phases = tuple(self.names)
        for phase, names in self.names.items():
            missing = [name for name in names if name not in self.loss_terms]
            if missing or not names:
                raise UserError(
                    f"PMT's phase {phase!r} names the losses {list(names)}; expected some of "
                    f"{list(self.loss_terms)}."
                )
        self.gray_epochs = tuple(gray_epochs)
        self.phase = self.phase_of(0)
        only_once = set(self.names[self.phases[0]]) ^ set(self.names[COLOR])
        self.may_leave_parameters_unused = any(
            True for name in only_once for _ in self.loss_terms[name].parameters()
        )

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.PMT``, ``INPUT.GREY`` and those of the baseline.

        Raises:
            UserError: ``MODEL.PMT.GRAY_LOSSES`` names no loss, one twice or an unknown one; or
                visible images would be gray in every epoch.
        """
        gray, color = list(cfg.MODEL.PMT.GRAY_LOSSES), list(cfg.MODEL.LOSSES.NAME)
        check_gray_losses(gray)
        check_loss_names(color)
        epochs = gray_epochs(cfg)
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.LOSSES.NAME = tuple(dict.fromkeys([*color, *(gray if epochs else ())]))
        return {
            **super().from_config(cfg),
            "gray_losses": gray,
            "color_losses": color,
            "gray_epochs": epochs,
        }

    def phase_of(self, epoch: int) -> str:
        """Return ``"gray"`` in the epochs in which visible images are gray, else ``"color"``."""
        if not self.gray_epochs:
            return COLOR
        start, end = self.gray_epochs
        return GRAY if start <= epoch < end else COLOR

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute the weighted terms of the phase.

        - gray: CE of the visible rows + CE of the infrared rows + triplets inside each modality
        - color: the same CE + triplets over all rows + 0.5 DCL + 0.5 MSEL
        """
        if self.phase not in self.phases:
            raise UserError(f"phase is {self.phase!r}; expected one of {self.phases}.")
        return self.loss_terms({**outputs, **self.labels(batch)}, self.names[self.phase])


def check_gray_losses(names: List[str]) -> None:
    """Raise ``UserError`` if these are no names of losses, or one of them comes twice."""
    key = "MODEL.PMT.GRAY_LOSSES"
    for name in names:
        lookup(LOSS_REGISTRY, name, key)
    if not names or len(set(names)) < len(names):
        raise UserError(f"{key} is {names}; expected at least one loss, and each once.")


def gray_epochs(cfg: Any) -> Sequence[int]:
    """Return the first epoch with gray visible images, and the first one after them, or nothing.

    Raises:
        UserError: they are gray in every epoch, or not the visible ones.
    """
    node = cfg.INPUT.GREY
    if not node.ENABLED:
        return ()
    if not node.EPOCHS:
        raise UserError(
            "INPUT.GREY.ENABLED is True and INPUT.GREY.EPOCHS is empty: PMT would never leave its "
            "first stage. Set INPUT.GREY.EPOCHS to its epochs, such as [0,6], or "
            "INPUT.GREY.ENABLED False to leave the stage out."
        )
    if Modality.VISIBLE not in map(Modality.parse, node.MODALITIES):
        raise UserError(
            f"INPUT.GREY.MODALITIES is {list(node.MODALITIES)}: visible images would have their "
            "colors in PMT's first stage. Add 'visible', or set INPUT.GREY.ENABLED False."
        )
    return tuple(node.EPOCHS)
