"""Find configs and the cache folder, and write files that are never half-written."""

import difflib
import json
import os
from pathlib import Path
from typing import Any, Callable, Mapping

import platformdirs

from .errors import MissingFileError, UserError

PACKAGE = Path(__file__).resolve().parent
CONFIG_FOLDERS = (PACKAGE.parent / "configs", PACKAGE / "configs")  # a checkout's, a wheel's


def find_config(name: str) -> str:
    """Return the path of a config file: as given, or below this package's ``configs``.

    Raises:
        MissingFileError: neither exists; the message has the nearest names, or else all of them.
    """
    if not name or os.path.isfile(name):
        return name
    relative = Path(*[part for part in Path(name).parts if part not in ("configs", "..")])
    for folder in CONFIG_FOLDERS:
        if (folder / relative).is_file():
            return str(folder / relative)
    known = sorted({p.relative_to(f).as_posix() for f in CONFIG_FOLDERS for p in f.glob("*/*.yml")})
    near = difflib.get_close_matches(relative.as_posix(), known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise MissingFileError(
        f"No config file {name!r}. {hint or 'This package has: ' + ', '.join(known) + '.'}"
    )


def cache_folder() -> Path:
    """Return the folder for files that can be made again: ``$VIREID_CACHE``, or the user's own."""
    named = os.environ.get("VIREID_CACHE")
    return Path(named or platformdirs.user_cache_dir("vireid_plugins", appauthor=False))


def write_atomically(target: Path, write: Callable[[Any], Any]) -> None:
    """Call ``write(file)`` on a new file, and rename it to ``target`` once it is complete."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        if partial.exists():
            partial.unlink()


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        UserError: it is no JSON; the message names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}); delete it to run this anew.") from error


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write ``values`` as JSON into ``path``; a kill never leaves an incomplete file."""
    text = json.dumps(values, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
