"""Find configs and the cache folder, and write files that are never half-written."""

import contextlib
import difflib
import errno
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, List, Mapping, Optional, Union

import platformdirs

from .errors import MissingFileError, UnwritableError, UserError

PACKAGE = Path(__file__).resolve().parent
CONFIG_FOLDERS = (PACKAGE.parent / "configs", PACKAGE / "configs")  # a checkout's, a wheel's


def find_config(name: str) -> str:
    """Return the path of a config file: as given, or below this package's ``configs``.

    Raises:
        MissingFileError: neither exists; the message has the nearest names, or else all of them.
        UserError: it is a folder.
    """
    if not name or os.path.isfile(name):
        return name
    relative = Path(*[part for part in Path(name).parts if part not in ("configs", "..")])
    for folder in CONFIG_FOLDERS:
        if os.path.isfile(folder / relative):
            return str(folder / relative)
    if os.path.isdir(name):
        raise UserError(f"{name} is a folder; name a config file in it.")
    known = sorted({p.relative_to(f).as_posix() for f in CONFIG_FOLDERS for p in f.glob("*/*.yml")})
    near = difflib.get_close_matches(relative.as_posix(), known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise MissingFileError(
        f"No config file {name!r}. {hint or 'This package has: ' + ', '.join(known) + '.'}"
    )


def training_configs() -> List[Path]:
    """Return this package's configs that describe a training: no bases, no plans, no settings."""
    files = {path.resolve() for folder in CONFIG_FOLDERS for path in folder.glob("*/*.yml")}
    ends = ("plan.yml", "setting.yml")
    return [p for p in files if not p.name.startswith("Base-") and not p.name.endswith(ends)]


def cache_folder() -> Path:
    """Return the folder for files that can be made again: ``$VIREID_CACHE``, or the user's own."""
    named = os.path.expanduser(os.environ.get("VIREID_CACHE", ""))  # a shell leaves "~/x" in quotes
    return Path(named or platformdirs.user_cache_dir("vireid_plugins", appauthor=False))


def write_atomically(target: Path, write: Callable[[Any], Any], remedy: str = "") -> None:
    """Call ``write(file)`` on a new file, and rename it to ``target`` once it is complete.

    If it fails, nothing of the new file is left, and an earlier ``target`` is as it was.

    Args:
        target: the file to write; its folder exists.
        write: writes the whole content into the open binary file.
        remedy: a sentence for the message: what the user can do after fixing the cause.

    Raises:
        UnwritableError: the system could not write: a full disk, a read-only folder, ...
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    with writing(target, remedy):
        try:
            with _RememberingFile(io.FileIO(str(partial), "w")) as file:
                file.run(write)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()


def check_can_write(path: Path) -> None:
    """Raise ``UnwritableError`` unless a file can be created at ``path``; no file is left there.

    Call it before long work whose result is written there. For folders that do not exist, their
    first existing parent is checked.
    """
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass


def append_line(path: Path, line: str, remedy: str = "") -> None:
    """Append a line to a text file and wait until it is on the disk; if this fails, append nothing.

    Args:
        path: the file, which is made if it is absent; its folder exists.
        line: the text, without the end of the line.
        remedy: a sentence for the message: what the user can do after fixing the cause.

    Raises:
        UnwritableError: the system could not write.
    """
    is_new = not os.path.lexists(path)
    with writing(path, remedy), open(path, "ab", buffering=0) as file:
        size = file.tell()
        content = f"{line}\n".encode()
        try:
            while content:  # an almost full disk takes a part of it without an error
                content = content[file.write(content) :]
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):  # a device cannot be cut
                file.truncate(size)
                if is_new:
                    path.unlink()
            raise


@contextlib.contextmanager
def writing(path: Union[str, Path], remedy: str = "") -> Iterator[None]:
    """Turn an error of the system while writing, inside the block, into a sentence about ``path``.

    Args:
        path: the file or folder that is written.
        remedy: a sentence for the message: what the user can do after fixing the cause.

    Raises:
        UnwritableError: the disk is full, the folder is read-only, or a part of the path is a file.
    """
    try:
        yield
    except UserError:  # some of them are also an OSError
        raise
    except OSError as error:
        cause = _cause_of(error, Path(path))
        if not cause:
            raise
        text = f"{path} cannot be written: {cause}"
        raise UnwritableError(f"{text} {remedy}".strip(), error.errno) from error


_TOO_LITTLE_SPACE = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
_WRONG_PATH = {errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST, errno.ENAMETOOLONG}
_WRONG_PATH |= {errno.ELOOP, errno.EINVAL}


def _cause_of(error: OSError, path: Path) -> str:
    """Return why the system could not write and what to do; empty for other errors."""
    # NumPy says how many numbers it could not write, without the system's number.
    if error.errno is None and " requested and " in str(error):
        return f"not all of it was written; {_free_space(path)}. Free some space."
    number, what = error.errno, error.strerror
    if number in _TOO_LITTLE_SPACE:
        return f"{what}; {_free_space(path)}. Free some space."
    if number == errno.EFBIG:
        return f"{what}; a file may not grow that large here (see ulimit -f). Raise the limit."
    if number in _NOT_ALLOWED:
        return f"{what}. Choose a folder that you may write to, or change its permissions."
    if number in _WRONG_PATH:
        return f"{what}. Choose another path."
    if number == errno.EIO:
        return f"{what}: the disk or the network drive has failed."
    return ""


def _free_space(path: Path) -> str:
    """Return in words how much of the disk that holds ``path`` is free."""
    for folder in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            return f"{shutil.disk_usage(str(folder)).free / 1e6:,.1f} MB are free on that disk"
    return "how much is free is not known"


class _RememberingFile(io.BufferedWriter):
    """A binary file that remembers why it could not be written.

    ``torch.save`` reports a full disk as an "enforce fail" of its own, a ``RuntimeError``.
    """

    refused: Optional[OSError] = None

    def write(self, data: Any) -> int:
        """Write ``data``, and keep the error if that fails."""
        try:
            return super().write(data)
        except OSError as error:
            self.refused = self.refused or error
            raise

    def run(self, write: Callable[[Any], Any]) -> None:
        """Call ``write`` with this file; raise the system's error instead of one of ``write``.

        Raises:
            OSError: the system refused to write.
        """
        try:
            write(self)
        except Exception as error:
            if self.refused is not None and error is not self.refused:
                raise self.refused from error
            raise


def write_json(path: Path, values: Mapping[str, Any], remedy: str = "") -> None:
    """Write ``values`` as JSON into ``path``; see ``write_atomically``."""
    text = json.dumps(values, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()), remedy)
