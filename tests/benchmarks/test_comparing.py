"""What became slower: judged on made-up results, and read from the kept ones."""

import json

import pytest

pytest.importorskip("faiss")

from vireid.cli import run_verb
from vireid_plugins.benchmarks import comparing
from vireid_plugins.benchmarks.comparing import compare, verdict
from vireid_plugins.benchmarks.results import KEPT, VERSIONS, keep, kept_versions, read_results
from vireid_plugins.errors import UserError
from vireid_plugins.version import __version__

SIZE = {"size": 16, "threads": 1}


def rate(seconds):
    return {"per_second": 10 / min(seconds), "unit": "steps", "amount": 10.0, "seconds": seconds}


def result(seconds, **facts):
    """Return a result of the topic ``ranking``: times by name, in the case ``regdb``."""
    measures = [
        {"case": "regdb", "name": name, "seconds": values, "fraction of the limit": 0.25}
        for name, values in seconds.items()
    ]
    written = {"topic": "ranking", "version": "1.0.0", "commit": "", "finished": "", "command": ""}
    written.update({"machine": {"cores": 2}, "environment": {"torch": "2"}, "options": SIZE})
    return {**written, "rates": {"1": {}}, "measures": measures, **facts}


@pytest.fixture
def write(tmp_path):
    def write(name, *results):
        path = tmp_path / name
        content = results[0] if len(results) == 1 else {"version": "1", "results": results}
        path.write_text(json.dumps(content), encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([1.0, 2.0], [2.1, 3.0], "slower"),
        ([1.0, 2.0], [2.0, 3.0], ""),  # the spreads touch
        ([2.0, 3.0], [1.0, 1.9], "faster"),
        ([1.0, 9.0], [5.0, 6.0], ""),  # within a wide spread
        ([1.0], [9.0, 9.0], "one run: not judged"),
        ([1.0, 1.0], [9.0], "one run: not judged"),
    ],
)
def test_slower_is_what_no_run_of_the_spread_explains(old, new, expected):
    assert verdict(old, new) == expected


def test_the_command_names_what_became_slower_and_ends_with_1(write, capsys):
    old = write("old.json", result({"ours": [1.0, 1.1, 1.2], "loop": [9.0, 9.5]}))
    new = write("new.json", result({"ours": [1.5, 1.3, 1.4], "loop": [9.2, 9.4], "more": [1.0]}))
    assert run_verb("bench", ["compare", old, new]) == 1
    said = capsys.readouterr().out
    assert "1.500 s" not in said and "| 1.27 | slower |" in said  # medians 1.4 and 1.1
    assert "Slower beyond the spread of both: ranking, regdb: ours.\n" in said
    assert "more" not in said  # the old result does not have it
    assert run_verb("bench", ["compare", new, old]) == 0
    assert "Slower beyond the spread of both: nothing.\n" in capsys.readouterr().out


def test_a_slower_machine_is_said_and_is_not_counted(write):
    times = {"ours": [1.0, 1.1]}
    old = write("old.json", result(times, rates={"1": {"memory": rate([1.0, 1.1])}}))
    new = write("new.json", result(times, rates={"1": {"memory": rate([2.0, 2.1])}}))
    found = compare(old, new)
    assert found.slower == [] and "The machine itself was slower." in found.text
    assert "The machine itself" not in compare(new, old).text


def test_other_machines_are_refused_but_fractions_can_be_seen(write, capsys):
    old = write("old.json", result({"ours": [1.0, 1.1]}, machine={"cores": 8}))
    new = write("new.json", result({"ours": [2.0, 2.1]}))
    assert run_verb("bench", ["compare", old, new]) == 2
    said = capsys.readouterr()
    assert "different machines (cores 8 and 2)" in said.err and not said.out
    assert run_verb("bench", ["compare", old, new, "--fractions"]) == 0
    assert "| ranking, regdb | ours | 25 % | 25 % |" in capsys.readouterr().out


def test_other_options_are_refused_and_other_versions_are_said(write):
    times = {"ours": [1.0, 1.1]}
    old = write("old.json", result(times))
    other = result(times, options={**SIZE, "size": 32})
    with pytest.raises(UserError, match="options differ: size 16 and 32"):
        compare(old, write("new.json", other))
    repeated = result(times, options={**SIZE, "repeats": 9}, environment={"torch": "3"})
    both = write("both.json", other, repeated, result(times, topic="jaccard"))
    text = compare(old, both).text
    assert "Other versions, old and new: torch '2' and '3'." in text
    assert "size 16 and 32" in text and "jaccard is not compared: there is no old" in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"measures": None}, "measures: expected a list"),
        ({"measures": [{"case": "a", "name": "b", "seconds": []}]}, "a, b has no seconds"),
        ({"measures": [{"case": "a", "name": "b", "seconds": ["1"]}]}, "seconds: expected a num"),
        ({"machine": 3}, "machine: expected a mapping"),
        ({"rates": {"1": {"memory": {}}}}, "'per_second' is missing|'seconds' is missing"),
    ],
)
def test_damaged_results_are_named(write, change, reason):
    path = write("new.json", result({"ours": [1.0]}, **change))
    with pytest.raises(UserError, match=f"new.json: .*({reason})"):
        compare(path, path)


def test_a_folder_is_all_results_in_it(write, tmp_path):
    write("a.json", result({"ours": [1.0, 1.1]}))
    write("b.json", result({"ours": [1.0, 1.1]}, topic="jaccard"))
    write("c.json", {"earlier": "form"})
    assert [one.topic for one in read_results(tmp_path)] == ["ranking", "jaccard"]
    assert compare(str(tmp_path), str(tmp_path)).slower == []
    with pytest.raises(UserError, match="c.json: 'topic' is missing"):
        read_results(tmp_path / "c.json")
    with pytest.raises(UserError, match="at most two paths"):
        run_verb_raising(["a", "b", "c"])


def run_verb_raising(paths):
    from vireid.bench_results import COMMANDS
    from vireid.verb import VERBS

    verb = VERBS["bench"]
    COMMANDS["compare"].run(verb.parse(["compare", *paths], "vireid bench"))


def test_three_versions_are_kept_in_the_order_of_their_numbers(write, tmp_path):
    kept = tmp_path / "kept"
    for version in ("0.9.0", "0.10.0", "0.2.0", "0.11.0"):
        measured = write("new.json", result({"ours": [1.0, 2.0]}, version=version, table="long"))
        path = keep(tmp_path / "new.json", kept)
        assert path.name == f"{version}.json" and measured
    assert [path.stem for path in kept_versions(kept)] == ["0.9.0", "0.10.0", "0.11.0"]
    (content,) = json.loads(path.read_text())["results"]
    assert "table" not in content and content["measures"][0]["seconds"] == [1.0, 2.0]
    write("two.json", result({}, version="1.0.0"), result({}, version="1.1.0"))
    with pytest.raises(UserError, match="results of several versions: 1.0.0; 1.1.0"):
        keep(tmp_path / "two.json", kept)


def test_the_kept_results_can_be_compared(monkeypatch, tmp_path):
    """What docs/performance holds is read, and compared with itself nothing is slower."""
    kept = kept_versions()
    assert 1 <= len(kept) <= VERSIONS and kept[-1].stem == __version__
    for path in kept:
        assert {one.version for one in read_results(path)} == {path.stem}
    found = compare(new=str(kept[-1]))  # without OLD: the newest kept version
    assert found.slower == [] and "| 1.00 |" in found.text
    assert KEPT.name == "performance"
    monkeypatch.setattr(comparing, "kept_versions", list)
    with pytest.raises(UserError, match="No results are kept"):
        compare(new=str(kept[-1]))
