"""Hi-CMD. Oracles: loops from the formulas, and which parameters each turn reaches."""

import copy
import math

import pytest
import torch

from vireid_plugins.engine.turns import build_stepper
from vireid_plugins.errors import UserError
from vireid_plugins.modality import Modality
from vireid_plugins.modeling.generation import (
    RectangleDropout,
    crossed,
    cycled,
    find_pairs,
    restored,
)
from vireid_plugins.modeling.generation.codes import excluded_of, mixed, style_of
from vireid_plugins.modeling.generation.erasing import ATTEMPTS, rectangles
from vireid_plugins.modeling.generation.feature_sets import pivots_of
from vireid_plugins.modeling.losses.adversarial import (
    discriminator_loss,
    generator_loss,
    scores_and_penalty,
)
from vireid_plugins.modeling.losses.pivot_triplet import pivot_triplet
from vireid_plugins.modeling.meta_arch.hicmd import (
    DISCRIMINATOR,
    GENERATION,
    IDENTITY,
    HiCMD,
)
from vireid_plugins.solver import build_optimizer
from vireid_plugins.turns import Turn

from fastreid.modeling.meta_arch import build_model
from fastreid.utils.events import EventStorage

from tests.engine.small import small_cfg
from tests.every_key.narrow import NAME

VISIBLE, INFRARED = int(Modality.VISIBLE), int(Modality.INFRARED)
#: persons and modalities of a batch: two pairs, and two visible and two infrared images of others
ROWS = [(3, 0), (1, 1), (7, 0), (1, 0), (4, 1), (3, 1), (9, 0), (5, 1)]


def cfg_of(**keys):
    small = {"MODEL__HICMD__MLP_WIDTH": 8, "MODEL__HICMD__DISCRIMINATOR_WIDTH": 4}
    small.update(MODEL__HEADS__NUM_CLASSES=12, MODEL__HEADS__EMBEDDING_DIM=32)
    small.update(MODEL__HEADS__TRIPLET_DIM=16, DATALOADER__NUM_INSTANCE=1)
    return small_cfg("", "configs/hicmd/synthetic.yml", **{**small, **keys})


@pytest.fixture(scope="module")
def built():
    torch.manual_seed(0)
    return build_model(cfg_of())


@pytest.fixture
def model(built):
    return copy.deepcopy(built).train()


@pytest.fixture
def batch():
    targets, modalities = torch.tensor(ROWS).unbind(1)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(len(ROWS), 3, 32, 16, generator=generator) * 255
    return {
        "images": images,
        "targets": targets,
        "modalities": modalities,
        "index": torch.arange(len(ROWS)),
    }


# ------------------------------------------------------------------------------------ the parts


def test_a_code_is_cut_into_four_chunks_of_style_pose_and_illumination():
    """D = 16: each chunk of four numbers is two of style, one of pose, one of illumination."""
    code = torch.arange(16).float().unsqueeze(0)
    assert style_of(code).tolist() == [[0, 1, 4, 5, 8, 9, 12, 13]]
    assert excluded_of(code).tolist() == [[2, 3, 6, 7, 10, 11, 14, 15]]
    joined = mixed(code, code + 100, code + 200)
    assert joined.tolist() == [[0, 1, 102, 203, 4, 5, 106, 207, 8, 9, 110, 211, 12, 13, 114, 215]]


def test_pairs_are_found_whatever_the_order_of_rows(batch):
    pairs = find_pairs(batch, torch.device("cpu"))
    assert pairs.visible.tolist() == [3, 0] and pairs.infrared.tolist() == [1, 5]
    assert pairs.other_visible.tolist() == [2, 6] and pairs.other_infrared.tolist() == [4, 7]
    rows = torch.randperm(len(ROWS))
    shuffled = find_pairs({name: value[rows] for name, value in batch.items()}, rows.device)
    for found, expected in zip(shuffled, pairs):
        assert rows[found].tolist() == expected.tolist()


def test_images_of_one_identity_are_paired_by_their_place_in_the_dataset():
    batch = {
        "targets": torch.tensor([1, 1, 1, 1, 1]),
        "modalities": torch.tensor([0, 1, 0, 1, 0]),
        "index": torch.tensor([8, 3, 2, 6, 5]),
    }
    pairs = find_pairs(batch, torch.device("cpu"))
    assert pairs.visible.tolist() == [2, 4] and pairs.infrared.tolist() == [1, 3]
    assert pairs.other_visible.tolist() == [0] and len(pairs.other_infrared) == 0


def test_a_batch_without_a_pair_names_the_sampler(model, batch):
    batch["targets"] = torch.arange(len(ROWS))
    with pytest.raises(UserError, match="PairsAndNegativesSampler"):
        model(batch)


def test_a_hole_is_a_rectangle_of_zeros_as_often_as_wanted():
    torch.manual_seed(0)
    images = torch.ones(400, 3, 24, 12)
    erased = RectangleDropout(0.5)(images)
    holes = [(image == 0).any(dim=0) for image in erased]
    sizes = [float(hole.float().mean()) for hole in holes if hole.any()]
    assert 160 < len(sizes) < 240 and bool((images == 1).all())
    for hole in holes:
        rows, columns = hole.any(dim=1), hole.any(dim=0)
        assert int(hole.sum()) == int(rows.sum()) * int(columns.sum())
    assert 0 < min(sizes) and max(sizes) < 0.5 and max(sizes) > 0.3
    assert RectangleDropout(0.5).eval()(images) is images


def holes_of_a_loop(draws, height, width):
    """The public code's loop over attempts, for each image, with given draws."""
    holes = torch.zeros(len(draws), height, width, dtype=torch.bool)
    for hole, attempts in zip(holes, draws.tolist()):
        for area, ratio, row, column in attempts:
            pixels, aspect = height * width * (0.02 + 0.38 * area), 0.3 + ratio * (1 / 0.3 - 0.3)
            h, w = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
            if h < height and w < width:
                top, left = int(row * (height - h + 1)), int(column * (width - w + 1))
                hole[top : top + h, left : left + w] = True
                break
    return holes


@pytest.mark.parametrize("size", [(24, 12), (96, 48), (5, 31)])
def test_holes_are_those_of_a_loop_with_the_same_draws(size):
    """In 5 x 31 pixels an attempt often fails. With one attempt, some images have no hole."""
    torch.manual_seed(0)
    for attempts in (ATTEMPTS, 1):
        draws = torch.rand(300, attempts, 4)
        found, expected = rectangles(draws, size), holes_of_a_loop(draws, *size)
        assert torch.equal(found, expected)
    assert not expected.flatten(1).any(dim=1).all()


# ----------------------------------------------------------------------------------- the losses


def triplet_of_a_loop(features, targets, pivots, margin, pull):
    unit = features / (features.norm(dim=1, keepdim=True) + 1e-8)
    hinge, squares = [], []
    for anchor in pivots:
        cosines = [float(unit[anchor] @ one) for one in unit]
        same = [c for c, t in zip(cosines, targets) if t == targets[anchor]]
        other = [c for c, t in zip(cosines, targets) if t != targets[anchor]]
        p, n = min(same), max(other)
        hinge.append(max(n + margin - p, 0))
        squares.append(((1 + n) ** 2, (1 - p) ** 2))
    mean = [sum(one) / len(one) for one in zip(*squares)]
    return sum(hinge) / len(hinge) + pull * (mean[0] + mean[1])


def test_the_triplet_loss_against_a_loop():
    torch.manual_seed(0)
    features = torch.randn(9, 4, dtype=torch.float64)
    targets = torch.tensor([0, 0, 1, 1, 2, 2, 2, 3, 0])
    pivots = torch.tensor([1, 0, 1, 0, 0, 1, 0, 1, 0]).bool()
    anchors = pivots.nonzero()[:, 0].tolist()
    for margin, pull in ((0.5, 1.0), (0.1, 0.0), (0.5, 3.0)):
        expected = triplet_of_a_loop(features, targets.tolist(), anchors, margin, pull)
        found = pivot_triplet(features, targets, pivots, margin, pull)
        assert float(found) == pytest.approx(expected, abs=1e-12)


def test_without_a_negative_the_triplet_loss_is_zero_and_keeps_its_graph():
    features = torch.randn(3, 4, requires_grad=True)
    loss = pivot_triplet(features, torch.zeros(3), torch.ones(3).bool(), 0.5, 1.0)
    loss.backward()
    assert loss == 0 and bool((features.grad == 0).all())


def test_adversarial_losses_against_loops():
    made = [torch.tensor([[0.5, 2.0]]), torch.tensor([[-1.0]])]
    real = [torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0]])]
    # (0.25 + 4) / 2 + (0 + 1) / 2 + 1 + 4, and (0.25 + 1) / 2 + 4
    assert float(discriminator_loss(made, real)) == pytest.approx(7.625)
    assert float(generator_loss(made)) == pytest.approx(4.625)


def test_the_penalty_is_the_squared_slope_of_each_map():
    """Maps a . x and (b . x)^2: slopes a and 2 (b . x) b; mean over images."""
    torch.manual_seed(0)
    images = torch.randn(3, 3, 2, 2, dtype=torch.float64)
    a, b = torch.randn(2, 12, dtype=torch.float64)
    flat = images.flatten(1)
    slopes = 2 * (flat @ b).unsqueeze(1) * b
    expected = float(a @ a) + float(slopes.square().sum(dim=1).mean())

    def judge(x):
        return [x.flatten(1) @ a, (x.flatten(1) @ b).square()]

    _, penalty = scores_and_penalty(judge, images)
    assert float(penalty) == pytest.approx(expected)
    with torch.no_grad():
        assert float(scores_and_penalty(judge, images)[1]) == pytest.approx(expected)


def test_the_terms_of_generation_against_single_images(model, batch):
    """Each pair by itself, in evaluation mode, from the formulas; then their mean."""
    model.eval()
    for weight in model.id_pig.discriminators.parameters():  # or all scores are nearly 0
        weight.data.mul_(8)
    pairs, images = find_pairs(batch, model.device), model.normalize(batch["images"])
    pig, known = model.id_pig, model._read(images, find_pairs(batch, model.device))
    made = crossed(pig.decoder, known.visible, known.infrared)
    found = pig.terms(known, made, model._encode_both)
    sums = dict.fromkeys(found, 0.0)

    def read(image, modality):
        codes = model.encode(image, torch.tensor([modality]))
        chunks = codes.attributes.view(4, -1)
        quarter = chunks.shape[1] // 4
        style, pose, light = chunks.split([2 * quarter, quarter, quarter], dim=1)
        return codes.prototypes, style, pose, light

    def make(p, s, pose, light):
        return pig.decoder(p, torch.cat([s, pose, light], dim=1).reshape(1, -1))

    def l1(x, y):
        return float((x - y).abs().mean())

    for row_v, row_i in zip(pairs.visible.tolist(), pairs.infrared.tolist()):
        v, i = images[row_v : row_v + 1], images[row_i : row_i + 1]
        (p_v, s_v, pose_v, c_v), (p_i, s_i, pose_i, c_i) = read(v, VISIBLE), read(i, INFRARED)
        as_v, as_i = make(p_i, s_i, pose_v, c_v), make(p_v, s_v, pose_i, c_i)
        sums["loss_cross"] += l1(v, as_v) + l1(i, as_i)
        sums["loss_same"] += l1(v, make(p_v, s_v, pose_v, c_v)) + l1(i, make(p_i, s_i, pose_i, c_i))
        hat_i, hat_v = read(as_v, VISIBLE), read(as_i, INFRARED)  # the persons i and v
        sums["loss_cycle"] += l1(v, make(hat_v[0], hat_v[1], hat_i[2], hat_i[3]))
        sums["loss_cycle"] += l1(i, make(hat_i[0], hat_i[1], hat_v[2], hat_v[3]))
        sums["loss_code"] += l1(s_v, hat_v[1]) + l1(s_i, hat_i[1])
        ex = [torch.cat(one, dim=1) for one in ((pose_v, c_v), (pose_i, c_i), hat_i[2:], hat_v[2:])]
        sums["loss_code"] += l1(ex[0], ex[2]) + l1(ex[1], ex[3])
        sums["loss_kl"] += float(ex[0].square().mean() + ex[1].square().mean())
        relit = make(p_i, s_i, pose_i, c_v), make(p_v, s_v, pose_v, c_i)
        for name, one in (("visible", as_v), ("infrared", as_i)) + tuple(
            zip(("visible", "infrared"), relit)
        ):
            for scores in pig.discriminators[name](one):
                sums["loss_gan"] += float((scores - 1).square().mean())
    weights = {"same": 1, "cross": 1, "cycle": 1, "code": 0.2, "kl": 0.02, "gan": 0.4}
    for name, weight in weights.items():
        expected = weight * sums[f"loss_{name}"] / len(pairs.visible)
        assert float(found[f"loss_{name}"]) == pytest.approx(expected, rel=1e-4), name


def test_as_in_the_code_style_and_attributes_come_from_the_pair(built, batch):
    torch.manual_seed(0)
    other = build_model(cfg_of(MODEL__HICMD__SAME="paired", MODEL__HICMD__CYCLE="kept")).eval()
    other.load_state_dict(built.state_dict())
    images = other.normalize(batch["images"])
    known = other._read(images, find_pairs(batch, other.device))
    decoder, v, i = other.id_pig.decoder, known.visible, known.infrared
    a_v = mixed(i.attributes, v.attributes, v.attributes)
    assert torch.equal(restored(decoder, v, i, True)[0], decoder(v.prototypes, a_v))
    made = crossed(decoder, v, i)
    both = other._encode_both(*made)
    found = cycled(decoder, v, i, both.rows(0, 2), both.rows(2, 4), kept=True)[0]
    assert torch.equal(found, decoder(both.rows(2, 4).prototypes, a_v))
    terms = [one.id_pig.terms(known, made, one._encode_both) for one in (other, built.eval())]
    differing = {name for name in terms[0] if not torch.allclose(terms[0][name], terms[1][name])}
    assert differing == {"loss_same", "loss_cycle"}


# -------------------------------------------------------------------------------------- the sets


def test_the_batch_of_the_paper_gives_twenty_rows(model, batch):
    images, pairs = model.normalize(batch["images"]), find_pairs(batch, model.device)
    known = model._read(images, pairs)
    made = crossed(model.id_pig.decoder, known.visible, known.infrared)
    sets = model.sets_of(images, pairs, made, batch["targets"])
    assert sets.sets.tolist() == [n for n in range(1, 9) for _ in range(4 if n > 6 else 2)]
    one, three = [1, 3], [7, 9]
    assert sets.targets.tolist() == one * 4 + three + [4, 5] + one * 4
    assert [own.sum() for own in pivots_of(sets.sets)] == [8, 8]
    # set 7: prototypes of set 1 with styles of set 3, and the other way round
    prototypes, styles = sets.vectors
    rows = {n: (sets.sets == n).nonzero()[:, 0] for n in range(1, 9)}
    for mixed_set, real, generated in ((7, 1, 3), (8, 2, 4)):
        halves = rows[mixed_set].chunk(2)
        assert torch.equal(prototypes[halves[0]], prototypes[rows[real]])
        assert torch.equal(styles[halves[0]], styles[rows[generated]])
        assert torch.equal(prototypes[halves[1]], prototypes[rows[generated]])
        assert torch.equal(styles[halves[1]], styles[rows[real]])


def reached(model, batch, losses):
    """Names of the parts that get a gradient from the losses of a turn."""
    model.zero_grad(set_to_none=True)
    sum(model(batch, Turn(losses, ())).values()).backward()
    found = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum()}
    return {".".join(name.split(".")[: 2 if name.startswith("id_pig") else 1]) for name in found}


def test_no_gradient_of_the_identity_enters_the_decoder(model, batch):
    """Generated images are detached; the encoders learn from both sides."""
    encoders, judges = {"backbone", "prototypes"}, {"id_pig.discriminators"}
    path = {"layers", "mix", "heads"}
    assert reached(model, batch, (IDENTITY,)) == encoders | path
    assert reached(model, batch, (DISCRIMINATOR,)) == judges
    assert reached(model, batch, (GENERATION,)) == encoders | judges | {"id_pig.decoder"}


def test_each_optimizer_has_its_parts(model):
    optimizers = build_optimizer(cfg_of(SOLVER__OPT="SGD"), model)
    names = {id(p): n.split(".")[0] for n, p in model.named_parameters()}
    names.update({id(p): "judges" for p in model.id_pig.discriminators.parameters()})
    found = {
        name: {names[id(p)] for group in one.param_groups for p in group["params"]}
        for name, one in optimizers.parts.items()
    }
    assert found == {
        "identity": {"layers", "mix", "heads"},
        "generator": {"backbone", "prototypes", "id_pig"},
        "discriminator": {"judges"},
    }
    is_adam = [isinstance(one, torch.optim.Adam) for one in optimizers.parts.values()]
    assert is_adam == [False, True, True]
    assert {g["betas"] for g in optimizers.parts["generator"].param_groups} == {(0.5, 0.999)}


def test_pretrained_networks_may_learn_at_a_rate_of_their_own(model):
    """A tenth for the attribute encoders and for layer2 and layer3; nothing else changes."""
    cfg = cfg_of(SOLVER__BACKBONE_LR_FACTOR=0.1, SOLVER__BASE_LR=0.01, SOLVER__BIAS_LR_FACTOR=1.0)
    names = {id(p): n.split(".")[0] for n, p in model.named_parameters()}
    found = {
        (names[id(p)], round(group["lr"], 9))
        for one in build_optimizer(cfg, model).parts.values()
        for group in one.param_groups
        for p in group["params"]
    }
    assert found == {
        ("backbone", 1e-4),
        ("prototypes", 1e-3),
        ("id_pig", 1e-3),  # the decoder, by GENERATOR_LR
        ("id_pig", 1e-4),  # the discriminators, by DISCRIMINATOR_LR
        ("layers", 1e-3),
        ("heads", 1e-2),
        ("mix", 1e-4),  # by MIX_LR
    }


class Loader(list):
    class batch_sampler:
        set_epoch = staticmethod(lambda epoch: None)


def one_step(model, cfg, batch, amp):
    """The terms of a step of all turns, and how far each parameter has moved."""
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    stepper = build_stepper(model, Loader([batch]), build_optimizer(cfg, model), amp)
    stepper.start_epoch(0)
    torch.manual_seed(0)  # holes and dropout
    with EventStorage(0) as storage:
        stepper.run_step()
        terms = {n: v for n, (v, _) in storage.latest().items() if n.startswith("loss_")}
    assert stepper.grad_scaler is None
    return terms, {n: one.detach() - before[n] for n, one in model.named_parameters()}


def test_a_step_of_all_turns_in_bfloat16_is_near_that_in_float32(batch):
    """Terms within 15 %, as the hardest triplets may be others; all three optimizers move weights.

    These stay float32.
    """
    cfg = cfg_of(MODEL__BACKBONE__NAME=NAME)
    torch.manual_seed(0)
    model = build_model(cfg).train()
    plain, _ = one_step(copy.deepcopy(model), cfg, batch, None)
    terms, moved = one_step(model, cfg, batch, "bfloat16")
    assert terms.keys() == plain.keys() and len(terms) == 10
    for name, value in plain.items():
        assert terms[name] == pytest.approx(value, rel=0.15), name
    assert all(one.dtype is torch.float32 and one.isfinite().all() for one in moved.values())
    assert all(one.abs().max() > 0 for one in moved.values())


@pytest.mark.parametrize(
    "keys, expected",
    [
        ({}, {0: "all", 99: "all"}),
        (
            {"MODEL__HICMD__WARM_GENERATION": 2, "MODEL__HICMD__WARM_IDENTITY": 3},
            {0: "images", 1: "images", 2: "identity", 4: "identity", 5: "all"},
        ),
        (
            {"MODEL__HICMD__GENERATION": False, "MODEL__HICMD__SETS": "(1, 2, 5, 6)"},
            {0: "identity", 9: "identity"},
        ),
    ],
)
def test_turns_are_a_function_of_the_iteration(keys, expected):
    model = build_model(cfg_of(**keys))
    judge = Turn((DISCRIMINATOR,), ("discriminator",))
    kinds = {
        "images": (judge, Turn((GENERATION,), ("generator",))),
        "identity": (Turn((IDENTITY,), ("generator", "identity")),),
        "all": (judge, Turn((GENERATION, IDENTITY), ("generator", "identity"))),
    }
    for iteration, kind in expected.items():
        assert model.turns_at(iteration) == kinds[kind]


def test_the_feature_weighs_the_directions_of_both_vectors(model, batch):
    model.eval()
    model.mix.weight.data.fill_(0.7)
    images, modalities = model.normalize(batch["images"]), batch["modalities"]
    vectors = model.vectors(images, modalities)
    found = model.extract(images, modalities)[..., 0, 0]
    for row in range(len(ROWS)):
        c, s = vectors.prototypes[row], vectors.styles[row]
        expected = torch.cat([0.7 * c / c.norm(), 0.3 * s / s.norm()])
        torch.testing.assert_close(found[row], expected)
    model.mix.weight.data.fill_(1.5)  # clamped
    assert model.extract(images, modalities)[:, -s.numel() :].abs().max() == 0


@pytest.mark.parametrize(
    "keys, words",
    [
        ({"MODEL__HICMD__GENERATION": False}, r"SETS is \[1, 2, 3.*sets 3, 4, 7 and 8"),
        ({"MODEL__HICMD__SETS": "()"}, "SETS is"),
        (
            {
                "MODEL__HICMD__GENERATION": False,
                "MODEL__HICMD__SETS": "(1, 2)",
                "MODEL__HICMD__VECTORS": "style",
            },
            "would learn nothing",
        ),
        ({"MODEL__BACKBONE__NAME": "build_resnet_backbone"}, "a network with stages"),
        ({"MODEL__HEADS__WITH_BNNECK": False}, "WITH_BNNECK True"),
        ({"MODEL__HICMD__MARGIN": -1}, "MARGIN"),
    ],
)
def test_what_does_not_fit_is_named(keys, words):
    with pytest.raises(UserError, match=words):
        build_model(cfg_of(**keys))


def test_it_is_registered():
    assert cfg_of().MODEL.META_ARCHITECTURE == HiCMD.__name__
