"""Merge config files and overrides; for a wrong key, say which was probably meant."""

import ast
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence

from fastreid.config import CfgNode as CN

from .errors import UnknownNameError, UserError
from .keys import declared_keys
from .readers.config_file import read_chain
from .readers.shape import found
from .readers.text import shown
from .readers.yaml_file import parse_yaml
from .registry import suggest
from .removed_keys import REMOVED, check_removed, without_removed

_SHOWN = 80  # characters of a wrong value that a message shows
_TYPES = {
    str: "a word",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    type(None): "nothing",
}


def flat_keys(cfg: CN, prefix: str = "") -> List[str]:
    """Return all full key names below ``cfg``, such as ``"MODEL.BACKBONE.DEPTH"``."""
    keys: List[str] = []
    for name, value in cfg.items():
        keys += flat_keys(value, f"{prefix}{name}.") if isinstance(value, CN) else [prefix + name]
    return keys


def check_known_keys(names: Iterable[str], cfg: CN, source: str) -> None:
    """Raise ``UnknownNameError`` if a key is unknown; its message has the nearest valid keys.

    yacs raises ``KeyError`` for files and ``AssertionError`` for the command line, and suggests
    nothing.

    Args:
        names: full names of keys.
        cfg: a config that has all valid keys.
        source: where the names come from, for the message.
    """
    valid = set(flat_keys(cfg))
    groups = {key.rsplit(".", i)[0] for key in valid for i in range(1, key.count(".") + 1)}
    for name in names:
        if name in valid or name in groups:
            continue
        close = suggest(name, valid)
        if close.startswith("Valid"):  # no whole name is near: compare only the last parts
            tails = {key.rsplit(".", 1)[-1]: key for key in sorted(valid)}
            close = suggest(name.rsplit(".", 1)[-1], tails)
            close = "It resembles no known key." if close.startswith("Valid") else close
        raise UnknownNameError(f"Unknown config key {name!r} in {source}. {close}")


def merge_config(
    cfg: CN, config_file: str = "", opts: Sequence[Any] = (), base_file: str = ""
) -> None:
    """Merge a YAML file and then ``KEY VALUE`` pairs into ``cfg``, in place.

    Args:
        cfg: with this package's keys.
        config_file: a path; the files that it inherits by ``_BASE_`` are merged before it.
        opts: keys and values in turn.
        base_file: takes the place of the file that ``config_file`` names as its ``_BASE_``.

    Raises:
        MissingFileError: a file does not exist or cannot be read.
        UnknownNameError: a key is unknown; the message has the nearest valid ones.
        UserError: ``opts`` does not come in pairs, a value has the wrong type, or a removed key
            asks for what is no longer done.
    """
    for file in filter(None, (base_file, config_file)):
        alone = bool(base_file) and file == config_file
        for one in reversed(read_chain(file, alone)):
            source = shown(one.path)
            if {"rows", "groups"} & set(one.values):
                raise UserError(
                    f"{source} is the plan of a comparison, not a config of a training. Run it by "
                    f"vireid compare --plan {source}, or name the config of one of its rows."
                )
            _merge_values(cfg, without_removed(one.values, source), source)
    opts = list(opts)
    keys = list(map(str, opts[0::2]))
    check_pairs(opts, cfg)
    check_known_keys([key for key in keys if key not in REMOVED], cfg, "the command line")
    for key, value in zip(keys, opts[1::2]):
        if key in REMOVED:
            check_removed(key, value, "the command line")
        else:
            _merge_pair(cfg, key, value)


def check_pairs(words: Sequence[Any], cfg: CN) -> None:
    """Raise ``UserError`` if words are no ``KEY VALUE`` pairs; say which word is out of place."""
    keys = list(map(str, words[0::2]))
    for word in map(str, words[: 2 * len(keys)]):
        name, sign, value = word.partition("=")
        if word.startswith("--") and (len(words) % 2 or word in keys):
            raise UserError(
                f"{word} must stand before the first KEY VALUE pair: {word} {words[0]} ..."
            )
        if sign and name in flat_keys(cfg) and (len(words) % 2 or word in keys):
            raise UserError(
                f"Write a key and its value as two words: {name} {value}; got {word!r}."
            )
    if len(words) % 2:
        raise UserError(
            f"Overrides come as KEY VALUE pairs; got {len(words)} words: "
            f"{' '.join(map(str, words))}."
        )


def merge_text(cfg: CN, text: str, source: str) -> None:
    """Merge a whole config, as ``cfg.dump()`` wrote it, into ``cfg``, in place.

    Args:
        cfg: with this package's keys.
        text: YAML.
        source: where the text comes from, for messages.

    Raises:
        UserError: as ``merge_config``.
    """
    values = without_removed(parse_yaml(text, source), source, only_read=True)
    _merge_values(cfg, values, source)


def _merge_values(cfg: CN, values: Dict[str, Any], source: str) -> None:
    """Merge nested values, of which nothing is known yet, into ``cfg``, in place."""
    check_known_keys(_names(values, cfg), cfg, source)
    _merge_group(cfg, values, "", source)


def _names(values: Dict[str, Any], cfg: Any, prefix: str = "") -> Iterator[str]:
    """Yield the full names of all keys of nested values; groups only where a key is meant."""
    for name, value in values.items():
        below = cfg.get(name) if isinstance(cfg, CN) else None
        if isinstance(value, dict) and value and (below is None or isinstance(below, CN)):
            yield from _names(value, below, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _merge_group(cfg: CN, values: Dict[str, Any], prefix: str, source: str) -> None:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in cfg:  # known with its dots, or an empty group
            nested = ": {".join(key.split(".")) + ": ..." + "}" * key.count(".")
            raise UserError(f"{source}: {key}: write the groups of a key nested: {nested}.")
        before = cfg[name]
        if isinstance(before, CN):
            if not isinstance(value, dict):
                raise UserError(
                    f"{source}: {key} is a group of keys, such as {key}.{next(iter(before), 'X')}; "
                    f"found {found(value)} instead of keys."
                )
            _merge_group(before, value, f"{key}.", source)
        else:
            cfg[name] = _fitting(value, before, key, f"{source}: {key}")


def _merge_pair(cfg: CN, key: str, value: Any) -> None:
    """Merge one key of the command line, or of Python, into ``cfg``, in place."""
    *groups, name = key.split(".")
    for group in groups:
        cfg = cfg[group]
    if isinstance(cfg[name], CN):
        example = next(iter(cfg[name]), "X")
        raise UserError(f"{key} is a group of keys; name one of them, such as {key}.{example}.")
    cfg[name] = _fitting(value, cfg[name], key, key, " Is the value missing, or a word too many?")


def _fitting(value: Any, before: Any, key: str, where: str, hint: str = "") -> Any:
    """Return a value in the type of the value that it replaces.

    As in yacs, a word that reads as a value of Python stands for that value, and lists and tuples
    stand for each other. A whole number may stand for a float, and a number's digits for text.

    Raises:
        UserError: it is of another type.
    """
    given, value = value, _evaluated(value)
    if isinstance(before, str) and isinstance(given, str) and not isinstance(value, str):
        value = given
    if isinstance(before, float) and type(value) is int:
        value = _as_float(value)
    if isinstance(before, (list, tuple)) and isinstance(value, (list, tuple)):
        value = type(before)(value)
    if before is None and value is not None:
        return value
    if type(value) is not type(before) or not _entries_fit(value, before):
        lists = isinstance(before, (list, tuple)) and not before and isinstance(given, str)
        example = type(before)([given]) if lists else before
        raise UserError(
            f"{where} is {_shortened(given)}; expected {_wanted(before)}, such as {example!r}."
            f"{_allowed(before, key)}{hint}"
        )
    return value


def _evaluated(value: Any) -> Any:
    """Return what a word stands for in Python, or the word itself."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _as_float(value: int) -> Any:
    try:
        return float(value)
    except OverflowError:
        return value


def _entries_fit(value: Any, before: Any) -> bool:
    """Return whether a list holds numbers where the list that it replaces does, or words."""
    if not isinstance(value, (list, tuple)):
        return True
    kinds: Any = {int: (int, float), float: (int, float)}
    wanted = {kinds.get(type(entry), type(entry)) for entry in before}
    if len(wanted) != 1:  # an empty list does not say what it holds
        return None not in value
    (kind,) = wanted
    return all(isinstance(one, kind) and isinstance(one, bool) == (kind is bool) for one in value)


def _allowed(before: Any, key: str) -> str:
    """Return a sentence that lists the words that a key allows; empty for other types."""
    declared = declared_keys().get(key) if isinstance(before, str) else None
    return f" Allowed: {declared.rule.words}." if declared else ""


def _wanted(before: Any) -> str:
    if isinstance(before, (list, tuple)):
        kinds = {"words" if isinstance(entry, str) else "numbers" for entry in before}
        return f"a list of {kinds.pop()}" if len(kinds) == 1 else "a list"
    return _TYPES.get(type(before), f"a value of the type {type(before).__name__}")


def _shortened(value: Any) -> str:
    if isinstance(value, dict):
        return "a group of keys"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def plain_values(node: Mapping[Any, Any]) -> Dict[str, Any]:
    """Return a config as dictionaries and lists, as its YAML file stands for."""
    return {name: _plain(value) for name, value in node.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain_values(value)
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def flat_values(node: Mapping[Any, Any], prefix: str = "") -> Dict[str, Any]:
    """Return all values below ``node`` by their full names."""
    found: Dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict) and value:
            found.update(flat_values(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value
    return found
