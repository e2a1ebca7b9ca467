"""Measure peak memory and time of training, method by method, on random images.

    python tools/bench.py memory                                   # every method, as published
    python tools/bench.py memory agw mrda --variants plain amp+checkpointing --batch 32
    python tools/bench.py memory agw --opts MODEL.DEVICE cpu MODEL.BACKBONE.DEPTH 18x

No dataset is needed: images are random, of the size, batch and number of identities that the
method's config for SYSU-MM01 has, on the GPU where there is one. Each case runs in a process of
its own. On a GPU the peak is that of PyTorch's allocations, on a CPU the operating system's count
of the whole process. A step is everything between a batch in memory and the updated weights:
loading images is not in it; processor seconds are less disturbed by other programs than the clock,
and say nothing about a GPU. Seconds per epoch are *estimated*: median step times the updates of
an epoch of SYSU-MM01.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from vireid_plugins.comparison.measure import peak_memory  # noqa: E402
from vireid_plugins.data.datasets.sysu_mm01 import SYSUMM01  # noqa: E402
from vireid_plugins.engine.scaling import apply_scaling_keys  # noqa: E402
from vireid_plugins.engine.setup import build_config  # noqa: E402
from vireid_plugins.engine.step import StepTrainer  # noqa: E402
from vireid_plugins.modality import Modality  # noqa: E402
from vireid_plugins.runs.environment import environment  # noqa: E402
from vireid_plugins.runs.record import source_commit  # noqa: E402
from vireid_plugins.solver import build_optimizer  # noqa: E402

from fastreid.modeling.meta_arch import build_model  # noqa: E402
from fastreid.utils.events import EventStorage  # noqa: E402

METHODS = sorted(path.parent.name for path in ROOT.glob("configs/*/sysu.yml"))
NUM_CLASSES = SYSUMM01.published["train ids"]
TRAIN_IMAGES = SYSUMM01.published["train visible"]  # of the larger modality
VARIANTS = ("plain", "amp", "checkpointing", "accumulation")


def words_of(variant: str, images: int, on_gpu: bool) -> List[str]:
    """KEY VALUE words of a variant such as ``"amp+checkpointing"``.

    Accumulation halves the batch and doubles the batches of an update.
    """
    words = {
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
        raise SystemExit(f"Unknown variant {unknown[0]!r}; join these by +: {', '.join(words)}.")
    return [word for part in variant.split("+") for word in words[part]]


class RandomBatches:
    """A loader of one random batch, again and again, as sampler and views would make it."""

    class batch_sampler:
        @staticmethod
        def set_epoch(epoch: int) -> None:
            """Every epoch is the same."""

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


def measure(method: str, opts: Sequence[str], steps: int) -> Dict[str, Any]:
    """Train ``method`` for ``steps`` timed updates after one that is dropped, in its last phase."""
    cfg = build_config(
        str(ROOT / "configs" / method / "sysu.yml"),
        ["MODEL.BACKBONE.PRETRAIN", "False", "MODEL.HEADS.NUM_CLASSES", str(NUM_CLASSES), *opts],
    )
    torch.manual_seed(0)
    model = build_model(cfg)
    apply_scaling_keys(cfg, model)
    accumulation = cfg.SOLVER.ACCUMULATION
    loader = RandomBatches(cfg, (steps + 1) * accumulation)
    amp = cfg.SOLVER.AMP.DTYPE if cfg.SOLVER.AMP.ENABLED else None
    optimizer = build_optimizer(cfg, model)
    for group in optimizer.param_groups:  # random images teach nothing; losses must stay finite
        group["lr"] = 1e-6
    stepper = StepTrainer(model, loader, optimizer, amp, accumulation)
    if hasattr(model, "phase_of"):
        model.phase = model.phase_of(cfg.SOLVER.MAX_EPOCH - 1)
    stepper.start_epoch(0)
    seconds, processor = _timed(stepper, model, steps)
    updates = -(-(TRAIN_IMAGES // (cfg.SOLVER.IMS_PER_BATCH // 2)) // accumulation)
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


def _timed(stepper: StepTrainer, model: torch.nn.Module, steps: int) -> Tuple[List[float], float]:
    """Seconds of each update after the first, and the mean of this process's processor seconds."""
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


def in_own_process(method: str, opts: Sequence[str], args: argparse.Namespace) -> Dict[str, Any]:
    """``measure`` in a new process, so that its peak is its own; or why it ended."""
    command = [sys.executable, __file__, "--worker", method, "--steps", str(args.steps)]
    command += ["--threads", str(args.threads), "--opts", *opts]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
        return {"error": lines[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(rows: Sequence[Dict[str, Any]], steps: int) -> str:
    """The rows as Markdown."""
    lines = [
        "| method | variant | images per update | peak memory (MiB) | step (s): median, range | "
        "processor (s/step) | epoch (s), estimated |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['method']} | {row['variant']} | failed: {row['error']} | | | | |")
            continue
        low, high = row["step_seconds_range"]
        peak = "?" if row["peak_MiB"] is None else f"{row['peak_MiB']:.0f}"
        lines.append(
            f"| {row['method']} | {row['variant']} | {row['images']} | {peak} | "
            f"{row['step_seconds']:.2f}, {low:.2f}–{high:.2f} | "
            f"{row['step_processor_seconds']:.2f} | {row['epoch_seconds_estimated']:.0f} |"
        )
    return "\n".join([*lines, "", f"Timed steps of each case: {steps}, after one that is dropped."])


def parse(words: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("methods", nargs="*", default=[], help=f"of: {', '.join(METHODS)}")
    parser.add_argument(
        "--variants",
        nargs="+",
        default=["plain"],
        metavar="VARIANT",
        help=f"{', '.join(VARIANTS)}, or several joined by +",
    )
    parser.add_argument("--batch", type=int, default=64, help="images of an update, 2 * P * K")
    parser.add_argument("--steps", type=int, default=5, help="timed updates of each case")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", default="logs/memory", help="folder for the results")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    unknown = sorted(set(args.methods) - set(METHODS))
    if unknown or args.steps < 1:
        parser.error(f"no method {unknown}" if unknown else "--steps must be 1 or more")
    return args


def main(words: Optional[Sequence[str]] = None) -> None:
    """Measure all cases, show and write the table."""
    args = parse(words)
    torch.set_num_threads(args.threads)
    if args.worker:
        sys.stdout.write("\n" + json.dumps(measure(args.worker, args.opts, args.steps)) + "\n")
        return
    on_gpu = torch.cuda.is_available()
    opts = [*([] if on_gpu else ["MODEL.DEVICE", "cpu"]), *args.opts]
    on_gpu = on_gpu and "cpu" not in opts
    rows = []
    for method in args.methods or METHODS:
        for variant in args.variants:
            own = ["SOLVER.IMS_PER_BATCH", str(args.batch), *words_of(variant, args.batch, on_gpu)]
            rows.append(
                {
                    "method": method,
                    "variant": variant,
                    **in_own_process(method, [*own, *opts], args),
                }
            )
            sys.stdout.write(table(rows[-1:], args.steps).splitlines()[2] + "\n")
            sys.stdout.flush()
    device = "cuda" if on_gpu else "cpu"
    name = f"memory-torch{torch.__version__}-{device}-{args.threads}threads"
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "rows": rows,
        "steps": args.steps,
        "commit": source_commit(),
        "environment": {**environment(), "threads": str(args.threads)},
    }
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    (folder / f"{name}.md").write_text(table(rows, args.steps) + "\n", encoding="utf-8")
    sys.stdout.write(f"Written: {folder / name}.json and .md\n")


if __name__ == "__main__":
    main()
