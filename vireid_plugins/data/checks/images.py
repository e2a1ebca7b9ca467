"""Open every image once before training, so that no broken one stops it later."""

import hashlib
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from ...errors import UserError
from ...files import cache_folder
from ...keys import Key, declare, one_of
from ...readers.image import ImageError, check_file, read_image

logger = logging.getLogger(__name__)

LEVELS = ("sizes", "full")

declare(
    "DATASETS",
    Key("VERIFY_IMAGES", "full", one_of(*LEVELS), "before training, read file sizes or all images"),
)
_SHOWN = 10  # how many broken files a message names
_PROGRESS_SECONDS = 5.0
_CHUNK = 256
_READER = 2  # increase it whenever ``readers/image.py`` refuses files that it took before

_verified_here: Set[str] = set()  # digests verified by this process, for machines without a cache


def find_broken_images(
    paths: Iterable[str],
    level: str = "full",
    *,
    threads: int = 0,
    cache_dir: Optional[str] = None,
    read: Optional[Callable[[str], Any]] = None,
    how: str = "",
) -> List[str]:
    """Return a message for each unusable image, in the order of ``paths``.

    A list without a broken image is remembered in ``cache_dir``, by the names, sizes and
    modification times of its files, so that the next run reads no image. Nothing is written into
    the folders of the images. If ``cache_dir`` cannot be written, only time is lost.

    Args:
        paths: files; a file that occurs several times is read once.
        level: ``"sizes"`` finds absent and empty files; ``"full"`` decodes every image too.
        threads: number of threads that decode; 0: one per processor.
        cache_dir: where lists without a broken image are remembered; default: ``verified`` in the
            cache folder.
        read: reads an image; default: ``read_image``.
        how: in words, what ``read`` depends on; a list is remembered for these words.

    Raises:
        UserError: ``level`` is unknown.
    """
    if level not in LEVELS:
        raise UserError(f"The level of verification must be one of {LEVELS}; got {level!r}.")
    paths = list(dict.fromkeys(paths))
    found = {path: message for path, message in zip(paths, map(_size_problem, paths)) if message}
    if level == "full":
        sound = [path for path in paths if path not in found]
        decode = partial(_decode_all, sound, threads or os.cpu_count() or 1, read or read_image)
        folder = Path(cache_dir) if cache_dir else cache_folder() / "verified"
        found.update(_find_undecodable(_digest(sound, how), folder, decode))
    return [found[path] for path in paths if path in found]


def _find_undecodable(
    digest: str, folder: Path, decode: Callable[[], Iterable[Tuple[str, str]]]
) -> Dict[str, str]:
    """Return a message for each path that cannot be decoded; remember a list without one."""
    if digest in _verified_here or os.path.isfile(folder / digest):
        return {}
    broken = dict(decode())
    if not broken:
        _remember(folder, digest)
    return broken


def raise_if_broken(messages: Sequence[str]) -> None:
    """Raise one ``ImageError`` that lists ``messages``, unless there are none."""
    if not messages:
        return
    shown = "\n  ".join(messages[:_SHOWN])
    more = f"\n  ... and {len(messages) - _SHOWN} more" if len(messages) > _SHOWN else ""
    raise ImageError(f"{len(messages)} unusable image file(s):\n  {shown}{more}")


def _size_problem(path: str) -> str:
    try:
        check_file(path)
    except ImageError as error:
        return str(error)
    return ""


def _decode_problem(path: str, read: Callable[[str], Any]) -> str:
    try:
        read(path)
    except ImageError as error:
        return str(error)
    return ""


def _decode_all(
    paths: Sequence[str], threads: int, read: Callable[[str], Any]
) -> Iterator[Tuple[str, str]]:
    """Yield the path and the problem of each image that cannot be decoded."""
    logger.info("Reading %d images once, so that a broken one is found now ...", len(paths))
    start = shown = time.monotonic()
    with ThreadPoolExecutor(max_workers=threads) as pool:
        for first in range(0, len(paths), _CHUNK):
            chunk = paths[first : first + _CHUNK]
            problems = zip(chunk, pool.map(_decode_problem, chunk, repeat(read)))
            yield from ((path, problem) for path, problem in problems if problem)
            if time.monotonic() - shown > _PROGRESS_SECONDS:
                shown = time.monotonic()
                logger.info("  %d of %d images read", first + len(chunk), len(paths))
    logger.info("Read %d images in %.1f s", len(paths), time.monotonic() - start)


def _digest(paths: Sequence[str], how: str) -> str:
    state = hashlib.sha256(f"{_READER} {how}\n".encode())
    for path in paths:
        stat = os.stat(path)
        line = f"{os.path.abspath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        state.update(line.encode("utf-8", "surrogatepass"))
    return state.hexdigest()


def _remember(folder: Path, digest: str) -> None:
    _verified_here.add(digest)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / digest).touch()
    except OSError as error:
        logger.info(
            "%s cannot be written (%s): the next run will read all images again. Set VIREID_CACHE "
            "to a folder that can be written.",
            folder,
            error.strerror,
        )
