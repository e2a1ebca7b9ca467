"""The two forms of NFormer's pass: they agree, and a run writes what it measured."""

import pytest
import torch

from vireid_plugins.benchmarks import nformer
from vireid_plugins.errors import UserError


def test_both_forms_compute_the_same():
    model, features = nformer.make_model(8, 2), nformer.make_features(60, 8)
    found = [form(model, features) for form in nformer.FORMS.values()]
    assert float(found[0].std()) > 0.1
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_a_run_has_a_row_for_each_form(monkeypatch):
    peaks = {"dense, as published": 800.0, "sparse": 100.0}

    def measured(function, form, items, **words):
        assert function is nformer.measure
        scale = 1.0 if form == "sparse" else 12.0
        found = {"seconds": scale * items, "processor_seconds": 2 * scale, "sample": [scale, 0.0]}
        return {**found, "peak_MiB": peaks[form]}

    monkeypatch.setattr(nformer, "in_own_process", measured)
    found = nformer.run(items=[30], sparse_items=[40], size=20, repeats=1)
    dense, sparse, alone = found["rows"]
    assert (dense["times faster"], sparse["times faster"]) == ("1.0", "12.0")
    assert (sparse["times less work"], sparse["times less memory"]) == ("12.0", "8.0")
    assert (sparse["peak MiB"], sparse["difference"]) == ("100", "1.1e+01")
    assert (alone["images"], alone["form"], alone["times faster"]) == ("40", "sparse", "–")
    assert found["table"].count("| sparse |") == 2
    first, second = (found[f"{count} images"]["measures"] for count in (30, 40))
    assert [one.name for one in first] == ["dense, as published", "sparse"]
    # pairs; four layers with 4 projections of 20 x 20 and an inner width of 4 x 20
    assert first[0].work == {"product, float32": 30 * 30 / 2 * 20 + 4 * 30 * (4 + 8) * 20 * 20}
    assert (first[1].replaced, second[0].replaced) == (first[0].seconds, [])


@pytest.mark.parametrize(
    "words, message",
    [
        ({"items": [10]}, "must be at least 20"),
        ({"items": [], "sparse_items": [-5]}, "must be at least 20"),
        ({"items": []}, "must be at least 20"),
        ({"size": 21}, "--size is 21; expected a multiple of 2"),
        ({"size": 0}, "--size is 0"),
        ({"layers": 0}, "--layers is 0"),
        ({"repeats": 0}, "--repeats 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        nformer.run(**{"items": [20], **words})
