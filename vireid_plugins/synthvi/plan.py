"""Plan what to render and which files it becomes, for each dataset layout.

A plan lists tracklets (all images of one identity in one camera, which are rendered together) and
holds the content of the text and ``.mat`` files. It depends on integers only, so it is the same on
every machine.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Dict, List, Sequence, Tuple

import numpy as np

from .place.domains import DOMAINS, CameraSpec, Domain
from .seeding import Stream, generator
from .settings import LAYOUT_FOLDERS, Settings

SYSU_NUMBERS_PER_IDENTITY = 533 / 491  # identity numbers have gaps, as the real ones
OFFICIAL_TRIALS = 10
REGDB_SPLITS = 10
LLCM_EXTRA_ABSENCE = 0.45  # because an identity of LLCM passes few of the nine cameras
MAT_HEADER = b"MATLAB 5.0 MAT-file, SynthVI"


@dataclass(frozen=True)
class PlannedImage:
    """An image to render: the number of its frame, and the relative paths that will hold it."""

    frame: int
    paths: Tuple[str, ...]


@dataclass(frozen=True)
class Tracklet:
    """All images of one identity in one camera, and the relative path of their side file."""

    identity: int
    spec: CameraSpec
    images: Tuple[PlannedImage, ...]
    side_file: str


@dataclass
class Plan:
    """Everything that a dataset consists of.

    ``folder`` is the dataset's own folder; ``files`` holds, by relative path, the content of all
    files that are not rendered.
    """

    folder: str
    domain: Domain
    tracklets: List[Tracklet] = field(default_factory=list)
    files: Dict[str, bytes] = field(default_factory=dict)


def make_plan(settings: Settings) -> Plan:
    """Return the plan of the dataset that ``settings`` describe."""
    plan = Plan(LAYOUT_FOLDERS[settings.layout], DOMAINS[settings.layout])
    numbers = identity_numbers(settings)
    WRITERS[settings.layout](settings, plan, numbers)
    return plan


def identity_numbers(settings: Settings) -> List[int]:
    """Return the identity numbers of a dataset, ascending from 1.

    SYSU-MM01, Market and Duke have gaps between them.
    """
    total = settings.train + settings.test
    if settings.layout in ("regdb", "llcm"):
        return list(range(1, total + 1))
    pool = int(np.ceil(total * SYSU_NUMBERS_PER_IDENTITY - 1e-9))
    rng = generator(settings.seed, DOMAINS[settings.layout].code, Stream.NUMBERING)
    return sorted(int(n) + 1 for n in rng.permutation(pool)[:total])


def _draw(settings: Settings, stream: Stream, numbers: Sequence[int], count: int) -> List[int]:
    """Draw ``count`` of ``numbers`` by a separate random stream; return them sorted."""
    rng = generator(settings.seed, DOMAINS[settings.layout].code, stream)
    return sorted(numbers[i] for i in rng.permutation(len(numbers))[:count])


def _cameras_passed(settings: Settings, domain: Domain, number: int) -> List[CameraSpec]:
    """Return the cameras that an identity passes.

    At least two are visible and one is of each other band, if the domain has so many.
    """
    rng = generator(settings.seed, domain.code, Stream.PRESENCE, number)
    absence = settings.absence + (LLCM_EXTRA_ABSENCE if settings.layout == "llcm" else 0.0)
    passed = []
    for band, least in (("visible", 2), ("infrared", 1), ("thermal", 1)):
        specs = [spec for spec in domain.cameras if spec.band == band]
        # integers, so that rounding cannot differ between machines
        luck = rng.integers(0, 1000, len(specs)) if specs else np.zeros(0, int)
        rank = np.argsort(np.argsort(-luck, kind="stable"), kind="stable")
        passed += [
            spec
            for spec, value, place in zip(specs, luck, rank)
            if value >= round(1000 * absence) or place < least
        ]
    return passed


def _tracklet(number: int, spec: CameraSpec, images: Sequence[PlannedImage]) -> Tracklet:
    side_file = f"synthvi/{spec.band}_camera{spec.number}/{number:04d}.npz"
    return Tracklet(number, spec, tuple(images), side_file)


def _lines(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("ascii")


def _comma_separated(numbers: Sequence[int]) -> bytes:
    return (",".join(str(n) for n in numbers) + "\n").encode("ascii")


def _plan_sysu(settings: Settings, plan: Plan, numbers: List[int]) -> None:
    test = set(_draw(settings, Stream.SPLIT, numbers, settings.test))
    trained = [n for n in numbers if n not in test]
    rng = generator(settings.seed, plan.domain.code, Stream.SPLIT, 1)
    held_out = round(settings.train * 99 / 395)
    validation = {trained[i] for i in rng.permutation(len(trained))[:held_out]}
    plan.files["exp/train_id.txt"] = _comma_separated([n for n in trained if n not in validation])
    plan.files["exp/val_id.txt"] = _comma_separated(sorted(validation))
    plan.files["exp/test_id.txt"] = _comma_separated(sorted(test))
    plan.files["exp/available_id.txt"] = _comma_separated(numbers)
    counts: Dict[Tuple[int, int], int] = {}
    for number in numbers:
        for spec in _cameras_passed(settings, plan.domain, number):
            folder = f"cam{spec.number}/{number:04d}"
            images = [
                PlannedImage(frame, (f"{folder}/{frame + 1:04d}.jpg",))
                for frame in range(settings.images_per_camera)
            ]
            counts[spec.number, number] = len(images)
            plan.tracklets.append(_tracklet(number, spec, images))
    plan.files["exp/rand_perm_cam.mat"] = _permutation_file(settings, plan.domain, counts)


def _permutation_file(
    settings: Settings, domain: Domain, counts: Dict[Tuple[int, int], int]
) -> bytes:
    """Return ``rand_perm_cam.mat``: 6 x 1 cells of identities x 1 cells of 10 permutations each."""
    most = max(number for _, number in counts)
    cameras = np.empty((len(domain.cameras), 1), dtype=object)
    for row, spec in enumerate(domain.cameras):
        cells = np.empty((most, 1), dtype=object)
        for number in range(1, most + 1):
            images = counts.get((spec.number, number), 0)
            rng = generator(settings.seed, domain.code, Stream.PERMUTATION, spec.number, number)
            trials = [rng.permutation(images) + 1 for _ in range(OFFICIAL_TRIALS)]
            cells[number - 1, 0] = np.array(trials if images else np.zeros((0, 0)), np.uint16)
        cameras[row, 0] = cells
    buffer = io.BytesIO()
    from scipy.io import savemat  # no other layout needs SciPy

    savemat(buffer, {"rand_perm_cam": cameras}, do_compression=True)
    content = buffer.getvalue()
    return MAT_HEADER.ljust(116) + content[116:]  # SciPy's header holds the time of writing


def _plan_regdb(settings: Settings, plan: Plan, numbers: List[int]) -> None:
    names: Dict[Tuple[str, int], List[str]] = {}
    for number in numbers:
        rng = generator(settings.seed, plan.domain.code, Stream.NAMES, number)
        start = int(rng.integers(1, 400))
        for spec, folder, letter in zip(plan.domain.cameras, ("Visible", "Thermal"), "vt"):
            paths = [
                f"{folder}/{number}/person_{letter}_{start + 3 * frame:05d}_{number}.bmp"
                for frame in range(settings.images_per_camera)
            ]
            names[folder, number] = paths
            images = [PlannedImage(frame, (path,)) for frame, path in enumerate(paths)]
            plan.tracklets.append(_tracklet(number, spec, images))
    for trial in range(1, REGDB_SPLITS + 1):
        rng = generator(settings.seed, plan.domain.code, Stream.SPLIT, trial)
        half = {numbers[i] for i in rng.permutation(len(numbers))[: len(numbers) // 2]}
        for split, members in (("train", half), ("test", set(numbers) - half)):
            for folder in ("Visible", "Thermal"):
                lines = [
                    f"{path} {label}"
                    for label, number in enumerate(sorted(members))
                    for path in names[folder, number]
                ]
                plan.files[f"idx/{split}_{folder.lower()}_{trial}.txt"] = _lines(lines)


def _plan_llcm(settings: Settings, plan: Plan, numbers: List[int]) -> None:
    test = set(_draw(settings, Stream.SPLIT, numbers, settings.test))
    labels = {n: i for i, n in enumerate([n for n in numbers if n not in test] + sorted(test))}
    lists: Dict[str, List[str]] = {}
    for number in numbers:
        split = "test" if number in test else "train"
        rng = generator(settings.seed, plan.domain.code, Stream.NAMES, number)
        for spec in _cameras_passed(settings, plan.domain, number):
            short = "vis" if spec.band == "visible" else "nir"
            stamp, first = 180000 + int(rng.integers(0, 30000)), int(rng.integers(100, 9000))
            images = []
            for frame in range(settings.images_per_camera):
                name = f"{number:04d}_c{spec.number:02d}_s{stamp}_f{first + 5 * frame}_{short}.jpg"
                paths = [f"{short}/{number:04d}/{name}"]
                lists.setdefault(f"{split}_{short}", []).append(f"{paths[0]} {labels[number]}")
                if number in test:
                    paths.append(f"test_{short}/cam{spec.number}/{number:04d}/{name}")
                images.append(PlannedImage(frame, tuple(paths)))
            plan.tracklets.append(_tracklet(number, spec, images))
    for name, lines in lists.items():
        plan.files[f"idx/{name}.txt"] = _lines(lines)
    plan.files["idx/test_id.txt"] = _comma_separated(sorted(test))


def _plan_single_modality(settings: Settings, plan: Plan, numbers: List[int]) -> None:
    """Plan Market-1501 or DukeMTMC-reID.

    The first image of a test identity in each camera is a query; the others are gallery images.
    """
    test = set(_draw(settings, Stream.SPLIT, numbers, settings.test))
    for number in numbers:
        rng = generator(settings.seed, plan.domain.code, Stream.NAMES, number)
        for spec in _cameras_passed(settings, plan.domain, number):
            first = int(rng.integers(100, 90000))
            images = []
            for frame in range(settings.images_per_camera):
                folder = "bounding_box_train"
                if number in test:
                    folder = "query" if frame == 0 else "bounding_box_test"
                moment = first + 25 * frame
                if settings.layout == "market":
                    name = f"{number:04d}_c{spec.number}s1_{moment:06d}_01.jpg"
                else:
                    name = f"{number:04d}_c{spec.number}_f{moment:07d}.jpg"
                images.append(PlannedImage(frame, (f"{folder}/{name}",)))
            plan.tracklets.append(_tracklet(number, spec, images))


WRITERS = {
    "sysu": _plan_sysu,
    "regdb": _plan_regdb,
    "llcm": _plan_llcm,
    "market": _plan_single_modality,
    "duke": _plan_single_modality,
}
