"""Config keys, declared beside the code that reads them: one key, one line.

    declare(
        "MODEL.MAUM",
        Key("ALPHA", 20.0, above(0), "scale of the unidirectional metrics (alpha)"),
        Key("REDUCTION", "sum", one_of("sum", "mean"), "over the snapshots of a memory"),
    )

A line has the key's name, its default, the values that it may have, and its meaning with unit and
symbol. ``config.add_vireid_config`` adds all keys declared so far, so a user's own method file must
be imported, which declares its keys, before the config is made. ``host_keys.py`` and
``host_model_keys.py`` declare the values and meanings of FastReID's keys.

:func:`check_ranges` checks a config against all declarations, before anything is built.
"""

import math
import numbers
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional

from .errors import UserError


class Rule(NamedTuple):
    """The values that a key may have."""

    words: str  # for messages and lists of keys, such as "above 0"
    allows: Callable[[Any], bool]
    #: returns a sentence about a value that is not allowed, or nothing
    hint: Callable[[Any], str] = lambda value: ""

    def __or__(self, other: "Rule") -> "Rule":
        return Rule(
            f"{self.words}, or {other.words}",
            lambda value: self.allows(value) or other.allows(value),
        )


class Key(NamedTuple):
    """A config key: its name within a node, its default, its values and its meaning."""

    name: str
    default: Any
    rule: Rule
    meaning: str
    #: whether another value changes the features of a trained model; see ``other_values.py``
    features: bool = True


#: stands for the default that FastReID itself gives to one of its keys
HOST_DEFAULT = object()
_ABSENT = object()  # stands for the value of a key that a config does not have

_declared: Dict[str, Key] = {}  # by full name, such as "MODEL.MAUM.ALPHA"


def host_key(name: str, rule: Rule, meaning: str, features: bool = True) -> Key:
    """Return a key that FastReID's config has already, with FastReID's default."""
    return Key(name, HOST_DEFAULT, rule, meaning, features)


def declare(node: str, *keys: Key, features: bool = True) -> None:
    """Declare the keys of a node, such as ``"MODEL.MAUM"``; ``""`` is the top of the config.

    A key whose default is a whole number, or a list of them, takes whole numbers only.

    Args:
        features: False: no key of the call changes the features of a trained model.

    Raises:
        ValueError: a key is already declared differently, or its default breaks its own rule.
    """
    for key in keys:
        key = key._replace(
            name=f"{node}.{key.name}" if node else key.name,
            rule=whole(key.rule) if _is_whole(key.default) else key.rule,
            features=key.features and features,
        )
        known = _declared.get(key.name)
        # Rules hold functions, which differ from one call to the next, so their words are compared.
        if known is not None and _without_function(known) != _without_function(key):
            raise ValueError(f"The config key {key.name} is declared twice; choose another name.")
        if key.default is not HOST_DEFAULT and not key.rule.allows(key.default):
            raise ValueError(
                f"The default of {key.name}, {key.default!r}, is not {key.rule.words}."
            )
        _declared[key.name] = key


def declared_keys() -> Dict[str, Key]:
    """Return every declared key by its full name, sorted by name; FastReID's are among them."""
    return dict(sorted(_declared.items()))


def value_of(cfg: Any, name: str, absent: Any = None) -> Any:
    """Return the value of a key, given its full name; ``absent`` if the config lacks the key."""
    for part in name.split("."):
        if not isinstance(cfg, dict) or part not in cfg:
            return absent
        cfg = cfg[part]
    return cfg


def with_values(cfg: Any, values: Mapping[str, Any]) -> Any:
    """Return a copy of ``cfg`` with these values of keys, named in full; frozen if ``cfg`` is.

    Without any value, ``cfg`` itself is returned.
    """
    if not values:
        return cfg
    changed = cfg.clone()
    changed.defrost()
    changed.merge_from_list([part for pair in values.items() for part in pair])
    if cfg.is_frozen():
        changed.freeze()
    return changed


def check_ranges(cfg: Any, names: Optional[Iterable[str]] = None) -> None:
    """Check the values of ``cfg`` against the declarations.

    Args:
        names: full names of the keys to check; None: every declared key.

    Raises:
        UserError: some values are not allowed; the message lists all of them.
    """
    wanted = None if names is None else set(names)
    wrong = []
    for name, key in declared_keys().items():
        value = value_of(cfg, name, absent=_ABSENT)
        if value is _ABSENT or (wanted is not None and name not in wanted):
            continue
        if not key.rule.allows(value):
            wrong.append(_complaint(name, value, key))
    if wrong:
        raise UserError("\n".join(wrong))


def check_values(node: str, owner: str = "", **values: Any) -> None:
    """Check arguments against the declarations of the keys that they come from.

    This is for the constructor of a class that is also built without a config:
    ``check_values("MODEL.CAJ", TEMPERATURE=temperature)``.

    Args:
        node: the node of the keys.
        owner: whose arguments they are: the message then names the argument, in lower case,
            instead of the key.
        values: the arguments, under the names of the keys.

    Raises:
        UserError: a value is not allowed.
    """
    for name, value in values.items():
        key = _declared[f"{node}.{name}"]
        if not key.rule.allows(value):
            label = f"{owner}: {name.lower()}" if owner else key.name
            raise UserError(_complaint(label, value, key))


def check_unread(cfg: Any, names: Iterable[str], chosen: str, reader: str) -> None:
    """Check that keys which nothing would read are left at their defaults.

    Args:
        names: full names of the keys.
        chosen: the key and the value that choose a part without them, such as
            ``"DATALOADER.SAMPLER_TRAIN TrainingSampler"``.
        reader: what reads them.

    Raises:
        UserError: one of them has another value.
    """
    wrong = changed(cfg, names)
    if wrong:
        given = [f"{name} {_word(value_of(cfg, name))}" for name in wrong]
        usual = [f"{name} {_word(_declared[name].default)}" for name in wrong]
        raise UserError(
            f"{chosen} does not read {' and '.join(given)}; only {reader} does. Use that, or set "
            f"{' '.join(usual)}."
        )


def changed(cfg: Any, names: Iterable[str]) -> List[str]:
    """Return which of these keys, full names, do not have their defaults."""
    defaults = {name: _declared[name].default for name in names}
    return [name for name, one in defaults.items() if value_of(cfg, name, absent=one) != one]


def _word(value: Any) -> str:
    """Return a value as a KEY VALUE pair of the command line has it."""
    return '""' if value == "" else str(value)


# ------------------------------------------------------------------------------- rules: numbers


def above(low: float, at_most: Optional[float] = None) -> Rule:
    """Return a rule that allows numbers above ``low``, up to ``at_most`` if that is given."""
    if at_most is None:
        return Rule(f"above {low:g}", lambda value: is_number(value) and value > low)
    return Rule(
        f"above {low:g}, at most {at_most:g}",
        lambda value: is_number(value) and low < value <= at_most,
    )


def at_least(low: float, below: Optional[float] = None) -> Rule:
    """Return a rule that allows numbers from ``low``, below ``below`` if that is given."""
    if below is None:
        return Rule(f"{low:g} or more", lambda value: is_number(value) and value >= low)
    return Rule(
        f"{low:g} or more, below {below:g}",
        lambda value: is_number(value) and low <= value < below,
    )


def between(low: float, high: float) -> Rule:
    """Return a rule that allows numbers from ``low`` to ``high``, both included."""
    return Rule(f"{low:g} to {high:g}", lambda value: is_number(value) and low <= value <= high)


def exactly(number: float) -> Rule:
    """Return a rule that allows one number; ``|`` adds it to another rule as a special value."""
    return Rule(f"{number:g}", lambda value: is_number(value) and value == number)


def any_number(reason: str) -> Rule:
    """Return a rule that allows all finite numbers; ``reason`` says why there is no limit."""
    return Rule(f"any number ({reason})", is_number)


def whole(rule: Rule) -> Rule:
    """Return a rule that allows of ``rule`` only whole numbers, or lists of whole numbers."""
    words = f"{rule.words}, a whole number"
    return rule if rule.words.endswith(", a whole number") else Rule(words, _whole_and(rule))


def _whole_and(rule: Rule) -> Callable[[Any], bool]:
    return lambda value: _is_whole(value, empty=True) and rule.allows(value)


def _is_whole(value: Any, empty: bool = False) -> bool:
    """Return whether ``value`` is a whole number, or a list of them; ``empty``: an empty list."""
    if isinstance(value, (list, tuple)):
        return (bool(value) or empty) and all(map(_is_whole, value))
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether ``value`` is a finite number; ``True`` and ``False`` are not numbers here."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_real and math.isfinite(value)


# --------------------------------------------------------------------- rules: everything else

SWITCH = Rule("True or False", lambda value: isinstance(value, bool))


def one_of(*words: str) -> Rule:
    """Return a rule that allows the given words only."""
    shown = " or ".join(repr(word) for word in words)
    return Rule(
        shown if len(words) < 3 else f"one of {', '.join(map(repr, words))}", words.__contains__
    )


def text(what: str) -> Rule:
    """Return a rule that allows any text; ``what`` says what it is, such as ``"a path"``."""
    return Rule(what, lambda value: isinstance(value, str))


def each(
    rule: Rule, count: Optional[int] = None, ascending: bool = False, distinct: bool = False
) -> Rule:
    """Return a rule that allows lists whose entries all obey ``rule``.

    Args:
        count: how many entries there are; None: any number of them, or none at all.
        ascending: each entry is larger than the one before it.
        distinct: no entry comes twice.
    """
    size = "each entry" if count is None else f"{count} entries, each"
    order = ", in ascending order" if ascending else ", none of them twice" if distinct else ""

    def allows(value: Any) -> bool:
        if not isinstance(value, (list, tuple)) or (count is not None and len(value) != count):
            return False
        if not all(map(rule.allows, value)):
            return False
        if distinct and any(entry in value[:place] for place, entry in enumerate(value)):
            return False
        return not ascending or all(a < b for a, b in zip(value, value[1:]))

    def hint(value: Any) -> str:
        entries = value if isinstance(value, (list, tuple)) else [value]
        return next(filter(None, map(rule.hint, entries)), "")

    return Rule(f"{size} {rule.words}{order}", allows, hint)


def _without_function(key: Key) -> List[Any]:
    return [key.name, key.default, key.rule.words, key.meaning, key.features]


def _complaint(label: str, value: Any, key: Key) -> str:
    hint = key.rule.hint(value)
    return f"{label} is {value!r}; expected {key.rule.words}: {key.meaning}.{hint and ' ' + hint}"
