"""The installed wheel, alone in an empty folder: help, a rendered dataset, training, evaluation."""

import json
import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.small import small_words
from tests.test_packaging import source, wheel  # noqa: F401  fixtures

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):  # noqa: F811
    """A fresh environment with the wheel; its Python and its scripts' folder.

    It sees the libraries of the running environment, but no package installed for editing there:
    ``.pth`` files of a folder that a ``.pth`` file names are not read.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    words = ["install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel.filename]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(scripts / "python"), *words], check=True
    )
    (packages,) = {path.parent for path in folder.rglob("vireid_plugins/__init__.py")}
    libraries = "\n".join(site.getsitepackages())
    (packages.parent / "libraries.pth").write_text(libraries, encoding="utf-8")
    return scripts


def run(program, *words, cwd, **environment):
    """Run a program of the fresh environment; return what it writes."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(program), *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**kept, "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_the_wheel_works_in_an_empty_folder(installed, tmp_path):
    where = "import vireid, vireid_plugins as vp; print(vireid.__file__); print(vp.__file__)"
    for line in run(installed / "python", "-c", where, cwd=tmp_path).splitlines():
        assert installed.parent in Path(line).parents
    vireid = installed / "vireid"
    assert "  render " in run(vireid, "--help", cwd=tmp_path)
    words = "--layout sysu --preset tiny --ids 8+4 --size 48x32 --images-per-camera 1 --jobs 1"
    run(vireid, "render", *words.split(), "--out", "data", cwd=tmp_path)
    data = {"FASTREID_DATASETS": str(tmp_path / "data")}
    small = small_words("logs", SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=1)
    run(vireid, "train", "--config-file", "agw/synthetic.yml", *small, cwd=tmp_path, **data)
    weights = ["MODEL.WEIGHTS", "logs/model_final.pth"]
    run(vireid, "evaluate", *small, *weights, cwd=tmp_path, **data)
    lines = (tmp_path / "logs" / "metrics.json").read_text(encoding="utf-8").splitlines()
    trained, evaluated = (json.loads(line) for line in lines[-2:])
    assert evaluated["weights"] == "logs/model_final.pth"
    key = "SYSUMM01/all/single/mAP"
    assert trained[key] == pytest.approx(evaluated[key])
