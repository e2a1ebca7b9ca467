"""Look at the intermediate maps of a model without changing its ``forward``.

A model marks the tensors that are worth seeing with a :class:`Tap`; ``recorded_maps`` collects
them:

    with torch.no_grad(), recorded_maps(model.eval(), ["layer1", "attention"]) as maps:
        model(batch)
    maps["attention"]   # (B, H, W)

``map_names(model)`` lists them. Outside ``no_grad`` the maps keep their graph, as gradient-based
pictures (Grad-CAM) need.
"""

from contextlib import contextmanager
from functools import partial
from typing import Any, Dict, Iterable, Iterator, Union

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import UnknownNameError
from ..registry import suggest

CLASS_SCORES, FEATURE_MAP = "class_scores", "feature_map"


class Tap(nn.Module):
    """A named place in a model, which returns its tensor unchanged and can record it.

    Args:
        name: the name of the recorded tensor; a model has one place of each name.
        meaning: what the tensor is, with its shape and range.
    """

    def __init__(self, name: str, meaning: str) -> None:
        super().__init__()
        self.name = name
        self.meaning = meaning

    @property
    def wanted(self) -> bool:
        """Return whether the map is being recorded, so that it must be computed in any case."""
        return bool(self._forward_hooks)

    def forward(self, tensor: Tensor) -> Tensor:
        return tensor

    def extra_repr(self) -> str:
        return self.name


def class_scores_tap() -> Tap:
    """Return the tap that records, at test, a head's scores of the training identities."""
    return Tap(CLASS_SCORES, "scores of the training identities at test, (B, N)")


def map_names(model: nn.Module) -> Dict[str, str]:
    """Return the maps that ``model`` can show: name to meaning, in the order of its modules."""
    return {name: tap.meaning for name, tap in _taps(model).items()}


@contextmanager
def recorded_maps(
    model: nn.Module, names: Union[str, Iterable[str], None] = None
) -> Iterator[Dict[str, Tensor]]:
    """Record intermediate maps of every forward pass inside the ``with`` block.

    Args:
        model: any model of this package, also inside a DDP wrapper.
        names: one of ``map_names(model)``, or several; None: all.

    Yields:
        A dict, name to tensor, that each forward pass fills. Rows are in the order of the pass,
        which at test is the order of the batch; in training a method may have added views after
        them. They come in the order in which they are computed. If a pass computes a map several
        times, the last one is kept; a map that it does not compute is absent.

    Raises:
        UnknownNameError: the model has no such map; the message has the nearest names.
    """
    taps = _taps(model)
    wanted = [names] if isinstance(names, str) else list(taps if names is None else names)
    for name in wanted:
        if name not in taps:
            raise UnknownNameError(
                f"{type(model).__name__} has no intermediate map {name!r}. {suggest(name, taps)}"
            )
    maps: Dict[str, Tensor] = {}
    handles = [taps[n].register_forward_hook(partial(_keep, maps, n)) for n in wanted]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def _taps(model: nn.Module) -> Dict[str, Tap]:
    found: Dict[str, Tap] = {}
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    # A model that has several networks names the one that is evaluated.
    tested: nn.Module = getattr(inner, "evaluated_network", inner)
    for module in tested.modules():
        if isinstance(module, Tap):
            if module.name in found:
                raise ValueError(f"{type(model).__name__} has two maps named {module.name!r}.")
            found[module.name] = module
    return found


def _keep(maps: Dict[str, Tensor], name: str, tap: Tap, inputs: Any, output: Tensor) -> None:
    maps.pop(name, None)  # a map that is computed again comes last
    maps[name] = output
