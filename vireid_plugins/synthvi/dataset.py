"""Render a dataset into a folder, in parallel and resumable; files of others are never replaced."""

from __future__ import annotations

import csv
import io
import json
import logging
import shutil
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from tqdm import tqdm

from ..errors import UserError
from .annotations import IDENTITY_FILE, INDEX_FILE, pack
from .folder import SCRATCH_FOLDER, claim, is_complete, write_marker, write_whole
from .person.dyes import LINKED, DyeShares, InfraredChoice
from .person.identity import Identity, sample_identity
from .place.camera import Camera, make_camera
from .place.domains import DOMAINS, CameraSpec
from .plan import Plan, Tracklet, make_plan
from .render import render_image
from .settings import Settings, make_settings
from .workers import map_in_processes, usable_cores

logger = logging.getLogger(__name__)

IMAGES_WORTH_A_PROCESS = 200  # about as many are rendered while another process starts


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
    infrared: InfraredChoice = LINKED,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Render SynthVI in the layout of a real dataset.

    The same arguments give the same bytes whatever ``jobs`` is. A finished dataset with the same
    settings is reused, an unfinished one completed.

    Args:
        layout: 'sysu', 'regdb', 'llcm', 'market' or 'duke'.
        out: folder that will hold the dataset's own folder; set ``FASTREID_DATASETS`` to it.
        preset: 'tiny', 'small', 'medium' or 'sysu', which sets identities, images and size if they
            are not given here.
        seed: whole number >= 0; another seed gives other people and places.
        jobs: number of processes; None: one for each usable core, if there is enough to render.
        ids: numbers of training and test identities.
        images_per_camera: images of an identity in each camera.
        size: (height, width) in pixels.
        difficulty: 0 = tidy, 1 = as designed, up to 3.
        infrared: how near infrared is linked to the visible colors: a name of
            `person.dyes.NAMED_SHARES`, or the shares of dense, clear and free dyes.
        overwrite: replace a dataset that this function made with other settings.
        progress: show a progress bar.

    Returns:
        The dataset's own folder, such as ``<out>/SYSU-MM01``.

    Raises:
        OccupiedFolderError: the folder holds files that are not SynthVI's, or a dataset with other
            settings and ``overwrite`` is False.
        UserError: an argument is unknown or out of range, or a file cannot be written.
    """
    settings = make_settings(
        layout,
        preset,
        seed,
        ids=ids,
        images_per_camera=images_per_camera,
        size=size,
        difficulty=difficulty,
        infrared=infrared,
    )
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs must be at least 1; got {jobs}")
    plan = make_plan(settings)
    root = Path(out) / plan.folder
    finished = claim(root, settings, overwrite)
    waiting = [tracklet for tracklet in plan.tracklets if not is_complete(root, tracklet)]
    if finished and not waiting and all((root / name).is_file() for name in plan.files):
        logger.info("SynthVI: reusing the finished dataset in %s", root)
        return root
    write_marker(root, settings, finished=False)
    if len(waiting) < len(plan.tracklets):
        logger.info("SynthVI: completing %s, %d tracklets are missing", root, len(waiting))
    _render_tracklets(root, settings, waiting, jobs, progress)
    _finish(root, settings, plan)
    return root


def _finish(root: Path, settings: Settings, plan: Plan) -> None:
    """Write the lists and tables of a dataset whose images are rendered, and mark it finished."""
    for name, content in {**plan.files, **_side_tables(settings, plan)}.items():
        write_whole(root / name, content, root / SCRATCH_FOLDER)
    shutil.rmtree(root / SCRATCH_FOLDER, ignore_errors=True)
    write_marker(root, settings, finished=True)


def _render_tracklets(
    root: Path, settings: Settings, tracklets: List[Tracklet], jobs: Optional[int], progress: bool
) -> None:
    images = sum(len(tracklet.images) for tracklet in tracklets)
    if jobs is None:
        jobs = min(usable_cores(), 1 + images // IMAGES_WORTH_A_PROCESS)
    render = partial(_render_tracklet, str(root), settings)
    with tqdm(total=images, unit="img", desc="SynthVI", disable=not progress) as bar:
        for tracklet, _ in zip(tracklets, map_in_processes(render, tracklets, jobs)):
            bar.update(len(tracklet.images))


@lru_cache(maxsize=4)
def _identity(seed: int, layout: str, number: int, infrared: DyeShares) -> Identity:
    return sample_identity(seed, DOMAINS[layout], number, infrared)


@lru_cache(maxsize=64)
def _camera(layout: str, spec: CameraSpec) -> Camera:
    return make_camera(DOMAINS[layout], spec)


def _render_tracklet(root: str, settings: Settings, tracklet: Tracklet) -> None:
    """Render the images of one identity in one camera, and then write their side file."""
    identity = _identity(settings.seed, settings.layout, tracklet.identity, settings.infrared)
    camera = _camera(settings.layout, tracklet.spec)
    domain = DOMAINS[settings.layout]
    scratch = Path(root, SCRATCH_FOLDER)
    keypoints, masks = [], []
    for image in tracklet.images:
        rendered = render_image(
            settings.seed, domain, identity, camera, image.frame, settings.size, settings.difficulty
        )
        keypoints.append(rendered.keypoints)
        masks.append(rendered.mask)
        suffix = Path(image.paths[0]).suffix
        content = encode_image(rendered.image, suffix, camera.jpeg_quality)
        for path in image.paths:
            write_whole(Path(root, path), content, scratch)
    write_whole(Path(root, tracklet.side_file), pack(keypoints, masks), scratch)


def encode_image(image: np.ndarray, suffix: str, jpeg_quality: int = 95) -> bytes:
    """Return the bytes of an image file.

    Args:
        image: (H, W, 3) uint8 in the order blue, green, red.
        suffix: the suffix of the file's name, such as '.png'.
        jpeg_quality: 1-100; used for '.jpg' only.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if suffix == ".jpg" else []
    done, content = cv2.imencode(suffix, image, options)
    if not done:
        raise OSError(f"OpenCV could not encode an image as {suffix}")
    return content.tobytes()


def _side_tables(settings: Settings, plan: Plan) -> Dict[str, bytes]:
    """Return the index of side files and the table of identities, by their paths."""
    index = io.StringIO()
    writer = csv.writer(index, lineterminator="\n")
    for tracklet in plan.tracklets:
        for row, image in enumerate(tracklet.images):
            writer.writerows((path, tracklet.side_file, row) for path in image.paths)
    bands = {spec.band for spec in plan.domain.cameras}
    people = []
    for number in sorted({tracklet.identity for tracklet in plan.tracklets}):
        person = asdict(_identity(settings.seed, settings.layout, number, settings.infrared))
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
