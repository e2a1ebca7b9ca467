"""Compare training steps with the usual loop that they replace.

AGW on ResNet-50 from random weights, on rendered images (SynthVI). The *usual* loop (``loops.py``)
opens each image with PIL when it is needed, passes it through torchvision's transforms in the
process that trains, and steps in float32 with PyTorch's defaults. Both sides see the same pixels
in the same order from the same weights, so their losses differ by rounding (*usual, one thread*
shows how much rounding alone does) and, in bfloat16, by precision. Every variant runs in a process
of its own, because an allocator cannot be set back. The variants take turns, and the first steps
of each turn are dropped.
"""

import logging
import os
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import torch

from ..comparison.measure import peak_memory
from ..engine import VIReIDTrainer
from ..engine.allocator import keep_freed_memory
from ..engine.seeding import seed_everything
from ..engine.setup import build_config
from ..errors import UserError
from ..solver.amp import cpu_has_bfloat16
from ..synthvi import render_dataset
from .counting import MultiplyAdds, work_of
from .loops import OwnLoop, UsualLoop
from .measures import Measure
from .measuring import MEASURES, in_own_process, markdown_table
from .rates import HALF_PRODUCT, JPEG, PRODUCT

SIZES = {"288x144": (288, 144), "128x64": (128, 64)}
RENDERED = (256, 128)  # not a training size, so that every image has to be resized

CACHED = ["DATALOADER.CACHE.ENABLED", "True"]
HALF = ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "bfloat16"]
NHWC = ["RUNTIME.CHANNELS_LAST", "True"]
KEEP, GIVE = ["RUNTIME.KEEP_MEMORY", "True"], ["RUNTIME.KEEP_MEMORY", "False"]


class Variant(NamedTuple):
    """A way to train."""

    usual: bool  # whether the usual loop takes the steps
    words: List[str]  # KEY VALUE words of the config
    threads: int = 0  # 0: the number that all variants use
    product: str = PRODUCT  # the resource in which most of a step is counted


class Workload(NamedTuple):
    """The work that every variant does, and where."""

    batch: int  # images, a multiple of 8
    steps: int  # timed steps of a turn
    warmup: int  # steps dropped before them
    threads: int
    workers: int  # loading processes of this package
    device: str
    folder: str  # folder of images and cache


VARIANTS = {
    "usual": Variant(True, GIVE),
    "usual, one thread": Variant(True, GIVE, 1),  # its losses differ by rounding alone: the noise
    "usual, memory kept": Variant(True, KEEP),
    "float32, memory given back": Variant(False, GIVE + CACHED),
    "float32": Variant(False, KEEP + CACHED),
    "float32, NHWC": Variant(False, KEEP + CACHED + NHWC),
    "bfloat16, NHWC, memory given back": Variant(
        False, GIVE + CACHED + HALF + NHWC, product=HALF_PRODUCT
    ),
    "bfloat16, NHWC": Variant(False, KEEP + CACHED + HALF + NHWC, product=HALF_PRODUCT),
}


def run_variant(variant: str, size: str, **load: Any) -> Dict[str, Any]:
    """Take one turn of one variant, in this process; return seconds and losses of its steps.

    Args:
        variant: a name of ``VARIANTS``.
        size: a name of ``SIZES``.
        load: the fields of :class:`Workload`.
    """
    chosen, pixels, given = VARIANTS[variant], SIZES[size], Workload(**load)
    torch.set_num_threads(chosen.threads or given.threads)
    cfg = make_config(given, pixels, chosen.words)
    keep_freed_memory(cfg)
    logging.getLogger("vireid_plugins").addHandler(logging.NullHandler())
    trainer = VIReIDTrainer(cfg)
    loop = UsualLoop(trainer, pixels) if chosen.usual else OwnLoop(trainer)
    seed_everything(cfg.SEED)
    loop.start_epoch(0)
    return timed(loop.step, given)


def timed(step: Callable[[], Tuple[float, float]], load: Workload) -> Dict[str, Any]:
    """Return the seconds of each step but the dropped ones, and the losses of all.

    The multiply-adds of a step are counted in the first dropped one: counting takes time.
    """
    out: Dict[str, Any] = {"seconds": [], "data": [], "cpu": [], "losses": []}
    mode = MultiplyAdds()
    for number in range(load.warmup + load.steps):
        begin, cpu = time.perf_counter(), time.process_time()
        with mode if number == 0 < load.warmup else nullcontext():
            loss, data = step()
        if load.device.startswith("cuda"):
            torch.cuda.synchronize()
        if number >= load.warmup:
            out["seconds"].append(time.perf_counter() - begin)
            out["cpu"].append(time.process_time() - cpu)
            out["data"].append(data)
        out["losses"].append(loss)
    out["multiply-adds"] = mode.total
    out["peak_memory"] = peak_memory(torch.device(load.device))
    return out


def make_config(load: Workload, size: Tuple[int, int], words: List[str]) -> Any:
    """Return the config of AGW on ResNet-50 at ``size``, without pretrained weights."""
    pixels = str(list(size))
    common = {
        "OUTPUT_DIR": str(Path(load.folder) / "logs"),
        "MODEL.DEVICE": load.device,
        "MODEL.BACKBONE.PRETRAIN": "False",
        "INPUT.SIZE_TRAIN": pixels,
        "INPUT.SIZE_TEST": pixels,
        "SOLVER.IMS_PER_BATCH": str(load.batch),
        "SOLVER.BASE_LR": "0.001",
        "SOLVER.WARMUP_EPOCHS": "0",
        "SOLVER.MAX_EPOCH": "100",
        "DATALOADER.NUM_INSTANCE": str(load.batch // 8),  # of each of 4 identities
        "DATALOADER.NUM_WORKERS": str(load.workers),
        "DATALOADER.CACHE.FOLDER": str(Path(load.folder) / "cache"),
        "DATASETS.VERIFY_IMAGES": "sizes",
        "TEST.EVAL_PERIOD": "0",
    }
    flat = [word for pair in common.items() for word in pair]
    return build_config("agw/sysu.yml", flat + words)


def bench(size: str, names: Sequence[str], load: Workload, turns: int) -> Dict[str, Dict[str, Any]]:
    """Return the joined turns of the variants ``names`` at ``size``, with their ratios."""
    environment = {"FASTREID_DATASETS": load.folder, "VIREID_CACHE": load.folder}
    run_turn = partial(in_own_process, run_variant, environment, size=size, **load._asdict())
    found: Dict[str, List[Dict[str, Any]]] = {name: [] for name in names}
    for number in range(turns):
        for name in names if number % 2 == 0 else names[::-1]:
            found[name].append(run_turn(variant=name))
            sys.stderr.write(f"{size}, turn {number + 1} of {turns}: {name}\n")
    base = found[names[0]][0]["losses"]
    rows = {name: joined(each, base, load.batch) for name, each in found.items()}
    for row in rows.values():
        for known in ("usual", "usual, memory kept"):
            if known in rows:
                row[f"times {known}"] = row["images/s"] / rows[known]["images/s"]
    return rows


def joined(found: List[Dict[str, Any]], base: List[float], batch: int) -> Dict[str, Any]:
    """Join the turns of a variant into medians.

    Args:
        found: the turns.
        base: the losses of the usual loop.
    """
    seconds = [value for one in found for value in one["seconds"]]
    losses = found[0]["losses"]
    return {
        "images/s": batch / statistics.median(seconds),
        "images/s of each step": [batch / value for value in seconds],
        "seconds": seconds,
        "processor seconds": [value for one in found for value in one["cpu"]],
        "multiply-adds": found[0]["multiply-adds"],
        "CPU seconds per image": statistics.median(v for one in found for v in one["cpu"]) / batch,
        "data share": sum(sum(one["data"]) for one in found) / sum(seconds),
        "peak MiB": max(one["peak_memory"] or float("nan") for one in found),
        "losses": losses,
        "difference of each loss": [abs(a - b) / abs(b) for a, b in zip(losses, base)],
    }


def table(size: str, rows: Dict[str, Dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    head = ["size", "variant", "images/s (spread)", "to usual", "to usual, memory kept"]
    head += ["CPU s/image", "data time", "peak MiB", "loss differs, first to most"]
    lines = [head]
    for name, row in rows.items():
        each, differs = row["images/s of each step"], row["difference of each loss"]
        ratios = [row.get(f"times {base}") for base in ("usual", "usual, memory kept")]
        lines.append(
            [
                size,
                name,
                f"{row['images/s']:.2f} ({min(each):.2f} to {max(each):.2f})",
                *(f"{ratio:.2f}" if ratio else "" for ratio in ratios),
                f"{row['CPU seconds per image']:.3f}",
                f"{100 * row['data share']:.1f} %",
                f"{row['peak MiB']:.0f}",
                " to ".join(f"{100 * found:.1g} %" for found in (differs[0], max(differs))),
            ]
        )
    return markdown_table(lines)


def measures_of(rows: Dict[str, Dict[str, Any]], batch: int, clock: str) -> List[Measure]:
    """Return the steps of each variant with their work.

    The usual loop also decodes its images. A variant with threads of its own is left out, because
    the machine's rates are those of the others.
    """
    decoded = batch * RENDERED[0] * RENDERED[1]
    measures = []
    for name, row in rows.items():
        variant = VARIANTS[name]
        work = work_of(variant.product, row["multiply-adds"])
        if variant.usual and work:
            work[JPEG] = decoded
        base = [] if name == "usual" else rows["usual"][clock]
        if not variant.threads:
            measures.append(Measure(name, row[clock], work, base))
    return measures


def default_variants(device: str) -> List[str]:
    """Return all variants, without bfloat16 on a CPU that lacks it: a step would take minutes."""
    if device == "cpu" and not cpu_has_bfloat16():
        sys.stderr.write("This CPU has no bfloat16 instructions; those variants are left out.\n")
        return [name for name in VARIANTS if "bfloat16" not in name]
    return list(VARIANTS)


def run(
    *,
    variants: Sequence[str] = (),
    sizes: Sequence[str] = tuple(SIZES),
    batch: int = 16,
    steps: int = 3,
    warmup: int = 1,
    turns: int = 2,
    threads: int = 2,
    workers: int = 0,
    device: str = "cpu",
    folder: str = "",
    processor_time: bool = False,
) -> Dict[str, Any]:
    """Measure variants at every size; the result has a table of each size.

    Args:
        variants: names of ``VARIANTS``; empty: all that this machine can run.
        sizes: names of ``SIZES``.
        batch: images, a multiple of 8.
        steps: timed steps of a turn.
        warmup: steps dropped before them.
        turns: turns of each variant.
        workers: loading processes of this package.
        device: ``"cpu"`` or ``"cuda"``.
        folder: folder of images and cache; empty: a temporary one.
        processor_time: state seconds of the processor as fractions of the limit.

    Raises:
        UserError: a name is unknown, or the batch does not fit.
    """
    unknown = sorted(set(variants) - set(VARIANTS))
    if unknown:
        raise UserError(f"unknown variant {', '.join(unknown)}; valid: {'; '.join(VARIANTS)}")
    if batch < 16 or batch % 8:
        raise UserError(f"--batch {batch}: expected a multiple of 8, 16 or more")
    chosen = variants or default_variants(device)
    names = ["usual", *(name for name in chosen if name != "usual")]
    results: Dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        place = os.path.abspath(folder or temporary)
        render_dataset("sysu", place, "tiny", size=RENDERED, images_per_camera=8, progress=False)
        load = Workload(batch, steps, warmup, threads, workers, device, place)
        for size in sizes:
            results[size] = bench(size, names, load, turns)
    tables = "".join(f"{table(size, rows)}\n" for size, rows in results.items())
    clock = "processor seconds" if processor_time else "seconds"
    for rows in results.values():
        rows[MEASURES] = measures_of(rows, batch, clock)
    return {**results, "table": f"{tables}{batch} images, {threads} threads.\n"}
