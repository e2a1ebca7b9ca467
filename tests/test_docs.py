"""The documents and the files beside them: examples run, links exist, versions agree."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vireid_plugins.synthvi import render_dataset
from vireid_plugins.version import __version__

from tests.engine.small import ROOT, small_words
from tests.test_imports import MAY_IMPORT
from tools import bootstrap

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "datasets/*.md", "configs/**/*.md")
    for path in ROOT.glob(pattern)
    if not path.name.startswith("NOTICE")
)


def test_the_worked_example_of_the_readme_trains(tmp_path):
    """The example is the code block below its marker, run as it stands."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"<!-- example: my_method.py -->\n```python\n(.*?)```", text, re.S).group(1)
    (tmp_path / "my_method.py").write_text(example, encoding="utf-8")
    root = render_dataset(
        "sysu",
        tmp_path,
        "tiny",
        ids=(8, 4),
        size=(48, 32),
        jobs=1,
        images_per_camera=1,
        progress=False,
    ).parent
    words = small_words(tmp_path / "logs", SOLVER__MAX_EPOCH=1)
    done = subprocess.run(
        [sys.executable, "my_method.py", "agw/synthetic.yml", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**__import__("os").environ, "FASTREID_DATASETS": str(root), "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "loss_margin: " in done.stdout
    assert (tmp_path / "logs" / "model_final.pth").exists()


def named_files(text):
    """Return the paths inside the checkout that a document's text names, examples left out."""
    paths = re.findall(r"(?:tools|tests|configs|docs|vireid|vireid_plugins)/[\w/.-]*\.\w+", text)
    return [path for path in paths if "my_" not in path]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_and_named_files_exist(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text)
    local = [link for link in links if not link.startswith(("http", "mailto"))]
    missing = [link for link in local if not (path.parent / link).exists()]
    own = re.sub(r"\]\([^)]+\)", "", text)  # links count from the document's folder
    missing += [name for name in named_files(own) if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_into_a_document_find_their_heading(path):
    """GitHub makes an anchor of a heading: lower case, words joined by hyphens."""
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        document = (path.parent / target) if target else path
        headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.M)
        made = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
        assert anchor in made, f"{target}#{anchor}; there are {sorted(made)}"


@pytest.mark.parametrize("tool", sorted(p.name for p in (ROOT / "tools").glob("*.py")))
def test_every_tool_explains_itself(tool, monkeypatch, capsys):
    """In this process, which has imported already what each tool would import."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # or the tool would set it for good
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", [tool, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "tools" / tool), run_name="__main__")
    assert not ended.value.code and "usage" in capsys.readouterr().out.lower()


def test_no_machine_of_ours_is_named():
    for path in [*DOCUMENTS, *ROOT.glob("vireid_plugins/**/*.py"), *ROOT.glob("tools/*.py")]:
        assert not re.search(r"/(work|root|home)/\w", Path(path).read_text(encoding="utf-8")), path


# What stands in several files at once


def reduced(may_import):
    """Return the arrows of a table of imports that no longer way of arrows replaces.

    ``base`` is below every other area, whether the table says so or not.
    """
    below = {area: set(names) | {"base"} - {area} for area, names in may_import.items()}

    def reached(area):
        found = set()
        waiting = [area]
        while waiting:
            new = below[waiting.pop()] - found
            found |= new
            waiting.extend(new)
        return found

    return {
        (area, name)
        for area in below
        for name in below[area]
        if not any(name in reached(other) for other in below[area] - {name})
    }


def test_arrows_that_a_longer_way_replaces_are_left_out():
    """Worked by hand: c may import a, but the picture shows that already by c, b, a."""
    table = {"base": set(), "a": set(), "b": {"a"}, "c": {"a", "b"}}
    assert reduced(table) == {("a", "base"), ("b", "a"), ("c", "b")}


def test_picture_of_the_layout_shows_the_table_of_imports():
    """``vireid`` stands above all rooms that no other room imports; the table is of those below."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    picture = re.search(r"```mermaid\n(.*?)```", text, re.S).group(1)
    picture = picture.replace("modeling_", "modeling.")  # no dots in the names of Mermaid
    rooms = set(re.findall(r"([\w.]+)\[", picture))
    arrows = {
        (start, end)
        for start, ends in re.findall(r"([\w.]+) --> (.+)", picture)
        for end in ends.split(" & ")
    }
    table = {area: names for area, names in MAY_IMPORT.items() if area != "__main__"}
    assert rooms == {"vireid", *table}
    tops = set(table) - {name for names in table.values() for name in names} - {"base"}
    assert arrows == reduced(table) | {("vireid", top) for top in tops}


def test_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__


def test_linter_before_a_commit_is_the_linter_of_the_environment():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    wanted = [name for name in bootstrap.DEVELOPMENT if name.startswith("ruff")]
    versions = [hook["additional_dependencies"] for hook in hooks if "ruff" in hook["id"]]
    assert versions == [wanted, wanted]


def test_continuous_integration_asks_for_versions_that_install():
    """Oracle: tools/bootstrap.py, which refuses a pair that it does not know."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["linux"]["strategy"]["matrix"]["include"]
    assert [pair["python"] for pair in matrix] == ["3.9", "3.11", "3.13"]
    for pair in matrix:
        steps = dict(bootstrap.pip_steps(pair["python"], torch=pair["torch"]))
        assert f"torch=={pair['torch']}" in steps["PyTorch and libraries"]
