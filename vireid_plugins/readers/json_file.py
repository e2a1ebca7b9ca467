"""Read JSON."""

import json
from collections import Counter
from typing import Any, Dict, List, Tuple

from ..errors import FileContentError
from .shape import Kind, expect
from .text import AnyPath, read_text, shown

_REMEDY = "Fix the file, or move it away."


def read_json(path: AnyPath, kind: Kind = dict, remedy: str = _REMEDY) -> Any:
    """Return the content of a JSON file in UTF-8.

    Args:
        path: a file.
        kind: the type that its top must have, such as ``dict`` or ``list``.
        remedy: how to fix a damaged file, a sentence; it must not destroy what can be kept.

    Raises:
        MissingFileError: there is no such file.
        FileContentError: it is not JSON, or its top is of another kind.
        UserError: it cannot be read.
    """
    return parse_json(read_text(path, remedy), shown(path), kind, remedy)


def parse_json(text: str, where: str, kind: Kind = dict, remedy: str = _REMEDY) -> Any:
    """Return the value that a JSON text stands for.

    Args:
        text: JSON.
        where: the file and the place in it that the text comes from, for messages.
        kind: the type that its top must have.
        remedy: how to fix it, a sentence.

    Raises:
        FileContentError: it is not JSON, a name appears twice in one mapping, or its top is of
            another kind.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except FileContentError as error:
        raise FileContentError(f"{where}: {error}. {remedy}".rstrip()) from error
    except RecursionError as error:
        raise FileContentError(f"{where} is nested too deeply. {remedy}".rstrip()) from error
    except ValueError as error:
        raise FileContentError(f"{where} is not JSON ({error}). {remedy}".rstrip()) from error
    return expect(value, kind, where, remedy)


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise FileContentError(f"the name {twice!r} appears twice in one mapping")
    return values
