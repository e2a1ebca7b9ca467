"""BAM, CBAM and IWPAM.

Oracles: the formulas spelt out position by position and part by part from the layers' weights,
and arithmetic by hand.
"""

import math
from typing import Callable, Dict, List

import pytest
import torch
from torch import Tensor, nn

from vireid_plugins.modeling.layers.bam import BAM
from vireid_plugins.modeling.layers.cbam import CBAM, ChannelAttention, SpatialAttention
from vireid_plugins.modeling.layers.iwpam import IWPAM

BUILD: Dict[str, Callable[[int], nn.Module]] = {
    "bam": BAM,
    "bam-product": lambda channels: BAM(channels, combine="product"),
    "cbam": CBAM,
    "channel": ChannelAttention,
    "spatial": lambda channels: SpatialAttention(),
    "spatial-without-norm": lambda channels: SpatialAttention(norm=False),
    "iwpam": IWPAM,
}
every_layer = pytest.mark.parametrize("name", sorted(BUILD))
SIZES = [(18, 9), (6, 3), (4, 7), (1, 1)]


def randomized(layer: nn.Module) -> nn.Module:
    """``layer`` in float64 with nothing left at a special value: weights, biases, BN, gates."""
    layer = layer.double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return layer


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def dense(x: Tensor, layer: nn.Module) -> Tensor:
    """A 1x1 convolution of the rows ``x`` (N, C), summed channel by channel."""
    weight = layer.weight.flatten(1)
    rows = sum(x[:, c, None] * weight[:, c] for c in range(x.shape[1]))
    return rows if layer.bias is None else rows + layer.bias


def batch_norm(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    """BN of the rows ``x`` (N, C)."""
    mean, variance = layer.running_mean, layer.running_var
    if layer.training:
        mean = x.sum(0) / len(x)
        variance = ((x - mean) ** 2).sum(0) / len(x)
    return (x - mean) / torch.sqrt(variance + layer.eps) * layer.weight + layer.bias


def rows_of(feature_map: Tensor) -> Tensor:
    """(B, C, H, W) to one row per position (B * H * W, C)."""
    return feature_map.permute(0, 2, 3, 1).flatten(0, 2)


def map_of(rows: Tensor, like: Tensor) -> Tensor:
    images, _, height, width = like.shape
    return rows.reshape(images, height, width, -1).permute(0, 3, 1, 2)


def windows(feature_map: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """A k x k convolution with zeros outside the map, position by position."""
    images, _, height, width = feature_map.shape
    out = feature_map.new_zeros(images, len(weight), height, width)
    kernel = weight.shape[-1]
    for y in range(height):
        for x in range(width):
            for i in range(kernel):
                for j in range(kernel):
                    row = y + dilation * (i - kernel // 2)
                    column = x + dilation * (j - kernel // 2)
                    if 0 <= row < height and 0 <= column < width:
                        out[:, :, y, x] += feature_map[:, :, row, column] @ weight[:, :, i, j].T
    return out


def bam_by_formula(x: Tensor, layer: BAM) -> Tensor:
    _, reduce, norm, _, expand, *last = layer.channel
    channel = x.sum(dim=(2, 3)) / (x.shape[2] * x.shape[3])
    channel = batch_norm(dense(channel, reduce), norm).clamp(min=0)
    channel = dense(channel, expand)
    if last:
        channel = batch_norm(channel, last[0])
    reduce, norm0, _, conv1, norm1, _, conv2, norm2, _, expand, *last = layer.spatial
    spatial = map_of(batch_norm(dense(rows_of(x), reduce), norm0).clamp(min=0), x)
    for conv, norm in ((conv1, norm1), (conv2, norm2)):
        spatial = windows(spatial, conv.weight, dilation=4)
        spatial = map_of(batch_norm(rows_of(spatial), norm).clamp(min=0), x)
    spatial = dense(rows_of(spatial), expand)
    spatial = map_of(batch_norm(spatial, last[0]) if last else spatial, x)
    out = torch.empty_like(x)
    for b in range(x.shape[0]):
        for c in range(x.shape[1]):
            m_c, m_s = channel[b, c], spatial[b, 0]
            logits = m_c + m_s if layer.combine == "sum" else m_c * m_s
            out[b, c] = x[b, c] + x[b, c] * sigmoid(logits)
    return out


def channel_attention_by_formula(x: Tensor, layer: ChannelAttention) -> Tensor:
    first, _, second = layer.mlp
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        pools = [image.flatten(1).sum(1) / image[0].numel(), image.flatten(1).sort(dim=1)[0][:, -1]]
        logits = [dense(dense(pool[None], first).clamp(min=0), second)[0] for pool in pools]
        out[b] = image * sigmoid(logits[0] + logits[1])[:, None, None]
    return out


def spatial_attention_by_formula(x: Tensor, layer: SpatialAttention) -> Tensor:
    pooled = torch.stack([x.sort(dim=1)[0][:, -1], x.sum(1) / x.shape[1]], dim=1)
    logits = windows(pooled, layer.conv.weight, dilation=1)
    if isinstance(layer.norm, nn.BatchNorm2d):
        logits = map_of(batch_norm(rows_of(logits), layer.norm), x)
    return x * sigmoid(logits)


def cbam_by_formula(x: Tensor, layer: CBAM) -> Tensor:
    return spatial_attention_by_formula(
        channel_attention_by_formula(x, layer.channel), layer.spatial
    )


def iwpam_by_formula(x: Tensor, layer: IWPAM) -> Tensor:
    images, channels, height, _ = x.shape
    number = layer.num_parts
    gates = [math.exp(float(g)) for g in layer.gate]
    out = x.new_zeros(images, channels)
    for b in range(images):
        parts = []
        for p in range(number):  # rows from floor(p H / P) to ceil((p + 1) H / P)
            top, bottom = p * height // number, -(-(p + 1) * height // number)
            parts.append(x[b, :, top:bottom].mean(dim=(1, 2)))
        u, v, z = (dense(torch.stack(parts), conv) for conv in (layer.u, layer.v, layer.z))
        for p in range(number):
            scores = [math.exp(float(u[p] @ v[q])) for q in range(number)]
            refined = sum(scores[q] / sum(scores) * z[q] for q in range(number))
            out[b] += gates[p] / sum(gates) * refined
    return out


FORMULAS = {
    "bam": bam_by_formula,
    "bam-product": bam_by_formula,
    "cbam": cbam_by_formula,
    "channel": channel_attention_by_formula,
    "spatial": spatial_attention_by_formula,
    "spatial-without-norm": spatial_attention_by_formula,
    "iwpam": iwpam_by_formula,
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("size", SIZES)
@every_layer
def test_equals_the_formula(name: str, size: List[int], training: bool) -> None:
    layer = randomized(BUILD[name](32)).train(training)
    x = torch.randn(3, 32, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), FORMULAS[name](x, layer))


@pytest.mark.parametrize("num_parts, height", [(2, 6), (3, 7), (6, 18), (5, 3)])
def test_iwpam_cuts_other_numbers_of_parts(num_parts: int, height: int) -> None:
    layer = randomized(IWPAM(8, num_parts))
    x = torch.randn(2, 8, height, 3, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), iwpam_by_formula(x, layer))


def test_bam_by_hand() -> None:
    # One channel, no reduction, every weight 1 (3x3: 1 in the center), eval statistics 0 and 1,
    # a constant map of 2. Each BN divides by s = sqrt(1 + 1e-5). Channel: 2/s, then /s more with
    # the last BN; spatial: three BN, and a fourth. The code's biases are 0.
    s = math.sqrt(1 + 1e-5)
    x = torch.full((1, 1, 3, 2), 2.0, dtype=torch.float64)
    for combine, logit in (("sum", 2 / s**2 + 2 / s**4), ("product", (2 / s) * (2 / s**3))):
        layer = BAM(1, reduction=1, combine=combine).double().eval()
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
        for module in layer.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
            elif isinstance(module, nn.Conv2d):
                middle = module.kernel_size[0] // 2
                module.weight.data[0, 0, middle, middle] = 1.0
        expected = torch.full_like(x, 2 * (1 + 1 / (1 + math.exp(-logit))))
        torch.testing.assert_close(layer(x), expected)


def test_initial_values() -> None:
    # Spatial gate: sigmoid(0) = 1/2. IWPAM: equal weights.
    x = torch.randn(2, 32, 6, 3)
    layer = CBAM(32)
    torch.testing.assert_close(layer(x), layer.channel(x) / 2)
    torch.testing.assert_close(IWPAM(4, num_parts=5).gate.softmax(0), torch.full((5,), 0.2))


@pytest.mark.parametrize("size", SIZES)
@every_layer
def test_the_order_and_company_of_images_mean_nothing_at_test(name: str, size: List[int]) -> None:
    layer = randomized(BUILD[name](32)).eval()
    x = torch.randn(5, 32, *size, dtype=torch.float64)
    before, order = x.clone(), torch.randperm(5)
    out = layer(x)
    torch.testing.assert_close(layer(x[order]), out[order])
    torch.testing.assert_close(layer(x[3:4]), out[3:4])
    assert torch.equal(x, before)


@every_layer
def test_the_gradient_reaches_every_parameter_and_the_map(name: str) -> None:
    layer = randomized(BUILD[name](32)).train()
    x = torch.randn(4, 32, 6, 3, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    (out * torch.randn_like(out)).sum().backward()
    # A parameter that a later step takes away (a bias before BN or softmax) has rounding only.
    weak = [n for n, p in layer.named_parameters() if not float(p.grad.abs().max()) > 1e-9]
    assert weak == []
    assert bool((x.grad != 0).any(dim=3).all())


def test_the_spatial_convolution_trains_after_the_first_step() -> None:
    layer, x = CBAM(32).train(), torch.randn(4, 32, 6, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    sizes = []
    for _ in range(2):
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        sizes.append(float(layer.spatial.conv.weight.grad.abs().max()))
        optimizer.step()
    assert sizes[0] == 0 and sizes[1] > 0


@pytest.mark.parametrize("fill", [0.0, 1.0, -3.0])
@every_layer
def test_constant_maps_stay_finite(name: str, fill: float) -> None:
    layer = BUILD[name](32).train()
    x = torch.full((2, 32, 6, 3), fill, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    gradients = [x.grad, *(p.grad for p in layer.parameters())]
    assert all(bool(values.isfinite().all()) for values in (out, *gradients))


@pytest.mark.parametrize("channels", [512, 2048])
@every_layer
def test_shapes_and_half_precision(name: str, channels: int) -> None:
    layer = BUILD[name](channels)
    for size in SIZES:
        x = 3 * torch.randn(2, channels, *size).relu()
        expected = x.shape[:2] if name == "iwpam" else x.shape
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = layer(x)
        full = layer(x)
        assert full.dtype == torch.float32 and full.shape == expected == half.shape
        assert bool(full.isfinite().all() and half.isfinite().all())


def test_iwpam_scores_are_not_rounded_to_half_precision() -> None:
    # Two parts (32, 0) and (32, 1), u = v = z = identity: the scores are 1024 but for part 1 with
    # itself, 1025, which bfloat16 cannot tell from 1024. The second channel of the refined parts
    # is 1/2 and sigmoid(1); equal gates give their mean.
    layer = IWPAM(2, num_parts=2)
    for conv in (layer.u, layer.v, layer.z):
        conv.weight.data[:, :, 0] = torch.eye(2)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    x = torch.tensor([[32.0, 32.0], [0.0, 1.0]])[None, :, :, None]
    expected = (0.5 + 1 / (1 + math.exp(-1))) / 2
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            value = layer(x)[0, 1].item()
        assert value == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("channels", [512, 2048])
def test_parameter_counts_by_hand(channels: int) -> None:
    c, w = channels, channels // 16

    def count(layer: nn.Module) -> int:
        return sum(parameter.numel() for parameter in layer.parameters())

    inner = (c * w + 2 * w + w * c) + (c * w + 2 * w) + 2 * (9 * w * w + 2 * w) + w
    assert count(BAM(c)) == inner + 2 * c + 2 * 1  # a BN ends each branch
    assert count(BAM(c, combine="product")) == inner + c + 1  # a bias ends each branch
    assert count(ChannelAttention(c)) == (c * w + w) + (w * c + c)
    assert count(CBAM(c)) == (c * w + w) + (w * c + c) + 2 * 7 * 7 + 2
    assert count(SpatialAttention(kernel_size=3, norm=False)) == 2 * 3 * 3
    assert count(IWPAM(c)) == 3 * c * c + 2 * c + 3


def test_one_image_is_refused_where_batch_statistics_need_two() -> None:
    x = torch.randn(1, 32, 6, 3)
    with pytest.raises(ValueError, match="more than 1 value per channel when training"):
        BAM(32)(x)
    with pytest.raises(ValueError, match="more than 1 value per channel when training"):
        CBAM(32)(x[:, :, :1, :1])
    assert CBAM(32)(x).shape == x.shape


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: BAM(8), "BAM: in_channels // reduction must be at least 1; got in_channels 8"),
        (lambda: BAM(8, reduction=0), "reduction 0. Choose a reduction from 1"),
        (lambda: BAM(32, dilation=0), "dilation must be at least 1; got 0"),
        (lambda: BAM(32, combine="mean"), "combine must be one of .*'sum', 'product'.*'mean'"),
        (lambda: CBAM(8), "ChannelAttention: in_channels // reduction .* reduction 16"),
        (lambda: CBAM(32, kernel_size=4), "SpatialAttention: kernel_size .* odd number; got 4"),
        (lambda: IWPAM(0), "in_channels must be at least 1; got 0"),
        (lambda: IWPAM(8, num_parts=1), "num_parts must be at least 2.*; got 1"),
    ],
)
def test_bad_arguments_are_named(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
