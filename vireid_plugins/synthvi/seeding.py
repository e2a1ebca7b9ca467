"""Random streams with keys: every draw of the renderer comes from a generator made here.

The key of a stream is a list of integers (seed, domain, purpose, identity, camera, frame), so
an image never depends on the order of rendering or on the number of processes.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """The purpose of a generator; it is part of the seed, so two purposes share no numbers."""

    SHAPE = 1  # body, cut of garments, patterns, carried things
    VISIBLE = 2  # visible colors of an identity
    INFRARED = 3  # near-infrared reflectances of an identity
    THERMAL = 4  # long-wave emission of an identity
    SCENE_LAYOUT = 5
    SCENE_VISIBLE = 6
    SCENE_INFRARED = 7
    SCENE_THERMAL = 8
    POSE = 9
    VIEW = 10
    PHOTOMETRY = 11
    OCCLUSION = 12
    DYE = 13  # what near infrared sees of the colors of an identity
    NUMBERING = 20  # identity numbers
    SPLIT = 21  # who trains and who tests
    PRESENCE = 22  # which identity passes which camera
    PERMUTATION = 23  # official gallery permutations
    NAMES = 24  # time stamps in file names


def generator(*key: int) -> np.random.Generator:
    """Return a new generator that is a function of ``key``, whole numbers >= 0.

    Raises:
        ValueError: a part of the key is negative.
    """
    if any(part < 0 for part in key):
        raise ValueError(f"seeds must be whole numbers >= 0; got {key}")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([int(k) for k in key])))
