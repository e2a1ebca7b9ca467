"""Count the multiply-adds of what PyTorch computes: products, convolutions and their gradients."""

from typing import Any, Callable, Dict, Mapping, Optional

from torch.utils._python_dispatch import TorchDispatchMode

try:
    from torch.utils.flop_counter import flop_registry
except ImportError:  # PyTorch < 2.2
    flop_registry = {}


class MultiplyAdds(TorchDispatchMode):
    """Inside ``with``, add up the multiply-adds in ``total``; the tensors are not kept.

    Where PyTorch has no formulas (before 2.2), ``total`` stays 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Optional[Mapping[str, Any]] = None
    ) -> Any:
        keywords = dict(kwargs or {})
        out = func(*args, **keywords)
        formula = flop_registry.get(func.overloadpacket)
        if formula:
            self.total += formula(*args, **keywords, out_val=out) / 2  # of two operations each
        return out


def counted(run: Callable[[], Any]) -> float:
    """Return the multiply-adds of ``run()``; 0 if PyTorch cannot tell."""
    with MultiplyAdds() as mode:
        run()
    return mode.total


def work_of(resource: str, multiply_adds: float) -> Dict[str, float]:
    """Return counted multiply-adds as the work of a measure; empty if they are not known."""
    return {resource: multiply_adds} if multiply_adds else {}
