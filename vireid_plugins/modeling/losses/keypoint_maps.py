"""L_MSE of RBNet: maps of 17 key points against those of a file, and its weight lambda_3.

P. Yu, Y. Piao, "Reverse backbone net for unsupervised person re-identification", Journal of Jilin
University (Engineering and Technology Edition), 2024, Eq. 3 and 4. What the paper leaves open:

- Table 1 gives re-conv1 an output of 256 x 128, Eq. 3 maps of 128 x 64: the error is computed at
  the size of the maps given, which is conv1's. It is a mean over all cells (Eq. 3: 1/N).
- HRNet's heat maps of 64 rows (deviation 2) are Gaussians around the key points of a file, whose
  deviation is the same share of the height (``SIGMA``), times the confidence.
- lambda_3 makes lambda_3 L_MSE about as large as lambda_2 L_tri: it is the ratio of their running
  means, from 1 to 10,000, without a gradient, times ``KEYPOINT_SCALE`` (``KEYPOINT_BALANCE fixed``:
  this scale alone).

B images of H x W pixels.
"""

from typing import Dict, Tuple, Union

import torch
from torch import Tensor, nn

from ...keypoints import heat_maps
from ...keys import Key, above, at_least, check_values, declare, one_of
from ..gather import mean_of_processes
from ..precision import at_least_float32, without_autocast

BALANCES = ("running", "fixed")
_RUNNING = 0.99  # of the means that lambda_3 is the ratio of
_RATIOS = (1.0, 1e4)  # least and greatest ratio

declare(
    "MODEL.RBNET",
    Key("SIGMA", 2 / 64, above(0), "deviation of a heat map, as a share of the image's height"),
    Key("KEYPOINT_SCALE", 1.0, at_least(0), "weight of L_MSE (lambda_3); 0: no key points"),
    Key(
        "KEYPOINT_BALANCE",
        BALANCES[0],
        one_of(*BALANCES),
        "running: lambda_3 also follows the triplet loss; fixed: it is KEYPOINT_SCALE",
    ),
    features=False,
)


class KeypointLoss(nn.Module):
    """lambda_3 L_MSE.

    Args:
        sigma: deviation of the heat maps, as a share of the height, above 0.
        scale: weight of L_MSE, 0 or more.
        balance: ``"running"`` or ``"fixed"``.

    Attributes:
        sizes: (2,) running means of the metric losses and of L_MSE, with ``"running"``.

    Raises:
        UserError: a value is not allowed.
    """

    sizes: Tensor

    def __init__(self, sigma: float, scale: float, balance: str = BALANCES[0]) -> None:
        super().__init__()
        check_values("MODEL.RBNET", SIGMA=sigma, KEYPOINT_SCALE=scale, KEYPOINT_BALANCE=balance)
        self.sigma, self.scale = float(sigma), float(scale)
        self.follows = scale > 0 and balance == "running"
        self.register_buffer("sizes", torch.zeros(2))
        self._last_sizes = torch.zeros(2)  # of the step in progress

    def errors(self, maps: Tensor, points: Tensor, images: Tensor) -> Tensor:
        """Compute L_MSE of each image, (B,), Eq. (3).

        Args:
            maps: (B, 17, H', W').
            points: (B, 17, 3), x and y in pixels of the image, confidence.
            images: (B, 3, H, W), for their size.
        """
        maps = at_least_float32(maps)
        size = _size_of(maps)
        targets = heat_maps(points.to(maps), _size_of(images), size, self.sigma * size[0])
        with without_autocast(maps):
            return (maps - targets).square().mean(dim=(1, 2, 3))

    def forward(self, metric: Union[Tensor, int], error: Tensor) -> Tensor:
        """Return lambda_3 L_MSE, a scalar, and note both sizes for the running means.

        Args:
            metric: lambda_2 L_tri of this step; 0: there is no metric loss, and no balance.
            error: L_MSE of this step.
        """
        return self.weight(metric, error) * error

    def weight(self, metric: Union[Tensor, int], error: Tensor) -> Union[Tensor, float]:
        """Return lambda_3, without a gradient, see :meth:`forward`; all processes have the same."""
        if not self.follows or not isinstance(metric, Tensor):
            return self.scale
        now = mean_of_processes(torch.stack([metric.float(), error.float()]))
        sizes = self.sizes.to(now)
        mean = _RUNNING * sizes + (1 - _RUNNING) * now
        mean = torch.where(sizes[1] > 0, mean, now)  # the first step begins them
        # A step that overflows float16 is skipped, and must not be remembered.
        self._last_sizes = torch.where(now.isfinite().all(), mean, sizes)
        return self.scale * _ratio(self._last_sizes)

    def after_step(self) -> None:
        """Keep the running means of the step."""
        if self.follows:
            self.sizes.copy_(self._last_sizes)

    def measures(self) -> Dict[str, Tensor]:
        """Return lambda_3, if it follows the triplet loss."""
        return {"keypoint_weight": self.scale * _ratio(self.sizes)} if self.follows else {}


def _size_of(maps: Tensor) -> Tuple[int, int]:
    return int(maps.shape[2]), int(maps.shape[3])


def _ratio(sizes: Tensor) -> Tensor:
    return (sizes[0] / sizes[1].clamp(min=1e-12)).clamp(*_RATIOS)
