"""The documents and the files beside them: examples run, links exist, versions agree."""

import ast
import importlib
import itertools
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from vireid.cli import load_verbs
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.setup import build_config
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


def run_example(name, folder, root, config, **overrides):
    """Run the code block below its marker in the README, as it stands; return what it wrote."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", text, re.S).group(1)
    (folder / name).write_text(example, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, name, config, *small_words(folder / "logs", **overrides)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "FASTREID_DATASETS": str(root), "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (folder / "logs" / "model_final.pth").exists()
    return done.stdout


@pytest.mark.slow
def test_the_readmes_method_trains(tmp_path):
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
    said = run_example("my_method.py", tmp_path, root, "agw/synthetic.yml", SOLVER__MAX_EPOCH=1)
    assert "loss_margin: " in said


@pytest.mark.slow
def test_the_readmes_dataset_is_trained_on_and_evaluated(tmp_path):
    """Oracle: the images written here, 8 persons to train on and 3 to test, in both modalities."""
    noise = np.random.default_rng(0)
    for part, persons, copies in (("train", range(8), 2), ("test", range(20, 23), 3)):
        for modality, camera in (("visible", 1), ("infrared", 4)):
            folder = tmp_path / "Corridor" / part / modality
            folder.mkdir(parents=True)
            for person, copy in itertools.product(persons, range(copies)):
                pixels = noise.integers(0, 256, (32, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{person:04d}_c{camera}_{copy:02d}.png")
    said = run_example(
        "my_dataset.py",
        tmp_path,
        tmp_path,
        "agw/synthetic.yml",
        SOLVER__MAX_EPOCH=1,
        TEST__EVAL_PERIOD=1,
    )
    rows = [re.split(r" *\| *", line.strip(" |")) for line in said.splitlines() if "|" in line]
    assert ["train", "visible", "8", "16", "1"] in rows
    assert ["train", "infrared", "8", "16", "4"] in rows
    assert ["query", "visible", "3", "9", "1"] in rows
    assert ["gallery", "infrared", "3", "9", "4"] in rows
    metrics = (tmp_path / "logs" / "metrics.json").read_text(encoding="utf-8")
    for direction in ("visible_to_infrared", "infrared_to_visible"):
        assert f'"Corridor/{direction}/multi/Rank-1"' in metrics


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


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_names_that_a_document_imports_exist(path):
    """Of each Python block, the imports from this package are carried out."""
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.S | re.M)
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            module = getattr(node, "module", None) or ""
            if isinstance(node, ast.ImportFrom) and module.startswith("vireid_plugins"):
                found = importlib.import_module(module)
                assert [name.name for name in node.names if not hasattr(found, name.name)] == []


def test_the_three_lines_of_the_readme_make_a_config():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"```python\n(import vireid_plugins as vp .*?)```", text, re.S).group(1)
    names = {}
    exec(lines, names)
    assert "LOSSES" in names["cfg"].MODEL and names["DefaultTrainer"] is VIReIDTrainer


def command_lines(text):
    """Return the words of each line with ``vireid`` in the code blocks that are for a shell.

    Comments are left out, and continued lines are joined.
    """
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.S | re.M)
    shell = "".join(block for language, block in blocks if language in ("", "bash", "console"))
    lines = shell.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if "vireid " in line]
    return [line for line in words if "vireid" in line]


def documented_commands(path):
    """Return what follows ``vireid`` in each command that a document prints.

    In running text, as `vireid search query`, only the verb is meant.
    """
    text = path.read_text(encoding="utf-8")
    commands = [line[line.index("vireid") + 1 :] for line in command_lines(text)]
    inline = [code.split() for code in re.findall(r"`vireid ([^`]+)`", text)]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    whole = [code.split() for row in rows for code in re.findall(r"`vireid ([^`]+)`", row)]
    commands += whole + [words[:1] for words in inline if words not in whole]
    return [words for words in commands if words[0] not in ("VERB", "--help", "--version")]


def test_commands_are_found_in_a_document(tmp_path):
    document = tmp_path / "page.md"
    document.write_text(
        "`vireid plot KIND` draws.\n\n| draw | `vireid plot tsne --out a` |\n\n"
        "```\nA=b vireid train --config-file c \\\n    X 1   # note\n```\n"
    )
    assert documented_commands(document) == [
        ["train", "--config-file", "c", "X", "1"],
        ["plot", "tsne", "--out", "a"],
        ["plot"],
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_that_a_document_prints_are_understood(path):
    """The verb reads the words, and the config has the keys; nothing is run."""
    verbs = load_verbs()
    for verb, *words in documented_commands(path):
        assert verb in verbs, f"vireid {verb}"
        if not words:
            continue
        try:
            args = verbs[verb].parse(words, f"vireid {verb}")
        except SystemExit as ended:
            assert not ended.code, " ".join(["vireid", verb, *words])
            continue
        if verb in ("train", "evaluate"):
            config = str(ROOT / args.config_file) if args.config_file else ""
            build_config(config, ["MODEL.DEVICE", "cpu", *args.opts])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_other_commands_that_a_document_prints_exist(path):
    """Words after ``make`` and ``tools/bootstrap.py``. Oracles: the Makefile, the tool's parser."""
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    targets = {target for line in targets for target in line.split()}
    assert set(re.findall(r"(?:^|`| )make ([a-z-]+)(?= *(?:`|#|$))", text, re.M)) <= targets
    for command in re.findall(r"bootstrap\.py ([a-z-]+)", text):
        assert command in targets


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


def test_names_that_contributing_points_to_are_defined_there():
    """The table *Where is it decided?*: each name is defined in the file of its row."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| \[`[^`]+`\]\(([^)]+\.py)\) \| (`.+`) \|$", text, re.M)
    assert len(rows) > 15  # the table was read
    for file, names in rows:
        source = (ROOT / file).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(class |def ){name}\b|^{name} = ", source, re.M), (file, name)


def braced(cell):
    """Return the names in a table's cell: ``a.{b, c}`` is two, and ``a.*`` is the module."""
    for name in re.findall(r"`([^`]+)`", cell):
        start, _, inside = name.partition("{")
        for end in inside.rstrip("}").split(", "):
            yield (start + end).replace(".*", "")


def exists(name):
    """Return whether a dotted name can be imported: a module, or something in one."""
    module, _, rest = name.partition(".")
    found = importlib.import_module(module)
    for part in rest.split("."):
        module += f".{part}"
        if not hasattr(found, part):
            try:
                importlib.import_module(module)
            except ModuleNotFoundError:
                return False
        found = getattr(found, part)
    return True


def test_new_names_in_the_changelog_exist():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = re.findall(r"^  \| .* \| (`.+`) \|$", text, re.M)
    assert len(rows) > 30  # the tables were read
    names = [name for row in rows for name in braced(row)]
    assert [name for name in names if not exists(f"vireid_plugins.{name}")] == []
    assert not exists("vireid_plugins.visualization.shots")  # one of before


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
