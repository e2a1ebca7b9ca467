"""Say what a file is, and what to do with it, when it is not what a command expects."""

import shlex

from ..readers.text import shown
from .networks import Network, Shapes, recognize


def advice_about(shapes: Shapes, path: str) -> str:
    """Return sentences about a file whose tensors are recognized; empty for an unknown one.

    Args:
        shapes: the shape of each tensor by its name, without ``module.``.
        path: path of the file.
    """
    network = recognize(shapes)
    return "" if network is None else describe(network, path)


def describe(network: Network, path: str, subject: str = "It") -> str:
    """Return sentences that say what a file of ``network`` is and what to do with it."""
    whose = f", {network.source}" if network.source else ""
    what = f"{subject} is a checkpoint of {network.title}{whose}"
    file = shlex.quote(shown(path))
    if network.is_converted:
        return f"{what}; convert it with: vireid convert {file} --out model.pth"
    return f"{what}. {network.use.replace('FILE', file)}."
