"""What a method with several optimizers declares: which parameters, which losses, in which order.

A step of such a method, as of one with a discriminator, has several *turns*. In each turn the model
computes some of its losses, their gradients reach the parameters of some of its optimizers and no
others, and these optimizers step. The next turn sees the new weights.

A method declares both by two attributes, and nothing else steps an optimizer:

- ``optimizer_parts``: an :class:`OptimizerPart` for each optimizer;
- ``turns_at(iteration)``: the :class:`Turn` of each turn, in their order. It is a function of the
  iteration alone, so that a resumed run does the same.

In training, ``forward(batch, turn)`` returns the loss terms of a turn, and those of all turns if
there is none. ``solver/several.py`` builds the optimizers, and ``engine/turns.py`` runs the turns.
"""

from typing import Any, Mapping, NamedTuple, Tuple


class OptimizerPart(NamedTuple):
    """An optimizer and its parameters."""

    #: its name, in checkpoints and messages
    name: str
    #: beginnings of the names of its parameters; empty: all that no other part has
    begins: Tuple[str, ...] = ()
    #: keys of ``SOLVER`` that have other values for it, such as ``{"OPT": "Adam"}``
    solver: Mapping[str, Any] = {}
    #: further arguments of the optimizer's class, such as ``{"betas": (0.5, 0.999)}``
    options: Mapping[str, Any] = {}


class Turn(NamedTuple):
    """A part of a step: losses, and the optimizers that follow their gradients."""

    #: words that the method's ``forward`` understands
    losses: Tuple[str, ...]
    #: names of the optimizers that step
    optimizers: Tuple[str, ...]
