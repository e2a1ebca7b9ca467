"""Small datasets on disk in the layouts of the real ones, and a config for them."""

from pathlib import Path
from typing import Callable, Dict, Sequence

import numpy as np
import pytest
from PIL import Image

from vireid_plugins.config import add_vireid_config

from fastreid.config import CfgNode, get_cfg

SIZE = (12, 24)  # width, height of every image


def write_image(path: Path, seed: int = 0, gray: bool = False) -> None:
    """Write an image of noise, with three equal channels if ``gray``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    if gray:
        pixels[:] = pixels[:, :, :1]
    Image.fromarray(pixels).save(path)


@pytest.fixture(name="write_image")
def write_image_fixture() -> Callable[..., None]:
    """Return :func:`write_image`."""
    return write_image


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Keep what is remembered of whole image lists apart from the user's, and from other tests'."""
    monkeypatch.setenv("VIREID_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("vireid_plugins.data.checks.images._verified_here", set())


@pytest.fixture
def make_sysu(tmp_path) -> Callable[..., Path]:
    """Return ``make(train, val, test, images)``, which writes SYSU-MM01 and returns its folder."""

    def make(
        train: Sequence[int] = (1, 2, 3),
        val: Sequence[int] = (5,),
        test: Sequence[int] = (6, 10),
        images: int = 3,
    ) -> Path:
        folder = tmp_path / "SYSU-MM01"
        (folder / "exp").mkdir(parents=True)
        for name, ids in (("train", train), ("val", val), ("test", test)):
            (folder / "exp" / f"{name}_id.txt").write_text(",".join(map(str, ids)) + "\n")
        for pid in (*train, *val, *test):
            for camera in range(1, 7):
                for k in range(1, images + 1):
                    path = folder / f"cam{camera}" / f"{pid:04d}" / f"{k:04d}.jpg"
                    write_image(path, pid * 100 + k, gray=camera in (3, 6))
        return folder

    return make


@pytest.fixture
def make_regdb(tmp_path) -> Callable[..., Path]:
    """Return ``make(ids, images, trials)``, which writes RegDB and returns its folder.

    Persons 0..ids-1 train and ids..2*ids-1 test in odd trials, the other way round in even ones;
    both lists number them from 0.
    """

    def make(ids: int = 3, images: int = 2, trials: Sequence[int] = (1, 2)) -> Path:
        folder = tmp_path / "RegDB"
        (folder / "idx").mkdir(parents=True)
        names: Dict[str, Dict[int, list]] = {"Visible": {}, "Thermal": {}}
        for kind, by_person in names.items():
            for person in range(2 * ids):
                by_person[person] = [
                    f"{kind}/{person + 1}/male_{k}.bmp" for k in range(1, images + 1)
                ]
                for k, name in enumerate(by_person[person]):
                    write_image(folder / name, person * 10 + k, gray=kind == "Thermal")
        for trial in trials:
            for part in ("train", "test"):
                first = 0 if (part == "train") == (trial % 2 == 1) else ids
                for kind, by_person in names.items():
                    lines = [
                        f"{name} {label}\n"
                        for label in range(ids)
                        for name in by_person[first + label]
                    ]
                    path = folder / "idx" / f"{part}_{kind.lower()}_{trial}.txt"
                    path.write_text("".join(lines))
        return folder

    return make


@pytest.fixture
def make_llcm(tmp_path) -> Callable[..., Path]:
    """Return ``make(train, test)``, which writes LLCM and returns its folder.

    There are two images of each identity in each camera and modality.
    """

    def make(train: Sequence[int] = (1, 2), test: Sequence[int] = (7, 12)) -> Path:
        folder = tmp_path / "LLCM"
        (folder / "idx").mkdir(parents=True)
        for word, cameras in (("vis", (1, 4)), ("nir", (2, 4))):
            lines = []
            for label, pid in enumerate(train):
                for camera in cameras:
                    for k in (1, 2):
                        name = f"{word}/{pid:04d}/{pid:04d}_c{camera:02d}_s1_f{k}_{word}.jpg"
                        write_image(folder / name, pid + k, gray=word == "nir")
                        lines.append(f"{name} {label}\n")
            (folder / "idx" / f"train_{word}.txt").write_text("".join(lines))
            for pid in test:
                for camera in cameras:
                    for k in (1, 2):
                        name = f"{pid:04d}_c{camera:02d}_s1_f{k}_{word}.jpg"
                        path = folder / f"test_{word}" / f"cam{camera}" / f"{pid:04d}" / name
                        write_image(path, pid + k, gray=word == "nir")
        (folder / "idx" / "test_id.txt").write_text(",".join(map(str, test)))
        return folder

    return make


@pytest.fixture
def make_csv(tmp_path) -> Callable[..., Path]:
    """Return ``make(rows)``, which writes images and ``own/list.csv``; a row has five values."""

    def make(rows: Sequence[Sequence], images: bool = True) -> Path:
        path = tmp_path / "own" / "list.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = ["path,pid,camid,modality,split"]
        lines += [",".join(map(str, row)) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for n, row in enumerate(rows):
            if images:
                write_image(path.parent / str(row[0]).replace("\\", "/"), n)
        return path

    return make


@pytest.fixture
def cfg(tmp_path, monkeypatch) -> CfgNode:
    """Return a config of SYSU-MM01 below ``tmp_path``: 2 identities x (2 + 2) small images."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    cfg = get_cfg()
    add_vireid_config(cfg)
    cfg.DATASETS.NAMES = ("SYSUMM01",)
    cfg.DATASETS.TESTS = ("SYSUMM01",)
    cfg.DATALOADER.SAMPLER_TRAIN = "CrossModalityIdentitySampler"
    cfg.DATALOADER.NUM_INSTANCE = 2
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 8
    cfg.TEST.IMS_PER_BATCH = 5
    cfg.INPUT.SIZE_TRAIN = [24, 12]
    cfg.INPUT.SIZE_TEST = [24, 12]
    cfg.MODEL.DEVICE = "cpu"
    return cfg
