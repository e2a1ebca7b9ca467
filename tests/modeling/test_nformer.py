"""NFormer. Oracles: its parts called by hand, arithmetic, and for the sum of it the public code,
whose constants ``tests/parity`` holds."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vireid_plugins.errors import UserError
from vireid_plugins.evaluation.neighbors.mutual import mutual_neighbors
from vireid_plugins.modeling.losses import LossTerms
from vireid_plugins.modeling.meta_arch import NFormer

ROWS, SIZE, CLASSES = 14, 6, 3


class Encoder(nn.Module):
    """Features of an image are its first pixels."""

    def __init__(self):
        super().__init__()
        self.register_buffer("pixel_mean", torch.zeros(1, 3, 1, 1), persistent=False)
        self.scale = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch):
        return self.dropout(self.scale * batch["images"].flatten(1)[:, :SIZE])


def make(**words):
    torch.manual_seed(0)
    words = {"heads": 2, "layers": 2, "landmarks": 3, "topk": 5, "dropout": 0.0, **words}
    return NFormer(
        encoder=Encoder(),
        encoder_dim=SIZE,
        num_classes=CLASSES,
        loss_terms=LossTerms({}, {}),
        **words,
    )


def rows_of(count=ROWS, size=SIZE, seed=0):
    return 3 * torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


MODALITIES = torch.arange(ROWS) % 2


def test_the_test_is_the_transformer_over_mutual_neighbors_then_batch_norm():
    model = make().eval()
    model.bottleneck.running_mean.normal_()
    unit = F.normalize(rows_of())
    lists = tuple(one[None, None] for one in mutual_neighbors(unit, 5))
    random = torch.Generator().manual_seed(0)
    x = model.transformer(unit[None], lambda *_: lists, random)[0]
    expected = F.normalize(model.bottleneck(x))
    found = model.relate(rows_of(), MODALITIES)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(ROWS))


def make_attentive(**words):
    """A model of one layer, in whose result landmarks can be seen."""
    model = make(layers=1, **words)
    for weight in (one.weight for one in model.transformer.blocks[0].attention.children()):
        nn.init.normal_(weight)
    return model


def test_a_test_can_be_repeated_in_any_mode_and_the_seed_decides():
    model, other = make_attentive(), make_attentive(test_landmark_seed=1)
    torch.manual_seed(5)
    first = model.relate(rows_of(), MODALITIES)
    torch.manual_seed(6)
    assert torch.equal(model.relate(rows_of(), MODALITIES), first)
    assert model.training and not model.encoder.training
    assert torch.equal(model.eval().relate(rows_of(), MODALITIES), first)
    assert (other.relate(rows_of(), MODALITIES) - first).abs().max() > 0.01


@pytest.mark.parametrize(
    "word, in_training, in_test", [("always", 1, 1), ("test", 0, 1), ("never", 0, 0)]
)
def test_when_the_input_has_length_1(word, in_training, in_test):
    model = make(normalize_input=word)
    for mode, unit in ((True, in_training), (False, in_test)):
        expected = F.normalize(rows_of()) if unit else rows_of()
        assert torch.equal(model.train(mode).prepared(rows_of()), expected)


def test_neighbors_of_each_modality():
    model = make(topk=4, topk_per_modality=True)
    model.transform(rows_of()[None], MODALITIES[None])
    own = {name: float(value) for name, value in model.measures().items()}
    unit = F.normalize(rows_of())
    neighbors, kept = mutual_neighbors(unit, 4, MODALITIES)
    across = kept & (MODALITIES[neighbors] != MODALITIES[:, None])
    assert own["mutual_neighbors"] == pytest.approx(float(kept.sum()) / ROWS)
    assert own["mutual_neighbors_of_other_modality"] == pytest.approx(float(across.sum()) / ROWS)
    assert "half of each modality" in model.relation.description


def test_the_name_in_tables_says_what_neighbors_are_found_by():
    names = [make(rns_source=source).relation.name for source in ("input_cosine", "affinity")]
    assert names[0].startswith("NFormer, k = 5, landmarks of seed")
    assert names[1].startswith("NFormer, k = 5 by affinity, landmarks of seed")


@pytest.mark.parametrize("words", [{"dim": 2, "heads": 1}, {"normalize_input": "never"}])
def test_neighbors_are_those_by_the_cosine_of_the_encoders_features(words, monkeypatch):
    """Not by the projected features, and not by the inner product of features of any length."""
    model, seen = make(**words).eval(), []
    monkeypatch.setattr(
        model.transformer, "forward", lambda x, find, random: seen.append(find(x, x)) or x
    )
    model.transform(rows_of()[None], MODALITIES[None])
    neighbors, kept = mutual_neighbors(F.normalize(rows_of()), 5)
    assert torch.equal(seen[0][0][0, 0], neighbors) and torch.equal(seen[0][1][0, 0], kept)


def test_landmarks_are_drawn_anew_in_training():
    model = make_attentive()

    def output(seed):
        torch.manual_seed(seed)
        return model.transform(rows_of()[None], MODALITIES[None])

    assert torch.equal(output(1), output(1)) and (output(1) - output(3)).abs().max() > 0.01
    model.eval()
    assert torch.equal(output(1), output(3))


def test_neighbors_by_affinity_depend_on_the_layer():
    model = make(rns_source="affinity").eval()
    with torch.no_grad():
        for parameter in model.transformer.parameters():
            parameter.mul_(20)
    calls = []
    find = model._find_lists(F.normalize(rows_of())[None], MODALITIES[None])

    def noted(agents, counterparts):
        calls.append(find(agents, counterparts))
        return calls[-1]

    model.transformer(F.normalize(rows_of())[None], noted, torch.Generator().manual_seed(0))
    assert len(calls) == 2 and calls[0][0].shape[1] == 2  # layers; heads
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(*calls))


def test_the_encoder_never_trains():
    model = make()
    images = torch.randn(4, 3, 2, 2)
    batch = {"images": images, "targets": torch.zeros(4).long(), "modalities": MODALITIES[:4]}
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    assert not model.encoder.training and not model.encoder.dropout.training
    assert torch.equal(model.eval()(batch), images.flatten(1)[:, :SIZE])


def test_the_projection_begins_with_the_principal_axes_once():
    model = make(dim=2, heads=1)
    rows = rows_of(50, seed=3) * torch.tensor([1.0, 9.0, 1.0, 5.0, 1.0, 1.0])
    model.see(rows)
    _, _, axes = torch.linalg.svd(rows.double(), full_matrices=False)
    expected = axes[:2]
    expected = expected * expected.gather(1, expected.abs().argmax(1, keepdim=True)).sign()
    torch.testing.assert_close(model.projection.weight, expected.float(), rtol=1e-4, atol=1e-5)
    before = model.projection.weight.clone()
    again = make(dim=2, heads=1)
    again.load_state_dict(model.state_dict())
    for one in (model, again):  # also after a resume
        one.see(rows_of(50, seed=4))
        assert torch.equal(one.projection.weight, before)


@pytest.mark.parametrize(
    "words, message",
    [
        ({"heads": 4}, "HEADS 4 does not divide the 6 features"),
        ({"dim": 8}, "DIM is 8, and the encoder has 6 features"),
        ({"rns_source": "affinity", "topk_per_modality": True}, "needs MODEL.NFORMER.RNS_SOURCE"),
        ({"rns_source": "cosine"}, "RNS_SOURCE"),
        ({"topk": 0}, "TOPK"),
    ],
)
def test_arguments_that_cannot_be(words, message):
    with pytest.raises(UserError, match=message):
        make(**words)


def test_a_relation_of_several_sequences_is_that_of_each():
    """A batch of two sequences: none looks at the other."""
    model = make().eval()
    rows = torch.stack([rows_of(seed=1), rows_of(seed=2)])
    both = model.transform(rows, MODALITIES.expand(2, -1))
    for number in range(2):
        alone = model.transform(rows[number : number + 1], MODALITIES[None])
        torch.testing.assert_close(both[number : number + 1], alone)
