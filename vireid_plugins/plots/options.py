"""Declare the options of a picture once, as the fields of a dataclass.

    @dataclass(frozen=True)
    class Options:
        identities: int = option(10, "identities drawn")
        method: str = option("tsne", "method of the map", choices=("tsne", "umap"))

From this declaration Python takes keyword arguments (``identities=5``), and ``vireid plot`` takes
words (``--identities 5``).
"""

import dataclasses
import operator
import os
import typing
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple, Type

from ..errors import PlotError
from ..registry import suggest

Check = Callable[[Any], Any]


@dataclass(frozen=True)
class Option:
    """One option of a picture."""

    name: str  # name of the keyword argument
    type: Type[Any]  # of one value: int, float or str
    default: Any
    help: str
    choices: Tuple[Any, ...] = ()  # empty: any value
    several: bool = False  # the value is a tuple of ``type``
    repeated: bool = False  # several are given as `--name A --name B`, not as `--name A B`
    metavar: str = ""  # what the help calls the value

    @property
    def word(self) -> str:
        """Return the word of the command line: ``--images-per-identity``."""
        return "--" + self.name.replace("_", "-")


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[Any] = (),
    repeated: bool = False,
    metavar: str = "",
) -> Any:
    """Declare one field of a kind's ``Options``; its annotation gives the type.

    Args:
        default: the value if none is given; it has the annotated type.
        help: what the option means, for ``vireid plot KIND --help``.
        choices: all valid values besides ``default``; empty: any.
        repeated: several values are given by repeating the word.
        metavar: what the help calls the value.
    """
    facts = {"help": help, "choices": tuple(choices), "repeated": repeated, "metavar": metavar}
    return dataclasses.field(default=default, metadata=facts)


def options_of(declared: Type[Any]) -> List[Option]:
    """Return what a dataclass of options declares, in its order.

    Raises:
        TypeError: a field is not declared by ``option``, or is of another type than int, float,
            str, or a tuple of one of them.
    """
    hints = typing.get_type_hints(declared)
    found = []
    for field in dataclasses.fields(declared):
        kind, several = hints[field.name], False
        if typing.get_origin(kind) is tuple:
            kind, several = typing.get_args(kind)[0], True
        if kind not in _READERS or "help" not in field.metadata:
            raise TypeError(
                f"{declared.__qualname__}.{field.name} is not an option. Write `{field.name}: "
                "TYPE = option(DEFAULT, HELP)`, where TYPE is int, float, str or "
                "Tuple[one of them, ...]."
            )
        found.append(Option(field.name, kind, field.default, several=several, **field.metadata))
    return found


def make_options(kind: str, declared: Type[Any], given: Mapping[str, Any]) -> Any:
    """Return the options of a kind of picture: the given values, and defaults for the rest.

    Args:
        kind: name of the kind, for messages.
        declared: the dataclass of its options.
        given: values by name of the option.

    Raises:
        PlotError: a name is unknown, or a value is of the wrong type or not among the choices.
    """
    known = {one.name: one for one in options_of(declared)}
    for name in given:
        if name not in known:
            raise PlotError(f"{kind} has no option {name!r}. {suggest(name, known)}")
    return declared(**{name: _checked(known[name], value) for name, value in given.items()})


def _checked(own: Option, value: Any) -> Any:
    """Return ``value`` converted to the option's type; several values become a tuple."""
    if not own.several:
        return _checked_one(own, value)
    if isinstance(value, (str, os.PathLike)) or not isinstance(value, typing.Iterable):
        raise PlotError(f"{own.word} is {value!r}; expected a list: [{value!r}].")
    return tuple(_checked_one(own, one) for one in value)


def _checked_one(own: Option, value: Any) -> Any:
    read, expected = _READERS[own.type]
    try:
        value = read(value)
    except (TypeError, ValueError) as error:
        raise PlotError(f"{own.word} is {value!r}; expected {expected}.") from error
    if own.choices and value not in (*own.choices, own.default):
        raise PlotError(f"{own.word} is {value!r}. {suggest(str(value), map(str, own.choices))}")
    return value


def _read_whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _read_number(value: Any) -> float:
    if isinstance(value, (bool, str)):
        raise TypeError
    return float(value)


# type -> function that reads a Python value as this type, and the name of the type in messages
_READERS: Dict[Any, Tuple[Check, str]] = {
    int: (_read_whole, "a whole number"),
    float: (_read_number, "a number"),
    str: (os.fspath, "a string"),
}
