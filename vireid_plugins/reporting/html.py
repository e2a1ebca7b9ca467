"""Write HTML from Python: text is escaped unless it is markup already."""

import html
import re
from typing import Any, Iterable

_VOID = ("br", "img", "wbr")
# Control characters have no place in HTML, and a lone surrogate (of a file name that is not UTF-8)
# cannot be encoded.
_UNSAYABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Markup(str):
    """A piece of HTML. Any other string is text."""


def text(value: Any) -> Markup:
    """Return ``value`` as markup: escaped unless it is markup; what HTML cannot hold becomes �."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_UNSAYABLE.sub("\ufffd", str(value))))


def join(parts: Iterable[Any], between: str = "") -> Markup:
    """Return all ``parts`` that are not None as one piece of markup."""
    return Markup(text(between).join(text(part) for part in parts if part is not None))


def breakable(value: Any, after: str) -> Markup:
    """Return ``value`` as markup in which a line may break behind the characters ``after``."""
    return Markup(re.sub(f"([{re.escape(after)}])", r"\1<wbr>", text(value)))


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """Return an element.

    Args:
        name: name of the element.
        children: text or markup; None is left out.
        attributes: ``class_`` is written as ``class`` and ``aria_label`` as ``aria-label``. True
            writes the name without a value; None and False leave the attribute out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{text(str(value))}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if name in _VOID else f"{opening}{join(children)}</{name}>")
