"""Whatever the files of a run hold: values of the right types, or a list of what is damaged."""

import copy
import json
import math
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import FileContentError, MissingFileError, UserError
from vireid_plugins.evaluation.result import ImageSet
from vireid_plugins.reporting.page import header
from vireid_plugins.reporting.sections import missing_section, results_section, what_was_run
from vireid_plugins.runs.last import last_checkpoint, last_checkpoint_name
from vireid_plugins.runs.reading import read_run_folder
from vireid_plugins.runs.record import record_session

from tests.engine.small import small_cfg

LINE = {
    "key": "SYSUMM01/all/single",
    "direction": "infrared_to_visible",
    "gallery_rule": "1 image per identity and camera",
    "trials": 2,
    "queries": 8,
    "queries_left_out": 0.5,
    "gallery": 16.0,
    "feature": "after BNNeck",
    "metric": "cosine",
    "flip": False,
    "reranking": "",
}
METRICS = {f"{LINE['key']}/{name}": 12.5 for name in ("Rank-1", "mAP", "mINP", "mAP_std")}
RESULTS = {
    "weights": "after epoch 1 of 2",
    "finished": "2026-01-01T00:00:00+00:00",
    "protocols": [LINE],
    "notes": ["a note"],
    "test_sets": {"SYSUMM01": {"images": 24, "fingerprint": "f00d"}},
    "metrics": METRICS,
}
SESSION = {
    "task": "train",
    "started": "2026-01-01T00:00:00+00:00",
    "command": "vireid train",
    "config_file": "agw/synthetic.yml",
    "commit": "",
    "environment": {"torch": "2.13"},
    "changed": {"SEED": [0, 1]},
}
PROGRESS = {"iteration": 9, "total_loss": 1.5, "lr": 0.1}
LOG = "[01/01] INFO: Environment: torch 2.13\n[01/01] INFO: epoch/iter: 1/2 10/20\n"


def valid_files(folder):
    """Text by name of the files of a run."""
    return {
        "config.yaml": small_cfg(folder).dump(),
        "results.json": json.dumps(RESULTS),
        "run.json": json.dumps({"sessions": [SESSION]}),
        "metrics.json": f"{json.dumps(PROGRESS)}\n{json.dumps({'iteration': 9, **METRICS})}\n",
        "result.json": json.dumps({**SESSION, **RESULTS}),
        "last_checkpoint": "model_0000.pth",
        "log.txt": LOG,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of a run; a test writes all of them anew."""
    folder = tmp_path_factory.mktemp("run")
    torch.save({"model": {}}, folder / "model_0000.pth")
    return folder


def write(folder, files, without=()):
    for name, content in files.items():
        content = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(content)
    for name in without:
        (folder / name).unlink(missing_ok=True)


def check_readable(folder):
    """Read the folder, use all of it, and return it; only a ``UserError`` may come out."""
    try:
        run = read_run_folder(folder, with_model=False)
    except UserError as error:
        assert len(str(error)) < 2000
        return None
    if run.results is not None:
        assert all(math.isfinite(value) for value in run.results.metrics.values())
        assert run.results.protocols and isinstance(run.results.weights, str)
        run.results.changed_images(ImageSet("SYSUMM01", 24, "beef"))
    assert os.path.basename(run.last_checkpoint) == run.last_checkpoint
    for part in (header(run, "a run"), results_section(run.results), what_was_run(run, None)):
        assert part
    missing_section(run.missing)
    return run


def test_a_whole_run_is_read_as_it_was_written(folder):
    write(folder, valid_files(folder))
    run = check_readable(folder)
    assert run.results.metrics == METRICS and run.results.source == "results.json"
    assert run.results.test_sets["SYSUMM01"].number == 24
    assert run.sessions == [SESSION] and run.environment == {"torch": "2.13"}
    assert run.last_checkpoint == "model_0000.pth" and run.iterations == 10
    assert [one.what for one in run.missing] == ["pictures of the model"]


def test_results_of_other_images_are_told(folder):
    """By the fingerprint of the same test set; an older record says nothing."""
    write(folder, valid_files(folder))
    results = read_run_folder(folder, with_model=False).results
    assert results.changed_images(ImageSet("SYSUMM01", 24, "f00d")) == ""
    assert results.changed_images(ImageSet("RegDB", 24, "beef")) == ""
    told = results.changed_images(ImageSet("SYSUMM01", 20, "beef"))
    assert "had 24 images and has 20 now" in told and "vireid evaluate" in told


DAMAGE = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1)),
    st.tuples(st.just("flip"), st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)))),
    st.tuples(st.just("encoding"), st.sampled_from(["utf-16", "utf-32", "utf-8-sig", "cp037"])),
    st.tuples(st.just("bytes"), st.binary(max_size=40)),
    st.tuples(st.just("text"), st.text(max_size=20)),
)
WHOLE = valid_files("x")


def damaged(content, kind, how):
    """Return the bytes of a file, changed in one of the ways in which files are changed."""
    content = bytearray(content)
    if kind == "cut":
        return bytes(content[: int(how * len(content))])
    if kind == "flip":
        for place, mask in how:
            content[int(place * (len(content) - 1))] ^= mask
        return bytes(content)
    if kind == "encoding":
        return content.decode().encode(how)
    return how if kind == "bytes" else how.encode("utf-8", "surrogatepass")


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=st.sampled_from(sorted(WHOLE)), damage=DAMAGE)
def test_any_bytes_are_read_or_listed(folder, name, damage):
    files = {**WHOLE, name: damaged(WHOLE[name].encode(), *damage)}
    slow = [] if name == "config.yaml" else ["config.yaml"]  # reading it takes long
    write(folder, files, without=slow)
    check_readable(folder)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["../../x", 10**400, -1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def places(value, path=()):
    """All places in nested values."""
    yield path
    if isinstance(value, (dict, list)):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(one, (*path, key))


def replaced(value, path, other):
    """Return nested values with another value, or nothing, at a place."""
    if not path:
        return other
    value = copy.copy(value)
    value[path[0]] = replaced(value[path[0]], path[1:], other)
    return value


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), other=ANYTHING)
def test_any_value_anywhere_is_read_or_listed(folder, data, other):
    name = data.draw(st.sampled_from(["results.json", "run.json", "result.json", "metrics.json"]))
    values = json.loads(WHOLE[name].splitlines()[-1])
    where = data.draw(st.sampled_from(sorted(places(values), key=repr)))
    files = {**WHOLE, name: json.dumps(replaced(values, where, other))}
    without = ["config.yaml", *(["results.json", "run.json"] if name == "result.json" else ())]
    write(folder, files, without)
    check_readable(folder)


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "a/b.pth", "..", "", ".", "a\\b.pth", "C:x.pth", "x" * 300]
)
def test_last_checkpoint_leads_to_no_other_folder(folder, name):
    write(folder, {**valid_files(folder), "last_checkpoint": f"{name}\n"})
    with pytest.raises(FileContentError, match="expected the name of a checkpoint in its folder"):
        last_checkpoint(folder)
    assert check_readable(folder).last_checkpoint == ""


def test_last_checkpoint_may_name_a_file_that_is_gone(folder):
    write(folder, {**valid_files(folder), "last_checkpoint": "model_0009.pth"})
    with pytest.raises(MissingFileError, match=r"not exist\. Write one of \['model_0000.pth'\]"):
        last_checkpoint(folder)
    assert last_checkpoint_name(folder) == "model_0009.pth"


@pytest.mark.parametrize(
    "content", ["words", "[1]", '{"sessions": 5}', '{"sessions": [1]}', '{"sessions": [{"task": 1}']
)
def test_a_damaged_record_is_kept_beside_the_new_one(tmp_path, content):
    for number in (1, 2):
        (tmp_path / "run.json").write_text(content)
        record_session(str(tmp_path), "a.yml", "train")
        assert (tmp_path / f"run.damaged-{number}.json").read_text() == content
    (session,) = json.loads((tmp_path / "run.json").read_text())["sessions"]
    assert session["config_file"] == "a.yml"


def test_an_evaluation_alone_does_not_head_a_training(folder):
    """In a folder of before, where its line stands in metrics.json after the training's."""
    files = valid_files(folder)
    other = {name: 99.0 for name in METRICS}
    files["metrics.json"] += json.dumps({**other, "weights": "other.pth"}) + "\n"
    write(folder, files)
    for name in ("results.json", "result.json"):
        (folder / name).unlink()
    assert read_run_folder(folder, with_model=False).results.metrics == METRICS


def test_a_move_that_was_stopped_is_told(folder):
    write(folder, valid_files(folder))
    (folder / ".earlier-1.moving").mkdir()
    try:
        run = check_readable(folder)
    finally:
        (folder / ".earlier-1.moving").rmdir()
    assert "the move of an earlier run was interrupted" in run.missing[0].why


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission(folder):
    folder.chmod(0)
    try:
        with pytest.raises(UserError, match="cannot be read"):
            read_run_folder(folder)
    finally:
        folder.chmod(0o700)
