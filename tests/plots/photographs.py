"""A small test set of colored photographs on the disk, and subjects with planted features."""

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

import vireid_plugins as vp
from vireid_plugins.data import Item, VIReIDDataset
from vireid_plugins.evaluation import TestFeatures
from vireid_plugins.plots.subject import Subject

from fastreid.config import get_cfg

IDENTITIES = 6
SYSU_CAMERAS = {3: 1, 6: 1, 1: 0, 2: 0, 4: 0, 5: 0}


def photographed(folder, identities=IDENTITIES):
    """SYSU-MM01's cameras, an image of each identity in each; the color says which it is."""

    def items(modality):
        found = []
        for identity in range(identities):
            for camera, kind in SYSU_CAMERAS.items():
                if kind == modality:
                    path = folder / f"{identity} c{camera}.png"
                    color = (40 * identity, 30 * camera, 90)
                    Image.new("RGB", (24, 48), color).save(path)
                    found.append(Item(str(path), identity, camera, modality))
        return found

    return SimpleNamespace(query=items(1), gallery=items(0))


def features_of(dataset, noise, seed=0):
    """One-hot identities and some noise: without it every search is perfect."""
    items = dataset.query + dataset.gallery
    targets, camids, modalities = map(np.array, list(zip(*items))[1:])
    noises = np.random.default_rng(seed).normal(size=(len(items), targets.max() + 1))
    rows = np.eye(targets.max() + 1)[targets] + noise * noises
    index = np.arange(len(items))
    return TestFeatures(torch.tensor(rows).float(), targets, camids, modalities, index)


def subject_of(dataset, noise=0.0, label="planted", model=None, seed=0, **keys):
    """A subject on ``dataset`` with planted features; ``A__B`` sets the config key ``A.B``."""
    cfg = get_cfg()
    vp.add_vireid_config(cfg)
    cfg.DATASETS.TESTS, cfg.MODEL.DEVICE = ("SYSUMM01",), "cpu"
    cfg.INPUT.SIZE_TEST = [48, 24]
    cfg.TEST.PROTOCOL.TRIALS = 2
    for key, value in keys.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    subject = Subject(label, cfg, model, "", progress=False)
    loader = SimpleNamespace(
        dataset=VIReIDDataset(dataset.query + dataset.gallery, None, relabel=False)
    )
    vars(subject).update(
        features=features_of(dataset, noise, seed), _loader_and_dataset=(loader, dataset)
    )
    return subject


def words_of(figure):
    """All texts of a page."""
    return [text.get_text() for text in figure.axes[0].texts]
