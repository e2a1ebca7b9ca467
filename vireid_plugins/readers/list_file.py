"""Read lists: text files of one entry per line."""

import re
from typing import List, Tuple

from ..errors import FileContentError
from .text import AnyPath, read_text, shown

_LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines would also cut at characters within names


def read_lines(path: AnyPath, remedy: str = "") -> List[Tuple[int, str]]:
    """Return the lines of a text file that are not blank, each with its number, from 1.

    The line ends of any system are accepted, also several kinds in one file. Spaces around a line
    are left out.

    Args:
        path: a file in UTF-8.
        remedy: how to fix an empty file, a sentence.

    Raises:
        MissingFileError: there is no such file.
        FileContentError: it is not UTF-8 text, or every line is blank.
        UserError: it cannot be read.
    """
    lines = enumerate(_LINE_END.split(read_text(path)), 1)
    found = [(number, line.strip()) for number, line in lines if line.strip()]
    if not found:
        raise FileContentError(f"{shown(path)} is empty. {remedy}".rstrip())
    return found
