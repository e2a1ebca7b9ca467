"""Subjects with planted features: what a picture must show is known beforehand."""

import csv
from types import SimpleNamespace

import numpy as np
import torch

import vireid_plugins as vp
from vireid_plugins.data import Item
from vireid_plugins.evaluation import TestFeatures
from vireid_plugins.plots.subject import Subject

from fastreid.config import get_cfg

# SYSU-MM01's test cameras: infrared ones are queries, visible ones the gallery.
CAMERAS = {3: 1, 6: 1, 1: 0, 2: 0, 4: 0, 5: 0}


def planted_subject(
    label="planted", identities=6, images=2, noise=0.1, size=8, seed=0, metric="cosine", **options
):
    """``images`` of each identity in each camera; features: an identity's direction, and noise.

    ``options``: ``dtype`` of the features, ``gap``: what is added to all infrared ones.
    """
    generator = np.random.default_rng(seed)
    items = [
        Item(f"cam{camera}/{identity:04d}/{number}.jpg", 10 * identity, camera, modality)
        for camera, modality in CAMERAS.items()
        for identity in range(identities)
        for number in range(images)
    ]
    dataset = SimpleNamespace(
        query=[item for item in items if item.modality == 1],
        gallery=[item for item in items if item.modality == 0],
    )
    items = dataset.query + dataset.gallery
    targets, camids, modalities = map(np.array, list(zip(*items))[1:])
    directions = np.random.default_rng(99).normal(size=(identities, size))
    rows = directions[targets // 10] + noise * generator.normal(size=(len(items), size))
    rows[modalities == 1] += options.get("gap", 0.0)
    features = TestFeatures(
        torch.tensor(rows, dtype=options.get("dtype", torch.float32)),
        targets,
        camids,
        modalities,
        np.arange(len(items)),
    )
    cfg = get_cfg()
    vp.add_vireid_config(cfg)
    cfg.DATASETS.TESTS = ("SYSUMM01",)
    cfg.MODEL.DEVICE, cfg.TEST.METRIC = "cpu", metric
    subject = Subject(label, cfg, None, "none.pth", progress=False)
    vars(subject).update(features=features, _loader_and_dataset=(None, dataset))
    return subject


def read_numbers(path):
    """Rows of a CSV file as dicts of strings."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
