"""Merge config files and overrides; for a wrong key, say which was probably meant."""

from typing import Any, Iterable, List, Sequence

import yaml

from fastreid.config import CfgNode as CN

from .errors import MissingFileError, UnknownNameError, UserError
from .keys import value_of
from .registry import suggest


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
        UserError: ``opts`` does not come in pairs, or a value has the wrong type.
    """
    for file in filter(None, (base_file, config_file)):
        loaded = _read_file(file, alone=bool(base_file) and file == config_file)
        check_known_keys(flat_keys(loaded), cfg, file)
        _whole_numbers_as_floats(loaded, cfg)
        _merge(lambda: cfg.merge_from_other_cfg(loaded), file)  # noqa: B023
    opts = list(opts)
    if len(opts) % 2:
        raise UserError(
            f"Overrides come as KEY VALUE pairs; got {len(opts)} words: {' '.join(map(str, opts))}."
        )
    check_known_keys(opts[0::2], cfg, "the command line")
    for key, value in zip(opts[0::2], opts[1::2]):
        if isinstance(value_of(cfg, key), float) and str(value).strip().lstrip("+-").isdigit():
            value = f"{value}.0"
        _merge_pair(cfg, key, value)


def merge_text(cfg: CN, text: str, source: str) -> None:
    """Merge a whole config, as ``cfg.dump()`` wrote it, into ``cfg``, in place.

    Args:
        cfg: with this package's keys.
        text: YAML.
        source: where the text comes from, for messages.

    Raises:
        UserError: as ``merge_config``.
    """
    loaded = CN(yaml.safe_load(text))
    check_known_keys(flat_keys(loaded), cfg, source)
    _merge(lambda: cfg.merge_from_other_cfg(loaded), source)


def _whole_numbers_as_floats(loaded: CN, cfg: CN) -> None:
    """Turn 1 into 1.0 where a key is a float, as in ``BASE_LR: 1``; yacs would refuse the type."""
    for name, value in loaded.items():
        if isinstance(value, CN):
            _whole_numbers_as_floats(value, cfg[name])
        elif isinstance(cfg[name], float) and type(value) is int:
            loaded[name] = float(value)


def _read_file(config_file: str, alone: bool = False) -> CN:
    """Return the keys of a file, with those that it inherits unless ``alone``."""
    try:
        if not alone:
            return CN(CN.load_yaml_with_base(config_file))
        with open(config_file, encoding="utf-8") as file:
            return CN({k: v for k, v in yaml.safe_load(file).items() if k != "_BASE_"})
    except OSError as error:  # the file itself, or one that it names as _BASE_
        raise MissingFileError(f"{config_file} cannot be read: {error}") from error
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        text = " ".join(str(error).split())
        raise UserError(
            f"{config_file} is not a config file (YAML with nested keys): {text}"
        ) from error


def _merge_pair(cfg: CN, key: str, value: Any) -> None:
    before = value_of(cfg, key)
    try:
        _merge(lambda: cfg.merge_from_list([key, value]), f"{key} {value}")
    except UserError as error:
        if "Type mismatch" not in str(error) or isinstance(before, CN):
            raise
        raise UserError(
            f"{key} is {value!r}; expected a value of the type {type(before).__name__}, such as "
            f"{before!r}. Is the value missing, or a word too many?"
        ) from error


def _merge(action: Any, source: str) -> None:
    try:
        action()
    except (ValueError, AssertionError, KeyError) as error:
        text = " ".join(str(error).split())  # may quote a whole node of the config
        if len(text) > 300:
            text = f"{text[:180]} ... {text[-100:]}"
        raise UserError(f"{source}: {text}") from error
