"""Write side files, which hold the key points and masks of rendered images.

``readers/side_files.py`` describes and reads them.
"""

from __future__ import annotations

import io
from typing import Sequence

import numpy as np

from ..readers.side_files import INDEX_FILE, Annotations

__all__ = ["IDENTITY_FILE", "INDEX_FILE", "Annotations", "pack"]

IDENTITY_FILE = "synthvi/identities.json"


def pack(keypoints: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> bytes:
    """Return the content of a side file of n key point arrays (17, 3) and n masks (H, W)."""
    buffer = io.BytesIO()
    stacked = np.stack(masks)
    np.savez_compressed(
        buffer,
        keypoints=np.stack(keypoints).astype(np.float32),
        masks=np.packbits(stacked.reshape(len(stacked), -1), axis=1),
        size=np.array(stacked.shape[1:], np.int32),
    )
    return buffer.getvalue()
