"""The evidence table at the papers' size: images, start, length and rows that fit into the time."""

import json
import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

from .running import FINISHED, ROOT, OutOfTime, PartError, Runner, read_state, write_json

PLAN = "configs/evidence/plan.yml"
SETTING = "configs/evidence/gpu_setting.yml"
SIZE = "288x144"
UPDATES = 108  # of an epoch of the preset medium with 64 images
EPOCHS = (3, 2)  # that may be chosen, the plan's own first
OVERHEAD = 40.0  # seconds of a run besides its updates: start, images, evaluation
WANTED = 8  # rows that the chosen length should leave time for
CHOICE = "choice.json"
KEY_POINTS = "keypoints.npz"  # of an estimator; no part of this command writes it
TINY_ROWS = ("baseline", "AGW")
TINY = {
    "MODEL.BACKBONE.DEPTH": "18x",
    "INPUT.SIZE_TRAIN": "[32,16]",
    "INPUT.SIZE_TEST": "[32,16]",
    "DATALOADER.NUM_WORKERS": "0",
    "DATALOADER.NUM_INSTANCE": "2",
    "SOLVER.IMS_PER_BATCH": "16",
    "SOLVER.LOG_PERIOD": "1",
    "MODEL.HEADS.NUM_STRIPES": "2",  # a map of two rows cannot be cut into more
    "MODEL.HEADS.ATTENTION.STRIPES": "2",
    "MODEL.HEADS.ATTENTION.KEPT": "1",
    "MODEL.MSCLNET.PARTS": "2",
}


RANDOM = "random"


class Start(NamedTuple):
    """What the rows start from."""

    title: str
    weights: str  # a name of `vireid weights`, or RANDOM
    words: Dict[str, str]  # config keys, on top of the setting's


STARTS = (
    Start("ResNet-50 from ImageNet weights", "resnet50", {}),
    Start(
        "MobileNetV2 from ImageNet weights (those of ResNet-50 are not here)",
        "mobilenetv2",
        {
            "MODEL.BACKBONE.NAME": "build_dual_stream_backbone",
            "MODEL.BACKBONE.NETWORK": "mobilenetv2",
            "MODEL.BACKBONE.DEPTH": "1.0x",
            "MODEL.BACKBONE.PRETRAIN_PATH": "weights:mobilenetv2",
            "SOLVER.BACKBONE_LR_FACTOR": "1.0",
        },
    ),
    Start(
        "ResNet-50 from RANDOM weights (no pretrained ones are here, or they were not asked for)",
        RANDOM,
        {"MODEL.BACKBONE.PRETRAIN": "False", "SOLVER.BACKBONE_LR_FACTOR": "1.0"},
    ),
)


def data_folder(runner: Runner) -> Path:
    """Return the folder of the rendered images."""
    return runner.folder.parent / "data" / "SynthVI"


def render(runner: Runner) -> Dict[str, Any]:
    """Render the images, or reuse them."""
    words: List[Any] = ["--preset", "medium", "--size", SIZE]
    if runner.settings.tiny:
        words = ["--preset", "tiny", "--ids", 8, 4, "--images-per-camera", 2, "--size", "64x32"]
    folder = data_folder(runner)
    runner.vireid("render", "--layout", "sysu", *words, "--out", folder)
    return {"folder": str(folder), "words": [str(word) for word in words]}


def choose_start(runner: Runner) -> Start:
    """Return the start that is asked for, or the first whose weights are here or can be fetched.

    Raises:
        PartError: the weights that are asked for cannot be had.
    """
    asked = RANDOM if runner.settings.tiny else runner.settings.start
    starts = [start for start in STARTS if asked in ("", start.weights)]
    for start in starts:
        if start.weights == RANDOM:
            return start
        try:
            runner.vireid("weights", "fetch", start.weights, most=60)
            return start
        except (PartError, OutOfTime):
            if runner.seconds_left <= 0 or len(starts) == 1:
                raise
    return STARTS[-1]


def images_per_second(state: Dict[str, Any]) -> float:
    """Return how fast the part ``training`` has trained in float32; 0 if it has not said."""
    try:
        return float(state["result"]["288x144"]["float32"]["images/s"])
    except (KeyError, TypeError, ValueError):
        return 0.0


def epochs_that_fit(speed: float, seconds: float, jobs: int) -> Tuple[int, str]:
    """Return the length of every row, and why.

    The longest length is chosen at which ``WANTED`` rows fit. Runs at once share the GPU, so that
    only what is not training goes on at once.

    Args:
        speed: images per second of one training; 0: unknown.
        seconds: time for the table.
        jobs: runs at once.
    """
    if not speed:
        return EPOCHS[-1], "the speed of training is unknown"
    for epochs in EPOCHS:
        need = WANTED * (epochs * UPDATES * 64 / speed + OVERHEAD / jobs)
        if need <= seconds:
            return epochs, f"{WANTED} rows of this length need about {need:.0f} s"
    return EPOCHS[-1], f"{WANTED} rows need about {need:.0f} s, more than there is"


def table_words(runner: Runner, start: Start, epochs: int, folder: Path) -> List[Any]:
    """Return the words of ``vireid compare``."""
    settings = runner.settings
    keys = {"MODEL.DEVICE": settings.device, **start.words}
    if settings.tiny:
        keys.update(TINY)
    setting = write_setting(runner.folder, epochs)
    words: List[Any] = ["compare", "--plan", PLAN, "--setting", setting, "--output", folder]
    words += ["--seeds", *settings.seeds, "--jobs", settings.jobs]
    words += ["--only", *(settings.rows or (TINY_ROWS if settings.tiny else usual_rows()))]
    return [*words, "--set", *(word for pair in keys.items() for word in pair)]


def write_setting(folder: Path, epochs: int) -> Path:
    """Write the setting of the table, and return its path.

    The length stands in a setting and not in ``--set``, which also reaches rows with a length of
    their own: in two epochs, mutual prediction would never begin.
    """
    path = folder / f"setting_{epochs}_epochs.yml"
    base = json.dumps((ROOT / SETTING).as_posix())
    path.write_text(f"_BASE_: {base}\n\nSOLVER:\n  MAX_EPOCH: {epochs}\n", encoding="utf-8")
    return path


def usual_rows() -> List[str]:
    """Return the rows of the plan, in its order, that need no file of estimated key points."""
    import yaml  # not above: the part `environment` says so if it is missing

    plan = yaml.safe_load((ROOT / PLAN).read_text(encoding="utf-8"))
    return [
        row["name"]
        for group in plan["groups"]
        for row in group["rows"]
        if KEY_POINTS not in (ROOT / "configs" / row["config"]).read_text(encoding="utf-8")
    ]


def evidence(runner: Runner) -> Dict[str, Any]:
    """Run as many rows of the plan as fit, and write its table.

    A later call goes on in the same folder, with the start and the length of the first. The table
    is written after each run, so that it has every row that was complete when the time was over.

    Raises:
        PartError: a row failed; the table has the others.
        OutOfTime: the time was over.
    """
    if read_state(runner.folder.parent / "data.json").get("state") != FINISHED:
        render(runner)
    known = choose(runner)
    start = next(one for one in STARTS if one.title == known["start"])
    folder = runner.folder / known["folder"]
    words = table_words(runner, start, known["epochs"], folder)
    values = {"FASTREID_DATASETS": str(data_folder(runner)), "OMP_NUM_THREADS": threads(runner)}
    if runner.vireid(*words, environment=values, allowed=(0, 1)):
        raise PartError(f"a row failed; {folder / 'table.md'} says which, and why")
    return known


def choose(runner: Runner) -> Dict[str, Any]:
    """Return start, length and folder of the table: those of an earlier call, or new ones."""
    settings, path = runner.settings, runner.folder / CHOICE
    known = read_state(path)
    asked = [settings.device, settings.tiny, settings.epochs, settings.start]
    if known.get("asked") == asked:
        return known
    speed = images_per_second(read_state(runner.folder.parent / "training.json"))
    start = choose_start(runner)
    epochs, why = epochs_that_fit(speed, runner.seconds_left, settings.jobs)
    if settings.tiny:
        epochs, why = EPOCHS[-1], "the rehearsal's length, with tiny images"
    if settings.epochs:
        epochs, why = settings.epochs, "as asked for"
    place = f"{epochs}_epochs_{start.weights}_{settings.device.replace(':', '')}"
    known = {"asked": asked, "start": start.title, "epochs": epochs, "why": why, "folder": place}
    if not settings.tiny:
        known["updates"] = epochs * UPDATES
    write_json(path, known)
    return known


def threads(runner: Runner) -> str:
    """Return the threads of each run."""
    return str(max(1, min(4, (os.cpu_count() or 1) // runner.settings.jobs)))
