"""Check and log the loss terms of a step without holding up a GPU.

A GPU works through its queue while the program runs ahead. Reading a number of the current step
would make the program wait until the GPU has caught up, and then the GPU would wait for the
program. So on a GPU the terms of a step are read during the next step. On a CPU, where waiting
costs nothing, they are read at once.
"""

from typing import Any, Dict, List, Sequence, Tuple

import torch
import torch.distributed as dist
from torch import Tensor

from fastreid.utils import comm
from fastreid.utils.events import get_event_storage

from ..errors import NonFiniteError


class LossReport:
    """The loss terms of one batch, averaged over all processes, and what else is logged.

    Args:
        terms: scalar tensors by name.
        batch: what they were computed from.
        data_time: seconds that the step waited for the batch.
        iteration: the number of the step.
        stop: whether this process was asked to stop the training.
        counts_images: whether the batch's images count; False for a batch that is seen again.
    """

    def __init__(
        self,
        terms: Dict[str, Tensor],
        batch: Dict[str, Any],
        data_time: float,
        iteration: int,
        stop: bool = False,
        counts_images: bool = True,
    ) -> None:
        local = torch.stack([term.detach().float() for term in terms.values()])
        local = torch.cat([local, local.new_full((1,), float(stop))])
        mean = local.clone()
        if comm.get_world_size() > 1:
            dist.all_reduce(mean)
            mean /= comm.get_world_size()
        self.iteration = iteration
        self.data_time = data_time
        rows = batch["images"] if "images" in batch else batch["targets"]
        self.images = len(rows) * comm.get_world_size() if counts_images else 0
        self.is_last = False  # whether any process was asked to stop; known after ``read``
        self._names = list(terms)  # the numbers after the terms say who was asked to stop
        self._paths: List[str] = list(map(str, batch.get("img_paths", [])))
        self._values, self._arrived = _copy_to_memory(torch.stack([local, mean]))

    def read(self) -> Tuple[Dict[str, float], Dict[str, float]]:
        """Return the terms of this process, and their means over all processes."""
        if self._arrived is not None:
            self._arrived.synchronize()
        rows = self._values.tolist()
        self.is_last = rows[1][-1] > 0
        local, mean = (dict(zip(self._names, row)) for row in rows)
        return local, mean

    def check(self, weights_updated: bool) -> None:
        """Stop the training if a term is not finite.

        Args:
            weights_updated: whether the weights were already updated with this batch.

        Raises:
            NonFiniteError: a term is not finite; the message names it and the images.
        """
        local, mean = self.read()
        if not all(map(_is_finite, mean.values())):
            raise NonFiniteError(self._message(local, weights_updated))

    def _message(self, values: Dict[str, float], weights_updated: bool) -> str:
        bad = [name for name, value in values.items() if not _is_finite(value)]
        if not bad:
            where = f"at iteration {self.iteration} on another process"
            return f"A loss became infinite or NaN {where}."
        weights = (
            "The weights have been updated by it and are lost"
            if weights_updated
            else "The weights are those of the step before"
        )
        return (
            f"{' and '.join(bad)} became infinite or NaN at iteration {self.iteration} (all terms: "
            f"{values}). {weights}; nothing was saved. Lower SOLVER.BASE_LR, lengthen "
            "SOLVER.WARMUP_EPOCHS, set SOLVER.CLIP_GRADIENTS.ENABLED True, or look at the images "
            "of this batch:\n  " + "\n  ".join(self._paths)
        )


def log_losses(reports: Sequence[LossReport]) -> None:
    """Log one update: the terms averaged over its batches, the sums of times and of images.

    Where an update has several turns, each has terms of its own.
    """
    if not comm.is_main_process():
        return
    found: Dict[str, List[float]] = {}
    for report in reports:
        for name, value in report.read()[1].items():
            found.setdefault(name, []).append(value)
    values = {name: sum(means) / len(means) for name, means in found.items()}
    storage = get_event_storage()
    now, storage.iter = storage.iter, reports[0].iteration
    storage.put_scalar("data_time", sum(report.data_time for report in reports))
    storage.put_scalar("images_seen", sum(report.images for report in reports))
    storage.put_scalar("total_loss", sum(values.values()))
    if len(values) > 1:
        storage.put_scalars(**values)
    storage.iter = now


def _copy_to_memory(values: Tensor) -> Any:
    """Start to copy ``values`` from the device; return the copy, and an event at its end.

    For values on the CPU nothing is copied, and the event is None.
    """
    if not values.is_cuda:
        return values, None
    copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    copy.copy_(values, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return copy, arrived


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")
