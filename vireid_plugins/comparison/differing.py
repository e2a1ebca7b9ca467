"""Say in which config keys the rows of a plan differ from the rows that they are compared with."""

from typing import Any, List, Mapping, Sequence, Tuple

from ..merge import flat_values
from .config_files import hide_paths
from .entries import Entry
from .plan_file import Plan
from .runs import of_machine

DIFFERING = "differing_keys.md"
# Groups of keys in which a row and its like-for-like baseline should agree, and what they decide.
_ALIKE = (
    ("INPUT.", "augmentation or images"),
    ("DATALOADER.", "sampling"),
    ("SOLVER.", "optimizer, schedule or batch"),
    ("DATASETS.", "data"),
    ("TEST.", "test"),
)
_HEAD = """\
# Keys in which rows differ from what they are compared with

Each row with each row that it is compared with: the value there, then the value of the row \
itself. A row and its like-for-like baseline should differ only below `MODEL`, in what the row is \
about. Other keys are marked.
"""


def differing_keys(own: Entry, other: Entry) -> List[Tuple[str, Any, Any]]:
    """Return every key whose value differs: key, value of ``other``, value of ``own``."""
    mine, theirs = flat_values(own.cfg), flat_values(other.cfg)
    return [
        (key, theirs.get(key), mine.get(key))
        for key in sorted(set(mine) | set(theirs))
        if mine.get(key) != theirs.get(key) and not of_machine(key) and _is_read(key, mine, theirs)
    ]


def _is_read(key: str, *configs: Mapping[str, Any]) -> bool:
    """Return whether a key belongs to no group that ``ENABLED`` switches off in all configs."""
    switch = f"{key.rpartition('.')[0]}.ENABLED"
    return key == switch or any(config.get(switch, True) for config in configs)


def unlike(own: Entry, other: Entry) -> str:
    """Return a remark if two rows differ in more than their model; otherwise nothing."""
    keys = [key for key, _, _ in differing_keys(own, other)]
    told = [words for group, words in _ALIKE if any(key.startswith(group) for key in keys)]
    return f"other {', '.join(told)} than {other.name}" if told else ""


def format_differing(plan: Plan, entries: Sequence[Entry]) -> str:
    """Return the text of ``differing_keys.md``."""
    by_name = {entry.name: entry for entry in entries}
    parts = [_HEAD]
    for row in plan.rows:
        for other in row.against:
            parts.append(f"## {row.name}, compared with {other}\n")
            found = differing_keys(by_name[row.name], by_name[other])
            parts.append("".join(map(_line, found)) or "No key differs.\n")
    return "\n".join(parts)


def _line(found: Tuple[str, Any, Any]) -> str:
    key, before, after = found
    mark = "" if key.startswith("MODEL.") else " **(not like for like)**"
    return hide_paths(f"- `{key}`: {before} → {after}{mark}\n")
