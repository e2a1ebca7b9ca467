"""The reverse backbone of RBNet: from the last map of a network back to maps of key points.

P. Yu, Y. Piao, "Reverse backbone net for unsupervised person re-identification", Journal of Jilin
University (Engineering and Technology Edition), 2024, Table 1. B images; the network has the maps
``conv1`` (before its pooling), ``layer1``, ..., ``layer4``, (B, C, H, W) with sizes of their own.
What the paper leaves open:

- "Depth-wise separable convolutions in 17 groups": a block is a bottleneck with a 3 x 3 convolution
  in 17 groups of ``GROUP_WIDTH`` channels. Each reverse layer has as many blocks as the layer.
- Fusing is adding, after a 1 x 1 convolution and a ReLU.
"""

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

from ...joints import JOINTS
from ...keys import Key, at_least, check_values, declare, one_of

PARTS = len(JOINTS)  # 17 groups of channels, one for each key point
FORWARD = ("conv1", "layer1", "layer2", "layer3", "layer4")
#: in the order in which they run
REVERSE = ("re_layer4", "re_layer3", "re_layer2", "re_layer1", "re_conv1")
#: the maps of the network that are added on the way, besides layer4, which is the input
SKIPS = {"shallow": ("layer1", "conv1"), "all": FORWARD[:-1], "none": ()}

declare(
    "MODEL.RBNET",
    Key("SKIPS", "shallow", one_of(*SKIPS), "fused maps; shallow: conv1 and layer1"),
    Key("GROUP_WIDTH", 8, at_least(1), "channels of each of the 17 groups in a reverse block"),
)


class ReverseBackbone(nn.Module):
    """Layers with the sizes of the network's, in reverse order, fed by its maps.

    A map of the network passes a 1 x 1 convolution and a ReLU (``change_channel``) and is added to
    what comes from the layer behind it. A reverse layer has as many blocks as the layer, and its
    last block enlarges the map, bilinearly, to the size that the layer was given.

    Args:
        channels: those of the maps ``FORWARD``.
        blocks: number of blocks of layer1 to layer4, 1 or more.
        skips: which maps are added: ``"shallow"`` (conv1 and layer1), ``"all"`` or ``"none"``.
        width: channels of each of the 17 groups inside a block.
        until: the last part that is built, one of ``REVERSE``.

    Raises:
        UserError: skips or width is not allowed.
    """

    def __init__(
        self,
        channels: Sequence[int],
        blocks: Sequence[int],
        skips: str = "shallow",
        width: int = 8,
        until: str = REVERSE[-1],
    ) -> None:
        super().__init__()
        check_values("MODEL.RBNET", SKIPS=skips, GROUP_WIDTH=width)
        sizes, counts = dict(zip(FORWARD, channels)), dict(zip(FORWARD[1:], blocks))
        self.names = REVERSE[: REVERSE.index(until) + 1]
        self.change, self.parts = nn.ModuleDict(), nn.ModuleDict()
        for name in self.names:
            source = _source(name)
            own, below = sizes[source], sizes[_before(source)]
            if source in ("layer4", *SKIPS[skips]):
                self.change[source] = nn.Sequential(nn.Conv2d(own, own, 1), nn.ReLU())
            if source in counts:
                self.parts[name] = ReverseLayer(own, below, counts[source], width)
            else:
                self.parts[name] = KeyPointMaps(own, width)

    def forward(self, maps: Mapping[str, Tensor], until: str = "") -> Dict[str, Tensor]:
        """Return the outputs of the parts by name, up to ``until`` (empty: the last one).

        ``re_conv1`` is (B, 17, H, W) at the size of ``conv1``. ``re_layer1`` has size and channels
        of what layer1 is given, and so on.

        Args:
            maps: the maps of the network by name, all of ``FORWARD``.
        """
        names = self.names[: self.names.index(until) + 1] if until else self.names
        found: Dict[str, Tensor] = {}
        current: Optional[Tensor] = None
        for name in names:
            source = _source(name)
            if current is not None:  # re_layer1 ends at the size behind the network's pooling
                current = enlarged(current, maps[source])
            if source in self.change:
                changed = self.change[source](maps[source])
                current = changed if current is None else current + changed
            wanted = maps["layer1" if source == "layer1" else _before(source)]
            found[name] = current = self.parts[name](current, wanted)
        return found

    def only_after(self, name: str) -> List[str]:
        """Return the beginnings of the names of the tensors that ``name`` does not depend on.

        An empty ``name`` depends on none.
        """
        later = self.names[self.names.index(name) + 1 if name else 0 :]
        changes = [f"change.{_source(one)}" for one in later if _source(one) in self.change]
        return [*(f"parts.{one}" for one in later), *changes]


class ReverseLayer(nn.Module):
    """Blocks of ``channels``, of which the last one gives ``below`` channels, enlarged."""

    def __init__(self, channels: int, below: int, blocks: int, width: int) -> None:
        super().__init__()
        last = ReverseBlock(channels, below, width)
        self.blocks = nn.ModuleList(
            [*(ReverseBlock(channels, channels, width) for _ in range(blocks - 1)), last]
        )

    def forward(self, inputs: Tensor, like: Tensor) -> Tensor:
        """Return (B, below, H', W') of inputs (B, C, H, W), where ``like`` has H' x W' cells."""
        for block in self.blocks[:-1]:
            inputs = block(inputs, inputs)
        outputs: Tensor = self.blocks[-1](inputs, like)
        return outputs


class ReverseBlock(nn.Module):
    """A ResNet's bottleneck whose 3 x 3 convolution keeps 17 groups of channels apart.

    It enlarges where the bottleneck reduces: behind its 3 x 3 convolution.
    """

    def __init__(self, channels: int, outputs: int, width: int) -> None:
        super().__init__()
        inner = PARTS * width
        self.reduce = _convolution(channels, inner, 1)
        self.separate = _convolution(inner, inner, 3, groups=PARTS)
        self.expand = _convolution(inner, outputs, 1)
        same = channels == outputs
        self.shortcut = nn.Identity() if same else _convolution(channels, outputs, 1)

    def forward(self, inputs: Tensor, like: Tensor) -> Tensor:
        """Return (B, outputs, H', W') of inputs (B, C, H, W), where ``like`` has H' x W' cells."""
        inner = F.relu(self.separate(F.relu(self.reduce(inputs))))
        outputs = self.expand(enlarged(inner, like))
        return F.relu(outputs + enlarged(self.shortcut(inputs), like))


class KeyPointMaps(nn.Module):
    """``re_conv1``: one map for each of the 17 key points, from its own group of channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        inner = PARTS * width
        self.reduce = _convolution(channels, inner, 1)
        self.separate = _convolution(inner, inner, 3, groups=PARTS)
        self.maps = nn.Conv2d(inner, PARTS, 1, groups=PARTS)

    def forward(self, inputs: Tensor, like: Tensor) -> Tensor:
        """Return (B, 17, H, W) of inputs (B, C, H, W)."""
        maps: Tensor = self.maps(F.relu(self.separate(F.relu(self.reduce(inputs)))))
        return maps


def stage_sizes(backbone: Any) -> Tuple[List[int], List[int]]:
    """Return the channels of the five maps, and the numbers of blocks of the four layers."""
    stages = list(backbone.network.stages.values())
    return [one.channels for one in stages], [max(1, len(one.blocks)) for one in stages[1:]]


def enlarged(inputs: Tensor, like: Tensor) -> Tensor:
    """Return maps (B, C, H, W) at the size of ``like``, by bilinear interpolation."""
    if inputs.shape[2:] == like.shape[2:]:
        return inputs
    size = (int(like.shape[2]), int(like.shape[3]))
    return F.interpolate(inputs, size=size, mode="bilinear", align_corners=False)


def _convolution(channels: int, outputs: int, kernel: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


def _source(name: str) -> str:
    """Return the map of the network that a reverse part is named after."""
    return name[len("re_") :]


def _before(source: str) -> str:
    """Return the map before ``source``; conv1 is the first."""
    return FORWARD[max(0, FORWARD.index(source) - 1)]
