"""Pictures that a method draws of its own work, in TensorBoard while it trains."""

import logging
from typing import Any, Dict

import torch

from fastreid.engine.hooks import HookBase

from ..data import build_test_loader, build_transforms
from ..data.item import test_items
from ..data.reading import ImageReader
from ..drawing.photos import batch_of, choose_pairs
from ..evaluation import evaluation_mode
from ..keys import Key, at_least, declare
from .parallel import unwrap

logger = logging.getLogger(__name__)

PERSONS = 3  # one visible and one infrared image of each
_SEED = 0  # of their choice

declare(
    "SOLVER",
    Key(
        "PICTURE_PERIOD",
        500,
        at_least(0),
        "iterations between two pictures of a method that generates images; 0: none",
    ),
)


class MethodPictures(HookBase):
    """Let the model draw some test images every ``period`` iterations.

    A model that draws has ``pictures(batch)``, which returns arrays (3, H, W) uint8 by name. It is
    called in evaluation mode, so nothing is drawn at random and no weight changes.

    Args:
        cfg: the config, which names the test set.
        period: iterations between two pictures; 0: none.
    """

    def __init__(self, cfg: Any, period: int) -> None:
        self._cfg, self._period = cfg, period
        self._batch: Dict[str, Any] = {}

    def after_step(self) -> None:
        model: Any = unwrap(self.trainer.model)
        due = self._period > 0 and (self.trainer.iter + 1) % self._period == 0
        if not due or not hasattr(model, "pictures"):
            return
        self._batch = self._batch or pictured(self._cfg)
        with evaluation_mode(model), torch.no_grad():
            for name, picture in model.pictures(self._batch).items():
                self.trainer.storage.put_image(name, picture)


def pictured(cfg: Any) -> Dict[str, Any]:
    """Return a batch of test images: those that all pictures of a run show."""
    _, dataset = build_test_loader(cfg, cfg.DATASETS.TESTS[0])
    photos = choose_pairs(test_items(dataset), PERSONS, _SEED)
    photos = sorted(photos, key=lambda photo: photo.modality)  # visible ones first
    batch = batch_of(photos, build_transforms(cfg, False), ImageReader.from_config(cfg))
    numbers = {photo.target: number for number, photo in enumerate(photos)}
    batch["targets"] = torch.tensor([numbers[photo.target] for photo in photos])
    return batch
