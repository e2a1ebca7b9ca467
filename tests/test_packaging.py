"""The wheel: what is in it and what it asks for. Oracle: the source tree and the built archive."""

import ast
import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools import bootstrap

ROOT = Path(__file__).resolve().parent.parent
PROBE = "configs/probe_paper/probe.yml"  # a config that the checkout lacks


def source_files(root):
    """Return the files of both packages, and the configs, as POSIX paths."""
    own = (
        path
        for package in ("vireid", "vireid_plugins")
        for suffix in ("py", "typed", "html", "css", "js")
        for path in root.glob(f"{package}/**/*.{suffix}")
    )
    paths = [*own, *root.glob("configs/**/*.*")]
    return {path.relative_to(root).as_posix() for path in paths if path.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what packaging reads, so that building leaves nothing in the checkout."""
    root = tmp_path_factory.mktemp("source")
    skip = shutil.ignore_patterns("__pycache__", "*.py[cod]")
    for name in ("vireid", "vireid_plugins", "configs", "tools", "tests"):
        shutil.copytree(str(ROOT / name), str(root / name), ignore=skip)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "NOTICE"):
        shutil.copy(str(ROOT / name), str(root / name))
    (root / "README.md").write_text("# only a long description\n")
    (root / PROBE).parent.mkdir()
    (root / PROBE).write_text("MODEL: {}\n")
    return root


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    """The wheel, built without a network by the setuptools at hand."""
    (needed,) = [Requirement(item) for item in bootstrap.BUILD_TOOLS]
    if version("setuptools") not in needed.specifier:
        pytest.skip(f"{needed} builds the wheel; here is {version('setuptools')}")
    out = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--wheel-dir",
            str(out),
            str(source),
        ],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(str(path)) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    """The wheel's METADATA: an e-mail header by its specification."""
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def requirements(metadata, extra=None):
    """Return the names required without an extra, or with the given one."""
    found = set()
    for line in metadata.get_all("Requires-Dist", []):
        of_extra = re.search(r"""extra == ["'](\w+)["']""", line)
        if (of_extra.group(1) if of_extra else None) == extra:
            found.add(re.match(r"[\w.-]+", line).group().lower())
    return found


@pytest.mark.slow
def test_wheel_holds_every_module_and_config_and_nothing_else(source, wheel):
    """A folder without __init__.py would be missing here, tests or tools would be too much."""
    expected = {
        f"vireid_plugins/{name}" if name.startswith("configs/") else name
        for name in source_files(source)
    }
    assert {f"vireid_plugins/{PROBE}", "vireid_plugins/py.typed", "vireid/py.typed"} <= expected
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_wheel_carries_the_license(wheel):
    names = {Path(name).name for name in wheel.namelist()}
    assert {"LICENSE", "NOTICE"} <= names


def test_version_is_the_modules_own(source, metadata):
    namespace = {}
    exec((source / "vireid_plugins" / "version.py").read_text(), namespace)
    assert metadata["Version"] == namespace["__version__"]


def test_nothing_that_would_replace_the_users_build_is_required(metadata):
    required = requirements(metadata)
    assert required  # the parser found the list
    forbidden = re.compile(r"torch|fastreid|opencv|faiss|nvidia")
    assert [name for name in required if forbidden.match(name)] == []


def test_required_libraries_bear_no_version(metadata):
    """Any version that the user has satisfies pip, which therefore replaces none."""
    lines = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+", line)] == []


def test_what_is_optional_comes_by_an_extra_of_its_own(metadata):
    assert requirements(metadata, "cpu") == {"faiss-cpu"}
    assert requirements(metadata, "gpu") == {"faiss-gpu"}
    assert requirements(metadata, "fast") == {"numba"}
    assert requirements(metadata, "onnx") == {"onnx", "onnxruntime"}
    assert requirements(metadata, "timm") == {"timm"}
    assert requirements(metadata, "dev") == {"hypothesis", "mypy", "pytest", "pytest-xdist", "ruff"}


def test_supported_pythons_agree(metadata):
    oldest = min(bootstrap.TORCH_PAIRS, key=lambda version: int(version.split(".")[1]))
    assert metadata["Requires-Python"] == f">={oldest}"


def test_bootstrap_installs_all_that_the_package_requires(metadata):
    """The environment is filled with --no-deps: what setup.py lists must stand in its lists too."""
    lists = (*bootstrap.LIBRARIES, *bootstrap.DEVELOPMENT)
    installed = {re.match(r"[\w.-]+", item).group() for item in lists}
    wanted = [requirements(metadata, extra) for extra in (None, "cpu", "dev", "fast", "onnx")]
    assert set.union(*wanted) - installed == set()


def test_both_ways_to_build_need_the_same_tools():
    """pip builds in isolation with what pyproject.toml names, bootstrap with what it installed."""
    line = re.search(r"^requires = (.*)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert tuple(ast.literal_eval(line.group(1))) == bootstrap.BUILD_TOOLS


@pytest.mark.slow
def test_source_archive_holds_what_the_wheel_is_made_of(source, wheel, tmp_path):
    """Whoever builds from the archive gets every module and config of the wheel's sources."""
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=str(source),
        check=True,
        capture_output=True,
    )
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(str(path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert source_files(source) - names == set()
