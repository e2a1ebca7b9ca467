"""Images of one color for each person, which any network can cluster; a training on them.

They are a dataset as a user of FastReID writes it: a class of items without modalities.
"""

import json
import os

import numpy as np
from PIL import Image

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.readers.checkpoint import read_checkpoint

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from tests.engine.small import small_cfg
from tests.every_key.narrow import NAME

PERSONS, IMAGES = 6, 6
KEYS = {
    "MODEL__BACKBONE__NAME": NAME,
    "MODEL__BACKBONE__UNSHARED_STAGES": 0,
    "DATASETS__NAMES": "('PlantedColors',)",
    "DATASETS__TESTS": "('PlantedColors',)",
    "DATALOADER__SAMPLER_TRAIN": "NaiveIdentitySampler",
    "SOLVER__IMS_PER_BATCH": 8,
    "SOLVER__MAX_EPOCH": 3,
    "SOLVER__LOG_PERIOD": 2,
    "CLUSTERS__ENABLED": True,
    "CLUSTERS__K1": 5,
    "CLUSTERS__K2": 2,
    "CLUSTERS__RADIUS": 0.5,
    "CLUSTERS__MIN_SAMPLES": 3,
    "CLUSTERS__ITERATIONS": 3,
}


class PlantedColors(ImageDataset):
    """Items listed in ``list.json`` below ``$FASTREID_DATASETS``."""

    dataset_name = "planted"

    def __init__(self, root="datasets", **kwargs):
        with open(os.path.join(root, "list.json")) as file:
            listed = json.load(file)
        parts = ([tuple(item) for item in listed[name]] for name in ("train", "query", "gallery"))
        super().__init__(*parts, **kwargs)


if "PlantedColors" not in DATASET_REGISTRY._obj_map:
    DATASET_REGISTRY.register(PlantedColors)


def write_images(folder, identities=None, noise=8):
    """Write the images and their list, which gives training image n ``identities[n]``."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, listed = np.random.default_rng(0), {"train": [], "query": [], "gallery": []}
    for person in range(PERSONS + 2):
        color = rng.integers(20, 236, 3)
        for copy in range(IMAGES):
            pixels = np.clip(color + rng.normal(0, noise, (32, 16, 3)), 0, 255).astype(np.uint8)
            path = str(folder / f"{person}_{copy}.png")
            Image.fromarray(pixels).save(path)
            pid, number = 100 + person, person * IMAGES + copy
            if person < PERSONS and identities is not None:
                pid = identities[number]
            part = "train" if person < PERSONS else ("query", "gallery")[copy % 2]
            listed[part].append((path, pid, 1 + copy % 3))
    (folder / "list.json").write_text(json.dumps(listed))
    return folder


def planted_cfg(folder, images, config="configs/baseline/synthetic.yml", **keys):
    """Return the config of a training, in ``folder``, on the images that lie in ``images``."""
    os.environ["FASTREID_DATASETS"] = str(images)
    return small_cfg(folder, config, **{**KEYS, **keys})


def train(cfg, resume=False, trainer=VIReIDTrainer):
    """Train as the command does; return the trainer."""
    made = trainer(cfg)
    made.resume_or_load(resume=resume)
    made.train()
    return made


def weights(folder, name="model_final"):
    """Return the weights of a checkpoint, by name."""
    return read_checkpoint(f"{folder}/{name}.pth")["model"]
