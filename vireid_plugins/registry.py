"""The registries that FastReID lacks, and how to look up a name in any registry."""

import difflib
from typing import Any, Iterable, List

from fastreid.utils.registry import Registry

from .errors import UnknownNameError

LOSS_REGISTRY = Registry("LOSS")
LOSS_REGISTRY.__doc__ = "Losses: ``cls.from_config(cfg)`` builds one; see ``modeling/losses``."

NETWORK_REGISTRY = Registry("NETWORK")
NETWORK_REGISTRY.__doc__ = "Networks cut into stages; see ``modeling/backbones/stages``."

SAMPLER_REGISTRY = Registry("SAMPLER")
SAMPLER_REGISTRY.__doc__ = "Training samplers, named by ``DATALOADER.SAMPLER_TRAIN``."

TRANSFORM_REGISTRY = Registry("TRANSFORM")
TRANSFORM_REGISTRY.__doc__ = "Image transforms; see ``data/transforms``."

PROTOCOL_REGISTRY = Registry("PROTOCOL")
PROTOCOL_REGISTRY.__doc__ = "Evaluation protocols; see ``evaluation/protocols``."


def registered_names(registry: Registry) -> List[str]:
    """Return the names in ``registry``, sorted."""
    return sorted(registry._obj_map)


def suggest(name: str, valid: Iterable[str]) -> str:
    """Return a sentence with the valid names that resemble ``name``, or with all of them."""
    valid = sorted(valid)
    by_lower = {word.lower(): word for word in valid}  # "sgd" is near "SGD"
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(repr(by_lower[word]) for word in close) + "?"
    return f"Valid: {', '.join(valid) or '(none)'}."


def lookup(registry: Registry, name: str, key: str) -> Any:
    """Return the object that is registered as ``name``.

    Args:
        registry: any FastReID registry.
        name: what the user asked for.
        key: the config key that named it, for the message.

    Raises:
        UnknownNameError: the name is unknown; the message has ``key`` and the nearest valid names.
    """
    names = registered_names(registry)
    if name not in names:
        raise UnknownNameError(
            f"{key} names {name!r}, which is not in the {registry._name} registry. "
            + suggest(name, names)
        )
    return registry.get(name)
