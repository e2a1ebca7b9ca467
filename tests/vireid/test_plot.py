"""``vireid plot`` on a checkpoint. Oracles: the evaluation of the same weights, and labels."""

import functools
import json
import os
import re
import shutil
from dataclasses import dataclass

import pytest
import torch

from vireid.cli import run_verb
from vireid_plugins import evaluation
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.errors import PlotError
from vireid_plugins.plots import (
    Drawn,
    Kind,
    all_kinds,
    draw_kind,
    load_subject,
    option,
    register_kind,
)
from vireid_plugins.plots import subject as loading
from vireid_plugins.plots.kinds import KINDS
from vireid_plugins.runs.names import FACTS

from tests.engine.small import small_cfg
from tests.plots.planted import read_numbers

main = functools.partial(run_verb, "plot")


@pytest.fixture(scope="module")
def run(tiny_root, tmp_path_factory):
    """The folder of a run that ends where it begins: a checkpoint, and its evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        folder = tmp_path_factory.mktemp("logs") / "run"
        cfg = small_cfg(folder)
        trainer = VIReIDTrainer(cfg)
        trainer.checkpointer.save("model_final", **{FACTS: trainer.facts()})
        results = trainer.test(cfg, trainer.model)
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "results.json").write_text(json.dumps(results))
    return folder


class Loaded:
    """In the place of a subject: what it was to be loaded from."""

    def __init__(self, weights, config_file, opts, label):
        self.words, self.label = (weights, config_file, opts, label), weights


@pytest.fixture
def seen(monkeypatch):
    """A kind that only keeps what it was given."""
    calls = []

    class Looking(Kind):
        @dataclass(frozen=True)
        class Options:
            number: int = option(1, "of something")

        def draw(self, subjects, options, folder):
            calls.append((list(subjects), options, folder))
            return Drawn([])

    monkeypatch.setattr(loading, "load_subject", Loaded)
    register_kind("looking", help="keeps what it was given")(Looking)
    yield calls
    del KINDS["looking"]


def test_features_are_those_that_an_evaluation_scores(run, datasets):
    subject = load_subject(run / "model_final.pth", progress=False)
    assert subject.label == "run" and not subject.model.training
    name, items = subject.dataset_name, subject.items
    assert subject.features.targets.tolist() == [item.pid for item in items]
    assert subject.features is subject.features  # extracted once
    table = evaluation.evaluate(subject.cfg, name, subject.dataset, subject.features)
    expected = json.loads((run / "results.json").read_text())
    assert table.metrics == pytest.approx(expected)
    assert [protocol.key for protocol in subject.protocols] == ["all/single", "indoor/single"]


@pytest.mark.slow
def test_a_config_file_gives_the_same_model(run, datasets, capsys, tmp_path):
    """Two models side by side: one by its config file, one by what its checkpoint carries."""
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(run / "model_final.pth", other / "weights.pth")
    words = [
        "distances",
        "--bins",
        "40",
        "--config-file",
        str(run / "config.yaml"),
        "MODEL.WEIGHTS",
        str(run / "model_final.pth"),
        "--out",
        str(tmp_path / "out"),
        "--compare",
        "-",
        str(other / "weights.pth"),
        "TEST.IMS_PER_BATCH",
        "7",
    ]
    assert main(words) == 0
    told = capsys.readouterr()
    names = [
        "distances.png",
        "distances.pdf",
        "distances.csv",
        "distances_summary.csv",
        "distances_roc.csv",
    ]
    assert re.findall(r"Written: (.*)", told.out) == [str(tmp_path / "out" / n) for n in names]
    assert re.search(r"run, visible-infrared: \d+ pairs of one identity, mean", told.out)
    assert "features of run" in told.err and "pairs of other" in told.err  # progress bars
    summary = read_numbers(tmp_path / "out" / "distances_summary.csv")
    first, second = summary[:3], summary[3:]
    assert {line["model"] for line in first} == {"run"}
    assert {line["model"] for line in second} == {"other"}
    for a, b in zip(first, second):
        assert float(a["gap"]) == pytest.approx(float(b["gap"]), abs=1e-4)
    counts = read_numbers(tmp_path / "out" / "distances.csv")
    for line in summary:
        of = line["model"], line["pairs"]
        bins = [one for one in counts if (one["model"], one["pairs"]) == of]
        assert len(bins) == 40
        for kind in ("same_identity", "different_identities"):
            assert sum(int(one[kind]) for one in bins) == int(line[f"{kind}_pairs"])


def test_a_map_of_a_checkpoint(run, datasets, capsys, tmp_path):
    words = [
        "tsne",
        "MODEL.WEIGHTS",
        str(run / "model_final.pth"),
        "--identities",
        "3",
        "--label",
        "untrained",
        "--out",
        str(tmp_path),
        "MODEL.DEVICE",
        "cpu",
    ]
    assert main(words) == 0
    told = capsys.readouterr().out
    rows = read_numbers(tmp_path / "tsne.csv")
    assert {row["model"] for row in rows} == {"untrained"}
    assert all(os.path.isfile(row["path"]) for row in rows)
    identities = re.search(r"Identities: (.*)\.", told).group(1).split(", ")
    assert sorted(set(row["identity"] for row in rows)) == sorted(identities)
    assert len(identities) == 3 and "3 of 4 identities" in told


def test_pairs_may_stand_anywhere(seen, tmp_path):
    out = str(tmp_path / "out")
    words = [
        "looking",
        "A",
        "1",
        "--out",
        out,
        "MODEL.X",
        "2",
        "--number",
        "-3",
        "INPUT.Y",
        "3",
        "--compare",
        "other.yml",
        "other.pth",
        "MODEL.DEVICE",
        "cpu",
    ]
    assert main(words) == 0
    ((subjects, options, folder),) = seen
    assert options.number == -3 and folder == out and os.path.isdir(out)
    pairs = ["A", "1", "MODEL.X", "2", "INPUT.Y", "3", "MODEL.DEVICE", "cpu"]
    assert subjects[0].words == ("", "", pairs, "")
    # What belongs to the first model alone does not reach the other.
    shared = ["A", "1", "MODEL.DEVICE", "cpu"]
    assert subjects[1].words == ("other.pth", "other.yml", shared, "")


@pytest.mark.parametrize(
    "weights,words,names",
    [
        (("x/agw/seed0/a.pth", "x/caj/seed0/a.pth"), [], ["agw/seed0", "caj/seed0"]),
        (("x/agw/seed0/a.pth", "x/agw/seed0/b.pth"), [], ["agw/seed0 (1)", "agw/seed0 (2)"]),
        (("x/a.pth", "y/a.pth"), ["--label", "own", "--label", "own"], ["own (1)", "own (2)"]),
    ],
)
def test_equal_names_of_two_models_are_told_apart(
    seen, monkeypatch, tmp_path, weights, words, names
):
    def load(path, *rest, label):
        found = Loaded(label or loading.folder_name(weights[path == weights[1]]), *rest, label)
        found.weights = weights[path == weights[1]]
        return found

    monkeypatch.setattr(loading, "load_subject", load)
    given = ["looking", "MODEL.WEIGHTS", weights[0], "--compare", "-", weights[1], *words]
    assert main([*given, "--out", str(tmp_path)]) == 0
    assert [subject.label for subject in seen[0][0]] == names


def said(capsys, words):
    """The error line of a command that fails as it should."""
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and told.err.startswith("error: "), told.err
    return told.err


def test_mistakes_are_reported_in_one_line(run, datasets, capsys, tmp_path):
    out, weights = str(tmp_path / "out"), str(run / "model_final.pth")
    assert "Did you mean 'tsne'" in said(capsys, ["tsn", "--out", out])
    assert "No weights are named. Add MODEL.WEIGHTS" in said(capsys, ["tsne", "--out", out])
    assert "'nowhere.pth', which does not exist" in said(
        capsys, ["tsne", "--out", out, "MODEL.WEIGHTS", "nowhere.pth"]
    )
    assert "Unknown config key 'MODEL.WEIGHT'" in said(
        capsys, ["tsne", "--config-file", "agw/synthetic.yml", "--out", out, "MODEL.WEIGHT", "x"]
    )
    assert "Unknown config key 'TEST.METRICS'" in said(
        capsys, ["tsne", "--out", out, "MODEL.WEIGHTS", weights, "TEST.METRICS", "cosine"]
    )
    assert "No config file 'agw/sisu.yml'" in said(
        capsys, ["tsne", "--config-file", "agw/sisu.yml", "--out", out, "MODEL.WEIGHTS", weights]
    )
    assert "--label is given once for each of 1 models" in said(
        capsys, ["tsne", "--out", out, "MODEL.WEIGHTS", weights, "--label", "a", "--label", "b"]
    )
    (tmp_path / "file").write_text("")
    assert "--out is" in said(capsys, ["tsne", "--out", str(tmp_path / "file")])
    other = ["--config-file", "mrda/synthetic.yml", "MODEL.WEIGHTS", weights]
    assert "belongs to another model" in said(capsys, ["tsne", "--out", out, *other])
    assert os.listdir(out) == []


def test_weights_of_another_program_need_a_config(datasets, tmp_path, capsys):
    torch.save({"model": {"weight": torch.ones(1)}}, tmp_path / "host.pth")
    words = ["tsne", "--out", str(tmp_path / "o"), "MODEL.WEIGHTS", str(tmp_path / "host.pth")]
    assert "carries no config ('vireid' is absent): another program" in said(capsys, words)


def test_another_test_set_of_the_model_compared_with_is_refused(run, datasets, tmp_path, capsys):
    small = small_cfg(
        tmp_path / "logs",
        "configs/agw/synthetic.yml",
        DATASETS__TESTS="('RegDB',)",
        TEST__PROTOCOL__DIRECTIONS="('visible_to_infrared',)",
    )
    (tmp_path / "regdb.yml").write_text(small.dump())
    weights = str(run / "model_final.pth")
    words = [
        "tsne",
        "MODEL.WEIGHTS",
        weights,
        "--out",
        str(tmp_path / "out"),
        "--compare",
        str(tmp_path / "regdb.yml"),
        weights,
    ]
    assert "they are not the same images. Name one test set for both" in said(capsys, words)


def test_kinds_are_listed_and_explained(capsys):
    assert main([]) == 0
    told = capsys.readouterr().out
    assert "usage" in told
    for name, kind in all_kinds().items():
        assert re.search(rf"^  {name} +{re.escape(kind.help)}$", told, re.M)
    with pytest.raises(SystemExit) as end:  # help loads no kind, and says how they are listed
        main(["--help"])
    assert end.value.code == 0
    assert re.search(r"vireid plot +list the kinds", capsys.readouterr().out)
    for name in ("curves", "distances", "tsne"):
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert end.value.code == 0
        assert "--out DIR" in capsys.readouterr().out
    for words in (["--out", "x", "tsne"], ["tsne"], ["tsne", "--out", "x", "--identites", "3"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2


def test_two_kinds_cannot_have_one_name_and_a_kind_takes_so_many_models(seen):
    with pytest.raises(ValueError, match="Two kinds of pictures are called 'looking'"):
        register_kind("looking", help="")(Kind)
    with pytest.raises(PlotError, match="looking takes 1 to 2 models; got 3"):
        draw_kind("looking", [None] * 3, "")
    assert type(KINDS["looking"]) is not Kind  # the first one stays
