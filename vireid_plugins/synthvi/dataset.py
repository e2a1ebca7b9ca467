"""Renders a whole dataset into a folder: in parallel, resumable, never over foreign files."""

from __future__ import annotations

import csv
import io
import json
import logging
import multiprocessing
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from tqdm import tqdm

from .annotations import IDENTITY_FILE, INDEX_FILE, pack
from .person.identity import Identity, sample_identity
from .place.camera import Camera, make_camera
from .place.domains import DOMAINS, CameraSpec
from .plan import Group, Plan, make_plan
from .render import render_image
from .settings import Settings, make_settings

logger = logging.getLogger(__name__)

MARKER_FILE = "synthvi.json"
SCRATCH_FOLDER = "synthvi/writing"
IMAGES_WORTH_A_PROCESS = 400  # fewer images than this are rendered before a process has started


def render_dataset(
    layout: str,
    out: Union[str, Path],
    preset: str = "small",
    seed: int = 0,
    jobs: Optional[int] = None,
    *,
    ids: Optional[Sequence[int]] = None,
    images_per_camera: Optional[int] = None,
    size: Optional[Tuple[int, int]] = None,
    difficulty: float = 1.0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Render SynthVI in the layout of a real dataset.

    The same arguments give the same bytes whatever ``jobs`` is. A finished dataset with the same
    settings is reused, an unfinished one completed.

    Args:
        layout: 'sysu', 'regdb', 'llcm', 'market' or 'duke'.
        out: Folder that will hold the dataset's own folder; give it as ``FASTREID_DATASETS``.
        preset: 'tiny', 'small' or 'sysu': identities, images and size where not given here.
        seed: Whole number >= 0; another seed gives other people and places.
        jobs: Processes; None takes one per usable core where it pays.
        ids: Numbers of training and test identities.
        images_per_camera: Images of an identity in each camera.
        size: (height, width) in pixels.
        difficulty: 0 = tidy, 1 = as designed.
        overwrite: Replace a dataset that this function made with other settings.
        progress: Show a progress bar.

    Returns:
        The dataset's own folder, such as ``<out>/SYSU-MM01``.

    Raises:
        FileExistsError: the folder holds files that are not SynthVI's, or a dataset with other
            settings and ``overwrite`` is False.
        ValueError: an argument is unknown or out of range.
    """
    settings = make_settings(
        layout,
        preset,
        seed,
        ids=ids,
        images_per_camera=images_per_camera,
        size=size,
        difficulty=difficulty,
    )
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be at least 1; got {jobs}")
    plan = make_plan(settings)
    root = Path(out) / plan.folder
    finished = _claim(root, settings, overwrite)
    waiting = [group for group in plan.groups if not _is_complete(root, group)]
    if finished and not waiting and all((root / name).is_file() for name in plan.files):
        logger.info("SynthVI: reusing the finished dataset in %s", root)
        return root
    _write_marker(root, settings, finished=False)
    if len(waiting) < len(plan.groups):
        logger.info("SynthVI: completing %s, %d groups are missing", root, len(waiting))
    _render_groups(root, settings, waiting, jobs, progress)
    for name, content in {**plan.files, **_side_tables(settings, plan)}.items():
        write_atomically(root / name, content, root / SCRATCH_FOLDER)
    shutil.rmtree(root / SCRATCH_FOLDER, ignore_errors=True)
    _write_marker(root, settings, finished=True)
    return root


def _claim(root: Path, settings: Settings, overwrite: bool) -> bool:
    """Make sure ``root`` may be written; True if it holds the same dataset, finished."""
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"{root} is a file; name another --out")
    if not root.is_dir() or not any(root.iterdir()):
        return False
    marker = root / MARKER_FILE
    if not marker.is_file():
        raise FileExistsError(
            f"{root} holds files that SynthVI did not make (it has no {MARKER_FILE}); "
            "nothing was written: name another --out"
        )
    found = _read_marker(marker)
    wanted = settings.as_json()
    there = found["parameters"]
    differing = [name for name in wanted if there.get(name) != wanted[name]]
    if not differing:
        return bool(found["finished"])
    if not overwrite:
        told = "; ".join(f"{n}: there {there.get(n)}, wanted {wanted[n]}" for n in differing)
        raise FileExistsError(
            f"{root} holds a SynthVI dataset with other settings ({told}); "
            "name another --out, or pass --overwrite to replace it"
        )
    shutil.rmtree(root)
    return False


def _read_marker(marker: Path) -> Dict[str, object]:
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        if not isinstance(found["parameters"], dict):
            raise TypeError("parameters is not a table")
        return {"parameters": found["parameters"], "finished": bool(found["finished"])}
    except (ValueError, KeyError, TypeError) as error:
        raise FileExistsError(
            f"{marker} is not a marker of SynthVI ({error}); nothing was written: "
            "name another --out, or delete the folder yourself"
        ) from error


def _write_marker(root: Path, settings: Settings, finished: bool) -> None:
    content = {"made_by": "SynthVI", "parameters": settings.as_json(), "finished": finished}
    write_atomically(root / MARKER_FILE, (json.dumps(content, indent=2) + "\n").encode("utf-8"))


def _is_complete(root: Path, group: Group) -> bool:
    paths = [path for shot in group.shots for path in shot.paths]
    return all((root / path).is_file() for path in (*paths, group.side_file))


def write_atomically(path: Path, content: bytes, scratch: Optional[Path] = None) -> None:
    """Write a file so that at any moment it is either absent, as before, or whole.

    ``scratch``: a folder on the same disk for the half-written file, where nobody takes it for an
    image; None: beside ``path``.
    """
    scratch = path.parent if scratch is None else scratch
    for folder in (path.parent, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=scratch, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _render_groups(
    root: Path, settings: Settings, groups: List[Group], jobs: Optional[int], progress: bool
) -> None:
    images = sum(len(group.shots) for group in groups)
    if jobs is None:
        jobs = min(usable_cores(), 1 + images // IMAGES_WORTH_A_PROCESS)
    work = partial(_render_group, str(root), settings)
    with tqdm(total=images, unit="img", desc="SynthVI", disable=not progress) as bar:
        for group, _ in zip(groups, _map(work, groups, jobs)):
            bar.update(len(group.shots))


def _map(work: Callable[[Group], None], groups: List[Group], jobs: int) -> Iterator[None]:
    if jobs == 1 or len(groups) < 2:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            yield from map(work, groups)
        finally:
            cv2.setNumThreads(threads)
        return
    # never a plain fork: a child may inherit locked locks of OpenCV's or PyTorch's threads
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])  # the imports are paid once, not per process
    else:
        context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        yield from pool.map(work, groups, chunksize=max(1, min(16, len(groups) // (4 * jobs))))


@lru_cache(maxsize=4)
def _identity(seed: int, layout: str, number: int) -> Identity:
    return sample_identity(seed, DOMAINS[layout], number)


@lru_cache(maxsize=64)
def _camera(layout: str, spec: CameraSpec) -> Camera:
    return make_camera(DOMAINS[layout], spec)


def _render_group(root: str, settings: Settings, group: Group) -> None:
    """Render the images of one identity in one camera, and last their side file."""
    identity = _identity(settings.seed, settings.layout, group.identity)
    camera = _camera(settings.layout, group.spec)
    domain = DOMAINS[settings.layout]
    scratch = Path(root, SCRATCH_FOLDER)
    keypoints, masks = [], []
    for shot in group.shots:
        rendered = render_image(
            settings.seed, domain, identity, camera, shot.frame, settings.size, settings.difficulty
        )
        keypoints.append(rendered.keypoints)
        masks.append(rendered.mask)
        suffix = Path(shot.paths[0]).suffix
        content = encode(rendered.image, suffix, camera.jpeg_quality)
        for path in shot.paths:
            write_atomically(Path(root, path), content, scratch)
    write_atomically(Path(root, group.side_file), pack(keypoints, masks), scratch)


def encode(image: np.ndarray, suffix: str, jpeg_quality: int) -> bytes:
    """The bytes of an image file; ``jpeg_quality`` in 1-100 counts for '.jpg' only."""
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if suffix == ".jpg" else []
    done, content = cv2.imencode(suffix, image, options)
    if not done:
        raise OSError(f"OpenCV could not encode an image as {suffix}")
    return content.tobytes()


def _side_tables(settings: Settings, plan: Plan) -> Dict[str, bytes]:
    """The index of side files and the table of identities."""
    index = io.StringIO()
    writer = csv.writer(index, lineterminator="\n")
    for group in plan.groups:
        for row, shot in enumerate(group.shots):
            writer.writerows((path, group.side_file, row) for path in shot.paths)
    bands = {spec.band for spec in plan.domain.cameras}
    numbers: Iterable[int] = sorted({group.identity for group in plan.groups})
    people = []
    for number in numbers:
        person = asdict(_identity(settings.seed, settings.layout, number))
        person["looks"] = {
            band: [[round(float(v), 4) for v in row] for row in look]
            for band, look in person["looks"].items()
            if band in bands
        }
        people.append(person)
    return {
        INDEX_FILE: index.getvalue().encode("ascii"),
        IDENTITY_FILE: (json.dumps(people) + "\n").encode("ascii"),
    }
