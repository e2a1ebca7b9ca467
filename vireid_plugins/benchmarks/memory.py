"""Peak memory and time of training, method by method, on random images.

No dataset is needed: images are random, of the size, batch and number of identities that the
method's config for SYSU-MM01 has, on the GPU where there is one. Each case runs in a process of
its own. On a GPU the peak is that of PyTorch's allocations, on a CPU the operating system's count
of the whole process. A step is everything between a batch in memory and the updated weights:
loading images is not in it. Processor seconds are disturbed less by other programs than the
clock, and say nothing about a GPU. Seconds per epoch are *estimated*: the median step times the
updates of an epoch of SYSU-MM01.
"""

import statistics
import sys
import time
from typing import Any, Dict, List, Sequence, Tuple

import torch

from fastreid.modeling.meta_arch import build_model
from fastreid.utils.events import EventStorage

from ..comparison.measure import peak_memory
from ..data.datasets.sysu_mm01 import SYSUMM01
from ..engine.scaling import apply_scaling_keys
from ..engine.setup import build_config
from ..engine.step import StepTrainer
from ..engine.turns import build_stepper
from ..errors import UserError
from ..files import CONFIG_FOLDERS
from ..keypoints import standing_person
from ..modality import Modality
from ..runs.environment import environment
from ..runs.record import source_commit
from ..solver import build_optimizer
from .measuring import in_own_process, markdown_table

METHODS = sorted(
    {path.parent.name for folder in CONFIG_FOLDERS for path in folder.glob("*/sysu.yml")}
)
NUM_CLASSES = SYSUMM01.published["train ids"]
TRAIN_IMAGES = SYSUMM01.published["train visible"]  # visible images are the more numerous
VARIANTS = ("plain", "amp", "checkpointing", "accumulation")


def words_of(variant: str, images: int, on_gpu: bool) -> List[str]:
    """Return the KEY VALUE words of a variant such as ``"amp+checkpointing"``.

    Accumulation halves the batch and doubles the batches of an update.

    Raises:
        UserError: a part of the variant is unknown.
    """
    words: Dict[str, List[str]] = {
        "plain": [],
        "amp": [
            "SOLVER.AMP.ENABLED",
            "True",
            "SOLVER.AMP.DTYPE",
            "float16" if on_gpu else "bfloat16",
        ],
        "checkpointing": ["MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS", "True"],
        "accumulation": ["SOLVER.IMS_PER_BATCH", str(images // 2), "SOLVER.ACCUMULATION", "2"],
    }
    unknown = [part for part in variant.split("+") if part not in words]
    if unknown:
        raise UserError(f"Unknown variant {unknown[0]!r}; join these by +: {', '.join(words)}.")
    return [word for part in variant.split("+") for word in words[part]]


class RandomBatches:
    """A loader that repeats one random batch, composed as sampler and views would compose it."""

    class batch_sampler:
        @staticmethod
        def set_epoch(epoch: int) -> None:
            """Do nothing: every epoch is the same."""

    def __init__(self, cfg: Any, length: int) -> None:
        self.length = length
        instances, views = cfg.DATALOADER.NUM_INSTANCE, cfg.INPUT.NUM_VIEWS
        identities = cfg.SOLVER.IMS_PER_BATCH // (2 * instances)
        rows = [
            (identity, int(modality), (identity * 2 + modality) * instances + image, view)
            for identity in range(identities)
            for modality in Modality
            for image in range(instances)
            for view in range(views[modality.name])
        ]
        targets, modalities, index, view = torch.tensor(rows).unbind(1)
        self.batch = {
            "images": torch.rand(len(rows), 3, *cfg.INPUT.SIZE_TRAIN) * 255,
            "keypoints": standing_person(len(rows), tuple(cfg.INPUT.SIZE_TRAIN)),
            "targets": targets,
            "modalities": modalities,
            "index": index,
            "views": view,
            "camids": 2 * modalities + index % 2,
        }

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Any:
        return iter([self.batch] * self.length)


def random_sequences(cfg: Any, model: Any) -> Dict[str, torch.Tensor]:
    """Return a batch of random features, for a method that trains on those of its encoder."""
    node = cfg.MODEL.NFORMER
    rows = torch.arange(node.SEQUENCES * node.SEQUENCE_LENGTH)
    return {
        "features": torch.randn(node.SEQUENCES, node.SEQUENCE_LENGTH, model.encoder_dim),
        "targets": rows % cfg.MODEL.HEADS.NUM_CLASSES,
        "modalities": rows % len(Modality),
        "index": rows,
        "camids": rows % len(Modality),
    }


def measure(method: str, opts: Sequence[str], steps: int) -> Dict[str, Any]:
    """Train ``method`` in its last phase, for ``steps`` timed updates after one that is dropped.

    Args:
        opts: KEY VALUE words over the method's config for SYSU-MM01.
    """
    cfg = build_config(
        f"{method}/sysu.yml",
        ["MODEL.BACKBONE.PRETRAIN", "False", "MODEL.HEADS.NUM_CLASSES", str(NUM_CLASSES), *opts],
    )
    torch.manual_seed(0)
    model = build_model(cfg)
    apply_scaling_keys(cfg, model)
    accumulation = cfg.SOLVER.ACCUMULATION
    trains_on_features = getattr(model, "trains_on_features", False)
    loader = RandomBatches(cfg, (steps + 1) * accumulation)
    if trains_on_features:
        loader.batch = random_sequences(cfg, model)
    amp = cfg.SOLVER.AMP.DTYPE if cfg.SOLVER.AMP.ENABLED else None
    optimizer = build_optimizer(cfg, model)
    for group in optimizer.param_groups:  # random images teach nothing; losses must stay finite
        group["lr"] = 1e-6
    stepper = build_stepper(model, loader, optimizer, amp, accumulation)
    if hasattr(model, "phase_of"):
        model.phase = model.phase_of(cfg.SOLVER.MAX_EPOCH - 1)
    stepper.start_epoch(0)
    seconds, processor = _timed(stepper, model, steps)
    batches = TRAIN_IMAGES // (cfg.SOLVER.IMS_PER_BATCH // 2)
    if trains_on_features:
        node = cfg.MODEL.NFORMER
        batches = batches * cfg.SOLVER.IMS_PER_BATCH // node.IMAGES_PER_SEQUENCE // node.SEQUENCES
    updates = -(-batches // accumulation)
    step = statistics.median(seconds)
    return {
        "images": cfg.SOLVER.IMS_PER_BATCH * accumulation,
        "rows": len(loader.batch["targets"]) * accumulation,
        "size": list(cfg.INPUT.SIZE_TRAIN),
        "depth": cfg.MODEL.BACKBONE.DEPTH,
        "device": str(stepper.device),
        "peak_MiB": peak_memory(stepper.device),
        "step_seconds": step,
        "step_seconds_range": [min(seconds), max(seconds)],
        "step_processor_seconds": processor,
        "epoch_seconds_estimated": step * updates,
    }


def _timed(stepper: StepTrainer, model: Any, steps: int) -> Tuple[List[float], float]:
    """Return the seconds of each update after the first, and the mean processor seconds."""
    seconds = []
    with EventStorage() as stepper.storage:
        for number in range(steps + 1):
            if number == 1:
                processor = time.process_time()
            begin = time.perf_counter()
            stepper.run_step()
            if hasattr(model, "after_step"):
                model.after_step()
            if stepper.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
    return seconds[1:], (time.process_time() - processor) / steps


def measure_with_threads(
    method: str, opts: Sequence[str], steps: int, threads: int
) -> Dict[str, Any]:
    """Return the result of :func:`measure` with ``threads`` CPU threads."""
    torch.set_num_threads(threads)
    return measure(method, opts, steps)


def case(method: str, opts: Sequence[str], steps: int, threads: int) -> Dict[str, Any]:
    """Measure in a new process, so that the peak is its own; a failure becomes ``"error"``."""
    try:
        return in_own_process(
            measure_with_threads, method=method, opts=list(opts), steps=steps, threads=threads
        )
    except RuntimeError as error:
        return {"error": str(error).splitlines()[-1]}


HEAD = [
    "method",
    "variant",
    "images per update",
    "peak memory (MiB)",
    "step (s): median, range",
    "processor (s/step)",
    "epoch (s), estimated",
]


def table_line(row: Dict[str, Any]) -> List[str]:
    """Return the line of a case in the table."""
    if "error" in row:
        return [row["method"], row["variant"], f"failed: {row['error']}", "", "", "", ""]
    low, high = row["step_seconds_range"]
    return [
        row["method"],
        row["variant"],
        str(row["images"]),
        "?" if row["peak_MiB"] is None else f"{row['peak_MiB']:.0f}",
        f"{row['step_seconds']:.2f}, {low:.2f}–{high:.2f}",
        f"{row['step_processor_seconds']:.2f}",
        f"{row['epoch_seconds_estimated']:.0f}",
    ]


def run(
    *,
    methods: Sequence[str] = (),
    variants: Sequence[str] = ("plain",),
    batch: int = 64,
    steps: int = 5,
    threads: int = torch.get_num_threads(),
    opts: Sequence[str] = (),
) -> Dict[str, Any]:
    """Measure all cases; the result has a table.

    Args:
        methods: folders of ``configs``; empty: all.
        variants: ``plain``, ``amp``, ``checkpointing``, ``accumulation``, or several joined by +.
        batch: images of an update, 2 * P * K.
        steps: timed updates of each case.
        opts: KEY VALUE words over every config.

    Raises:
        UserError: a name is unknown, or ``steps`` is less than 1.
    """
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        raise UserError(f"no method {', '.join(unknown)}; there are: {', '.join(METHODS)}")
    if steps < 1:
        raise UserError(f"--steps must be at least 1; got {steps}")
    device = "cuda" if torch.cuda.is_available() and "cpu" not in opts else "cpu"
    words = [*([] if device == "cuda" else ["MODEL.DEVICE", "cpu"]), *opts]
    own = {
        one: ["SOLVER.IMS_PER_BATCH", str(batch), *words_of(one, batch, device == "cuda")]
        for one in variants
    }
    rows: List[Dict[str, Any]] = []
    for method in methods or METHODS:
        for variant in variants:
            found = case(method, [*own[variant], *words], steps, threads)
            rows.append({"method": method, "variant": variant, **found})
            sys.stderr.write(f"{method}, {variant}: measured\n")
    return {
        "table": f"{markdown_table([HEAD, *map(table_line, rows)])}\nTimed steps of each case: "
        f"{steps}, after one that is dropped.\n",
        "rows": rows,
        "device": device,
        "commit": source_commit(),
        "environment": {**environment(), "threads": str(threads)},
    }
