"""The documents: their example runs, their commands and links exist."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from vireid_plugins.synthvi import render_dataset

from tests.engine.small import ROOT, small_words

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "datasets/*.md", "configs/**/*.md")
    for path in ROOT.glob(pattern)
    if not path.name.startswith("NOTICE")
)


def test_the_worked_example_of_the_readme_trains(tmp_path):
    """The file between the marker and the end of its code block, as it stands."""
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


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_and_files_that_documents_name_exist(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text)
    local = [link for link in links if not link.startswith(("http", "mailto"))]
    missing = [link for link in local if not (path.parent / link).exists()]
    named = re.findall(r"(?:tools/\w+\.py|configs/[\w/]+\.(?:yml|md))", text)
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_anchors_that_documents_name_exist(path):
    """As GitHub makes them: lower case, words joined by hyphens."""
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


def test_every_key_of_ours_is_explained():
    """Each key that ``config.py`` adds stands below a comment or in the node it is part of."""
    source = (ROOT / "vireid_plugins" / "config.py").read_text(encoding="utf-8")
    lines = source.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"    (backbone|losses|cfg\.\S+|protocol|node)\.[A-Z_.]+ = ", line):
            before = lines[number - 1].strip()
            assert before.startswith("#") or re.match(r"\S+\.[A-Z_]+ = ", before), line


def test_no_machine_of_ours_is_named():
    for path in [*DOCUMENTS, *ROOT.glob("vireid_plugins/**/*.py"), *ROOT.glob("tools/*.py")]:
        assert not re.search(r"/(work|root|home)/\w", Path(path).read_text(encoding="utf-8")), path
