"""The stripe head. Oracle: Eq. (3)-(9) of mutual prediction, by loops over rows and positions."""

import pytest
import torch
import torch.nn.functional as F

from vireid_plugins.modeling.heads import StripeHead
from vireid_plugins.modeling.maps import recorded_maps

from fastreid.config import get_cfg

B, C, N, R, S = 3, 5, 4, 3, 2


def make_head(num_stripes=R):
    head = StripeHead(in_channels=C, num_classes=N, num_stripes=num_stripes, stripe_dim=S)
    for conv in head.stripe_convs:  # a bias of zero would hide a forgotten one
        torch.nn.init.normal_(conv.bias)
    torch.nn.init.normal_(head.classifier.bias)
    return head.double()


def by_loop(head, feature_map):
    """f^m, image by image and stripe by stripe; rows of a stripe by floor(h * R / H)."""
    height, width = feature_map.shape[2:]
    features = []
    for image in feature_map:
        parts = [image.sum(dim=(1, 2)) / (height * width)]  # Eq. (5), (6)
        for p, conv in enumerate(head.stripe_convs):  # Eq. (3), (4)
            rows = [h for h in range(height) if h * head.num_stripes // height == p]
            cut = torch.stack([image[:, h] for h in rows], dim=1)
            refined = F.conv2d(cut.unsqueeze(0), conv.weight, conv.bias)[0].clamp(min=0)
            parts.append(refined.sum(dim=(1, 2)) / (len(rows) * width))
        features.append(torch.cat(parts))  # Eq. (7), (8)
    return torch.stack(features)


@pytest.mark.parametrize("height", [3, 6, 7, 8, 11])
def test_features_and_logits_equal_the_loop(height):
    """Also where the height is not a multiple of the stripes."""
    head, feature_map = make_head(), torch.randn(B, C, height, 4, dtype=torch.float64)
    expected = by_loop(head, feature_map)
    outputs = head.train()(feature_map)
    assert outputs.keys() == set(StripeHead.outputs)
    torch.testing.assert_close(outputs["features"], expected)
    w, b = head.classifier.weight, head.classifier.bias
    logits = torch.stack([torch.stack([w[k] @ f + b[k] for k in range(N)]) for f in expected])
    torch.testing.assert_close(outputs["logits"], logits)
    torch.testing.assert_close(head.eval()(feature_map), expected)


def test_the_paper_sizes():
    """2048 + 6 * 256 = 3584, and W_id: 3584 to K."""
    head = StripeHead(in_channels=2048, num_classes=7)
    assert head.feat_dim == head.classifier.in_features == 3584
    assert [tuple(conv.weight.shape) for conv in head.stripe_convs] == [(256, 2048, 1, 1)] * 6
    assert head.eval()(torch.rand(2, 2048, 18, 9)).shape == (2, 3584)


def test_stripe_features_begin_at_the_scale_of_the_global_one():
    """Root mean squares of the two parts, of a rectified normal map: 1.3; the host's rule: 3.6."""
    head = StripeHead(in_channels=2048, num_classes=2).eval()
    features = head(torch.randn(2, 2048, 18, 9).relu())
    parts = features.split([2048, 6 * 256], dim=1)
    global_rms, stripe_rms = (part.square().mean().sqrt() for part in parts)
    assert 0.5 < stripe_rms / global_rms < 2


def test_the_stripes_can_be_seen():
    head, feature_map = make_head().eval(), torch.randn(B, C, 6, 4, dtype=torch.float64)
    with recorded_maps(head, ["stripe_features"]) as maps:
        features = head(feature_map)
    assert maps["stripe_features"].shape == (B, R, S)
    assert torch.equal(maps["stripe_features"].flatten(1), features[:, C:])


def test_a_map_with_too_few_rows_and_no_stripes_are_refused():
    with pytest.raises(ValueError, match="2 rows cannot be cut into 3"):
        make_head()(torch.rand(1, C, 2, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="MODEL.HEADS.NUM_STRIPES is 0"):
        make_head(num_stripes=0)
    with pytest.raises(ValueError, match="MODEL.HEADS.STRIPE_DIM is 0"):
        StripeHead(in_channels=C, num_classes=N, stripe_dim=0)


def test_a_batch_norm_neck_is_refused():
    """It has none, and the table of results would say that features come from behind one."""
    cfg = get_cfg()
    cfg.MODEL.HEADS.WITH_BNNECK = True
    with pytest.raises(ValueError, match="WITH_BNNECK False"):
        StripeHead(cfg)
