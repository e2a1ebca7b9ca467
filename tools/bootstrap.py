"""Make the environment, then run the demo or the tests. It needs the standard library only.

    python tools/bootstrap.py setup [--force]         only install
    python tools/bootstrap.py demo [ARGUMENTS]        render SynthVI, train AGW on it, evaluate it
    python tools/bootstrap.py test-fast [ARGUMENTS]   the linter, and the tests not marked slow
    python tools/bootstrap.py test [ARGUMENTS]        linter, formatter, types, all tests
    python tools/bootstrap.py gpu [ARGUMENTS]         tests, benchmarks and a table on a GPU

`make setup`, `make demo`, `make test-fast`, `make test` and `make gpu` do the same. ARGUMENTS are
passed on to the training (`SOLVER.MAX_EPOCH 5`), to pytest (`-k sampler`) or to `tools/gpu`
(`--device cpu --tiny`). `gpu --no-setup` installs nothing and uses the Python that runs this file.

The demo starts from ImageNet weights if `vireid weights fetch mobilenetv2` can bring them, or else
from random ones, and says which. `--config-file configs/agw/synthetic.yml` chooses the latter.

The environment is `.venv`, made by the Python that runs this file. If `.venv` belongs to another
Python, this one gets its own folder beside it, such as `.venv-3.10`. Environment variables:

    VENV          another place for the environment
    TORCH_INDEX   an extra package index for torch and torchvision, such as PyTorch's own CPU index,
                  which spares a Linux machine without a GPU the gigabytes of CUDA libraries
    TORCH         an older PyTorch than the newest tested one: 1.13.1, on Python 3.9 or 3.10
    PIP_*         pip's own settings, which work as always
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional, Sequence

ROOT = Path(__file__).resolve().parent.parent
STAMP = "vireid_plugins.json"
LOG = "bootstrap.log"

# Python -> (torch, torchvision): the newest tested pair that has wheels for that Python
TORCH_PAIRS = {
    "3.9": ("2.8.0", "0.23.0"),
    "3.10": ("2.13.0", "0.28.0"),
    "3.11": ("2.13.0", "0.28.0"),
    "3.12": ("2.13.0", "0.28.0"),
    "3.13": ("2.13.0", "0.28.0"),
}
# What TORCH=... can name instead: torch -> (torchvision, Pythons that both have wheels for, and
# further requirements: that release needs older libraries, FastReID then needs `six`, and
# torchvision's data sets, which timm imports, need `requests`)
OLDER_TORCH = {
    "1.13.1": (
        "0.14.1",
        ("3.9", "3.10"),
        ("numpy<2", "opencv-python-headless<4.12", "requests", "six"),
    ),
}
BUILD_TOOLS = ("setuptools>=70.1",)
# What FastReID and the package import. Upper bounds are the next major versions, which nobody has
# tested.
LIBRARIES = (
    "faiss-cpu>=1.7.3,<2",
    "filelock>=3.12,<5",
    "matplotlib<4",
    "numba>=0.58",  # pip takes the one that fits Python and NumPy
    "numpy<3",
    "opencv-python-headless>=4.7,<6",
    "pillow>=9.1",
    "platformdirs>=3,<5",
    "pyyaml<7",
    "scikit-learn>=1.2,<2",
    "scipy<2",
    "tabulate>=0.9,<1",
    "tensorboard>=2.12,<3",
    "termcolor>=2.2,<4",
    "tqdm<5",
    "yacs>=0.1.8,<0.2",
)
DEVELOPMENT = (
    "onnx>=1.14,<2",
    "onnxruntime>=1.15,<2",
    "huggingface_hub>=0.17,<3",  # of timm
    "safetensors>=0.3,<1",  # of timm
    'mypy>=2.4,<3; python_version >= "3.10"',  # with the types of libraries that carry none
    "types-PyYAML",
    "types-tabulate",
    "types-tqdm",
    "hypothesis>=6.100,<7",
    "pytest>=8,<10",
    "pytest-xdist>=3.7,<4",
    "ruff>=0.17,<0.18",
)
FASTREID = "fastreid==1.4.0"
TIMM = "timm>=1.0,<2"

# What the demo trains: from ImageNet weights if they can be fetched, otherwise from random ones
DEMO_WEIGHTS = "mobilenetv2"
DEMO_PRETRAINED = "configs/agw/synthetic_pretrained.yml"
DEMO_RANDOM = "configs/agw/synthetic.yml"
NO_SETUP = "--no-setup"  # of `gpu`


class BootstrapError(Exception):
    """Something the user can fix; the message says what and how."""


def say(message: str) -> None:
    """Write one line of progress to standard output at once."""
    sys.stdout.write(f"[bootstrap] {message}\n")
    sys.stdout.flush()


# The environment


def running_python() -> str:
    """Return the running Python's version as `3.11`."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def venv_python(venv: Path, os_name: str = os.name) -> Path:
    """Return the interpreter inside a virtual environment; os_name is `os.name` ("nt": Windows)."""
    return venv / "Scripts" / "python.exe" if os_name == "nt" else venv / "bin" / "python"


def venv_version(venv: Path) -> Optional[str]:
    """Return the Python (`3.11`) that made the environment; None if there is no such folder.

    Raises:
        BootstrapError: the folder holds other things, or an environment without its interpreter.
    """
    if not venv.is_dir() or not any(venv.iterdir()):
        return None
    config = venv / "pyvenv.cfg"
    if not config.is_file():
        raise BootstrapError(
            f"{venv} exists and is not a virtual environment (no pyvenv.cfg). "
            "Move it away, or name another folder: VENV=..."
        )
    if not venv_python(venv).exists():
        raise BootstrapError(
            f"{venv} has lost its Python ({venv_python(venv)}). Delete {venv} and run this again."
        )
    for line in config.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        if key.strip() in ("version", "version_info"):
            return ".".join(value.strip().split(".")[:2])
    raise BootstrapError(f"{config} names no version. Delete {venv} and run this again.")


def choose_venv(version: str, requested: Optional[str] = None, root: Path = ROOT) -> Path:
    """Return the folder of the environment for Python `version` (`3.11`).

    Args:
        version: version of the Python that runs.
        requested: the folder that the user names (VENV); None: `.venv` or, if that belongs to
            another Python, `.venv-<version>`.
        root: folder of the checkout.

    Raises:
        BootstrapError: the requested environment belongs to another Python, or cannot be used.
    """
    venv = Path(requested).expanduser().absolute() if requested else root / ".venv"
    found = venv_version(venv)
    if found in (None, version):
        return venv
    if requested:
        raise BootstrapError(
            f"VENV={requested} was made by Python {found}, and this is Python {version}. "
            f"Name another folder, or choose the Python: PYTHON=python{found} make ..."
        )
    own = root / f".venv-{version}"
    say(f".venv belongs to Python {found}; Python {version} uses {own.name}")
    venv_version(own)
    return own


def create_venv(venv: Path) -> None:
    """Make a virtual environment with pip in it; if that fails, leave nothing behind."""
    say(f"making {venv} with Python {running_python()}")
    command = [sys.executable, "-m", "venv", str(venv)]
    try:
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except (
        BaseException
    ) as error:  # Ctrl-C too: a partial environment would be taken for a complete one
        shutil.rmtree(venv, ignore_errors=True)
        if not isinstance(error, subprocess.CalledProcessError):
            raise
        words = " ".join(error.stdout.decode(errors="replace").split())
        raise BootstrapError(
            f"{sys.executable} cannot make a virtual environment (on Debian and Ubuntu: "
            f"apt install python{running_python()}-venv). It says: {words}"
        ) from error


# Installing


def torch_versions(version: str, torch: Optional[str] = None) -> tuple[str, str, tuple[str, ...]]:
    """Return torch, torchvision and further requirements for Python `version`.

    Args:
        version: version of Python, such as `3.11`.
        torch: the release that the user asks for (TORCH); None or empty: the newest tested one.

    Raises:
        BootstrapError: the package does not support that Python, or not with that torch.
    """
    if version not in TORCH_PAIRS:
        raise BootstrapError(
            f"Python {version} is not supported; supported: {', '.join(TORCH_PAIRS)}. "
            "Choose one: PYTHON=python3.11 make ..., or python3.11 tools/bootstrap.py ..."
        )
    if not torch or torch == TORCH_PAIRS[version][0]:
        return (*TORCH_PAIRS[version], ())
    torchvision, pythons, beside = OLDER_TORCH.get(torch, ("", (), ()))
    if version not in pythons:
        known = [name for name, (_, has, _) in OLDER_TORCH.items() if version in has]
        raise BootstrapError(
            f"TORCH={torch} is not known for Python {version}. "
            f"Known: {', '.join([*known, TORCH_PAIRS[version][0]])}."
        )
    return torch, torchvision, beside


def pip_steps(
    version: str, torch_index: Optional[str] = None, torch: Optional[str] = None
) -> list[tuple[str, list[str]]]:
    """Return what pip installs for Python `version`: (title, arguments of `pip install`) in order.

    FastReID, timm and torchvision are installed without their dependencies: FastReID asks for an
    old torch, and none of the three may replace the torch that was just installed.

    Raises:
        BootstrapError: the package does not support that Python, or not with that torch.
    """
    torch, torchvision, beside = torch_versions(version, torch)
    index = ["--extra-index-url", torch_index] if torch_index else []
    libraries = [f"torch=={torch}", *beside, *LIBRARIES, *DEVELOPMENT]
    return [
        ("build tools", list(BUILD_TOOLS)),
        ("PyTorch and libraries", [*index, *libraries]),
        (
            "torchvision, FastReID, timm",
            [*index, "--no-deps", f"torchvision=={torchvision}", FASTREID, TIMM],
        ),
        ("vireid_plugins", ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]),
    ]


def fingerprint(steps: Sequence[tuple[str, list[str]]]) -> dict[str, object]:
    """Return what the stamp of a finished installation must say for it to be up to date."""
    metadata = (ROOT / "setup.py", ROOT / "vireid_plugins" / "version.py")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in metadata)).hexdigest()
    return {"installed": [arguments for _, arguments in steps], "metadata": digest}


def is_installed(venv: Path, wanted: dict[str, object]) -> bool:
    """Return whether the environment's stamp says that exactly `wanted` was installed."""
    try:
        return json.loads((venv / STAMP).read_text(encoding="utf-8")) == wanted
    except (OSError, ValueError):  # no stamp, or half a stamp
        return False


def run_pip(python: Path, title: str, arguments: Sequence[str], log: Path) -> None:
    """Run `pip install`. Its output goes to `log`; lines about downloads are also shown.

    Raises:
        BootstrapError: pip failed; the message carries its last error and the log's path.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PIP_USER"}
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        *arguments,
    ]
    last_line = last_error = ""
    with log.open("a", encoding="utf-8") as record:
        record.write(f"$ {' '.join(command)}\n")
        with subprocess.Popen(
            command,
            cwd=str(ROOT),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as pip:
            assert pip.stdout is not None, "a pipe was asked for"
            for line in pip.stdout:
                record.write(line)
                last_line = line.strip() or last_line
                if re.search(r"\b(ERROR|\w+Error): ", line):  # pip's own, or of a build it started
                    last_error = line.strip()
                if line.lstrip().startswith(("Downloading", "Installing collected")):
                    say(f"  {line.strip()[:90]}")
    if pip.returncode:
        raise BootstrapError(
            f"pip could not install {title}: {last_error or last_line} (whole log: {log}). "
            "Check the network and the disk, then run the same command again."
        )


def install(venv: Path, force: bool = False) -> None:
    """Install what `pip_steps` lists; do nothing if the stamp says that it is installed."""
    torch = os.environ.get("TORCH")
    wanted = fingerprint(pip_steps(running_python(), torch=torch))  # from whichever index
    if venv_version(venv) is None:
        create_venv(venv)
    elif is_installed(venv, wanted) and not force:
        say(f"{venv} is up to date")
        return
    start = time.monotonic()
    stamp = venv / STAMP
    if stamp.exists():
        stamp.unlink()
    log = venv / LOG
    log.write_text("", encoding="utf-8")
    steps = pip_steps(running_python(), os.environ.get("TORCH_INDEX"), torch)
    for number, (title, arguments) in enumerate(steps, start=1):
        say(f"{number}/{len(steps)} installing {title}")
        run_pip(venv_python(venv), title, arguments, log)
    for line in check_import(venv_python(venv)):
        say(line)
    stamp.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    say(f"installed in {time.monotonic() - start:.0f} s; use it with {venv_python(venv)}")


def check_import(python: Path) -> list[str]:
    """Import the package in the new environment; return lines that its user should know.

    Raises:
        BootstrapError: the package cannot be imported there.
    """
    code = "import sys, vireid_plugins.compat as c; sys.stdout.write(c.missing_operators())"
    done = subprocess.run(
        [str(python), "-c", code], capture_output=True, cwd=str(ROOT), encoding="utf-8"
    )
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BootstrapError(
            f"vireid_plugins is installed and cannot be imported: {words} "
            f"(to see more: {python} -c 'import vireid_plugins')"
        )
    return done.stdout.splitlines()


# The commands


def output_dir(arguments: Sequence[str]) -> str:
    """Return the demo's output folder: the value after OUTPUT_DIR in `arguments`, or logs/demo."""
    if "OUTPUT_DIR" in arguments[:-1]:
        return arguments[arguments.index("OUTPUT_DIR") + 1]
    return "logs/demo"


def has_run(output: Path) -> bool:
    """Return whether an output folder holds a checkpoint that a training can resume."""
    return (output / "last_checkpoint").is_file()


def names_config(arguments: Sequence[str]) -> bool:
    """Return whether the user's arguments name a config file, so that the demo chooses none."""
    return any(word.split("=")[0] == "--config-file" for word in arguments)


def config_of_run(output: Path) -> str:
    """Return the config file that the run in an output folder was started with.

    The answer is `DEMO_RANDOM` if the record of the run does not say it: runs of earlier versions
    have used that one.
    """
    try:
        first = json.loads((output / "run.json").read_text(encoding="utf-8"))["sessions"][0]
        return str(first["config_file"]) or DEMO_RANDOM
    except (OSError, ValueError, LookupError, TypeError):
        return DEMO_RANDOM


def demo_config(python: Path, output: str) -> str:
    """Return the config file that the demo trains, and say what it starts from.

    Args:
        python: the interpreter of the environment.
        output: the output folder. A run in it continues with its own config.
    """
    if has_run(ROOT / output):
        config = config_of_run(ROOT / output)
        say(f"{output} holds a run of {config}: it is reused. Delete the folder to train afresh.")
        return config
    if call([str(python), "-m", "vireid", "weights", "fetch", DEMO_WEIGHTS]):
        say("no pretrained weights (see above): the demo starts from RANDOM weights,")
        say(f"which takes longer and reaches less: {DEMO_RANDOM}")
        return DEMO_RANDOM
    say(f"the demo starts from ImageNet weights (MobileNetV2): {DEMO_PRETRAINED}")
    return DEMO_PRETRAINED


def demo_commands(
    python: Path, arguments: Sequence[str], config: str, root: Path = ROOT
) -> list[list[str]]:
    """Return the demo's commands in order: render, then train and evaluate.

    A checkpoint in the output folder is resumed: an interrupted demo continues, and a finished one
    is evaluated again without training.

    Args:
        python: the interpreter of the environment.
        arguments: the user's own, for the training.
        config: the config file; empty: `arguments` name it.
        root: folder of the checkout.
    """
    output = output_dir(arguments)
    resume = ["--resume"] if has_run(root / output) else []
    override = [] if "OUTPUT_DIR" in arguments else ["OUTPUT_DIR", output]
    return [
        [
            str(python),
            "tools/make_synthetic.py",
            "--layout",
            "sysu",
            "--preset",
            "small",
            "--out",
            "datasets/SynthVI",
            "--preview",
            f"{output}/dataset.png",
        ],
        [
            str(python),
            "tools/train_net.py",
            *(["--config-file", config] if config else []),
            *resume,
            *arguments,
            *override,
        ],
    ]


def checks_types() -> bool:
    """Return whether mypy runs here: beside the newest tested PyTorch, whose types it reads."""
    newest = TORCH_PAIRS[max(TORCH_PAIRS, key=lambda name: int(name.split(".")[1]))]
    here = torch_versions(running_python(), os.environ.get("TORCH"))
    return here[0] == newest[0]


def test_commands(python: Path, arguments: Sequence[str], fast: bool = False) -> list[list[str]]:
    """Return the commands of a test run: linter, formatter, types, then pytest.

    Args:
        python: the interpreter of the environment.
        arguments: further arguments of pytest, which runs a worker per core, at most four.
        fast: only the linter, and the tests that are not marked slow.
    """
    workers = str(min(4, os.cpu_count() or 1))
    chosen = ["-m", "not slow"] if fast else []
    checks = [["ruff", "check", "."]]
    if not fast:
        checks += [["ruff", "format", "--check", "."], *([["mypy"]] if checks_types() else [])]
    # Each file goes to one worker, in the order of tests/conftest.py: its fixtures are made once.
    spread = ["-n", workers, "--dist", "loadfile", "--no-loadscope-reorder"]
    checks.append(["pytest", "-q", *spread, *chosen, *arguments])
    return [[str(python), "-m", *check] for check in checks]


def call(command: Sequence[str], **environment: str) -> int:
    """Show and run one command in the checkout's root; return its exit status."""
    say(" ".join([Path(command[0]).name, *command[1:]]))
    # MPLBACKEND: pictures are written to files, also where there is no display
    return subprocess.call(
        list(command), cwd=str(ROOT), env={**os.environ, "MPLBACKEND": "Agg", **environment}
    )


def demo(python: Path, arguments: Sequence[str]) -> int:
    """Render, train and evaluate; stop at the first command that fails and return its status."""
    output = output_dir(arguments)
    (ROOT / output).mkdir(parents=True, exist_ok=True)
    config = "" if names_config(arguments) else demo_config(python, output)
    for command in demo_commands(python, arguments, config):
        # a folder of its own, so that rendered images never lie among real ones
        status = call(command, FASTREID_DATASETS=str(ROOT / "datasets" / "SynthVI"))
        if status:
            if "tools/make_synthetic.py" in command:
                say("nothing was trained; if datasets/SynthVI holds other images, move it away")
            return status
    for line in result_lines(ROOT / output):
        say(line)
    say(f"log, metrics, checkpoint, events and pictures are in {output}")
    say(f"one page of all: FASTREID_DATASETS=datasets/SynthVI {python} -m vireid report {output}")
    return 0


def result_lines(output: Path) -> list[str]:
    """Return a line for each protocol in a run's `results.json`; none if it has no such file."""
    try:
        content = json.loads((output / "results.json").read_text(encoding="utf-8"))
        metrics, keys = content["metrics"], [line["key"] for line in content["protocols"]]
        return [
            f"{key}: rank-1 {metrics[f'{key}/Rank-1']:.1f} %, mAP {metrics[f'{key}/mAP']:.1f} %"
            for key in keys
        ]
    except (OSError, ValueError, KeyError, TypeError):  # the table in the log has them
        return []


def test(python: Path, arguments: Sequence[str], fast: bool = False) -> int:
    """Run all checks and the tests, even if the first ones fail; return the first bad status."""
    commands = test_commands(python, arguments, fast)
    statuses = [call(command, OMP_NUM_THREADS="1") for command in commands]
    for command, status in zip(commands, statuses):
        if status:  # what the linter wrote is far above what the tests wrote
            name = " ".join(word for word in command[2:4] if not word.startswith("-"))
            say(f"{name} failed with status {status}")
    return next((status for status in statuses if status), 0)


def test_fast(python: Path, arguments: Sequence[str]) -> int:
    """Run the linter and the tests that are not marked slow; return the first bad status."""
    return test(python, arguments, fast=True)


def gpu(python: Path, arguments: Sequence[str]) -> int:
    """Run tests, benchmarks and the evidence table on a GPU; docs/gpu.md tells the words."""
    return call([str(python), "-m", "tools.gpu", *arguments])


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command line and return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("setup", "demo", "test-fast", "test", "gpu"))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on; setup: --force")
    options = parser.parse_args(argv)
    if options.command == "setup" and options.arguments not in ([], ["--force"]):
        parser.error(f"setup takes only --force; got {' '.join(options.arguments)}")
    runs = {"setup": None, "demo": demo, "test-fast": test_fast, "test": test, "gpu": gpu}
    run = runs[options.command]
    try:
        if options.command == "gpu" and NO_SETUP in options.arguments:
            return gpu(Path(sys.executable), [w for w in options.arguments if w != NO_SETUP])
        venv = choose_venv(running_python(), os.environ.get("VENV"))
        install(venv, force=run is None and "--force" in options.arguments)
        return run(venv_python(venv), options.arguments) if run else 0
    except BootstrapError as error:
        sys.stderr.write(f"[bootstrap] error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("[bootstrap] interrupted; run the same command again to go on\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
