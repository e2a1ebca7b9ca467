"""Check the direction of a search, and suggest one for other common words."""

import re
from typing import Any, Optional

from ..errors import UserError
from ..keys import Rule
from ..modality import modality_meant
from .arguments import shown

DIRECTIONS = ("visible_to_infrared", "infrared_to_visible")
_QUERY_TO_GALLERY = re.compile(r"([a-z]+?)[\s_-]*(?:2|to|[-=]?>|→)[\s_-]*([a-z]+)")


def direction_meant(word: Any) -> Optional[str]:
    """Return the direction that a word such as "t2v" or "RGB to IR" means; None if unknown."""
    found = _QUERY_TO_GALLERY.fullmatch(word.strip().lower()) if isinstance(word, str) else None
    if found is None:
        return None
    query, gallery = map(modality_meant, found.groups())
    if query is None or gallery is None or query == gallery:
        return None
    return f"{query.label}_to_{gallery.label}"


def _hint(word: Any) -> str:
    meant = None if word in DIRECTIONS else direction_meant(word)
    return f"Say {meant!r}." if meant else ""


#: the words that name a direction in a config
DIRECTION = Rule(" or ".join(map(repr, DIRECTIONS)), DIRECTIONS.__contains__, _hint)


def check_direction(direction: Any) -> str:
    """Return ``direction`` if it is one of ``DIRECTIONS``.

    Raises:
        UserError: it is not; for a word such as "t2v" or "thermal_to_visible", the message names
            the direction that is meant.
    """
    if isinstance(direction, str) and direction in DIRECTIONS:
        return direction
    hint = f"Valid: {' and '.join(DIRECTIONS)}."
    if direction_meant(direction):
        hint = f"{_hint(direction)} {hint}"
    elif isinstance(direction, bool):
        hint = "A boolean does not say which modality searches. " + hint
    raise UserError(f"Unknown search direction {shown(direction)} (query_to_gallery). {hint}")
