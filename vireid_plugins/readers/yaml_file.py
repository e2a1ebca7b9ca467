"""Read YAML: one mapping of plain values, in which no name appears twice."""

from typing import Any, Dict

import yaml

from ..errors import FileContentError
from .shape import found
from .text import AnyPath, read_text, shown

_MOST_VALUES = 100_000  # a short file of nested aliases can stand for billions
_DEEPEST = 30
# PyYAML: dates such as 2024-99-99, numbers such as 0x, tags on values of another kind
_DAMAGED = (ValueError, OverflowError, TypeError, AttributeError, KeyError)
_ERRORS = (yaml.YAMLError, RecursionError, *_DAMAGED)
_TOO_LARGE = "it is nested too deeply, or aliases (*name) make it too large"


def read_yaml(path: AnyPath, remedy: str = "") -> Dict[Any, Any]:
    """Return the mapping that a YAML file in UTF-8 holds.

    Args:
        path: a file.
        remedy: how to fix a damaged file, a sentence.

    Raises:
        MissingFileError: there is no such file.
        FileContentError: it is not YAML, its top level is not a mapping, or a name appears
            twice in one group.
        UserError: it cannot be read.
    """
    return parse_yaml(read_text(path, remedy), shown(path), remedy)


def parse_yaml(text: str, where: str, remedy: str = "") -> Dict[Any, Any]:
    """Return the mapping that a YAML text stands for.

    Args:
        text: YAML.
        where: the file that the text comes from, for messages.
        remedy: how to fix it, a sentence.

    Raises:
        FileContentError: it is not YAML, its top level is not a mapping, or a name appears
            twice in one group.
    """
    try:
        values = yaml.load(text, Loader=_UniqueLoader)  # noqa: S506  a subclass of SafeLoader
        _check_values(values)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        raise FileContentError(_sentence(where, place + _problem(error), remedy)) from error
    except yaml.YAMLError as error:  # a character that YAML forbids
        raise FileContentError(_sentence(where, str(error), remedy)) from error
    except RecursionError as error:
        raise FileContentError(_sentence(where, "it is nested too deeply", remedy)) from error
    except _DAMAGED as error:
        raise FileContentError(_sentence(where, f"a value is damaged ({error})", remedy)) from error
    if values is None:
        raise FileContentError(_sentence(where, "it holds no key", remedy))
    if not isinstance(values, dict):
        raise FileContentError(
            _sentence(where, f"expected keys with values, found {found(values)}", remedy)
        )
    return values


def parse_dumped_yaml(text: str, where: str, remedy: str = "") -> Dict[Any, Any]:
    """Return the mapping that a YAML text stands for, which a program wrote.

    It is read by libyaml where PyYAML has it, about eight times faster than ``parse_yaml``. Names
    that appear twice are not looked for: no program writes them.

    Args:
        text: YAML, such as ``cfg.dump()`` returned it.
        where: the file that the text comes from, for messages.
        remedy: how to fix it, a sentence.

    Raises:
        FileContentError: it is not YAML, or its top level is not a mapping.
    """
    if _FastLoader is not None:
        try:
            values = yaml.load(text, Loader=_FastLoader)  # noqa: S506  a subclass of CSafeLoader
            _check_values(values)
            if isinstance(values, dict):
                return values
        except _ERRORS:
            pass  # the other loader says what is wrong
    return parse_yaml(text, where, remedy)


class _BoundedMerges:
    """A part of a loader of PyYAML."""

    def flatten_mapping(self, node: Any) -> None:
        """Take over the names of ``<<``; many of them in one another would fill the memory."""
        super().flatten_mapping(node)  # type: ignore[misc]
        if len(node.value) > _MOST_VALUES:
            raise yaml.YAMLError(_TOO_LARGE)


class _UniqueLoader(_BoundedMerges, yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a name that appears twice in one group."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Return the node of a mapping, after a look at its names."""
        node = super().compose_mapping_node(anchor)
        lines: Dict[str, int] = {}
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode) or name.tag == "tag:yaml.org,2002:merge":
                continue
            line = name.start_mark.line + 1
            if name.value in lines:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {name.value!r} appears twice in one group, in lines "
                    f"{lines[name.value]} and {line}; leave one",
                    name.start_mark,
                )
            lines[name.value] = line
        return node


_FastLoader: Any = None
if yaml.__with_libyaml__:

    class _FastLoader(_BoundedMerges, yaml.CSafeLoader):  # type: ignore[no-redef]
        """PyYAML's safe loader on libyaml."""


def _check_values(values: Any) -> None:
    """Raise ``YAMLError`` if a value is none of a config, contains itself, or is far too large."""
    waiting, count = [(values, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if depth > _DEEPEST or count > _MOST_VALUES:
            raise yaml.YAMLError(_TOO_LARGE)
        if isinstance(value, dict):
            names = [name for name in value if not isinstance(name, str)]
            if names:
                raise yaml.YAMLError(
                    f"the key {names[0]!r} is not text; the name of a key must be text"
                )
            waiting += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]
        elif value is not None and not isinstance(value, (str, int, float, bool)):
            raise yaml.YAMLError(
                f"{found(value)} is not a valid config value; quote it if it is text"
            )


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem or error.context or error)
    if "\\t" in problem:
        return "a tab stands where YAML expects spaces"
    if "could not determine a constructor for the tag" in problem:
        return f"a tag (!...) is not allowed here: {problem.rsplit(' ', 1)[-1]}"
    return f"{error.context}: {problem}" if error.context and error.problem else problem


def _sentence(where: str, problem: str, remedy: str) -> str:
    text = " ".join(problem.split())
    return f"{where} is not a config file (YAML with nested keys): {text}. {remedy}".rstrip()
