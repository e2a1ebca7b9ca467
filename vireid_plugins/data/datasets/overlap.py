"""Check the rules for the images of every dataset, before anything is trained or evaluated.

Training and test share no image and no person. An image has one identity, one camera and one
modality. An identity is not negative. The message about a violation has counts and the first
examples. An image that is listed twice with the same labels is used once.
"""

import numbers
from typing import Any, Callable, Dict, Hashable, List, Mapping, NamedTuple, Sequence, Tuple

from vireid_plugins.errors import UserError
from vireid_plugins.keys import SWITCH, Key, declare
from vireid_plugins.modality import Modality
from vireid_plugins.readers.text import is_text

from ..item import Item
from ..labels import first_few, sorted_labels
from .files import FileKeys, shown

declare(
    "DATASETS",
    Key("ALLOW_OVERLAP", False, SWITCH, "warn of images in training and test, and of two labels"),
)
#: the end of a message: what to do if this is intended
IF_MEANT = "If this is intended, set DATASETS.ALLOW_OVERLAP True to get a warning instead."

_MODALITIES = frozenset(map(int, Modality))
_SHOWN = 3  # how many images a message names


class Part(NamedTuple):
    """The training or the test images of a dataset, examined."""

    items: List[Item]  # without junk and repetitions
    problems: List[str]  # labels that contradict each other; warnings with ALLOW_OVERLAP
    notes: List[str]  # harmless things that were fixed
    faults: Sequence[str] = ()  # mistakes in the lists; always errors


class Source(NamedTuple):
    """A dataset: its files, and its names in messages."""

    name: str
    folder: str  # paths are shown relative to it
    lists: str  # where its images and identities are listed
    files: FileKeys
    label: Callable[[Any], str] = str  # an identity in the words of the user


def plain_item(fields: Sequence[Any]) -> Item:
    """Return ``fields`` as an item whose identity and camera are Python's own integers or words.

    Raises:
        UserError: the identity or the camera is neither, such as a floating-point number, or the
            modality is unknown.
    """
    item = Item.of(fields)
    if item.modality not in _MODALITIES:
        raise UserError(
            f"The modality of an image must be 0 (visible) or 1 (infrared); got {item.modality!r} "
            f"for {shown(item.path)}."
        )
    pid, camid = _plain("identity", item.pid), _plain("camera", item.camid)
    same = pid is item.pid and camid is item.camid
    return item if same else item._replace(pid=pid, camid=camid)


def _plain(what: str, label: Any) -> Any:
    if isinstance(label, str):
        return label
    if type(label) is int or isinstance(label, numbers.Integral):
        if abs(int(label)) < 2**63:
            return int(label)
        raise UserError(f"The {what} {label} of an image does not fit into 64 bits; use a word.")
    raise UserError(
        f"The {what} of an image must be a whole number or a word; got {label!r}, a "
        f"{type(label).__name__}."
    )


def examine_part(part: str, items: Sequence[Item], source: Source) -> Part:
    """Leave out junk and repetitions, and find images with two labels.

    Args:
        part: "training" or "test", for messages.
        items: in their order.
        source: the dataset.
    """
    real = [item for item in items if not is_junk(item.pid)]
    notes = []
    if len(real) < len(items):
        junk = sorted_labels(item.pid for item in items if is_junk(item.pid))
        notes.append(
            f"{source.name}: {len(items) - len(real)} {part} image(s) have a negative identity "
            f"({first_few(junk)}), which means that they show no known person; they are left "
            "out."
        )
    kept, repeated, conflicts = _group(real, source.files)
    if repeated:
        notes.append(
            f"{source.name}: {len(repeated)} {part} image(s) are listed more than once with the "
            f"same labels: {_names(repeated, source)}. Each is used once."
        )
    problems = [_conflict(part, what, pairs, source) for what, pairs in conflicts.items() if pairs]
    return Part(kept, problems, notes)


def is_junk(pid: Any) -> bool:
    """Return whether an identity is a negative number: junk, as -1 in Market-1501."""
    return isinstance(pid, int) and pid < 0


Pairs = List[Tuple[Item, Item]]


def _group(
    items: Sequence[Item], files: FileKeys
) -> Tuple[List[Item], List[Item], Dict[str, Pairs]]:
    """Return the items without repetitions, the repeated ones, and those with two labels."""
    first: Dict[Hashable, Item] = {}
    kept, repeated = [], []
    conflicts: Dict[str, Pairs] = {"identities": [], "modalities": [], "cameras": []}
    for item in items:
        key = files[item.path]
        if key not in first:
            first[key] = item
            kept.append(item)
            continue
        known = first[key]
        if known.pid != item.pid:
            conflicts["identities"].append((known, item))
        elif known.modality != item.modality:
            conflicts["modalities"].append((known, item))
        elif known.camid != item.camid:
            conflicts["cameras"].append((known, item))
        else:
            repeated.append(item)
            continue
        kept.append(item)
    return kept, repeated, conflicts


def _conflict(part: str, what: str, pairs: Pairs, source: Source) -> str:
    label: Callable[[Item], str] = {
        "identities": lambda item: source.label(item.pid),
        "modalities": lambda item: Modality(item.modality).label,
        "cameras": lambda item: str(item.camid),
    }[what]
    examples = [
        f"{shown(one.path, source.folder)} ({label(one)}, {label(other)}"
        + ("" if one.path == other.path else f" as {shown(other.path, source.folder)}")
        + ")"
        for one, other in pairs
    ]
    return (
        f"{source.name}: {len(pairs)} {part} image(s) are listed under two {what}: "
        f"{first_few(examples, _SHOWN)}. One of the two is wrong; correct {source.lists}. "
        + IF_MEANT
    )


def wrong_folders(
    part: str, items: Sequence[Item], source: Source, folders: Mapping[str, Modality]
) -> List[str]:
    """Return a message for images that lie in a folder of the other modality.

    Args:
        part, items, source: as in :func:`examine_part`.
        folders: the modality of each folder, by its name in lower case, that has one.
    """
    wrong: Dict[int, List[str]] = {}
    for item in items if folders else ():
        name = shown(item.path, source.folder)
        above = name.lower().replace("\\", "/").split("/")[:-1]
        told = [folders[folder] for folder in above if folder in folders]
        if told and told[0] != item.modality:
            wrong.setdefault(item.modality, []).append(name)
    return [
        f"{source.name}: {len(names)} {part} image(s) are listed as {Modality(modality).label} and "
        f"lie in a folder of the other modality: {first_few(names, _SHOWN)}. Correct "
        f"{source.lists}. {IF_MEANT}"
        for modality, names in wrong.items()
    ]


def names_without_text(part: str, items: Sequence[Item], source: Source) -> List[str]:
    """Return a message for paths whose bytes are not text in UTF-8, as logs and results need."""
    odd = [item.path for item in items if not is_text(item.path)]
    if not odd:
        return []
    return [
        f"{source.name}: {len(odd)} path(s) of {part} images are not in UTF-8: "
        f"{first_few([shown(path, source.folder) for path in odd], _SHOWN)}. Rename them, for "
        "example from Chinese Windows with: convmv -r --notest -f gbk -t utf8 FOLDER"
    ]


def find_leaks(
    train: Sequence[Item],
    test: Sequence[Item],
    person: Callable[[str, Item], Any],
    source: Source,
) -> List[str]:
    """Return a message for images, and one for persons, that training and test share.

    Args:
        train, test: items without junk.
        person: called with "train" or "test" and an item; returns a name of the person that is the
            same in both parts, or None if it is unknown.
        source: the dataset.
    """
    problems = []
    mine = {source.files[item.path] for item in train}
    shared = [item for item in test if source.files[item.path] in mine]
    if shared:
        problems.append(
            f"{source.name}: {len(shared)} image(s) are in training and in test: "
            f"{_names(shared, source)}. A model would be tested on what it has seen; take them "
            f"out of one of the two in {source.lists}. " + IF_MEANT
        )
    seen = {person("train", item) for item in train} - {None}
    again = [item for item in test if person("test", item) in seen]
    if again:
        people = sorted_labels(person("test", item) for item in again)
        names = first_few([_person_name(label, source) for label in people])
        problems.append(
            f"{source.name}: {len(people)} identit(ies) with {len(again)} test image(s) are in "
            f"training and in test: {names}. A model would be tested on persons it has seen; take "
            f"them out of one of the two in {source.lists}. " + IF_MEANT
        )
    return problems


def _person_name(label: Any, source: Source) -> str:
    return label if isinstance(label, str) else source.label(label)


def _names(items: Sequence[Item], source: Source) -> str:
    paths = dict.fromkeys(shown(item.path, source.folder) for item in items)
    return first_few(list(paths), _SHOWN)
