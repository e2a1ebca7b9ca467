"""Check the types of what a reader returned."""

import math
from typing import Any, Mapping, Tuple, Type, TypeVar, Union, overload

from ..errors import FileContentError

Value = TypeVar("Value")
Kind = Union[type, Tuple[type, ...]]

_NAMES = {
    dict: "a mapping of names to values",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "nothing (null)",
}
_SHOWN = 60  # characters of a wrong value that a message shows


@overload
def expect(value: Any, kind: Type[Value], where: str, remedy: str = "") -> Value: ...
@overload
def expect(value: Any, kind: Tuple[type, ...], where: str, remedy: str = "") -> Any: ...
def expect(value: Any, kind: Kind, where: str, remedy: str = "") -> Any:
    """Return ``value`` if it is of the right kind.

    ``float`` stands for any finite number, and such a value is returned as a ``float``. ``int``
    excludes true and false.

    Args:
        value: what a file holds at this place.
        kind: a type or several.
        where: the file and the place in it, such as ``"run.json: sessions"``.
        remedy: how to fix it, a sentence.

    Raises:
        FileContentError: the value is of another kind; the message names what was found.
    """
    for one in kind if isinstance(kind, tuple) else (kind,):
        if one is float:
            if is_number(value):
                return float(value)
        elif isinstance(value, one) and not (isinstance(value, bool) and one is int):
            return value
    wanted = " or ".join(_NAMES.get(one, one.__name__) for one in _as_tuple(kind))
    raise FileContentError(f"{where}: expected {wanted}, found {found(value)}. {remedy}".rstrip())


@overload
def field(mapping: Any, name: str, kind: Type[Value], where: str, remedy: str = "") -> Value: ...
@overload
def field(mapping: Any, name: str, kind: Tuple[type, ...], where: str, remedy: str = "") -> Any: ...
def field(mapping: Any, name: str, kind: Kind, where: str, remedy: str = "") -> Any:
    """Return the value of a name that a mapping must have.

    Args:
        mapping: what a file holds at this place.
        name: the name.
        kind: see ``expect``.
        where: the file and the place of the mapping in it.
        remedy: how to fix it, a sentence.

    Raises:
        FileContentError: ``mapping`` is not a mapping, lacks the name, or its value is wrong.
    """
    if name not in expect(mapping, dict, where, remedy):
        raise FileContentError(f"{where}: {name!r} is missing. {remedy}".rstrip())
    return expect(mapping[name], kind, f"{where}: {name}", remedy)


def optional_field(
    mapping: Any, name: str, kind: Kind, where: str, default: Any, remedy: str = ""
) -> Any:
    """Return the value of a name, or ``default`` where the mapping lacks the name.

    Raises:
        FileContentError: ``mapping`` is not a mapping, or the value is of another kind.
    """
    if name not in expect(mapping, dict, where, remedy):
        return default
    return expect(mapping[name], kind, f"{where}: {name}", remedy)


def is_number(value: Any) -> bool:
    """Return whether ``value`` is a finite number; true and false are not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of a float
        return False


def found(value: Any) -> str:
    """Return a description of a wrong value for messages: its kind, or its beginning."""
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if value is None:
        return "nothing (null)"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def _as_tuple(kind: Kind) -> Tuple[type, ...]:
    return kind if isinstance(kind, tuple) else (kind,)
