"""Configs of seconds, and results written by hand in the shape that the worker writes."""

from pathlib import Path

import yaml

from vireid_plugins.comparison.entries import Entry
from vireid_plugins.comparison.runs import plan_runs
from vireid_plugins.engine.setup import build_config
from vireid_plugins.files import write_json
from vireid_plugins.runs.names import COMPARED, PROGRESS

from tests.engine.small import ROOT, SMALL

SYNTHETIC = ROOT / "configs/agw/synthetic.yml"
# Of comparisons by the command line; the keys that a comparison sets itself are left out.
SET = [word for key, value in SMALL.items() if key != "TEST.EVAL_PERIOD" for word in (key, value)]
KEYS = ("SYSUMM01/all/single", "SYSUMM01/indoor/single")


def write_config(folder, name, **keys):
    """A config file over ``agw/synthetic.yml``; ``A__B=1`` sets key ``A.B``."""
    tree = {"_BASE_": SYNTHETIC.as_posix()}
    for key, value in keys.items():
        *groups, last = key.split("__")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    path = Path(folder) / f"{name}.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def protocol(key):
    return {
        "key": key,
        "direction": "infrared_to_visible",
        "gallery_rule": "random, 1 per id and camera",
        "trials": 10,
        "queries": 64,
        "queries_left_out": 0.0,
        "gallery": 32.0,
        "feature": "after BNNeck",
        "metric": "cosine",
        "flip": False,
        "reranking": "",
    }


def fake_result(run, rank1, mAP, **changes):
    """What ``result.json`` of a finished run holds; mINP is half of mAP, indoor 10 more."""
    metrics = {}
    for key, more in zip(KEYS, (0.0, 10.0)):
        for name, value, std in (("Rank-1", rank1, 2.0), ("mAP", mAP, 1.0), ("mINP", mAP / 2, 0.5)):
            metrics[f"{key}/{name}"] = value + more
            metrics[f"{key}/{name}_std"] = std
    return {
        "name": run.entry.name,
        "seed": run.seed,
        "runs_at_once": 1,
        "weights": "model_final",
        "metrics": metrics,
        "protocols": [protocol(key) for key in KEYS],
        "rendered": {"SYSUMM01": {"train": 8, "test": 4}},
        "evaluation_seconds": 1.0,
        "iterations": 260,
        "images_per_batch": 64,
        "train_seconds": 61.0 + run.seed,
        "seconds_per_iteration": 0.25,
        "train_fingerprint": "f00d",
        "train_identities": 8,
        "train_images": 48,
        "parameters": 11_200_000,
        "trainable_parameters": 11_100_000,
        "flops_per_image": 171_000_000.0,
        "peak_memory_mib": 700.0,
        "device": "cpu",
        "environment": {
            "vireid_plugins": "0.1",
            "Python": "3.11",
            "torch": "2.13",
            "FastReID": "1.4",
            "NumPy": "2.4",
            "faiss": "1.15",
            "threads": "2",
            "system": "Linux x86_64",
        },
        "commit": "abc",
        "sessions": 1,
        "finished": "2026-01-02T03:04:05+00:00",
        "config": run.cfg.dump(),
        **changes,
    }


def fake_runs(output, names, seeds):
    """Runs of one config under several names, seed by seed; nothing is written."""
    cfg = build_config(str(SYNTHETIC), [])
    cfg.TEST.EVAL_PERIOD = 0
    entries = [Entry(name, ROOT / f"configs/{name}.yml", cfg) for name in names]
    return plan_runs(entries, seeds, output)


def finish(run, rank1, mAP, **changes):
    """Write the result of a run."""
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(run.folder / COMPARED, fake_result(run, rank1, mAP, **changes))


def fail(run, error):
    """Leave what a failed run leaves."""
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(run.folder / PROGRESS, {"error": error})
