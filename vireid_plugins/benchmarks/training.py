"""Measure training steps against the usual loop that they replace, in one run.

    python tools/bench.py training                      # every variant at 288 x 144 and 128 x 64
    python tools/bench.py training --quick
    python tools/bench.py training --device cuda --batch 64 --workers 8

AGW on ResNet-50 from random weights, on rendered images (SynthVI). The *usual* loop is written
here from its definition and used nowhere else: each image is opened with PIL when it is needed,
passes torchvision's transforms in the process that trains, and the step is float32 with
PyTorch's defaults. Both sides see the same pixels in the same order from the same weights, so
their losses differ by rounding (how far rounding alone carries, *usual, one thread* shows) and,
in bfloat16, by precision. Every variant runs in a process of its own, because an allocator cannot
be set back; the variants take turns, the first steps of each turn are dropped, and medians with
spreads (smallest to largest) are printed. A result is written as JSON whose file name carries
PyTorch's version, the device and the threads.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


from vireid_plugins.comparison.measure import peak_memory  # noqa: E402
from vireid_plugins.data.dataset import collate  # noqa: E402
from vireid_plugins.data.seeding import seeded  # noqa: E402
from vireid_plugins.engine import VIReIDTrainer  # noqa: E402
from vireid_plugins.engine.allocator import keep_freed_memory  # noqa: E402
from vireid_plugins.engine.seeding import seed_everything  # noqa: E402
from vireid_plugins.engine.setup import build_config  # noqa: E402
from vireid_plugins.engine.step import _cpu_has_bfloat16, to_device  # noqa: E402
from vireid_plugins.synthvi import render_dataset  # noqa: E402

from fastreid.utils.events import EventStorage  # noqa: E402

from torchvision import transforms as T  # noqa: E402, I001  isort: skip

SIZES = {"288x144": (288, 144), "128x64": (128, 64)}
RENDERED = (256, 128)  # not a training size, so that every image has to be resized

CACHED = ["DATALOADER.CACHE.ENABLED", "True"]
HALF = ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "bfloat16"]
NHWC = ["RUNTIME.CHANNELS_LAST", "True"]
KEEP, GIVE = ["RUNTIME.KEEP_MEMORY", "True"], ["RUNTIME.KEEP_MEMORY", "False"]


class Variant(NamedTuple):
    """What is measured."""

    usual: bool  # the usual loop runs
    words: List[str]  # of the config
    threads: int = 0  # 0: those of the command line


VARIANTS = {
    "usual": Variant(True, GIVE),
    "usual, one thread": Variant(True, GIVE, 1),  # its losses differ by rounding alone: the noise
    "usual, memory kept": Variant(True, KEEP),
    "float32, memory given back": Variant(False, GIVE + CACHED),
    "float32": Variant(False, KEEP + CACHED),
    "float32, NHWC": Variant(False, KEEP + CACHED + NHWC),
    "bfloat16, NHWC, memory given back": Variant(False, GIVE + CACHED + HALF + NHWC),
    "bfloat16, NHWC": Variant(False, KEEP + CACHED + HALF + NHWC),
}


class UsualLoop:
    """PIL and torchvision per image, a float32 step; the baseline of every ratio."""

    def __init__(self, trainer: VIReIDTrainer, size: Tuple[int, int]) -> None:
        stepper = trainer._trainer
        self.model, self.optimizer, self.device = stepper.model, stepper.optimizer, stepper.device
        self.loader = stepper.data_loader
        mean, std = self.model.pixel_mean.flatten().cpu(), self.model.pixel_std.flatten().cpu()
        self.transform = T.Compose(
            [
                T.Resize(size, T.InterpolationMode.BICUBIC),
                T.Pad(10),
                T.RandomCrop(size),
                T.RandomHorizontalFlip(),
                T.ToTensor(),
                T.Normalize((mean / 255).tolist(), (std / 255).tolist()),
            ]
        )
        self.model.pixel_mean.zero_()  # normalised already
        self.model.pixel_std.fill_(1.0)
        self.batches: Iterator[Any] = iter(())

    def start_epoch(self, epoch: int) -> None:
        """The same order and random draws as the loader's."""
        self.loader.batch_sampler.set_epoch(epoch)
        self.batches = iter(self.loader.batch_sampler)

    def step(self) -> Tuple[float, float]:
        """(loss, seconds spent on the batch)."""
        begin = time.perf_counter()
        requests = next(self.batches)
        batch = collate([self._sample(*request) for request in requests])
        seconds = time.perf_counter() - begin
        loss = sum(self.model(to_device(batch, self.device)).values())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item(), seconds

    def _sample(self, index: int, seed: int) -> Dict[str, Any]:
        dataset = self.loader.dataset
        path, pid, camid, modality = dataset.items[index]
        with Image.open(path) as image, seeded(seed):
            pixels = self.transform(image.convert("RGB"))
        labels = {"targets": dataset.class_ids.index(pid), "camids": camid, "index": index}
        return {"images": pixels, "modalities": modality, **labels}


class OwnLoop:
    """The step of this package, as its trainer takes it."""

    def __init__(self, trainer: VIReIDTrainer) -> None:
        self.stepper = trainer._trainer
        dataset = self.stepper.data_loader.dataset
        for index in range(len(dataset)):  # fills the cache, as the first epoch does
            dataset[index]

    def start_epoch(self, epoch: int) -> None:
        """Begin a pass over the data."""
        self.stepper.start_epoch(epoch)

    def step(self) -> Tuple[float, float]:
        """(loss, seconds spent waiting for the batch)."""
        with EventStorage() as storage:
            self.stepper.run_step()
            self.stepper.finish()
            history = storage.histories()
            return history["total_loss"].latest(), history["data_time"].latest()


def run_variant(args: argparse.Namespace) -> Dict[str, Any]:
    """One turn of one variant, in this process: seconds, data seconds and losses of its steps."""
    variant = VARIANTS[args.variant]
    size = SIZES[args.size]
    torch.set_num_threads(variant.threads or args.threads)
    cfg = make_config(args, size, variant.words)
    keep_freed_memory(cfg)
    logging.getLogger("vireid_plugins").addHandler(logging.NullHandler())
    trainer = VIReIDTrainer(cfg)
    loop = UsualLoop(trainer, size) if variant.usual else OwnLoop(trainer)
    seed_everything(cfg.SEED)
    loop.start_epoch(0)
    return timed(loop.step, args)


def timed(step: Callable[[], Tuple[float, float]], args: argparse.Namespace) -> Dict[str, Any]:
    """Seconds of each step but the dropped ones, losses of all."""
    out: Dict[str, Any] = {"seconds": [], "data": [], "cpu": [], "losses": []}
    for number in range(args.warmup + args.steps):
        begin, cpu = time.perf_counter(), time.process_time()
        loss, data = step()
        if args.device.startswith("cuda"):
            torch.cuda.synchronize()
        if number >= args.warmup:
            out["seconds"].append(time.perf_counter() - begin)
            out["cpu"].append(time.process_time() - cpu)
            out["data"].append(data)
        out["losses"].append(loss)
    out["peak_memory"] = peak_memory(torch.device(args.device))
    return out


def make_config(args: argparse.Namespace, size: Tuple[int, int], words: List[str]) -> Any:
    """AGW on ResNet-50 at ``size``, as ``configs/agw`` has it, without pretrained weights."""
    pixels = str(list(size))
    common = {
        "OUTPUT_DIR": str(Path(args.folder) / "logs"),
        "MODEL.DEVICE": args.device,
        "MODEL.BACKBONE.PRETRAIN": "False",
        "INPUT.SIZE_TRAIN": pixels,
        "INPUT.SIZE_TEST": pixels,
        "SOLVER.IMS_PER_BATCH": str(args.batch),
        "SOLVER.BASE_LR": "0.001",
        "SOLVER.WARMUP_EPOCHS": "0",
        "SOLVER.MAX_EPOCH": "100",
        "DATALOADER.NUM_INSTANCE": str(args.batch // 8),  # of four identities
        "DATALOADER.NUM_WORKERS": str(args.workers),
        "DATALOADER.CACHE.FOLDER": str(Path(args.folder) / "cache"),
        "DATASETS.VERIFY_IMAGES": "sizes",
        "TEST.EVAL_PERIOD": "0",
    }
    flat = [word for pair in common.items() for word in pair]
    return build_config(str(ROOT / "configs/agw/sysu.yml"), flat + words)


def turn(variant: str, size: str, args: argparse.Namespace) -> Dict[str, Any]:
    """``run_variant`` in a process of its own."""
    words = [sys.executable, __file__, "--variant", variant, "--size", size]
    for name in ("batch", "steps", "warmup", "threads", "workers", "device", "folder"):
        words += [f"--{name}", str(getattr(args, name))]
    environment = {**os.environ, "FASTREID_DATASETS": args.folder, "VIREID_CACHE": args.folder}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{variant} at {size}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def bench(size: str, names: List[str], args: argparse.Namespace) -> Dict[str, Dict[str, Any]]:
    """All turns of the variants ``names`` at ``size``, joined, with the ratios."""
    turns: Dict[str, List[Dict[str, Any]]] = {name: [] for name in names}
    for number in range(args.turns):
        for name in names if number % 2 == 0 else names[::-1]:
            turns[name].append(turn(name, size, args))
            sys.stderr.write(f"{size}, turn {number + 1} of {args.turns}: {name}\n")
    base = turns[names[0]][0]["losses"]
    rows = {name: joined(found, base, args.batch) for name, found in turns.items()}
    for row in rows.values():
        for known in ("usual", "usual, memory kept"):
            if known in rows:
                row[f"times {known}"] = row["images/s"] / rows[known]["images/s"]
    return rows


def joined(found: List[Dict[str, Any]], base: List[float], batch: int) -> Dict[str, Any]:
    """One variant's turns as medians; ``base``: the losses of the usual loop."""
    seconds = [value for one in found for value in one["seconds"]]
    losses = found[0]["losses"]
    return {
        "images/s": batch / statistics.median(seconds),
        "images/s of each step": [batch / value for value in seconds],
        "CPU seconds per image": statistics.median(v for one in found for v in one["cpu"]) / batch,
        "data share": sum(sum(one["data"]) for one in found) / sum(seconds),
        "peak MiB": max(one["peak_memory"] or float("nan") for one in found),
        "losses": losses,
        "difference of each loss": [abs(a - b) / abs(b) for a, b in zip(losses, base)],
    }


def table(size: str, rows: Dict[str, Dict[str, Any]]) -> str:
    """The rows as Markdown."""
    head = ["size", "variant", "images/s (spread)", "to usual", "to usual, memory kept"]
    head += ["CPU s/image", "data time", "peak MiB", "loss differs, first to most"]
    lines = [head, ["---"] * len(head)]
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
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def default_variants(device: str) -> List[str]:
    """All, but for bfloat16 on a CPU that has no instructions for it: it takes minutes a step."""
    if device == "cpu" and not _cpu_has_bfloat16():
        sys.stderr.write("This CPU has no bfloat16 instructions; those variants are left out.\n")
        return [name for name in VARIANTS if "bfloat16" not in name]
    return list(VARIANTS)


def parse(words: Any = None) -> argparse.Namespace:
    """The command line, with defaults that depend on other words filled in."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", help=f"of: {'; '.join(VARIANTS)}")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--batch", type=int, default=16, help="images, a multiple of 8")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a turn")
    parser.add_argument("--warmup", type=int, default=1, help="steps dropped before them")
    parser.add_argument("--turns", type=int, default=2, help="turns of each variant")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--workers", type=int, default=0, help="loading processes of ours")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="128 x 64, one turn, two steps")
    parser.add_argument("--folder", default="", help="of images and cache; empty: temporary")
    parser.add_argument("--out", default=os.path.join("logs", "bench"), help="folder of results")
    parser.add_argument("--variant", default="", help=argparse.SUPPRESS)  # of one turn's process
    parser.add_argument("--size", default="", help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    unknown = sorted(set(args.variants) - set(VARIANTS))
    if unknown:
        parser.error(f"unknown variant {', '.join(unknown)}; valid: {'; '.join(VARIANTS)}")
    if args.batch < 16 or args.batch % 8:
        parser.error(f"--batch {args.batch}: expected a multiple of 8, 16 or more")
    if args.quick:
        args.sizes, args.turns, args.steps = ["128x64"], 1, 2
    return args


def main() -> None:
    """Measure, print tables and write the result; or be one turn's process."""
    args = parse()
    if args.variant:
        sys.stdout.write(json.dumps(run_variant(args)) + "\n")
        return
    names = args.variants or default_variants(args.device)
    names = ["usual", *(name for name in names if name != "usual")]
    with tempfile.TemporaryDirectory() as temporary:
        args.folder = os.path.abspath(args.folder or temporary)
        render_dataset(
            "sysu", args.folder, "tiny", size=RENDERED, images_per_camera=8, progress=False
        )
        results: Dict[str, Any] = {"torch": torch.__version__, "words": vars(args).copy()}
        for size in args.sizes:
            results[size] = bench(size, names, args)
            sys.stdout.write(table(size, results[size]) + "\n")
    os.makedirs(args.out, exist_ok=True)
    device = args.device.split(":")[0]
    name = f"training_torch{torch.__version__}_{device}_{args.threads}threads.json"
    path = os.path.join(args.out, name)
    with open(path, "w", encoding="utf-8") as handle:
        json.dump(results, handle, indent=2)
    sys.stdout.write(f"{args.batch} images, {args.threads} threads. Written: {path}\n")


if __name__ == "__main__":
    main()
