"""Made-up rows without a random generator, for ``test_clusters`` and for the public codes."""

import torch
import torch.nn.functional as F


def wave(rows, columns, phase):
    """Return rows of sines."""
    n = torch.arange(rows * columns, dtype=torch.float64).view(rows, columns)
    return torch.sin(n * n * 0.37 + phase).float()


CENTERS = F.normalize(wave(8, 6, 0.3), dim=1)  # 5 visible and 3 infrared clusters
FEATURES = wave(10, 6, 1.1)
TARGETS = torch.tensor([0, 3, 3, 1, 0, 6, 3, 7, 1, 1])


def _images(clusters, phase):
    """Return features of length 1 near the centers, four in each cluster, and an outlier."""
    labels = torch.tensor([n for n in range(len(clusters)) for _ in range(4)] + [-1])
    rows = clusters[labels.clamp(min=0)] + 0.45 * wave(len(labels), clusters.shape[1], phase)
    return F.normalize(rows, dim=1), labels


_SHARED = wave(5, 6, 2.9)
IMAGES = {
    "visible": _images(_SHARED, 0.7),
    "infrared": _images(_SHARED[[3, 0, 2]], 5.2),
}
BATCH = F.normalize(torch.cat([wave(20, 4, 0.2), wave(20, 4, 3.3) + 0.5]), dim=1)
