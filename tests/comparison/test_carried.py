"""``runs.json``: the results of a comparison in one file, taken up on another machine."""

import json

import pytest
import yaml

from vireid_plugins.comparison.carried import folder_of_results, format_results
from vireid_plugins.comparison.runs import DONE, NEW, check_also, plan_runs
from vireid_plugins.comparison.summary import collect
from vireid_plugins.errors import FileContentError, PlanError
from vireid_plugins.merge import flat_values
from vireid_plugins.runs.names import COMPARED

from tests.comparison.fakes import fail, fake_runs, finish


@pytest.fixture
def there(tmp_path):
    """Two rows with two seeds on another machine, of which three runs are complete."""
    runs = fake_runs(tmp_path / "there", ["near", "far"], [0, 1])
    for number, run in enumerate(runs[:3]):
        finish(run, 50.0 + number, 40.0)
    fail(runs[3], "ValueError: no")
    path = tmp_path / "runs.json"
    path.write_text(format_results(collect(runs)))
    return runs, path


def test_complete_runs_come_back_from_the_file(tmp_path, there):
    runs, path = there
    folder = folder_of_results(path)
    here = plan_runs([runs[0].entry, runs[1].entry], [0, 1], tmp_path / "here", also=[folder])
    assert [run.state for run in here] == [DONE, DONE, DONE, NEW]
    for mine, theirs in zip(here[:3], runs):
        mine, theirs = dict(mine.result()), dict(theirs.result())
        keys = [flat_values(yaml.safe_load(one.pop("config"))) for one in (mine, theirs)]
        assert keys[1].pop("OUTPUT_DIR") and keys[0] == keys[1]
        assert mine.pop("without") == [] and mine == theirs
    assert not (tmp_path / "here").exists()


def test_each_run_keeps_the_keys_that_it_had(tmp_path, there):
    """The second run had another value, a key that is gone today, and lacked a new one."""
    runs, path = there
    cfg = yaml.safe_load(runs[1].result()["config"])
    cfg["SOLVER"].update(MAX_EPOCH=77, OLD=[1, 2])
    del cfg["MODEL"]["NECK_FEAT" if "NECK_FEAT" in cfg["MODEL"] else "PIXEL_MEAN"]
    finish(runs[1], 1.0, 1.0, config=yaml.safe_dump(cfg))
    path.write_text(format_results(collect(runs)))
    stored = json.loads((folder_of_results(path) / "far/seed0" / COMPARED).read_text())
    wanted = {key: value for key, value in flat_values(cfg).items() if key != "OUTPUT_DIR"}
    assert flat_values(yaml.safe_load(stored["config"])) == wanted


def test_the_file_has_a_line_for_each_run_and_no_folder_of_the_machine(tmp_path, there):
    _, path = there
    lines = path.read_text().splitlines()
    names = {line.split(":")[0] for line in lines[2:5]}
    assert names == {'"near/seed0"', '"far/seed0"', '"near/seed1"'} and len(lines) == 6
    assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize(
    "text, told",
    [
        ("{", "runs.json"),
        ('{"common": {}}', "runs"),
        ('{"common": {}, "runs": {"a/seed0": 3}}', "a/seed0"),
        ('{"common": {}, "runs": {"a/seed0": {"config": {}}}}', "without"),
        ('{"common": {}, "runs": {"../a": {"config": {}, "without": []}}}', "out of its folder"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, told):
    path = tmp_path / "runs.json"
    path.write_text(text)
    with pytest.raises(FileContentError, match=told) as caught:
        folder_of_results(path)
    assert str(path) in str(caught.value)


def test_a_file_of_other_runs_is_refused_by_its_own_name(tmp_path, there):
    _, path = there
    runs = fake_runs(tmp_path / "here", ["other"], [0])
    folder = folder_of_results(path)
    with pytest.raises(PlanError, match=r"--also .*runs.json: .* such as other.seed0.result.json"):
        check_also([path], [folder], runs)
    with pytest.raises(PlanError, match="--also nowhere: there is no such folder or file"):
        folder_of_results(tmp_path.joinpath("nowhere").relative_to(tmp_path))
