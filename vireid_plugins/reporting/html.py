"""HTML that is right by construction: text is escaped unless it is markup already."""

import html
import re
from typing import Any, Iterable

_VOID = ("br", "img", "wbr")
# HTML has no way to say these, and a lone surrogate (a file name that is no UTF-8) no encoding.
_UNSAYABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Markup(str):
    """A piece of HTML, as against text."""


def text(value: Any) -> Markup:
    """``value`` as markup: itself if it is, else escaped; what HTML cannot say becomes �."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_UNSAYABLE.sub("\ufffd", str(value))))


def join(parts: Iterable[Any], between: str = "") -> Markup:
    """All ``parts`` that are not None, one after the other."""
    return Markup(text(between).join(text(part) for part in parts if part is not None))


def breakable(value: Any, after: str) -> Markup:
    """``value`` as markup that may go on in the next line after the characters ``after``."""
    return Markup(re.sub(f"([{re.escape(after)}])", r"\1<wbr>", text(value)))


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """An element.

    Args:
        name: of the element.
        children: text or markup; None is left out.
        attributes: ``class_`` means ``class``, ``aria_label`` ``aria-label``; True: without a
            value; None or False: left out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{text(str(value))}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if name in _VOID else f"{opening}{join(children)}</{name}>")
