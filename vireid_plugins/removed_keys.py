"""Config keys that no longer exist, so that older configs, checkpoints and indexes can be read.

A key that is removed gets an entry here. Its value is what the code does today, which was the
default of the key: a config that has this value is read as if it did not name the key.
"""

import logging
from typing import Any, Dict, NamedTuple

from .errors import UserError
from .keys import value_of

logger = logging.getLogger(__name__)

_ABSENT = object()


class Removed(NamedTuple):
    """What became of a key. A removed key must not have changed the features of a model."""

    value: Any
    today: str  # a sentence: what the code does without the key


REMOVED: Dict[str, Removed] = {
    "MODEL.MSCLNET.HIDDEN": Removed(
        0, "The state of the Mogrifier LSTM is as wide as the backbone's map."
    ),
    "MODEL.MSCLNET.PAIRS": Removed(
        "all", "Every visible image is paired with every infrared image of its identity."
    ),
}


def check_removed(key: str, value: Any, source: str) -> None:
    """Raise ``UserError`` if a removed key asks for something that the code no longer does."""
    gone = REMOVED[key]
    if value not in (gone.value, str(gone.value)):
        raise UserError(
            f"{source}: the key {key} was removed; its value {value!r} is no longer possible. "
            f"{gone.today} Delete the key, or use the version that has it."
        )


def without_removed(values: Dict[str, Any], source: str, only_read: bool = False) -> Dict[str, Any]:
    """Return nested values of a config without the removed keys.

    Args:
        values: as read from YAML.
        source: where the values come from, for messages.
        only_read: the config belongs to a finished training: other values of removed keys give
            a warning, because the features do not depend on them.

    Raises:
        UserError: a removed key has another value than the one that is left, unless ``only_read``.
    """
    for key in REMOVED:
        value = value_of(values, key, absent=_ABSENT)
        if value is _ABSENT:
            continue
        if not only_read:
            check_removed(key, value, source)
        elif value != REMOVED[key].value:
            logger.warning(
                "%s: %s was %r in training. This key was removed; features do not depend on it.",
                source,
                key,
                value,
            )
        values = _without(values, key)
    return values


def _without(values: Dict[str, Any], key: str) -> Dict[str, Any]:
    """Return a copy of nested values without one key."""
    name, _, rest = key.partition(".")
    if not rest:
        return {other: value for other, value in values.items() if other != name}
    return {**values, name: _without(values[name], rest)}
