"""Take training steps in two ways that are compared: by the usual loop, and by this package.

The usual loop is written here from its definition: each image is opened with PIL when it is
needed and passes torchvision's transforms in the process that trains.
"""

import time
from typing import Any, Dict, Iterator, Tuple

from fastreid.utils.events import EventStorage

from ..data.dataset import ItemRequest, collate
from ..data.seeding import seeded
from ..engine import VIReIDTrainer
from ..engine.step import to_device
from ..readers.image import load_image

from torchvision import transforms as T  # isort: skip  # after FastReID, which is repaired first


class UsualLoop:
    """The baseline of every ratio: PIL and torchvision per image, and a float32 step."""

    def __init__(self, trainer: VIReIDTrainer, size: Tuple[int, int]) -> None:
        stepper = trainer._trainer
        self.model = stepper.model
        self.optimizer, self.device = stepper.optimizer, stepper.device
        self.loader = stepper.data_loader
        own = [self.model.get_buffer(name) for name in ("pixel_mean", "pixel_std")]
        mean, std = (buffer.flatten().cpu() / 255 for buffer in own)
        self.transform = T.Compose(
            [
                T.Resize(size, T.InterpolationMode.BICUBIC),
                T.Pad(10),
                T.RandomCrop(size),
                T.RandomHorizontalFlip(),
                T.ToTensor(),
                T.Normalize(mean.tolist(), std.tolist()),
            ]
        )
        own[0].zero_()  # the transform normalizes
        own[1].fill_(1.0)
        self.batches: Iterator[Any] = iter(())

    def start_epoch(self, epoch: int) -> None:
        """Begin a pass over the data, in the order and with the random draws of the loader."""
        self.loader.batch_sampler.set_epoch(epoch)
        self.batches = iter(self.loader.batch_sampler)

    def step(self) -> Tuple[float, float]:
        """Take a step; return the loss and the seconds spent on the batch."""
        begin = time.perf_counter()
        requests = next(self.batches)
        batch = collate([self._sample(request) for request in requests])
        seconds = time.perf_counter() - begin
        loss = sum(self.model(to_device(batch, self.device)).values())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item(), seconds

    def _sample(self, request: ItemRequest) -> Dict[str, Any]:
        dataset, index = self.loader.dataset, request.position
        path, pid, camid, modality = dataset.items[index]
        with seeded(request.seed):
            pixels = self.transform(load_image(path).convert("RGB"))
        labels = {"targets": dataset.class_ids.index(pid), "camids": camid, "index": index}
        return {"images": pixels, "modalities": modality, **labels}


class OwnLoop:
    """The step of this package, as its trainer takes it."""

    def __init__(self, trainer: VIReIDTrainer) -> None:
        self.stepper = trainer._trainer
        dataset = self.stepper.data_loader.dataset
        for index in range(len(dataset)):  # fills the cache, as the first epoch does
            dataset[index]

    def start_epoch(self, epoch: int) -> None:
        """Begin a pass over the data."""
        self.stepper.start_epoch(epoch)

    def step(self) -> Tuple[float, float]:
        """Take a step; return the loss and the seconds spent waiting for the batch."""
        with EventStorage() as storage:
            self.stepper.run_step()
            self.stepper.finish()
            history = storage.histories()
            return history["total_loss"].latest(), history["data_time"].latest()
