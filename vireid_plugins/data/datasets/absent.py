"""Say, of a dataset whose folder is not there, what is there, and how to get the images."""

import os
from typing import List

from ..labels import first_few
from .errors import DatasetError
from .files import list_folder, printable, why_absent

_MOST = 12  # how many folders one line names


def no_folder(name: str, root: str, folder: str, url: str, layout: str = "") -> str:
    """Return the message about a dataset that is not where it should be.

    Args:
        name: of the dataset.
        root: the folder that ``FASTREID_DATASETS`` names.
        folder: the dataset's own folder, below ``root``.
        url: where the dataset is requested.
        layout: the one that ``vireid render`` has for it; empty: it has none.
    """
    path = os.path.join(root, folder)
    denied = f" ({why_absent(path)})" if why_absent(path) else ""
    words = [
        f"{name}: no folder {path}{denied}. {_what_is_there(root)} Put the dataset there or point "
        f"FASTREID_DATASETS to the folder that holds {folder!r}."
    ]
    below = _below(root, folder)
    if below:
        words.append(f"One lies in {printable(below)}: FASTREID_DATASETS={printable(below)}.")
    elif layout:
        words.append(
            f"To try without it, render SynthVI (vireid render --layout {layout} --out "
            "datasets/SynthVI) and set FASTREID_DATASETS=datasets/SynthVI."
        )
    return " ".join([*words, f"It is requested at {url}"])


def _below(root: str, folder: str) -> str:
    """Return the first folder of ``root`` that holds ``folder``; empty if none does."""
    for name in _names(root):
        if os.path.isdir(os.path.join(root, name, folder)):
            return os.path.join(root, name)
    return ""


def _names(root: str) -> List[str]:
    try:
        return list_folder(root)
    except DatasetError:  # which the message tells already
        return []


def _what_is_there(root: str) -> str:
    if not os.path.isdir(root):
        return f"{os.path.abspath(root)} does not exist."
    try:
        names = first_few(list_folder(root), _MOST) or "nothing"
    except DatasetError as error:
        return str(error)
    return f"{os.path.abspath(root)} holds {printable(names)}."
