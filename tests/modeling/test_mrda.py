"""MRDA: masks, dynamic attention, the two views and their losses.

Oracles: the paper's equations as loops over pixels, stripes and positions; the parts called by
hand; counted multiplications.
"""

import itertools
import math
import operator

import pytest
import torch
import torch.nn.functional as F

from vireid_plugins.engine.setup import build_config
from vireid_plugins.modeling import map_names, recorded_maps
from vireid_plugins.modeling.heads import MRDAHead
from vireid_plugins.modeling.layers import BAM, CBAM, IWPAM, DynamicAttention
from vireid_plugins.modeling.losses import RegionalCenterLoss
from vireid_plugins.modeling.meta_arch.mrda import _labels_of_both_views, mask_of, masked_view

from tests.modeling.test_meta_arch import ROOT, make_batch, make_model, statistics_free, take

CONFIG = "configs/mrda/synthetic.yml"
P, K = 3, 2
LOSSES = "'LabelSmoothingCrossEntropyLoss','HeteroCenterTripletLoss','CorrelationConsistencyLoss'"
NO_MASK = ["MODEL.MRDA.MASK", "False", "MODEL.LOSSES.NAME", f"({LOSSES})"]


# ------------------------------------------------------------------------------- mask, Eq. 1-4


def test_mask_by_hand():
    """Two pixels of three channels; min 10, max 110."""
    image = torch.tensor([[10.0, 110.0], [60.0, 60.0], [110.0, 10.0]]).view(1, 3, 1, 2)
    first = math.sqrt((0.0**2 + 0.5**2 + 1.0**2) / 3)
    mask = mask_of(image)
    assert mask.flatten().tolist() == pytest.approx([first, first])
    assert mask.shape == (1, 1, 1, 2)


def test_mask_pixel_by_pixel_of_each_image_alone():
    images = torch.rand(3, 3, 5, 4, dtype=torch.float64) * torch.tensor([255.0, 3.0, 80.0]).view(
        3, 1, 1, 1
    )
    mask = mask_of(images)
    for image, found in zip(images, mask):
        low, high = image.min().item(), image.max().item()
        for h, w in itertools.product(range(5), range(4)):
            scaled = [(image[c, h, w].item() - low) / (high - low) for c in range(3)]
            expected = math.sqrt(sum(s * s for s in scaled)) / math.sqrt(3)
            assert found[0, h, w].item() == pytest.approx(expected, rel=1e-12)
    assert mask.min() >= 0 and mask.max() <= 1  # so that Eq. (2) leaves M- in 0..1


@pytest.mark.parametrize("value", [0.0, 128.0, 255.0])
def test_a_constant_image_is_kept_whole(value):
    images = torch.full((2, 3, 4, 4), value)
    images[1, 0, 0, 0] = 7.0
    mask = mask_of(images)
    assert torch.equal(mask[0], torch.ones(1, 4, 4)) and mask.isfinite().all()


def test_mask_has_no_gradient():
    assert not mask_of(torch.rand(1, 3, 4, 4, requires_grad=True)).requires_grad


def test_views_are_the_image_its_body_and_its_background():
    model = make_model(CONFIG, "MODEL.LOSSES.REGIONAL_CENTER.BACKGROUND_SCALE", "1.0")
    images = torch.rand(2, 3, 6, 4) * 255
    original, body, background = model.regions(images)
    assert torch.equal(original, model.normalize(images))
    torch.testing.assert_close(body, model.normalize(masked_view(images)))  # Eq. (3)
    left = images - masked_view(images)  # Eq. (2), (4)
    torch.testing.assert_close(background, model.normalize(left))
    assert len(make_model(CONFIG).regions(images)) == 2


def test_the_mask_of_normalized_images():
    """Eq. 1-4 pixel by pixel, x being the normalized image; the network sees their results."""
    opts = ["MODEL.MRDA.MASK_INPUT", "normalized"]
    opts += ["MODEL.LOSSES.REGIONAL_CENTER.BACKGROUND_SCALE", "1.0"]
    model = make_model(CONFIG, *opts)
    images = torch.rand(2, 3, 3, 2) * 255
    regions = model.regions(images)
    mean, std = model.pixel_mean.flatten().tolist(), model.pixel_std.flatten().tolist()
    for i in range(2):
        x = [[(v.item() - mean[c]) / std[c] for v in images[i, c].flatten()] for c in range(3)]
        low, high = min(map(min, x)), max(map(max, x))
        for pixel in range(6):
            scaled = [(x[c][pixel] - low) / (high - low) for c in range(3)]
            mask = math.sqrt(sum(v * v for v in scaled) / 3)
            for c in range(3):
                value = x[c][pixel]
                for region, factor in zip(regions, (1, mask, 1 - mask)):
                    found = region[i, c].flatten()[pixel].item()
                    assert found == pytest.approx(factor * value, rel=1e-4, abs=1e-5)
    assert not torch.allclose(regions[1], make_model(CONFIG).regions(images)[1], atol=0.1)


# ---------------------------------------------------------------- dynamic attention, Eq. 9-16


def by_loops(module, feature_map):
    """avg of the attended map (B, C), position by position, with all products written out."""
    results = []
    stripes, kept = module.num_stripes, module.num_kept
    for f in feature_map:  # (C, H, W)
        _, height, columns = f.shape
        project = lambda conv: F.conv2d(f[None], conv.weight, conv.bias)[0]  # noqa: B023, E731
        q, k, v = project(module.query), project(module.key), project(module.value)
        members = [
            [(h, w) for h in range(height) for w in range(columns) if h * stripes // height == r]
            for r in range(stripes)
        ]
        mean = lambda m, r: sum(m[:, h, w] for h, w in members[r]) / len(members[r])  # noqa: B023, E731
        scores = [
            sum(torch.dot(mean(q, i), mean(k, j)) for i in range(stripes)).item() / stripes
            for j in range(stripes)
        ]
        chosen = sorted(range(stripes), key=lambda r: (-scores[r], r))[:kept]  # noqa: B023
        everywhere = list(itertools.product(range(height), range(columns)))
        attended = []
        for h, w in (place for r in chosen for place in members[r]):
            affinities = torch.stack([torch.dot(q[:, h, w], k[:, y, x]) for y, x in everywhere])
            alpha = torch.softmax(module.scale * affinities, dim=0)
            attended.append(sum(a * v[:, y, x] for a, (y, x) in zip(alpha, everywhere)))
        results.append(sum(attended) / len(attended))
    return torch.stack(results)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(
    "height, columns, stripes, kept",
    [(6, 3, 6, 3), (7, 3, 3, 1), (7, 3, 3, 2), (8, 2, 5, 4), (5, 2, 5, 5), (4, 1, 1, 1)],
)
def test_attention_equals_the_equations_position_by_position(
    height, columns, stripes, kept, scaled
):
    torch.manual_seed(height * kept)
    module = DynamicAttention(16, stripes, kept, scaled).double()
    feature_map = 2 * torch.randn(3, 16, height, columns, dtype=torch.float64)
    expected = by_loops(module, feature_map)
    torch.testing.assert_close(module(feature_map), expected)


def test_attention_gradients_equal_those_of_the_loops():
    torch.manual_seed(3)
    module = DynamicAttention(8, 3, 2).double()
    feature_map = torch.randn(2, 8, 7, 2, dtype=torch.float64, requires_grad=True)
    inputs = [feature_map, *module.parameters()]
    weights = torch.randn(2, 8, dtype=torch.float64)
    expected = torch.autograd.grad((weights * by_loops(module, feature_map)).sum(), inputs)
    found = torch.autograd.grad((weights * module(feature_map)).sum(), inputs)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b)
        assert b.abs().max() > 0


def test_all_stripes_kept_is_full_attention():
    module = DynamicAttention(16, 4, 4).double()
    f = torch.randn(2, 16, 8, 3, dtype=torch.float64)
    q, k, v = (conv(f).flatten(2) for conv in (module.query, module.key, module.value))
    alpha = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(2), dim=-1)
    expected = (alpha @ v.transpose(1, 2)).mean(1)
    torch.testing.assert_close(module(f), expected)


def test_equal_stripes_are_chosen_from_above():
    module = DynamicAttention(8, 4, 2)
    with recorded_maps(module) as maps:
        module(torch.ones(2, 8, 8, 3))
    assert maps["kept_stripes"].tolist() == [[0, 1], [0, 1]]


def test_recorded_attention_is_a_distribution_over_positions():
    module = DynamicAttention(8, 3, 2)
    f = torch.randn(4, 8, 7, 3)
    with recorded_maps(module) as maps:
        attended = module(f)
    assert maps["attention"].shape == (4, 7, 3) and maps["stripe_scores"].shape == (4, 3)
    torch.testing.assert_close(maps["attention"].flatten(1).sum(1), torch.ones(4))
    value = module.value(f)
    expected = (maps["attention"].unsqueeze(1) * value).sum((2, 3))  # Eq. (15)
    torch.testing.assert_close(attended, expected, rtol=1e-4, atol=1e-5)


def test_cost_grows_with_the_kept_stripes():
    """Multiplications of Eq. 14 are k / R of full attention's: no dropped query is multiplied."""
    counter = pytest.importorskip("torch.utils.flop_counter")  # PyTorch >= 2.1
    q = torch.randn(2, 16, 12, 4)
    counts = {}
    for kept in (1, 3, 6):
        module = DynamicAttention(128, 6, kept)
        with counter.FlopCounterMode(display=False) as flops:
            module.attend(q, q, torch.arange(kept).expand(2, -1))
        counts[kept] = flops.get_total_flops()
    positions = 12 * 4
    product = 2 * 2 * 16 * positions * positions  # 2 images, 2 operations per multiplication
    mean = 2 * 2 * positions * positions
    assert counts == {k: (product + mean) * k // 6 for k in (1, 3, 6)}


def test_attention_without_half_precision_overflow():
    module = DynamicAttention(64, 6, 3, scaled=False)
    f = 200 * torch.randn(2, 64, 6, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(f)
        assert found.isfinite().all()
        found.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def test_more_stripes_than_rows_is_an_error_that_names_the_remedy():
    with pytest.raises(ValueError, match="4 rows cannot be cut into 6 .* fewer stripes"):
        DynamicAttention(8, 6, 3)(torch.rand(1, 8, 4, 3))


@pytest.mark.parametrize("kept", [0, 7])
def test_kept_stripes_out_of_range(kept):
    with pytest.raises(ValueError, match=f"num_kept must be 1 to num_stripes, 6; got {kept}"):
        DynamicAttention(8, 6, kept)


def test_more_kept_stripes_than_stripes_names_the_keys():
    with pytest.raises(ValueError, match="ATTENTION.KEPT is 7; expected 1 to STRIPES, 6"):
        make_model(CONFIG, "MODEL.HEADS.ATTENTION.KEPT", "7")


def test_with_a_zero_start_the_attention_adds_nothing_until_it_has_learned():
    opts = ["MODEL.HEADS.ATTENTION.ZERO_START", "True"]
    model, plain = make_model(CONFIG, *opts), make_model(CONFIG)
    f = torch.rand(2, 512, 6, 3)
    with torch.no_grad():
        assert torch.equal(model.heads.pool(f), model.heads.pool_layer(f))
        assert not torch.allclose(plain.heads.pool(f), plain.heads.pool_layer(f))
    # nothing else starts differently, and V itself gets a gradient
    for (name, own), other in zip(model.named_parameters(), plain.parameters()):
        assert torch.equal(own, other) != name.startswith("heads.attention.value.")
    model.heads.pool(f).square().sum().backward()
    assert model.heads.attention.value.weight.grad.abs().max() > 0


# --------------------------------------------------------------------------- head, Eq. 16, 17


@pytest.mark.parametrize(
    "name, kind",
    [("dam", DynamicAttention), ("bam", BAM), ("cbam", CBAM), ("iwpam", IWPAM), ("none", None)],
)
def test_head_pools_as_the_attention_asks(name, kind):
    head = make_model(CONFIG, "MODEL.HEADS.ATTENTION.NAME", name).heads.eval()
    assert isinstance(head, MRDAHead)
    assert isinstance(head.attention, kind) if kind else head.attention is None
    f = torch.rand(2, 512, 6, 3)
    gem = lambda m: m.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)  # noqa: E731  Eq. (17), b = 3
    expected = {
        "none": lambda: gem(f),
        "dam": lambda: gem(f) + by_loops(head.attention, f),  # Eq. (16)
        "iwpam": lambda: gem(f) + head.attention(f),
        "bam": lambda: gem(head.attention(f)),
        "cbam": lambda: gem(head.attention(f)),
    }[name]()
    with torch.no_grad():
        torch.testing.assert_close(head.pool(f)[..., 0, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config, exponent", [("sysu", 3), ("llcm", 3), ("regdb", 10)])
def test_the_exponent_is_a_constant_of_the_dataset(config, exponent):
    """Eq. 17 by a loop."""
    opts = ["MODEL.BACKBONE.PRETRAIN", "False", "MODEL.BACKBONE.DEPTH", "18x"]
    head = make_model(f"configs/mrda/{config}.yml", *opts).heads
    f = torch.rand(1, 4, 3, 2, dtype=torch.float64) + 0.1
    expected = [
        (sum(v.item() ** exponent for v in channel.flatten()) / 6) ** (1 / exponent)
        for channel in f[0]
    ]
    assert head.pool_layer(f).flatten().tolist() == pytest.approx(expected)
    assert not list(head.pool_layer.parameters())


def test_a_learned_exponent_is_a_variant():
    pool = make_model("configs/mrda/ablation/learned_exponent.yml").heads.pool_layer
    assert pool.p.requires_grad and pool.p.item() == 3


def test_an_unknown_attention_is_refused():
    with pytest.raises(ValueError, match="NAME is 'dma'; expected one of 'dam', 'bam'"):
        make_model(CONFIG, "MODEL.HEADS.ATTENTION.NAME", "dma")


# --------------------------------------------------------------- the model, Eq. 5-8 and 18-23


def outputs_by_hand(model, batch, stage):
    """Shallow maps and head outputs of [originals; masked], each modality's stream by hand."""
    images = torch.cat([batch["images"], mask_of(batch["images"]) * batch["images"]])
    images = (images - model.pixel_mean) / model.pixel_std
    modalities = batch["modalities"].repeat(2)
    names = ("stem", "layer1", "layer2", "layer3", "layer4")
    maps = [None] * len(images)
    shallow = [None] * len(images)
    for i, image in enumerate(images):
        x = image[None]
        stream = (model.backbone.visible, model.backbone.infrared)[modalities[i]]
        for number, name in enumerate(names):
            x = (stream[name] if name in stream else model.backbone.shared[name])(x)
            if number == stage:
                shallow[i] = x[0]
        maps[i] = x[0]
    head = model.heads
    features = head.pool(torch.stack(maps))[..., 0, 0]
    logits = F.linear(head.bottleneck(features[..., None, None])[..., 0, 0], head.weight)
    return torch.stack(shallow), features, logits


@pytest.mark.parametrize("stage", range(5))
@pytest.mark.parametrize("loss_views", ["both", "original"])
def test_objective_term_by_term(stage, loss_views):
    """Eq. 23, from the rows of both views in evaluation-mode batch norm."""
    opts = ["MODEL.MRDA.CONSTRAINT_STAGE", str(stage), "MODEL.MRDA.LOSS_VIEWS", loss_views]
    model, batch = statistics_free(make_model(CONFIG, *opts)), make_batch()
    with torch.no_grad():
        terms = model(batch)
        shallow, features, logits = outputs_by_hand(model, batch, stage)
    rows = len(batch["targets"])
    targets, modalities = batch["targets"].repeat(2), batch["modalities"].repeat(2)
    seen = slice(None) if loss_views == "both" else slice(rows)
    center = lambda t, m: features[seen][  # noqa: E731
        (targets[seen] == t) & (modalities[seen] == m)
    ].mean(0)  # Eq. (19)
    identities = sorted(set(batch["targets"].tolist()))
    centers = {(t, m): center(t, m) for t in identities for m in (0, 1)}
    hinges = []
    for (t, m), anchor in centers.items():  # Eq. (20)
        negatives = [(anchor - c).norm() for (other, _), c in centers.items() if other != t]
        hinges.append(max(0.0, float(0.3 + (anchor - centers[t, 1 - m]).norm() - min(negatives))))
    grams = []
    for m in (0, 1):  # Eq. (21)
        rows_of = torch.stack([centers[t, m] for t in identities])
        gram = rows_of @ rows_of.T
        grams.append(gram / gram.pow(2).sum().sqrt())
    expected = {
        "loss_id": F.cross_entropy(logits, targets, label_smoothing=0.1),  # Eq. (18)
        "loss_hetero_center": torch.tensor(hinges).mean(),
        "loss_correlation": (grams[0] - grams[1]).pow(2).sum().sqrt(),  # Eq. (22)
        "loss_regional_center": RegionalCenterLoss()(  # Eq. (7), tested by its own file
            shallow[:rows], batch["targets"], batch["modalities"], shallow[rows:]
        ),
    }
    assert terms.keys() == expected.keys()
    for name, term in expected.items():
        torch.testing.assert_close(terms[name], term, rtol=1e-3, atol=1e-5)


def test_both_views_pass_the_streams_as_one_batch():
    """Eq. 5, 6: batch norm sees originals and masked images of a modality together."""
    model, batch = make_model(CONFIG).train(), make_batch()
    with torch.no_grad(), recorded_maps(model, ["stem", "layer1", "layer2"]) as maps:
        model(batch)
    images = torch.cat([batch["images"], mask_of(batch["images"]) * batch["images"]])
    modalities = batch["modalities"].repeat(2)
    with torch.no_grad():
        for m, stream in enumerate((model.backbone.visible, model.backbone.infrared)):
            stem = stream["stem"](model.normalize(images)[modalities == m])
            torch.testing.assert_close(maps["stem"][modalities == m], stem)
            torch.testing.assert_close(maps["layer1"][modalities == m], stream["layer1"](stem))
        layer2 = model.backbone.shared["layer2"](maps["layer1"])  # Eq. (8): and both modalities
    torch.testing.assert_close(maps["layer2"], layer2)


@pytest.mark.parametrize("term", ["loss_id", "loss_hetero_center", "loss_correlation"])
@pytest.mark.parametrize("loss_views", ["both", "original"])
def test_which_rows_each_term_teaches(term, loss_views):
    """L_id both views; the metric losses those of LOSS_VIEWS."""
    model = make_model(CONFIG, "MODEL.MRDA.LOSS_VIEWS", loss_views)
    model, batch = statistics_free(model), make_batch()
    with recorded_maps(model, "layer4") as maps:
        value = model(batch)[term]
    gradient = torch.autograd.grad(value, maps["layer4"])[0].flatten(1).abs().amax(1)
    original, masked = (gradient > 0).chunk(2)
    assert original.any()
    assert masked.any() == (term == "loss_id" or loss_views == "both")
    if term == "loss_id":
        assert original.all() and masked.all()


def test_image_level_correlation_pairs_images_of_one_view():
    """Rows by identity, then index; an original never meets a masked image."""
    opts = ["MODEL.LOSSES.CORRELATION.LEVEL", "image"]
    model, batch = statistics_free(make_model(CONFIG, *opts)), make_batch()
    with torch.no_grad():
        found = model(batch)["loss_correlation"]
        _, features, _ = outputs_by_hand(model, batch, stage=1)
    rows = len(batch["targets"])
    keys = [
        (batch["targets"][i % rows].item(), batch["index"][i % rows].item(), i // rows)
        for i in range(2 * rows)
    ]
    grams = []
    for m in (0, 1):
        chosen = [i for i in range(2 * rows) if batch["modalities"][i % rows] == m]
        f = features[sorted(chosen, key=lambda i: keys[i])]
        grams.append((f @ f.T) / (f @ f.T).norm())
    torch.testing.assert_close(found, (grams[0] - grams[1]).norm(), rtol=1e-3, atol=1e-5)


def test_the_correlation_of_the_features_after_batch_norm():
    opts = ["MODEL.LOSSES.CORRELATION.FEATURE", "bn_features"]
    model, batch = statistics_free(make_model(CONFIG, *opts)), make_batch()
    scale = torch.rand(512) + 0.5
    model.heads.bottleneck[0].running_mean.copy_(scale)
    with torch.no_grad():
        found = model(batch)["loss_correlation"]
        _, features, _ = outputs_by_hand(model, batch, stage=1)
        features = model.heads.bottleneck(features[..., None, None])[..., 0, 0]
    targets, modalities = batch["targets"].repeat(2), batch["modalities"].repeat(2)
    grams = []
    for m in (0, 1):
        centers = [features[(targets == t) & (modalities == m)].mean(0) for t in targets.unique()]
        gram = torch.stack(centers) @ torch.stack(centers).T
        grams.append(gram / gram.norm())
    torch.testing.assert_close(found, (grams[0] - grams[1]).norm(), rtol=1e-3, atol=1e-5)


def test_an_image_and_its_masked_view_have_an_index_each():
    """By which all visible originals are paired with infrared originals, masked with masked."""
    labels = {"targets": torch.tensor([4, 4, 4]), "index": torch.tensor([9, 2, 9])}
    both = _labels_of_both_views(labels)
    assert both["targets"].tolist() == [4] * 6
    original, masked = both["index"].chunk(2)
    assert original.tolist() == [18, 4, 18] and masked.tolist() == [19, 5, 19]


@pytest.mark.parametrize(
    "key, value, attribute",
    [
        ("MODEL.MRDA.MASK_INPUT", "normalized", "mask_input"),
        ("MODEL.MRDA.LOSS_VIEWS", "original", "loss_views"),
        ("MODEL.MRDA.TEST_VIEW", "mean", "test_view"),
        ("MODEL.HEADS.ATTENTION.STRIPES", 5, "heads.attention.num_stripes"),
        ("MODEL.HEADS.ATTENTION.KEPT", 2, "heads.attention.num_kept"),
        ("MODEL.HEADS.ATTENTION.SCALED", False, "heads.attention.scale"),
        (
            "MODEL.LOSSES.REGIONAL_CENTER.CROSS_TERM",
            "masked",
            "loss_terms.RegionalCenterLoss.cross_term",
        ),
        (
            "MODEL.LOSSES.REGIONAL_CENTER.PER_ELEMENT",
            False,
            "loss_terms.RegionalCenterLoss.per_element",
        ),
        (
            "MODEL.LOSSES.REGIONAL_CENTER.BACKGROUND_SCALE",
            0.5,
            "loss_terms.RegionalCenterLoss.background_scale",
        ),
        (
            "MODEL.LOSSES.REGIONAL_CENTER.BACKGROUND_MARGIN",
            0.7,
            "loss_terms.RegionalCenterLoss.background_margin",
        ),
        (
            "MODEL.LOSSES.CORRELATION.FEATURE",
            "bn_features",
            "loss_terms.CorrelationConsistencyLoss.inputs",
        ),
        ("MODEL.LOSSES.CORRELATION.NORM", "row", "loss_terms.CorrelationConsistencyLoss.norm"),
        (
            "MODEL.LOSSES.CORRELATION.REDUCTION",
            "mse",
            "loss_terms.CorrelationConsistencyLoss.reduction",
        ),
        (
            "MODEL.LOSSES.HETERO_CENTER.REDUCTION",
            "sum",
            "loss_terms.HeteroCenterTripletLoss.reduction",
        ),
        ("MODEL.LOSSES.HETERO_CENTER.MARGIN", 0.9, "loss_terms.HeteroCenterTripletLoss.margin"),
        (
            "MODEL.LOSSES.LABEL_SMOOTHING.SMOOTHING",
            0.2,
            "loss_terms.LabelSmoothingCrossEntropyLoss.smoothing",
        ),
    ],
)
def test_each_key_reaches_the_part_it_is_for(key, value, attribute):
    """One key alone changes the part; its formula is tested with the part."""
    part = operator.attrgetter(attribute)
    expected = 1.0 if key.endswith("SCALED") else value
    if key.endswith("FEATURE"):
        expected = ("bn_features", "targets", "modalities")
    assert part(make_model(CONFIG, key, str(value))) == expected != part(make_model(CONFIG))


def test_the_way_of_combining_reaches_bam():
    opts = ["MODEL.HEADS.ATTENTION.NAME", "bam", "MODEL.HEADS.ATTENTION.COMBINE"]
    assert make_model(CONFIG, *opts, "product").heads.attention.combine == "product"
    with pytest.raises(ValueError, match="COMBINE is 'prodct'; expected 'sum' or 'product'"):
        make_model(CONFIG, "MODEL.HEADS.ATTENTION.COMBINE", "prodct")


def test_the_configs_hold_the_papers_numbers():
    cfg = build_config(str(ROOT / "configs/mrda/sysu.yml"), ["MODEL.DEVICE", "cpu"])
    images, instances = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
    assert (images, instances, images // (2 * instances)) == (36, 6, 3)
    assert (cfg.SOLVER.BASE_LR, tuple(cfg.SOLVER.STEPS), cfg.SOLVER.GAMMA) == (0.1, (20, 50), 0.1)
    assert (cfg.SOLVER.OPT, cfg.SOLVER.MOMENTUM, cfg.SOLVER.MAX_EPOCH) == ("SGD", 0.9, 80)
    assert cfg.MODEL.LOSSES.LABEL_SMOOTHING.SMOOTHING == 0.1
    assert cfg.MODEL.LOSSES.HETERO_CENTER.MARGIN == 0.3
    assert cfg.MODEL.BACKBONE.DEPTH == "50x" and cfg.MODEL.BACKBONE.LAST_STRIDE == 1
    assert list(cfg.INPUT.SIZE_TRAIN) == [288, 144]
    nodes = ("LABEL_SMOOTHING", "HETERO_CENTER", "CORRELATION", "REGIONAL_CENTER")
    assert [cfg.MODEL.LOSSES[node].SCALE for node in nodes] == [1.0] * 4


@pytest.mark.parametrize("name, stage", [("full", 1), *((f"stage{i}", i) for i in (0, 2, 3, 4))])
def test_the_separate_weights_end_with_the_constraint_stage(name, stage):
    """Fig. 6."""
    cfg = build_config(str(ROOT / f"configs/mrda/ablation/{name}.yml"), [])
    assert cfg.MODEL.MRDA.CONSTRAINT_STAGE == stage
    assert cfg.MODEL.BACKBONE.UNSHARED_STAGES == stage + 1


def test_every_weight_is_a_key():
    nodes = {
        "LABEL_SMOOTHING": "loss_id",
        "HETERO_CENTER": "loss_hetero_center",
        "CORRELATION": "loss_correlation",
        "REGIONAL_CENTER": "loss_regional_center",
    }
    model, batch = statistics_free(make_model(CONFIG)), make_batch()
    plain = model(batch)
    for node, name in nodes.items():
        scaled = statistics_free(make_model(CONFIG, f"MODEL.LOSSES.{node}.SCALE", "3.0"))(batch)
        assert all(
            scaled[n].item() == pytest.approx(plain[n].item() * (3 if n == name else 1))
            for n in plain
        )


def test_without_the_mask_it_is_the_baseline():
    model, batch = statistics_free(make_model(CONFIG, *NO_MASK)), make_batch()
    terms = model(batch)
    assert terms.keys() == {"loss_id", "loss_hetero_center", "loss_correlation"}
    assert "mask" in map_names(model)


def test_the_two_views_of_a_batch_may_come_in_any_order():
    model, batch = statistics_free(make_model(CONFIG)), make_batch()
    expected = model(batch)
    for seed in range(3):
        order = torch.randperm(len(batch["targets"]), generator=torch.Generator().manual_seed(seed))
        for name, term in model(take(batch, order)).items():
            torch.testing.assert_close(term, expected[name], rtol=1e-4, atol=1e-5)


def test_background_view_reaches_only_the_shallow_stages():
    opts = ["MODEL.LOSSES.REGIONAL_CENTER.BACKGROUND_SCALE", "1.0"]
    opts += ["MODEL.LOSSES.REGIONAL_CENTER.BACKGROUND_MARGIN", "1000.0"]
    model, batch = statistics_free(make_model(CONFIG, *opts)), make_batch()
    with recorded_maps(model, ["layer1", "layer2"]) as maps:
        pushed = model(batch)
    assert len(maps["layer1"]) == 3 * len(batch["targets"])
    assert len(maps["layer2"]) == 2 * len(batch["targets"])
    plain = statistics_free(make_model(CONFIG))(batch)
    # |f - f_background| < 1000, so the hinge is 1000 minus their mean distance
    shallow = maps["layer1"].chunk(3)
    distance = (shallow[0] - shallow[2]).flatten(1).norm(dim=1) / shallow[0][0].numel() ** 0.5
    difference = pushed["loss_regional_center"] - plain["loss_regional_center"]
    assert float(difference) == pytest.approx(1000 - float(distance.mean()), rel=1e-4)


def test_test_views():
    batch = make_batch()
    features = {}
    for view in ("original", "masked", "mean"):
        model = make_model(CONFIG, "MODEL.MRDA.TEST_VIEW", view).eval()
        with torch.no_grad():
            features[view] = model(batch)
    masked_batch = {**batch, "images": mask_of(batch["images"]) * batch["images"]}
    with torch.no_grad():
        torch.testing.assert_close(
            features["masked"], make_model(CONFIG).eval()(masked_batch), rtol=1e-4, atol=1e-5
        )
    assert make_model(CONFIG).test_feature == "after BNNeck"
    assert model.test_feature == "after BNNeck, mean of both views"  # of the last one
    torch.testing.assert_close(features["mean"], (features["original"] + features["masked"]) / 2)
    opts = ["MODEL.MRDA.TEST_VIEW", "masked", "MODEL.MRDA.MASK_INPUT", "normalized"]
    other = make_model(CONFIG, *opts).eval()
    images = other.regions(batch["images"])[1] * other.pixel_std + other.pixel_mean
    with torch.no_grad():
        expected = make_model(CONFIG).eval()({**batch, "images": images})
        torch.testing.assert_close(other(batch), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(features["original"], features["masked"])


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("MODEL.MRDA.TEST_VIEW", "body", "TEST_VIEW is 'body'; expected one of"),
        ("MODEL.MRDA.MASK_INPUT", "255", "MASK_INPUT is '255'; expected 'raw' or"),
        ("MODEL.MRDA.LOSS_VIEWS", "masked", "LOSS_VIEWS is 'masked'; expected 'both' or"),
        ("MODEL.MRDA.CONSTRAINT_STAGE", "5", "CONSTRAINT_STAGE is 5; expected 0"),
        ("MODEL.BACKBONE.NAME", "build_resnet_backbone", "build_dual_stream_resnet_backbone"),
    ],
)
def test_bad_keys_are_named(key, value, message):
    with pytest.raises(ValueError, match=message):
        make_model(CONFIG, key, value)


def test_without_the_mask_nothing_may_ask_for_it():
    with pytest.raises(ValueError, match="MASK is False, .* which RegionalCenterLoss of MODEL"):
        make_model(CONFIG, *NO_MASK[:2])
    with pytest.raises(ValueError, match="MASK is False, .* which MODEL.MRDA.TEST_VIEW mean needs"):
        make_model(CONFIG, *NO_MASK, "MODEL.MRDA.TEST_VIEW", "mean")
    make_model(CONFIG, *NO_MASK)


def test_regional_centers_are_one_of_the_named_losses():
    """Without its name there is no L_ac, and both views still train."""
    model = statistics_free(make_model(CONFIG, "MODEL.LOSSES.NAME", f"({LOSSES})"))
    terms = model(make_batch())
    assert terms.keys() == {"loss_id", "loss_hetero_center", "loss_correlation"}
    plain = statistics_free(make_model(CONFIG))(make_batch())
    assert all(torch.equal(terms[name], plain[name]) for name in terms)


def test_a_recording_of_both_views_keeps_the_original_ones_maps():
    batch = make_batch()
    recorded = {}
    for view in ("original", "mean"):
        model = make_model(CONFIG, "MODEL.MRDA.TEST_VIEW", view).eval()
        with torch.no_grad(), recorded_maps(model, "layer4") as maps:
            model(batch)
        recorded[view] = maps["layer4"]
    assert torch.equal(recorded["original"], recorded["mean"])


def test_a_batch_without_modalities_names_the_feature_extractor():
    with pytest.raises(ValueError, match="FeatureExtractor"):
        make_model(CONFIG).eval()(torch.zeros(1, 3, 96, 48))


def test_intermediate_maps_of_a_test_batch():
    model, batch = make_model(CONFIG).eval(), make_batch()
    with torch.no_grad():
        plain = model(batch)
        with recorded_maps(model) as maps:
            assert torch.equal(model(batch), plain)
    assert maps.keys() == map_names(model).keys() >= {"mask", "kept_stripes", "attention", "stem"}
    torch.testing.assert_close(maps["mask"], mask_of(batch["images"]))
    assert maps["kept_stripes"].shape == (2 * 2 * K * P // 2, 3)


@pytest.mark.parametrize("size", [(112, 48), (128, 64)])
def test_maps_whose_height_the_stripes_do_not_divide(size):
    """7 and 8 rows in 6 stripes."""
    model, batch = make_model(CONFIG), make_batch(size)
    terms = model.train()(batch)
    sum(terms.values()).backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all()
        for p in model.parameters()
        if p.requires_grad
    )
