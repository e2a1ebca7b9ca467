"""Read the folders and text files that name the images and their identities."""

import os
from typing import Any, Callable, Dict, List, Optional, Tuple

from ...errors import MissingFileError, UserError
from ...readers import list_file
from ...readers.image import is_image_name
from .errors import DatasetError
from .files import absent_images, list_folder, why_absent


def list_images(folder: str) -> List[str]:
    """Return the image files in ``folder``, sorted by name; an absent folder has none.

    Raises:
        DatasetError: the folder may not be read.
    """
    return [os.path.join(folder, name) for name in list_folder(folder) if is_image_name(name)]


def numbered_folders(folder: str, prefix: str = "") -> Dict[int, List[str]]:
    """Return the folders in ``folder`` by the number in their names: 7, 07 and 0007 are one.

    Args:
        folder: an absent one has no folders.
        prefix: what stands before the number, such as "cam", in any case.

    Raises:
        DatasetError: the folder may not be read.
    """
    found: Dict[int, List[str]] = {}
    for name in list_folder(folder):
        digits = name[len(prefix) :]
        if name.lower().startswith(prefix) and is_number(digits):
            found.setdefault(int(digits), []).append(os.path.join(folder, name))
    return found


def read_lines(path: str, url: str = "") -> List[Tuple[int, str]]:
    """Return the lines of a text file that are not blank, each with its number, from 1.

    Any line ending and a byte-order mark are accepted.

    Raises:
        DatasetError: the file is missing, is not text, or has no line.
    """
    try:
        return list_file.read_lines(path, "Extract it again from the original archive.")
    except MissingFileError:
        hint = f" It comes with the dataset: {url}" if url else ""
        raise DatasetError(f"{path} is missing.{hint}") from None
    except UserError as error:
        raise DatasetError(str(error)) from error


def read_ids(path: str, url: str = "") -> List[int]:
    """Return the identity numbers in a file of comma-separated lines, ascending, each once.

    Raises:
        DatasetError: as :func:`read_lines`, or a word is not a number; the message names the line.
    """
    found = set()
    for number, line in read_lines(path, url):
        for word in filter(None, (part.strip() for part in line.replace(" ", ",").split(","))):
            if not is_number(word):
                raise DatasetError(
                    f"{path}, line {number}: expected identity numbers of at most 18 "
                    f"digits, separated by commas; got {word!r}."
                )
            found.add(int(word))
    return sorted(found)


def read_image_list(
    path: str, folder: str, url: str = "", complain: Optional[Callable[[str], Any]] = None
) -> List[Tuple[str, int]]:
    """Read a file of lines ``relative/path identity``; return pairs (path of the image, identity).

    The last word of a line is the identity, so names may have spaces; backslashes are accepted.

    Args:
        path: the list.
        folder: what the paths in it are relative to.
        url: where the dataset is requested, for messages.
        complain: called with a message about images that do not exist, which are then left out;
            None: the message is raised as an error.

    Raises:
        DatasetError: as :func:`read_lines`, or a line has another form, or an image does not
            exist.
    """
    pairs, absent = [], []
    for number, line in read_lines(path, url):
        words = line.rsplit(None, 1)
        if len(words) != 2 or not is_number(words[1]):
            raise DatasetError(
                f"{path}, line {number}: expected 'relative/path identity', the "
                f"identity a number of at most 18 digits; got {line!r}."
            )
        image = os.path.normpath(os.path.join(folder, words[0].replace("\\", "/")))
        reason = why_absent(image)
        if reason is None:
            pairs.append((image, int(words[1])))
        else:
            absent.append((words[0], number, reason))
    if absent:
        message = (
            f"{path} names {absent_images(absent)}. Paths are relative to {folder}. Extract the "
            "dataset again, or take the lines out."
        )
        if complain is None:
            raise DatasetError(message)
        complain(message)
    return pairs


def is_number(word: str) -> bool:
    """Return whether a word is a whole number that fits into 64 bits."""
    return word.isdecimal() and len(word) <= 18
