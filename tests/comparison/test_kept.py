"""Damaged, foreign and missing files of runs: named, renamed, and the other runs continue."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vireid_plugins.comparison import Comparison, queue
from vireid_plugins.comparison.kept import read_kept, rename_damaged
from vireid_plugins.comparison.summary import collect
from vireid_plugins.comparison.table import Outcome, format_markdown
from vireid_plugins.runs.names import COMPARED, LAST, PROGRESS, SETTINGS

from tests.comparison.fakes import fake_result, fake_runs, finish, write_config


@pytest.fixture
def run(tmp_path):
    """A finished run."""
    (made,) = fake_runs(tmp_path / "runs", ["a"], [3])
    finish(made, 40.0, 30.0)
    return made


def without(name):
    return lambda result: result.pop(name)


def change(*path, to):
    def apply(result):
        for key in path[:-1]:
            result = result[key]
        result[path[-1]] = to

    return apply


WRONG = {
    "no seed": (without("seed"), "'seed' is missing"),
    "another seed": (change("seed", to=4), "expected the result of seed 3, found 4"),
    "a word for a metric": (
        change("metrics", "SYSUMM01/all/single/mAP", to="30.0"),
        "SYSUMM01/all/single/mAP: expected a number, found '30.0'",
    ),
    "a metric is null": (
        change("metrics", "SYSUMM01/all/single/Rank-1_std", to=None),
        "expected a number, found nothing",
    ),
    "a metric is absent": (
        lambda result: result["metrics"].pop("SYSUMM01/indoor/single/mAP"),
        "SYSUMM01/indoor/single/mAP' is missing",
    ),
    "no protocol": (change("protocols", to=[]), "protocols: expected one or more, found none"),
    "protocols of words": (change("protocols", to=["x"]), "expected a mapping"),
    "no threads": (lambda result: result["environment"].pop("threads"), "'threads' is missing"),
    "a number in the environment": (change("environment", "torch", to=2.13), "expected text"),
    "a config that is not YAML": (change("config", to="a: [1"), "config"),
    "a time of words": (change("train_seconds", to="long"), "train_seconds: expected"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_foreign_result_is_named_and_counts_as_absent(run, name):
    spoil, words = WRONG[name]
    result = fake_result(run, 40.0, 30.0)
    spoil(result)
    (run.folder / COMPARED).write_text(json.dumps(result))
    (damage,) = run.kept().damaged
    assert damage.path == run.folder / COMPARED and words in damage.reason
    assert damage.reason.startswith("result.json") and "\n" not in damage.reason
    assert run.result() is None and run.state == "to do"


@pytest.mark.parametrize(
    "file,content,words",
    [
        (PROGRESS, '{"epoch_seconds": "3"}', "epoch_seconds: expected a list"),
        (PROGRESS, '{"epoch_seconds": [1, null]}', "epoch_seconds: expected a number"),
        (PROGRESS, '{"sessions": 1.5}', "sessions: expected a whole number"),
        (PROGRESS, "[]", "expected a mapping"),
        (PROGRESS, "", "is not JSON"),
        (SETTINGS, "a: [1", "settings.yaml"),
        (SETTINGS, "just words", "settings.yaml"),
        (LAST, "model_0001.pth", "names 'model_0001.pth', and there is no such checkpoint"),
        (LAST, "../../model.pth", "names '../../model.pth'"),
        (LAST, "", "names ''"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, content, words):
    folder = tmp_path / "a" / "seed0"
    folder.mkdir(parents=True)
    (tmp_path / "model.pth").touch()  # that of another run
    (folder / file).write_text(content)
    kept = read_kept(folder, 0)
    assert [damage.path.name for damage in kept.damaged] == [file]
    assert words in kept.damaged[0].reason
    assert kept.result is None and not kept.resumable and kept.progress == {}


def test_a_complete_run_needs_no_checkpoint(run):
    (run.folder / COMPARED).write_text(json.dumps(fake_result(run, 40.0, 30.0)))
    (run.folder / LAST).write_text("model_final.pth")  # deleted to free the disk
    kept = run.kept()
    assert kept.damaged == () and not kept.resumable and run.state == "done"


def test_a_renamed_file_replaces_none(tmp_path):
    for number in (1, 2):
        (tmp_path / "a.json").write_text(str(number))
        assert rename_damaged(tmp_path / "a.json") == tmp_path / f"a.json.damaged-{number}"
    assert (tmp_path / "a.json.damaged-1").read_text() == "1"


def test_a_damaged_run_is_done_again_and_the_others_count(tmp_path, monkeypatch):
    config, lines, started = write_config(tmp_path, "a"), [], []
    options = {"output": tmp_path / "runs", "say": lines.append}
    for seed in (0, 1):
        finish(Comparison([config], [0, 1], **options).runs[seed], 40.0, 30.0)
    spoiled = tmp_path / "runs" / "a" / "seed1" / COMPARED
    spoiled.write_text('{"name": "a"')
    (spoiled.parent / PROGRESS).write_text("[]")

    compared = Comparison([config], [0, 1], **options)
    compared.list_runs()
    assert any(line.strip().startswith(f"{spoiled} is damaged: ") for line in lines)
    assert [run.seed for run in compared.write().unfinished] == [1]
    assert spoiled.exists()  # looking changes nothing

    def pretend(todo, jobs, on_start, on_end):
        for one in todo:
            started.append(one.seed)
            finish(one, 20.0, 10.0)
            on_end(one, 1.0)

    monkeypatch.setattr(queue, "execute", pretend)
    done = Comparison([config], [0, 1], **options).execute()
    assert started == [1] and done.unfinished == []
    names = {path.name for path in spoiled.parent.iterdir()}
    assert names == {COMPARED, f"{COMPARED}.damaged-1", f"{PROGRESS}.damaged-1"}
    assert "30.0 ± 14.1" in (tmp_path / "runs" / "table.md").read_text(encoding="utf-8")


SAME = {
    str: st.text(max_size=3),
    bool: st.booleans(),
    int: st.integers(0, 10**6),
    float: st.floats(0, 1e6),
}
VALUES = st.one_of(st.none(), st.text(max_size=3), st.floats(), st.lists(st.none(), max_size=1))


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_whatever_a_result_holds_it_is_shown_or_named(run, data):
    """A table can be written from every result that was accepted."""
    result = fake_result(run, 40.0, 30.0)
    text = json.dumps(result)
    kind = data.draw(st.sampled_from(["same kind", "same kind", "value", "cut", "byte"]))
    content = text.encode()
    if kind in ("same kind", "value"):
        places = {(name,): value for name, value in result.items()}
        places.update({("protocols", 0, k): value for k, value in result["protocols"][0].items()})
        place = data.draw(st.sampled_from(list(places)))
        values = SAME.get(type(places[place]), VALUES) if kind == "same kind" else VALUES
        change(*place, to=data.draw(values))(result)
        content = json.dumps(result).encode()
    else:
        place = data.draw(st.integers(0, len(content) - 1))
        content = content[:place] + (b"" if kind == "cut" else b"\xff" + content[place + 1 :])
    (run.folder / COMPARED).write_bytes(content)
    kept = run.kept()
    assert (kept.result is None) == bool(kept.damaged)
    if kept.result is not None:
        text = format_markdown(Outcome(collect([run]), [3], "command"), run.folder)
        assert "1 of 1 runs complete" in text
