"""RBNet. Oracles: loops from the paper's equations, masks by hand, Eq. 5-11 from four passes."""

import math

import pytest
import torch
import torch.nn.functional as F

from vireid_plugins.engine.checks import check_keypoints
from vireid_plugins.engine.early_checks import check_training
from vireid_plugins.errors import UserError
from vireid_plugins.modeling.losses.soft_cross_entropy import soft_cross_entropy
from vireid_plugins.modeling.meta_arch import MMT, RBNet

from tests.engine.small import small_cfg
from tests.every_key.narrow import NAME

TARGETS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
SIZE = (32, 16)
NARROW = {"MODEL__BACKBONE__NAME": NAME, "MODEL__HEADS__NUM_CLASSES": 3}


def make_batch(rows=8):
    values = torch.Generator().manual_seed(0)
    return {
        "images": torch.rand(rows, 3, *SIZE, generator=values) * 255,
        "targets": TARGETS[:rows],
        "modalities": torch.zeros(rows, dtype=torch.int64),
        "camids": torch.arange(rows),
        "index": torch.arange(rows),
        "keypoints": torch.rand(rows, 17, 3, generator=values) * torch.tensor([16.0, 32.0, 1.0]),
    }


def small(config="configs/rbnet/synthetic.yml", **keys):
    cfg = small_cfg("unused", config, **{**NARROW, **keys})
    torch.manual_seed(0)
    return {"RBNet": RBNet, "MMT": MMT}[cfg.MODEL.META_ARCHITECTURE](cfg)


def students(**keys):
    """MMT with two RBNets, and a batch of two views of eight images."""
    model = small("configs/mmt/synthetic.yml", MODEL__MMT__STUDENT="RBNet", **keys)
    batch = make_batch()
    rows = torch.arange(8).repeat_interleave(2)
    batch = {name: value[rows] for name, value in batch.items()}
    batch["images"] = batch["images"] / (1 + torch.arange(16) % 2).view(-1, 1, 1, 1)
    return model, dict(batch, views=torch.arange(16) % 2)


def triplet(features, margin=0.3):
    """Eq. 1 with a hinge and the hardest pairs, by loops."""
    rows = []
    for a, own in enumerate(TARGETS.tolist()):
        to = [(features[a] - other).norm() for other in features]
        far = max(d for b, d in enumerate(to) if TARGETS[b] == own and b != a)
        near = min(d for b, d in enumerate(to) if TARGETS[b] != own)
        rows.append((far - near + margin).clamp(min=0))
    return sum(rows) / len(rows)


def identity(logits):
    """Eq. 2 with its minus sign, by a loop."""
    rows = [-math.log(F.softmax(row, 0)[c].item()) for row, c in zip(logits, TARGETS.tolist())]
    return sum(rows) / len(rows)


def test_the_objective_is_equation_4():
    torch.manual_seed(1)
    model = small(MODEL__RBNET__MASKED_ID_SCALE=0.5, MODEL__RBNET__MASKED_METRIC_SCALE=0.25)
    outputs = {"features": torch.randn(8, 5), "logits": torch.randn(8, 3)}
    second = {"features": torch.randn(8, 5), "logits": torch.randn(8, 3)}
    errors = torch.rand(8) / 100
    terms = model.terms(
        model.loss_terms, {**outputs, "keypoint_errors": errors}, second, {"targets": TARGETS}
    )
    metric, error = triplet(outputs["features"]), errors.mean()
    expected = {
        "loss_id": identity(outputs["logits"]),
        "loss_batch_hard": metric.item(),
        "loss_keypoints": metric.item(),  # lambda_3 makes both equally large
        "loss_masked_id": 0.5 * identity(second["logits"]),
        "loss_masked_batch_hard": 0.25 * triplet(second["features"]).item(),
    }
    assert terms.keys() == expected.keys() == model.weight_keys.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-5), name
    model.after_step()
    assert model.keypoint_loss.sizes.tolist() == pytest.approx([metric.item(), error.item()])
    assert model.measures()["keypoint_weight"].item() == pytest.approx((metric / error).item())


def test_lambda_3_is_the_ratio_of_running_means_and_stays_in_its_range():
    model = small(MODEL__RBNET__KEYPOINT_SCALE=2.0)
    for metric, error in ((1.0, 0.1), (0.5, 0.2)):
        weight = model.keypoint_loss.weight(torch.tensor(metric), torch.tensor(error))
        model.after_step()
    means = 0.99 * 1.0 + 0.01 * 0.5, 0.99 * 0.1 + 0.01 * 0.2
    assert weight.item() == pytest.approx(2 * means[0] / means[1])
    assert "keypoint_loss.sizes" in model.state_dict() and not weight.requires_grad
    model.keypoint_loss.sizes.copy_(torch.tensor([0.0, 1.0]))  # no triplet is active any more
    assert model.keypoint_loss.weight(torch.tensor(0.0), torch.tensor(1.0)).item() == 2
    assert small(MODEL__RBNET__KEYPOINT_BALANCE="fixed").keypoint_loss.weight(0, 1) == 1


def test_the_errors_are_those_of_equation_3():
    model, batch = small().eval(), make_batch(2)
    batch["keypoints"][0, 5, 2] = 0  # unknown: an empty map
    with torch.no_grad():
        seen = model.look(batch)
        maps, found = seen.reverse["re_conv1"], model.keypoint_errors(batch, seen)
    assert maps.shape == (2, 17, 16, 8)  # half of the image, as conv1
    sigma = 2 / 64 * 16
    for row in range(2):
        total = 0.0
        for joint in range(17):
            x, y, known = batch["keypoints"][row, joint].tolist()
            column, line = (x + 0.5) / 2 - 0.5, (y + 0.5) / 2 - 0.5
            for i in range(16):
                for j in range(8):
                    square = (i - line) ** 2 + (j - column) ** 2
                    wanted = known * math.exp(-square / (2 * sigma**2))
                    total += (maps[row, joint, i, j].item() - wanted) ** 2
        assert found[row].item() == pytest.approx(total / (17 * 16 * 8), rel=1e-4)


@pytest.mark.parametrize("form", ["product", "residual"])
def test_the_mask_is_a_sigmoid_of_the_sum_of_17_parts(form):
    """A map of 2 x 1 cells, whose first channel is -1 above and 1 below, on a gray image."""
    model = small(MODEL__RBNET__MASK_FORM=form).eval()
    reverse = torch.zeros(1, 16, 2, 1)
    reverse[0, 0] = torch.tensor([[-1.0], [1.0]])
    with torch.no_grad():
        model.part_mask.parts.weight.zero_()
        model.part_mask.parts.weight[:, 0] = 0.1  # of all 17 parts
        model.part_mask.parts.bias.zero_()
        model.part_mask.parts.bias[3] = 0.5
        seen = model.look(make_batch(1))._replace(
            images=torch.full((1, 3, 4, 2), 2.0), reverse={"re_layer1": reverse}
        )
        found = model.masked(seen)
    above, below = 1 / (1 + math.exp(1.7 - 0.5)), 1 / (1 + math.exp(-1.7 - 0.5))
    # bilinear from 2 rows to 4: the middles of the rows are at -0.25, 0.25, 0.75, 1.25
    rows = [above, 0.75 * above + 0.25 * below, 0.25 * above + 0.75 * below, below]
    if form == "residual":
        rows = [1 + value for value in rows]
    torch.testing.assert_close(found[0, 1, :, 1], 2 * torch.tensor(rows))


def test_the_mask_begins_near_one_and_at_test_no_key_points_are_needed():
    model, batch = small().eval(), make_batch()
    del batch["keypoints"]
    with torch.no_grad():
        seen = model.look(batch)
        images = model.masked(seen)
        ratio = images / seen.images
        assert 0.8 < ratio.min() and ratio.max() < 0.97
        expected = model.heads(model.extract(images, batch["modalities"]), None, None)
        assert torch.equal(model(batch), expected)
        plain = small(MODEL__RBNET__TEST_VIEW="plain").eval()
        expected = plain.heads(plain.extract(seen.images, batch["modalities"]), None, None)
        assert torch.equal(plain(batch), expected)
    assert model.test_feature.endswith("masked image") and "masked" not in plain.test_feature


def with_gradient(model, term):
    model.zero_grad(set_to_none=True)
    term.backward(retain_graph=True)
    return {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def test_gradients_reach_what_they_should():
    model = small().train()
    terms = model(make_batch())
    first = with_gradient(model, terms["loss_id"])
    assert first and not any(n.startswith(("reverse.", "part_mask.")) for n in first)
    points = with_gradient(model, terms["loss_keypoints"])
    assert {"reverse.parts.re_conv1.maps.weight", "backbone.shared.stem.conv1.weight"} <= points
    assert not any(n.startswith(("part_mask.", "heads.")) for n in points)
    masked = with_gradient(model, terms["loss_masked_batch_hard"])
    assert {"part_mask.parts.weight", "reverse.parts.re_layer1.blocks.0.reduce.0.weight"} <= masked
    assert "reverse.parts.re_conv1.maps.weight" not in masked


@pytest.mark.parametrize("source", ["re_layer4", "re_layer3", "re_layer2", "re_layer1", "re_conv1"])
def test_each_reverse_map_can_be_the_mask(source):
    model = small(MODEL__RBNET__MASK_FROM=source, MODEL__RBNET__KEYPOINT_SCALE=0.0)
    model.train()
    terms = model({k: v for k, v in make_batch().items() if k != "keypoints"})
    assert "loss_keypoints" not in terms
    trained = with_gradient(model, sum(terms.values()))
    assert "part_mask.parts.weight" in trained and list(model.reverse.parts)[-1] == source


def test_mistakes_are_named():
    with pytest.raises(UserError, match="the reverse backbone has nothing to do"):
        small(MODEL__RBNET__MASK_FROM="none", MODEL__RBNET__KEYPOINT_SCALE=0.0)
    with pytest.raises(UserError, match="mirrors the stages of a convolutional network"):
        small(MODEL__BACKBONE__NAME="build_resnet_backbone", MODEL__BACKBONE__DEPTH="18x")
    batch = make_batch()
    del batch["keypoints"]
    with pytest.raises(UserError, match="set INPUT.KEYPOINTS.READ train"):
        small().train()(batch)
    with pytest.raises(UserError, match="'MAUM'.*these can: DualStreamBaseline, RBNet"):
        small("configs/mmt/synthetic.yml", MODEL__MMT__STUDENT="MAUM")


# ------------------------------------------------------------------------------ as students of MMT


def test_averages_see_what_their_students_mask():
    """Eq. 7, 8 and 11, from passes of the four networks by hand."""
    model, batch = students()
    model.train()
    with torch.no_grad():
        for parameter in model.teacher_2.parameters():
            parameter += 0.05
        terms = model(batch)
        own, averaged = [], []
        for number, student, average in zip((0, 1), model.students, model.teachers):
            view = {name: value[number::2] for name, value in batch.items()}
            seen = student.look(view)
            own.append(student.heads(seen.feature_map, TARGETS))
            maps = average.extract(student.masked(seen), view["modalities"])  # f_n
            averaged.append(average.heads(maps, TARGETS))
    soft = [soft_cross_entropy(own[n]["logits"], averaged[1 - n]["logits"]) for n in (0, 1)]
    torch.testing.assert_close(terms["loss_soft_id"], 0.5 * (soft[0] + soft[1]))
    total = 0.0
    for one in averaged:
        far_and_near = []
        for a, target in enumerate(TARGETS.tolist()):
            to = [(one["features"][a] - other).norm().item() for other in one["features"]]
            far = max(d for b, d in enumerate(to) if TARGETS[b] == target and b != a)
            far_and_near.append((far, min(d for b, d in enumerate(to) if TARGETS[b] != target)))
        total += (
            sum(-math.log(math.exp(n) / (math.exp(p) + math.exp(n))) for p, n in far_and_near) / 8
        )
    assert terms["loss_masked_softmax_triplet"].item() == pytest.approx(total, rel=1e-4)
    assert terms.keys() == model.weight_keys.keys()


def test_the_masked_terms_teach_the_mask_alone_and_the_averages_nothing():
    model, batch = students()
    model.train()
    terms = model(batch)
    reached = with_gradient(model, terms["loss_masked_softmax_triplet"])
    assert {"student_1.part_mask.parts.weight", "student_2.part_mask.parts.weight"} <= reached
    assert not any(name.startswith(("teacher_", "student_1.heads")) for name in reached)
    for name in ("loss_soft_id", "loss_soft_triplet"):
        soft = with_gradient(model, terms[name])
        assert any(n.startswith("student_1.backbone") for n in soft)
        assert not any(".reverse." in n or ".part_mask." in n or "teacher" in n for n in soft)


def test_features_pass_the_student_and_its_average():
    model, batch = students(MODEL__MMT__TEACHER="second")
    model.eval()
    batch = {name: value[::2] for name, value in batch.items() if name != "views"}
    with torch.no_grad():
        for parameter in model.teacher_2.parameters():
            parameter += 0.05
        student, average = model.student_2, model.teacher_2
        images = student.masked(student.look(batch))
        expected = average.heads(average.extract(images, batch["modalities"]), None, None)
        assert torch.equal(model(batch), expected)
        assert not hasattr(average, "reverse")
        other = model.student_1.average_features(model.teacher_1, batch)
        mean = (F.normalize(other) + F.normalize(expected)) / 2
        torch.testing.assert_close(model.cluster_features(batch), mean)
    assert not any(part == "student_1" for part in model.training_only)


def test_averages_follow_network_and_head_of_their_students():
    model, _ = students()
    with torch.no_grad():
        for parameter in model.student_1.parameters():
            parameter += 1
    model.after_step()  # the first step copies
    own = dict(model.student_1.named_parameters())
    for name, value in model.teacher_1.named_parameters():
        assert torch.equal(value, own[name]), name
    model.took_starts()
    assert torch.equal(model.teacher_2.heads.weight, model.student_2.heads.weight)


def test_a_training_without_key_points_is_refused_before_it_begins():
    for config in ("configs/rbnet/synthetic.yml", "configs/mmt/ablation/rbnet.yml"):
        check_keypoints(small_cfg("unused", config, **NARROW), small(config))
        cfg = small_cfg("unused", config, INPUT__KEYPOINTS__READ="none", **NARROW)
        with pytest.raises(UserError, match="READ is none. Set it to train.*KEYPOINT_SCALE 0"):
            check_keypoints(cfg, small(config))
        check_keypoints(cfg, small(config, MODEL__RBNET__KEYPOINT_SCALE=0.0))


def test_an_early_check_accepts_the_configs():
    for config in ("configs/rbnet/market.yml", "configs/rbnet/duke.yml"):
        check_training(small_cfg("unused", config, MODEL__DEVICE="cpu", **{"SOLVER__STEPS": "[1]"}))
