"""``vireid weights``. Oracle: the catalog, and files that the test puts into the cache."""

import shlex

import pytest

from vireid.cli import main
from vireid_plugins.pretrained import CATALOG, weights_folder, wheels

FIRST = CATALOG[0]


@pytest.fixture(autouse=True)
def no_network(tmp_path, monkeypatch):
    """Let the cache be empty, and let nothing be fetched."""
    monkeypatch.setenv("VIREID_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(wheels, "_pip", list)


def put_another_file():
    weights_folder().mkdir(parents=True)
    (weights_folder() / FIRST.file).write_bytes(b"other")


def test_the_table_names_every_file_and_the_cache(capsys):
    assert main(["weights"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, entry in zip(lines, CATALOG):
        assert line.split()[0] == entry.name and " absent " in line
    assert f"Cache: {weights_folder()}" in lines


def test_one_file_is_told_of_in_full(capsys):
    assert main(["weights", "list", f"weights:{FIRST.name}"]) == 0
    told = capsys.readouterr().out
    for part in (FIRST.sha256, FIRST.license, "not stated", "123.675", FIRST.source.version):
        assert part in told
    assert told.rstrip().endswith(f"MODEL.BACKBONE.PRETRAIN_PATH weights:{FIRST.name}")


@pytest.mark.parametrize("entry", CATALOG, ids=[entry.name for entry in CATALOG])
def test_a_shell_reads_the_keys_as_they_are(capsys, entry):
    assert main(["weights", "list", entry.name]) == 0
    line = next(one for one in capsys.readouterr().out.splitlines() if "  use  " in one)
    assert shlex.split(line)[1:] == list(entry.keys)


def test_a_wrong_file_is_found_and_kept(capsys):
    put_another_file()
    assert main(["weights", "check"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"WRONG   weights:{FIRST.name}: ") and "Move it away" in told[0]
    assert told[1] == f"absent  weights:{CATALOG[1].name}"
    assert main(["weights", "check", CATALOG[1].name]) == 0  # of this one alone
    assert (weights_folder() / FIRST.file).read_bytes() == b"other"


def test_a_file_that_is_made_has_no_fixed_sum(capsys):
    made = next(entry for entry in CATALOG if not entry.sha256)
    weights_folder().mkdir(parents=True, exist_ok=True)
    (weights_folder() / made.file).write_bytes(b"made")
    assert main(["weights", "check", made.name]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"made    weights:{made.name}: ") and "SHA-256 is not fixed" in told


def test_fetching_without_a_network_tells_what_to_do(capsys):
    assert main(["weights", "fetch", FIRST.name]) == 2
    written = capsys.readouterr()
    assert FIRST.license in written.out and written.err.count("\n") == 1
    assert FIRST.source.sha256 in written.err and str(weights_folder()) in written.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["path", FIRST.name], f"Fetch it with `vireid weights fetch {FIRST.name}`"),
        (["fetch", "mobilenet"], "Did you mean mobilenetv2"),
        (["list", "timm/convnext_tiny"], "timm fetches its own weights"),
    ],
)
def test_mistakes_are_one_line(capsys, words, said):
    assert main(["weights", *words]) == 2
    written = capsys.readouterr()
    assert said in written.err and written.err.count("\n") == 1 and not written.out


@pytest.mark.parametrize("action", ["fetch", "path"])
def test_an_action_that_needs_a_name_says_so(capsys, action):
    with pytest.raises(SystemExit):
        main(["weights", action])
    assert f"{action} needs a NAME" in capsys.readouterr().err
