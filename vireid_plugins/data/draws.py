"""Draw identities and images of batches.

B batches of P identities each.
"""

from typing import Sequence

import numpy as np


def draw_in_turn(rng: np.random.Generator, total: int, wanted: int, batches: int) -> np.ndarray:
    """Return identity numbers below ``total`` for some batches, (batches, wanted).

    They are taken from shuffled lists of all of them, and are distinct within each row.
    """
    stream = np.empty(0, dtype=np.int64)
    while len(stream) < batches * wanted:
        left = stream[len(stream) - len(stream) % wanted :]
        stream = np.concatenate([stream, _shuffled(rng, total, wanted, left)])
    return stream[: batches * wanted].reshape(batches, wanted)


def _shuffled(rng: np.random.Generator, total: int, wanted: int, left: np.ndarray) -> np.ndarray:
    """Return all identities, shuffled; those in ``left`` come after the first batch is full.

    ``left`` holds the identities that the previous list gave to the same, unfinished batch.
    """
    order = rng.permutation(total)
    fresh = np.flatnonzero(~np.isin(order, left))[: wanted - len(left)]
    head = order[fresh]
    return np.concatenate([head, np.delete(order, fresh)]) if len(left) else order


def draw_images(
    rng: np.random.Generator,
    images: Sequence[np.ndarray],
    batches: np.ndarray,
    count: int,
    replacement: bool = False,
) -> np.ndarray:
    """Return the positions of ``count`` images of each identity of each batch, (B, P, count).

    Args:
        rng: what to draw with.
        images: the positions of the images of each identity.
        batches: (B, P) identity numbers.
        count: images of an identity; it repeats one only after all of them have been drawn.
        replacement: draw each image from all of them instead.
    """
    flat = batches.reshape(-1)
    order = np.argsort(flat, kind="stable")  # visits grouped by identity
    drawn = np.empty((len(flat), count), dtype=np.int64)
    ends = np.cumsum(np.bincount(flat, minlength=len(images)))
    for own, visits in zip(images, np.split(order, ends[:-1])):
        if replacement:
            drawn[visits] = own[rng.integers(len(own), size=(len(visits), count))]
            continue
        rounds = -(-count // len(own))  # passes over all images
        keys = rng.random((len(visits), rounds, len(own)))
        shuffled = np.argsort(keys, axis=2).reshape(len(visits), rounds * len(own))
        drawn[visits] = own[shuffled[:, :count]]
    return drawn.reshape(*batches.shape, count)
