"""The chains of transforms, one for each modality and each view that is made of an image.

Training applies, in this order: TrivialAugment, Resize, PadCrop, RandomFlip, ColorJitter,
JitterOrBlur, RandomGray, ToTensor, RandomErasing, ChannelErasing, ChannelExchange,
ChannelAdaptiveGray. Testing applies Resize and ToTensor. Each augmentation has a node in ``INPUT``
with ``ENABLED``, ``MODALITIES``, ``VIEWS`` and ``EPOCHS``. ``INPUT.NUM_VIEWS`` says how many rows
of the batch a training image becomes: each view passes its own chain, with its own random draws.
"""

from typing import Dict, List, Tuple

import torch
from PIL import Image
from torch import Tensor

from vireid_plugins.errors import UserError
from vireid_plugins.keypoints import Motion, Size, moved
from vireid_plugins.keys import Key, between, check_values, declare
from vireid_plugins.modality import Modality
from vireid_plugins.registry import TRANSFORM_REGISTRY, lookup

from fastreid.config import CfgNode

from . import channels, jitter_or_blur, plain  # noqa: F401  they register their transforms
from .base import Picture, Transform
from .geometric import Resize

TRAIN_ORDER = (
    "TrivialAugment",
    "Resize",
    "PadCrop",
    "RandomFlip",
    "ColorJitter",
    "JitterOrBlur",
    "RandomGray",
    "ToTensor",
    "RandomErasing",
    "ChannelErasing",
    "ChannelExchange",
    "ChannelAdaptiveGray",
)
TEST_ORDER = ("Resize", "ToTensor")

#: augmentations of FastReID that these chains do not have, and what to use instead
REFUSED = {
    "AUTOAUG": "use INPUT.TRIVIAL_AUGMENT",
    "AUGMIX": "use INPUT.TRIVIAL_AUGMENT",
    "AFFINE": "use INPUT.PADDING, or INPUT.TRIVIAL_AUGMENT, which shears and rotates",
    "RPT": "use INPUT.REA",
    "CROP": "use INPUT.PADDING, which crops the size back out of a padded image",
}

declare(
    "INPUT.NUM_VIEWS",
    Key("VISIBLE", 1, between(1, 16), "rows of the batch that a visible training image becomes"),
    Key("INFRARED", 1, between(1, 16), "rows of the batch that an infrared training image becomes"),
    features=False,
)

Views = Dict[Modality, List[List[Transform]]]


class ModalityTransforms:
    """The chains of each modality, one for each of its views.

    Args:
        chains: for each modality its views, at least one; a view is a list of transforms in order.
    """

    def __init__(self, chains: Views) -> None:
        self.chains = chains
        self._timed = any(s.epochs for views in chains.values() for c in views for s in c)
        self._stacked = max(map(len, chains.values())) > 1
        firsts = {modality: [chain[:1] for chain in views] for modality, views in chains.items()}
        self._common = {
            modality: heads[0][0]
            for modality, heads in firsts.items()
            if all(head and head[0] is heads[0][0] for head in heads)
            and isinstance(heads[0][0], Resize)
        }

    def __call__(self, image: Image.Image, modality: Modality) -> Tensor:
        """Return the views (V, 3, H, W) of a PIL image of mode RGB, float32 in 0..255.

        If no modality has a second view, return the only view: (3, H, W).
        """
        modality = Modality(modality)
        return self.end(self.begin(image, modality), modality)

    def begin(self, image: Image.Image, modality: Modality) -> Image.Image:
        """Apply what all views of ``modality`` have in common and what is not random: ``Resize``.

        ``end`` applies the rest; a call does both.
        """
        return self._common[modality](image) if modality in self._common else image

    def end(self, image: Image.Image, modality: Modality) -> Tensor:
        """Apply the remaining transforms to the result of ``begin``; return what a call returns."""
        start = 1 if modality in self._common else 0
        views = [_applied(chain[start:], image) for chain in self.chains[modality]]
        return torch.stack(views) if self._stacked else views[0]

    def end_with_points(
        self, image: Image.Image, modality: Modality, points: Tensor, size: Size
    ) -> Tuple[Tensor, Tensor]:
        """Return what ``end`` returns, and the key points that belong to it.

        The random draws and the pixels are those of ``end``.

        Args:
            image: the result of ``begin``.
            points: key points (17, 3) of the image that ``begin`` was given, in its pixels.
            size: height and width of that image.

        Returns:
            The views (V, 3, H, W) and their key points (V, 17, 3), in pixels of the views; without
            the first dimension if no modality has a second view.
        """
        start = 1 if modality in self._common else 0
        if start:
            points = moved(points, Motion.scale(size, self._common[modality].size))
        views, places = [], []
        for chain in self.chains[modality]:
            picture: Picture = image
            own = points
            for step in chain[start:]:
                picture, own = step.with_points(picture, own)
            views.append(picture)
            places.append(own)
        return (torch.stack(views), torch.stack(places)) if self._stacked else (views[0], places[0])

    def at_epoch(self, epoch: int) -> "ModalityTransforms":
        """Return the chains of the steps that are taken in ``epoch``, from 0."""
        if not self._timed:
            return self
        return ModalityTransforms(
            {
                modality: [[step for step in chain if step.is_taken(epoch)] for chain in views]
                for modality, views in self.chains.items()
            }
        )

    def common(self, modality: Modality) -> str:
        """Return in words what ``begin`` does; the words differ whenever the result differs."""
        return repr(self._common[modality]) if modality in self._common else "decoded"

    def describe(self) -> str:
        """Return a line for each modality and view, for the log."""
        lines = []
        for modality in Modality:
            views = self.chains[modality]
            for view, chain in enumerate(views):
                name = modality.label + (f", view {view}" if len(views) > 1 else "")
                lines.append(f"{name}: " + " -> ".join(map(repr, chain)))
        return "\n".join(lines)


def build_transforms(cfg: CfgNode, is_train: bool) -> ModalityTransforms:
    """Return the chains that ``cfg.INPUT`` asks for; a test image has one view.

    Raises:
        UserError: an augmentation of FastReID that these chains do not know is enabled, or a
            value is out of range; the message names the key.
    """
    for node, instead in REFUSED.items():
        if cfg.INPUT[node].ENABLED:
            raise UserError(
                f"INPUT.{node}.ENABLED is not supported by this package's data loader: {instead} "
                f"and set INPUT.{node}.ENABLED False."
            )
    counts = _num_views(cfg) if is_train else {modality: 1 for modality in Modality}
    chains: Views = {modality: [[] for _ in range(counts[modality])] for modality in Modality}
    for name in TRAIN_ORDER if is_train else TEST_ORDER:
        transform = lookup(TRANSFORM_REGISTRY, name, "TRAIN_ORDER")
        chosen = _choose(cfg, transform.node, counts)
        if chosen:
            step = transform.from_config(cfg, is_train)
            for modality, view in chosen:
                own = step.for_modality(modality)
                own.epochs = _epochs(cfg, transform.node)
                chains[modality][view].append(own)
    return ModalityTransforms(chains)


def _applied(chain: List[Transform], image: Image.Image) -> Tensor:
    picture: Picture = image
    for step in chain:
        picture = step(picture)
    return picture


def _num_views(cfg: CfgNode) -> Dict[Modality, int]:
    counts = {modality: cfg.INPUT.NUM_VIEWS[modality.name] for modality in Modality}
    check_values("INPUT.NUM_VIEWS", **{m.name: count for m, count in counts.items()})
    return counts


def _choose(cfg: CfgNode, node: str, counts: Dict[Modality, int]) -> List[Tuple[Modality, int]]:
    """Return the (modality, view) pairs that the augmentation of ``INPUT.<node>`` applies to."""
    everything = [(modality, view) for modality in Modality for view in range(counts[modality])]
    if not node:
        return everything
    if not cfg.INPUT[node].ENABLED:
        return []
    modalities = _modalities(cfg, node)
    views = tuple(cfg.INPUT[node].VIEWS)
    most = max(counts[modality] for modality in modalities)
    strange = [view for view in views if not 0 <= view < most]
    if strange:
        raise UserError(
            f"INPUT.{node}.VIEWS is {list(views)}; its modalities have views 0 to {most - 1} "
            "(INPUT.NUM_VIEWS). Empty: all."
        )
    return [(m, view) for m, view in everything if m in modalities and (view in views or not views)]


def _epochs(cfg: CfgNode, node: str) -> Tuple[int, ...]:
    """Return ``INPUT.<node>.EPOCHS``; a step without a node has none."""
    if not node:
        return ()
    epochs = tuple(cfg.INPUT[node].EPOCHS)
    check_values(f"INPUT.{node}", EPOCHS=epochs)
    return epochs


def _modalities(cfg: CfgNode, node: str) -> List[Modality]:
    key = f"INPUT.{node}.MODALITIES"
    try:
        found = [Modality.parse(word) for word in cfg.INPUT[node].MODALITIES]
    except ValueError as error:
        raise UserError(f"{key}: {error}") from None
    if not found:
        raise UserError(
            f"{key} is empty although INPUT.{node}.ENABLED is True; name 'visible', 'infrared' or "
            "both, or set ENABLED False."
        )
    return sorted(set(found))
