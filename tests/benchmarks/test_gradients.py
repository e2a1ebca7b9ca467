"""The gradients of loss terms. Oracles: gradients worked out by hand, and the plain training."""

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

from vireid.cli import run_verb
from vireid_plugins.benchmarks import gradients
from vireid_plugins.benchmarks.gradients import training
from vireid_plugins.benchmarks.gradients.figure import draw, title_lines
from vireid_plugins.benchmarks.gradients.findings import findings, summaries, verdict
from vireid_plugins.benchmarks.gradients.measure import Moment, Term, measure, weights_of
from vireid_plugins.benchmarks.gradients.training import Watched, choose_moments
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.keys import value_of

from tests.engine.small import ROOT, small_cfg, small_words
from tests.every_key.narrow import NAME

CONFIGS = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("configs/*/synthetic.yml"))
# Two updates in an epoch; each phase of every method begins within three epochs.
WORDS = {
    "MODEL__BACKBONE__NAME": NAME,
    "MODEL__BACKBONE__LAST_STRIDE": 1,
    "MODEL__HEADS__NUM_STRIPES": 2,
    "MODEL__HEADS__ATTENTION__STRIPES": 2,
    "MODEL__HEADS__ATTENTION__KEPT": 1,
    "MODEL__MSCLNET__PARTS": 2,
    "MODEL__MSCLNET__RANK": 0,
    "MODEL__MAUM__START_EPOCH": 1,
    "MODEL__MUTUAL_PREDICTION__START_EPOCH": 1,
    "MODEL__MUTUAL_PREDICTION__PERIOD": 1,
    "MODEL__NFORMER__DIM": 8,
    "MODEL__NFORMER__SEQUENCE_LENGTH": 12,
    "MODEL__NFORMER__IMAGES_PER_SEQUENCE": 16,
    "SOLVER__MAX_EPOCH": 3,
    "SOLVER__IMS_PER_BATCH": 32,
    "DATALOADER__NUM_INSTANCE": 4,
    "SOLVER__AMP__ENABLED": False,
}
PHASES = {"adca": 2, "bmil": 2, "maum": 2, "mutual_prediction": 3, "pgm": 2, "pmt": 2}
# Words of methods that need a network of their own.
SMALL_VIT = {
    "MODEL__BACKBONE__NAME": "build_dual_stream_timm_backbone",
    "MODEL__BACKBONE__TIMM_OPTIONS": "['depth=2','embed_dim=16','num_heads=2']",
}
# Random weights, whose clusters are few: enough of them for a batch, in two updates an epoch.
SOME_CLUSTERS = {
    "CLUSTERS__ITERATIONS": 2,
    "CLUSTERS__K1": 5,
    "CLUSTERS__K2": 1,
    "CLUSTERS__RADIUS": 0.4,
    "CLUSTERS__MIN_SAMPLES": 2,
    "DATALOADER__NUM_INSTANCE": 16,
}
CLUSTERS_OF_EACH_MODALITY = {
    **SOME_CLUSTERS,
    "DATALOADER__NUM_INSTANCE": 8,
    "CLUSTERS__RADIUS": 0.6,
}
OWN = {
    **dict.fromkeys(("adca", "pgm", "bmil"), CLUSTERS_OF_EACH_MODALITY),
    "cmtr": SMALL_VIT,
    # pairs alone; two updates in an epoch
    "hicmd": {
        "DATALOADER__NEGATIVES": 0,
        "DATALOADER__EPOCH_BATCHES": 2,
        "MODEL__HICMD__MLP_WIDTH": 4,
        "MODEL__HICMD__DISCRIMINATOR_WIDTH": 2,
    },
    "pmt": SMALL_VIT,
    "mmt": SOME_CLUSTERS,
    # Market-1501 has half as many images again there
    "rbnet": {"SOLVER__IMS_PER_BATCH": 48, "DATALOADER__NUM_INSTANCE": 8},
}


def words(folder, **overrides):
    return small_words(folder, **{**WORDS, **overrides})


@pytest.fixture
def trainers(monkeypatch):
    """The trainers that ``watch`` makes."""
    found = []

    class Kept(training.WatchedTrainer):
        def start(self):
            found.append(self)
            super().start()

    monkeypatch.setattr(training, "WatchedTrainer", Kept)
    return found


@pytest.mark.parametrize("config", CONFIGS)
def test_every_method_is_watched_and_trains_as_without(config, datasets, tmp_path, trainers):
    """Weights and buffers are bitwise those of the plain training; each weight's key is known."""
    method = config.split("/")[1]
    own = OWN.get(method, {})
    if own is SMALL_VIT:
        pytest.importorskip("timm")
    watched = training.watch(config, words(tmp_path / "none", **own), None, 2)
    assert not (tmp_path / "none").exists()
    plain = VIReIDTrainer(small_cfg(tmp_path / "plain", config, **{**WORDS, **own}))
    plain.resume_or_load(resume=False)
    plain.train()
    expected, found = plain.model.state_dict(), trainers[0].model.state_dict()
    assert expected.keys() == found.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []

    assert len({moment.phase for moment in watched.moments}) == PHASES.get(method, 1)
    assert (watched.updates, watched.whole, watched.per_epoch) == (6, 6, 2)
    terms = {name for moment in watched.moments for name in moment.terms}
    assert [name for name in terms if not value_of(plain.cfg, watched.weight_keys[name]) > 0] == []
    for moment in watched.moments:
        assert 0 < moment.objective < float("inf")
        assert sum(map(moment.share, moment.gradients)) == pytest.approx(1)


def test_gradients_worked_out_by_hand():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Module()
            for name in ("shared", "visible", "infrared"):
                self.backbone.register_parameter(name, nn.Parameter(torch.ones(2)))
            self.backbone.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
            self.heads = nn.Linear(1, 1, bias=False)

    model = Model()
    own = model.backbone
    terms = {
        "a": 3 * own.shared[0] + 4 * own.visible[1],
        "b": -2 * own.shared[0],
        "head": model.heads.weight.sum() * 5,
        "zero": 0 * own.infrared.sum(),
        "constant": torch.tensor(7.0),
    }
    found, cosines, objective = measure(terms, weights_of(model))
    assert found["a"] == Term(7.0, dict(shared=3, visible=4, infrared=None, elsewhere=None), ())
    assert found["a"].gradient == 5
    assert found["b"].norms["shared"] == 2
    assert found["head"].norms == dict(shared=None, visible=None, infrared=None, elsewhere=5)
    assert found["head"].trains == ("heads",)
    assert found["head"].gradient is None and found["constant"].gradient is None
    assert found["zero"].norms["infrared"] == 0
    # cos(a, b) = (3 * -2) / (5 * 2); a + b = (1, 4) on the backbone.
    assert cosines[0][1] == cosines[1][0] == pytest.approx(-0.6)
    assert cosines[0][0] == 1 and cosines[0][2] is None and cosines[3] == [None] * 5
    assert objective == pytest.approx(17**0.5)
    assert all(weight.grad is None for weight in model.parameters())
    moment = Moment(1, 0, "train", found, cosines, objective)
    assert moment.share("a") == pytest.approx(5 / 7) and moment.share("head") is None
    assert moment.ratio("a") == 2.5 and moment.ratio("zero") == 0 and moment.ratio("head") is None
    assert moment.cosine("a", "b") == cosines[0][1] and moment.cosine("a", "none") is None


def test_a_model_without_streams_is_one_part():
    plain = nn.Sequential(nn.Linear(1, 1))
    assert [len(own) for own in weights_of(plain).values()] == [2, 0, 0, 0]


def moment_of(update, phase="train", trains=(), **lengths):
    """A moment whose terms have these gradients on the shared stages; None: only elsewhere."""
    terms = {
        name: Term(
            0.0 if length == 0 else 1.0,
            dict(shared=length, visible=None, infrared=None, elsewhere=1.0),
            tuple(trains),
        )
        for name, length in lengths.items()
    }
    return Moment(update, 0, phase, terms, [[None] * len(terms)] * len(terms), 1.0)


def watched_of(*moments, phases=None, **keys):
    first = phases or {moment.phase: 1 for moment in moments}
    return Watched(list(moments), 9, 9, 3, 0, first, keys, [])


def test_inactive_and_dominating_terms_are_named_with_their_keys():
    """Medians of the others by hand: for ``big`` always 1; for ``a`` 1, 1, 1."""
    watched = watched_of(
        moment_of(1, big=30, a=1, b=1, mc=0.01),
        moment_of(2, big=20, a=1, b=1, mc=0.01),
        moment_of(3, big=10, a=30, b=1, mc=0.01),
        big="MODEL.BIG",
        mc="MODEL.MC.SCALE",
    )
    words = {one.name: verdict(one) for one in summaries(watched)}
    assert words == {"big": "dominating", "a": "", "b": "", "mc": "inactive"}
    big, a, mc = findings(watched)
    assert big == (
        "big (MODEL.BIG) dominates in phase 'train': its gradient is 20 times the median of the "
        "others (at most 30 times), and 90.9 % of the sum."
    )
    assert a == (
        "a dominates at 1 of 3 moments in phase 'train': at most 30 times the median of the "
        "others, at update 3."
    )
    # The median of 0.01 / 32.01, 0.01 / 22.01 and 0.01 / 41.01.
    assert mc == (
        "mc (MODEL.MC.SCALE) is inactive in phase 'train': it has 0.0312 % of the gradient on the "
        "backbone."
    )


def test_the_median_over_the_moments_decides():
    """Lengths of 1 and 0.001 have shares of 0.1 % and 99.9 %; two moments of three decide."""
    for lengths, word in (((0.001, 0.001, 1), "inactive"), ((0.001, 1, 1), "")):
        watched = watched_of(*(moment_of(n, a=1, mc=one) for n, one in enumerate(lengths)))
        assert verdict(summaries(watched)[1]) == word


def test_limits_are_not_crossed_by_equal_numbers():
    """A share of 1 % is active, and 10 times the others does not dominate."""
    watched = watched_of(moment_of(1, a=99.0, b=1.0), moment_of(2, a=10.0, b=1.0))
    assert [verdict(one) for one in summaries(watched_of(moment_of(1, a=10.0, b=1.0)))] == ["", ""]
    one, other = summaries(watched_of(moment_of(1, a=99.0, b=1.0)))
    assert (verdict(one), verdict(other)) == ("dominating", "")
    assert len(findings(watched)) == 1  # medians: 54.5 times, 5 %


def test_terms_without_effect_are_told_apart():
    watched = watched_of(
        moment_of(1, "early", ("synergy",), a=1.0, side=None, off=0, rare=0),
        moment_of(2, "early", ("synergy",), a=1.0, side=None, off=0, rare=1.0),
        moment_of(5, "late", a=1.0, new=2.0, lone=None),
        phases={"early": 1, "late": 4, "last": 7},
    )
    side, off, rare, lone, new, lone_begins, last = findings(watched)
    assert side == "side does not reach the backbone in phase 'early': it trains only synergy."
    assert off.startswith(
        "off gives the backbone no gradient in phase 'early': its weight is 0, or"
    )
    assert rare == "rare has no gradient at 1 of 2 moments in phase 'early' (update 1)."
    assert lone.endswith("'late': it trains nothing.")
    assert new == "new begins with phase 'late' (update 4)."
    assert last.startswith("Phase 'last' begins at update 7 and was not reached")


def test_nothing_odd_is_said_so():
    assert findings(watched_of(moment_of(1, a=1.0, b=2.0))) == [
        "No term is inactive, and none dominates."
    ]


def test_moments_are_spread_over_each_phase():
    phases = ["a"] * 10 + ["b"] * 2 + ["a"] * 11
    # 21 updates of phase a: its 1st, 11th (after phase b) and last.
    assert choose_moments(phases, 3) == [0, 10, 11, 12, 22]
    assert choose_moments(phases, 1) == [0, 10]


def test_the_title_is_broken_before_keys_only():
    pairs = [f"SOLVER.KEY_NUMBER_{number} [{number}, 48]" for number in range(9)]
    lines = [
        line.replace("\N{NO-BREAK SPACE}", " ") for line in title_lines(" ".join(["a.yml", *pairs]))
    ]
    assert len(lines) == 3 and " ".join(lines) == " ".join(["a.yml", *pairs])
    assert all(line.endswith(", 48]") for line in lines)
    assert title_lines(" ".join(pairs * 9))[-1].endswith(" …")


def test_the_command_writes_table_picture_and_numbers(datasets, tmp_path, capsys):
    given = words("never", MODEL__MAUM__START_EPOCH=0)
    options = ["--moments", "2", "--updates", "3", "--threads", "1", "--out", str(tmp_path)]
    assert run_verb("bench", ["gradients", "maum/synthetic.yml", *options, *given]) == 0
    said = capsys.readouterr().out
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"table.md"} | {f"gradients.{end}" for end in ("png", "pdf", "csv", "json")}
    assert (tmp_path / "table.md").read_text(encoding="utf-8") in said
    assert "## Phase 'metrics': updates 1, 3" in said and "3 of 6 updates" in said
    # The memories take up their first snapshot after the first update.
    for name in ("loss_visible_to_infrared", "loss_infrared_to_visible"):
        key = "MODEL.MAUM.UNIDIRECTIONAL_SCALE"
        assert f"- {name} ({key}) has no gradient at 1 of 2 moments in phase 'metrics'" in said
    written = json.loads((tmp_path / "gradients.json").read_text(encoding="utf-8"))
    assert [moment["update"] for moment in written["moments"]] == [1, 3]
    with open(tmp_path / "gradients.csv", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * 4
    for line in lines:
        moment = next(m for m in written["moments"] if str(m["update"]) == line["update"])
        term = moment["terms"][line["term"]]
        assert float(line["value"]) == pytest.approx(term["value"], rel=1e-5)
        own = [float(line[part]) for part in ("shared", "visible", "infrared") if line[part]]
        assert float(line["gradient"]) == pytest.approx(sum(x * x for x in own) ** 0.5, rel=1e-4)
        if float(line["gradient"]):
            assert float(line[f"cosine_{line['term']}"]) == pytest.approx(1)


def test_a_weight_of_zero_and_a_diverged_training_are_said(datasets, tmp_path):
    scales = {
        "MODEL__LOSSES__WEIGHTED_TRIPLET__SCALE": 0.0,
        "MODEL__LOSSES__LABEL_SMOOTHING__SCALE": 1e37,  # of SGD: the first update gives infinity
    }
    given = words("never", **scales, SOLVER__OPT="SGD", SOLVER__BASE_LR=10)
    watched = training.watch("agw/synthetic.yml", given, 4, 4)
    sentences = findings(watched)
    assert sentences[0].startswith(
        "loss_weighted_triplet (MODEL.LOSSES.WEIGHTED_TRIPLET.SCALE) gives the backbone no gradient"
    )
    assert sentences[-1].startswith("The training stopped before update 2: loss_id")
    assert watched.updates == 1 and [moment.update for moment in watched.moments] == [1]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["--updates", "0"], "--updates must be at least 1; got 0"),
        (["--moments", "0"], "--moments must be at least 1; got 0"),
        (["--moments", "1001"], "--moments must be at most 1000; got 1001"),
        (["RUNTIME.COMPILE", "True"], "RUNTIME.COMPILE is True, and a compiled backbone"),
        (["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "float16"], "SOLVER.AMP.ENABLED is Tr"),
        (["MODEL.MAUM"], "KEY VALUE pairs; got 1 words: MODEL.MAUM."),
    ],
)
def test_mistakes_end_with_status_2(given, reason, capsys):
    assert run_verb("bench", ["gradients", "maum/synthetic.yml", *given]) == 2
    assert reason in capsys.readouterr().err


def test_only_terms_on_the_backbone_have_cosines():
    watched = watched_of(
        moment_of(1, "one", a=1.0, b=2.0, head=None), moment_of(2, "two", head=None)
    )
    figure = draw(watched, "title")
    values, gradients, cosines, frozen = (axes for part in figure.subfigs for axes in part.axes)
    assert [label.get_text() for label in cosines.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in cosines.texts] == ["–"] * 4  # none was measured
    assert not frozen.axison and gradients.get_yscale() == "log"
    drawn = [line.get_ydata().tolist() for line in gradients.lines[:2]]
    assert drawn == [
        pytest.approx([1.0, np.nan], nan_ok=True),
        pytest.approx([2, np.nan], nan_ok=True),
    ]
    assert len(values.lines) == 3 + 1 + 3  # terms, the change of phase, the legend


def test_the_default_folder_is_named_after_the_config(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    watched = watched_of(moment_of(1, a=1.0, b=2.0))
    result = {"watched": watched, "title": "maum", "table": "table"}
    written = gradients.write("", {"config": "maum/ablation/full.yml", "opts": []}, result)
    assert written[-1] == str(gradients._FOLDER / "maum_ablation_full" / "table.md")
