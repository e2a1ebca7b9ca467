"""Find the config files of a comparison, and name them for people: rows, folders, paths."""

import glob
import os
import re
from collections import Counter
from pathlib import Path
from typing import Dict, List, Sequence

from ..errors import PlanError
from ..files import CONFIG_FOLDERS, PACKAGE, find_config


def expand_configs(words: Sequence[str]) -> List[Path]:
    """Return the config files that ``words`` name, each once, in order.

    A word is a path, a file below ``configs/``, or a pattern (``*``, ``?``, ``[]``, ``**``) of
    either, which stands for its files in sorted order. Windows does not expand patterns, and no
    shell does so inside quotes.

    Raises:
        PlanError: no file fits a pattern.
        MissingFileError: a file is not there.
    """
    found: Dict[Path, None] = {}
    for word in words:
        paths = [word] if os.path.isfile(word) else _matches(word) or [find_config(word)]
        found.update({Path(path).resolve(): None for path in paths})
    return list(found)


def _matches(pattern: str) -> List[str]:
    if not glob.has_magic(pattern):
        return []
    inner = Path(*[part for part in Path(pattern).parts if part not in ("configs", "..")])
    for candidate in (pattern, *(str(folder / inner) for folder in CONFIG_FOLDERS)):
        files = sorted(p for p in glob.glob(candidate, recursive=True) if os.path.isfile(p))
        if files:
            return files
    raise PlanError(f"No config file fits {pattern!r}, here or below configs/.")


def unique_names(paths: Sequence[Path]) -> List[str]:
    """Return a name for each file: its stem, with folders before it where stems are equal.

    If all names would end alike, the folder alone is the name: ``mrda`` and ``agw`` for their
    ``sysu.yml``; so it is for a single file of ``configs/mrda``.

    Raises:
        PlanError: two files differ only in their suffix.
    """
    of_package = [Path(shown_path(path)).parts for path in paths]
    if len(paths) == 1 and of_package[0][:1] == ("configs",) and len(of_package[0]) == 3:
        return [of_package[0][1]]
    parts = [(*path.parent.parts[1:], path.stem) for path in paths]
    lengths = [1] * len(paths)
    while True:
        names = ["/".join(own[-length:]) for own, length in zip(parts, lengths)]
        counts = Counter(names)
        repeated = [i for i, name in enumerate(names) if counts[name] > 1]
        if not repeated:
            return _without_end(_without_middle(names))
        grown = [i for i in repeated if lengths[i] < len(parts[i])]
        if not grown:
            raise PlanError(f"These configs cannot be told apart: {', '.join(map(str, paths))}.")
        for index in grown:
            lengths[index] += 1


def _without_middle(names: Sequence[str]) -> List[str]:
    """Shorten ``mrda/ablation/baseline`` to ``mrda/baseline``, unless names become equal."""
    parts = [name.split("/") for name in names]
    short = ["/".join(own[:1] + own[1:][-1:]) for own in parts]
    return short if len(set(short)) == len(short) else list(names)


def _without_end(names: Sequence[str]) -> List[str]:
    """Shorten ``mrda/sysu`` and ``agw/sysu`` to ``mrda`` and ``agw``, unless names become equal."""
    parts = [name.split("/") for name in names]
    short = ["/".join(own[:-1]) for own in parts]
    alike = len(names) > 1 and len({own[-1] for own in parts}) == 1
    return short if alike and all(short) and len(set(short)) == len(short) else list(names)


def shown_path(path: Path) -> str:
    """Return ``path`` as seen from the package, the checkout or the working folder.

    For a file elsewhere, return its name alone.
    """
    for folder in (PACKAGE, PACKAGE.parent, Path.cwd()):
        try:
            return path.resolve().relative_to(folder.resolve()).as_posix()
        except ValueError:
            continue
    return path.name


def hide_paths(text: str) -> str:
    """Return ``text`` with absolute paths cut to their last part: they belong to one machine."""
    return re.sub(r"(?<![\w./])(?:[A-Za-z]:)?(?:[\\/][\w.+-]+){2,}", _last_part, text)


def _last_part(match: "re.Match[str]") -> str:
    return "…/" + re.split(r"[\\/]", match.group())[-1]
