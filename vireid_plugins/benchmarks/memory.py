"""Peak memory and time of training, method by method, on random images.

No dataset is needed: images are random, of the size, batch and number of identities that the
method's config for SYSU-MM01 has (or another config), on the GPU where there is one. Each case
runs in a process of its own. On a GPU the peak is that of PyTorch's allocations, on a CPU the
operating system's count of the whole process. A step is everything between a batch in memory and
the updated weights, all turns of several optimizers included: loading images is not in it.
Processor seconds are disturbed less by other programs than the clock, and say nothing about a GPU.
Seconds per epoch are *estimated*: the median step times the updates of an epoch of SYSU-MM01.
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
from ..data.pairs_sampler import PairsAndNegativesSampler
from ..engine.scaling import apply_scaling_keys
from ..engine.setup import build_config
from ..engine.step import StepTrainer
from ..engine.turns import build_stepper
from ..errors import UserError
from ..files import CONFIG_FOLDERS
from ..keypoints import standing_person
from ..modality import Modality
from ..solver import build_optimizer
from .counting import MultiplyAdds, work_of
from .measures import Measure
from .measuring import MEASURES, in_own_process, markdown_table
from .rates import HALF_PRODUCT, PRODUCT

METHODS = sorted(
    {path.parent.name for folder in CONFIG_FOLDERS for path in folder.glob("*/sysu.yml")}
)
NUM_CLASSES = SYSUMM01.published["train ids"]
TRAIN_IMAGES = SYSUMM01.published["train visible"]  # visible images are the more numerous
VARIANTS = ("plain", "amp", "checkpointing", "accumulation")
MOST = 64  # images of an update, unless the user says another number


def words_of(variant: str, images: int, on_gpu: bool, negatives: int = 0) -> List[str]:
    """Return the KEY VALUE words of a variant such as ``"amp+checkpointing"``.

    Accumulation halves the batch and doubles the batches of an update.

    Args:
        variant: names of ``VARIANTS``, joined by +.
        images: of a batch.
        on_gpu: whether the number format may be that of GPUs.
        negatives: images of a modality without a partner in the batch, see ``negatives_of``.

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
    if negatives:
        words["accumulation"] += ["DATALOADER.NEGATIVES", str(negatives // 2)]
    unknown = [part for part in variant.split("+") if part not in words]
    if unknown:
        raise UserError(f"Unknown variant {unknown[0]!r}; join these by +: {', '.join(words)}.")
    return [word for part in variant.split("+") for word in words[part]]


def negatives_of(cfg: Any) -> int:
    """Return how many images of each modality in a batch have no partner: of Hi-CMD's sampler."""
    has_some = cfg.DATALOADER.SAMPLER_TRAIN == PairsAndNegativesSampler.__name__
    return cfg.DATALOADER.NEGATIVES if has_some else 0


class RandomBatches:
    """A loader that repeats one random batch, composed as sampler and views would compose it."""

    class batch_sampler:
        @staticmethod
        def set_epoch(epoch: int) -> None:
            """Do nothing: every epoch is the same."""

    def __init__(self, cfg: Any, length: int) -> None:
        self.length = length
        instances, views = cfg.DATALOADER.NUM_INSTANCE, cfg.INPUT.NUM_VIEWS
        alone = negatives_of(cfg)
        identities = (cfg.SOLVER.IMS_PER_BATCH // 2 - alone) // instances
        images = [(one, m) for one in range(identities) for m in Modality for _ in range(instances)]
        images += [(identities + m * alone + one, m) for m in Modality for one in range(alone)]
        rows = [
            (identity, int(modality), index, view)
            for index, (identity, modality) in enumerate(images)
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


def read_config(method: str, opts: Sequence[str]) -> Any:
    """Return the config of a method for SYSU-MM01, or another config, from random weights.

    Args:
        method: a folder of ``configs``, or a config: a path, or a file below ``configs``.
        opts: KEY VALUE words.
    """
    words = ["MODEL.BACKBONE.PRETRAIN", "False", "MODEL.HEADS.NUM_CLASSES", str(NUM_CLASSES)]
    name = method if method.endswith(".yml") else f"{method}/sysu.yml"
    return build_config(name, [*words, *opts])


def config_of_case(method: str, variant: str, batch: int, opts: Sequence[str]) -> Any:
    """Return the config of a case; see :func:`run`."""
    cfg = read_config(method, opts)
    images, negatives = batch or min(cfg.SOLVER.IMS_PER_BATCH, MOST), negatives_of(cfg)
    own = ["SOLVER.IMS_PER_BATCH", str(images)]
    own += words_of(variant, images, cfg.MODEL.DEVICE != "cpu", negatives)
    return read_config(method, [*own, *opts])


def measure(
    method: str, opts: Sequence[str], steps: int, variant: str = "plain", batch: int = 0
) -> Dict[str, Any]:
    """Train ``method`` in its last phase, for ``steps`` timed updates after one that is dropped.

    Args:
        method, opts: see :func:`read_config`.
        steps: number of updates.
        variant, batch: see :func:`run`.
    """
    cfg = config_of_case(method, variant, batch, opts)
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
    seconds, processor, multiply_adds = _timed(stepper, model, steps)
    updates = -(-_batches_of_epoch(cfg, trains_on_features) // accumulation)
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
        "step_processor_seconds": statistics.mean(processor),
        "seconds": seconds,
        "processor_seconds": processor,
        "multiply_adds": multiply_adds,
        "product": PRODUCT if amp is None else HALF_PRODUCT,
        "epoch_seconds_estimated": step * updates,
    }


def _batches_of_epoch(cfg: Any, trains_on_features: bool) -> int:
    images, alone = cfg.SOLVER.IMS_PER_BATCH, negatives_of(cfg)
    batches: int = TRAIN_IMAGES // (images // 2 - alone)
    if trains_on_features:
        node = cfg.MODEL.NFORMER
        return batches * images // node.IMAGES_PER_SEQUENCE // node.SEQUENCES
    return (alone and cfg.DATALOADER.EPOCH_BATCHES) or batches


def _timed(stepper: StepTrainer, model: Any, steps: int) -> Tuple[List[float], List[float], float]:
    """Return seconds and processor seconds of each update after the first.

    The first update gives the multiply-adds of an update; counting them takes time.
    """

    def update() -> None:
        stepper.run_step()
        if hasattr(model, "after_step"):
            model.after_step()
        if stepper.device.type == "cuda":
            torch.cuda.synchronize()

    seconds, processor = [], []
    with EventStorage() as stepper.storage:
        with MultiplyAdds() as counted:
            update()
        for _ in range(steps):
            begin, processor_begin = time.perf_counter(), time.process_time()
            update()
            seconds.append(time.perf_counter() - begin)
            processor.append(time.process_time() - processor_begin)
    return seconds, processor, counted.total


def measure_with_threads(threads: int, **words: Any) -> Dict[str, Any]:
    """Return the result of :func:`measure` with ``threads`` CPU threads."""
    torch.set_num_threads(threads)
    return measure(**words)


def case(**words: Any) -> Dict[str, Any]:
    """Measure in a new process, so that the peak is its own; a failure becomes ``"error"``."""
    try:
        return in_own_process(measure_with_threads, **words)
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


def measures_of(rows: Sequence[Dict[str, Any]], clock: str) -> List[Measure]:
    """Return the updates of each case, with their multiply-adds; checkpointing makes more."""
    return [
        Measure(
            row["variant"],
            row[clock],
            work_of(row["product"], row["multiply_adds"]),
            case=row["method"],
        )
        for row in rows
        if "error" not in row
    ]


def run(
    *,
    methods: Sequence[str] = (),
    variants: Sequence[str] = ("plain",),
    batch: int = 0,
    steps: int = 5,
    threads: int = torch.get_num_threads(),
    opts: Sequence[str] = (),
    processor_time: bool = False,
) -> Dict[str, Any]:
    """Measure all cases; the result has a table.

    Args:
        methods: folders of ``configs``, or configs, see :func:`read_config`; empty: all folders.
        variants: ``plain``, ``amp``, ``checkpointing``, ``accumulation``, or several joined by +.
        batch: images of an update; 0: as many as the config says, and no more than ``MOST``.
        steps: timed updates of each case.
        opts: KEY VALUE words over every config.
        processor_time: state seconds of the processor as fractions of the limit.

    Raises:
        UserError: a name is unknown, or ``steps`` is less than 1.
    """
    unknown = sorted({one for one in methods if not one.endswith(".yml")} - set(METHODS))
    if unknown:
        raise UserError(f"no method {', '.join(unknown)}; there are: {', '.join(METHODS)}")
    if steps < 1:
        raise UserError(f"--steps must be at least 1; got {steps}")
    device = "cuda" if torch.cuda.is_available() and "cpu" not in opts else "cpu"
    words = [*([] if device == "cuda" else ["MODEL.DEVICE", "cpu"]), *opts]
    for variant in variants:
        words_of(variant, MOST, on_gpu=False)  # checks the word
    load = {"batch": batch, "steps": steps, "threads": threads, "opts": words}
    rows: List[Dict[str, Any]] = []
    for method in methods or METHODS:
        for variant in variants:
            found = case(method=method, variant=variant, **load)
            rows.append({"method": method, "variant": variant, **found})
            sys.stderr.write(f"{method}, {variant}: measured\n")
    return {
        "table": f"{markdown_table([HEAD, *map(table_line, rows)])}\nTimed steps of each case: "
        f"{steps}, after one that is dropped.\n",
        "rows": rows,
        "device": device,
        MEASURES: measures_of(rows, "processor_seconds" if processor_time else "seconds"),
    }
