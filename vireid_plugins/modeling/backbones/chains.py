"""Find the modules of a network that run one after the other, by watching one forward pass.

A module is a *chain* of its children if it does nothing but pass its input through them, each one
once. Then the children can run in its place, one at a time. Anything else that a module computes,
such as an addition, makes another tensor or changes one in place, and the watched pass shows both.
"""

import functools
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

#: the name of a module in the network, and the module
Part = Tuple[str, nn.Module]


class _Moment(NamedTuple):
    """A tensor at one moment; a change in place raises the tensor's version."""

    tensor: Tensor
    version: int

    @classmethod
    def of(cls, tensor: Any) -> "Optional[_Moment]":
        return cls(tensor, tensor._version) if isinstance(tensor, Tensor) else None

    def equals(self, other: "Optional[_Moment]") -> bool:
        return other is not None and self.tensor is other.tensor and self.version == other.version


class _Call(NamedTuple):
    given: Optional[_Moment]  # None: not exactly one tensor
    returned: Optional[_Moment]  # None: not a tensor


class Watched:
    """What the modules of a network were given, and what they returned, in one forward pass.

    Args:
        network: the network, in evaluation mode.
        run: its forward pass, or the first part of it.
        inputs: what ``run`` is called with.
    """

    def __init__(self, network: nn.Module, run: Callable[[Tensor], Any], inputs: Tensor) -> None:
        self._names = {module: name for name, module in network.named_modules()}
        self._calls: Dict[nn.Module, List[_Call]] = {}
        inside = [module for module in network.modules() if module is not network]
        kept = {module: module.__dict__.get("forward") for module in inside}
        try:
            for module in inside:
                module.__dict__["forward"] = self._recording(module, module.forward)
            with torch.no_grad():
                given = _Moment.of(inputs)
                self._calls[network] = [_Call(given, _Moment.of(run(inputs)))]
        finally:
            for module, forward in kept.items():
                module.__dict__.pop("forward", None)
                if forward is not None:
                    module.__dict__["forward"] = forward

    def _recording(self, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            given = _Moment.of(args[0]) if len(args) == 1 and not kwargs else None
            returned = forward(*args, **kwargs)
            self._calls.setdefault(module, []).append(_Call(given, _Moment.of(returned)))
            return returned

        return recorded

    def output(self, module: nn.Module) -> Optional[Tensor]:
        """Return the tensor that ``module`` returned; None if there was none, or several."""
        call = self._only_call(module)
        return None if call is None or call.returned is None else call.returned.tensor

    def parts(self, module: nn.Module) -> List[Part]:
        """Return the children of which ``module`` is a chain, in order; none if it is no chain."""
        call = self._only_call(module)
        now = None if call is None else call.given
        waiting = {child: self._only_call(child) for child in module.children()}
        parts: List[Part] = []
        while now is not None:
            # self._calls is in the order in which the calls ended, which is that of siblings
            child = next((c for c in self._calls if c in waiting and _takes(waiting[c], now)), None)
            if child is None:
                break
            done = waiting.pop(child)
            assert done is not None  # it takes a tensor
            parts.append((self._names[child], child))
            now = done.returned
        whole = call is not None and now is not None and now.equals(call.returned)
        return parts if whole else []

    def _only_call(self, module: nn.Module) -> Optional[_Call]:
        calls = self._calls.get(module, [])
        return calls[0] if len(calls) == 1 else None


def _takes(call: Optional[_Call], moment: _Moment) -> bool:
    return call is not None and moment.equals(call.given)
