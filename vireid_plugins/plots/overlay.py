"""Lay heat over a photograph. Shapes: h x w a map, H x W an image."""

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps

COLOR_MAP = "inferno"  # lightness rises with heat, so that a gray print shows the same


def overlay(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) with heat (h, w) in 0..1 laid over it, uint8 (H, W, 3).

    The image turns gray, and high heat is more opaque, so that the person stays visible.
    """
    size = pixels.shape[:2]
    grown = F.interpolate(
        torch.from_numpy(heat)[None, None], size=size, mode="bilinear", align_corners=False
    )[0, 0].numpy()
    colors = colormaps[COLOR_MAP](grown)[..., :3] * 255
    gray = pixels.astype(np.float32).mean(axis=2, keepdims=True)
    opacity = 0.35 + 0.35 * grown[..., None]
    return np.clip((1 - opacity) * gray + opacity * colors, 0, 255).astype(np.uint8)
