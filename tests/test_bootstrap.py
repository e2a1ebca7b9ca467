"""tools/bootstrap.py without a network: pip is replaced by a recorder, commands are only listed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import bootstrap

ROOT = Path(__file__).resolve().parent.parent
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def make_venv(folder, version):
    """Lay out what a virtual environment of that Python looks like, with a fake interpreter."""
    python = bootstrap.venv_python(folder)
    python.parent.mkdir(parents=True)
    python.touch()
    (folder / "pyvenv.cfg").write_text(f"home = /somewhere\nversion = {version}\n")
    return folder


@pytest.fixture
def pip_calls(monkeypatch):
    """Replace pip by a recorder of the titles it was called with; nothing is imported either."""
    calls = []
    monkeypatch.setattr(bootstrap, "check_import", lambda python: [])
    monkeypatch.setattr(bootstrap, "run_pip", lambda python, title, *rest: calls.append(title))
    return calls


# Which environment


def test_first_environment_is_dot_venv(tmp_path):
    assert bootstrap.choose_venv("3.11", root=tmp_path) == tmp_path / ".venv"


def test_environment_of_the_same_python_is_reused(tmp_path):
    make_venv(tmp_path / ".venv", "3.11.7")
    assert bootstrap.choose_venv("3.11", root=tmp_path) == tmp_path / ".venv"


def test_another_python_gets_an_environment_beside(tmp_path, capsys):
    make_venv(tmp_path / ".venv", "3.11.7")
    assert bootstrap.choose_venv("3.10", root=tmp_path) == tmp_path / ".venv-3.10"
    assert ".venv belongs to Python 3.11; Python 3.10 uses .venv-3.10" in capsys.readouterr().out


def test_minor_version_is_compared_as_a_number_not_a_prefix(tmp_path):
    make_venv(tmp_path / ".venv", "3.1.4")
    assert bootstrap.choose_venv("3.11", root=tmp_path) == tmp_path / ".venv-3.11"


def test_requested_environment_of_another_python_is_refused(tmp_path):
    venv = make_venv(tmp_path / "mine", "3.12.1")
    with pytest.raises(bootstrap.BootstrapError, match=r"made by Python 3\.12.*PYTHON=python3\.12"):
        bootstrap.choose_venv("3.11", requested=str(venv))


def test_folder_that_is_no_environment_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(bootstrap.BootstrapError, match="not a virtual environment.*VENV="):
        bootstrap.choose_venv("3.11", requested=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_empty_folder_may_become_the_environment(tmp_path):
    assert bootstrap.choose_venv("3.11", requested=str(tmp_path)) == tmp_path


def test_environment_without_its_python_is_refused(tmp_path):
    venv = make_venv(tmp_path / ".venv", "3.11.7")
    bootstrap.venv_python(venv).unlink()
    with pytest.raises(bootstrap.BootstrapError, match="lost its Python.*Delete"):
        bootstrap.choose_venv("3.11", root=tmp_path)


def test_interpreter_lies_where_the_system_puts_it():
    venv = Path("env")
    assert bootstrap.venv_python(venv, "nt") == venv / "Scripts" / "python.exe"
    assert bootstrap.venv_python(venv, "posix") == venv / "bin" / "python"


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a POSIX script")
def test_environment_that_cannot_be_made_leaves_nothing(tmp_path, monkeypatch):
    """The interpreter is replaced by a script that does what Debian's does without python3-venv."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nmkdir "$3"\necho "ensurepip is\nnot available"\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(bootstrap.BootstrapError, match="apt install.*ensurepip is not available"):
        bootstrap.create_venv(tmp_path / "env")
    assert not (tmp_path / "env").exists()


# What is installed


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_every_supported_python_has_its_pinned_pair(version):
    torch, torchvision = bootstrap.TORCH_PAIRS[version]
    steps = bootstrap.pip_steps(version)
    by_requirement = {item: arguments for _, arguments in steps for item in arguments}
    assert "--no-deps" not in by_requirement[f"torch=={torch}"]
    assert "--no-deps" in by_requirement[f"torchvision=={torchvision}"]
    assert "--no-deps" in by_requirement["fastreid==1.4.0"]
    assert "--no-deps" in by_requirement[bootstrap.TIMM]
    # releases go together: torch 2.x with torchvision 0.(x + 15)
    assert int(torchvision.split(".")[1]) == int(torch.split(".")[1]) + 15


def test_torch_index_reaches_both_packages_and_nothing_else():
    steps = bootstrap.pip_steps("3.11", torch_index="https://example.org/cpu")
    with_index = [title for title, arguments in steps if "--extra-index-url" in arguments]
    assert with_index == ["PyTorch and libraries", "torchvision, FastReID, timm"]


def test_unsupported_python_names_the_supported_ones():
    with pytest.raises(bootstrap.BootstrapError, match=r"3\.8 is not .*3\.9, 3\.10.*3\.13"):
        bootstrap.pip_steps("3.8")


@pytest.mark.parametrize("version", ["3.9", "3.10"])
def test_an_older_torch_comes_with_what_runs_beside_it(version):
    """Oracle: the set in which FastReID imports and trains, and timm imports (PyTorch 1.13.1)."""
    steps = dict(bootstrap.pip_steps(version, torch="1.13.1"))
    beside = ("torch==1.13.1", "numpy<2", "opencv-python-headless<4.12", "requests", "six")
    assert set(beside) <= set(steps["PyTorch and libraries"])
    assert "torchvision==0.14.1" in steps["torchvision, FastReID, timm"]


def test_the_newest_torch_can_be_named():
    named = bootstrap.pip_steps("3.13", torch="2.13.0")
    assert named == bootstrap.pip_steps("3.13") == bootstrap.pip_steps("3.13", torch="")


@pytest.mark.parametrize(("version", "torch"), [("3.11", "1.13.1"), ("3.9", "2.13.0")])
def test_torch_without_wheels_for_that_python_names_the_known_ones(version, torch):
    with pytest.raises(bootstrap.BootstrapError, match=f"TORCH={torch} .* Known: .*2") as raised:
        bootstrap.pip_steps(version, torch=torch)
    assert bootstrap.TORCH_PAIRS[version][0] in str(raised.value)


def test_torch_of_the_environment_is_installed(tmp_path, monkeypatch):
    """Another TORCH is another installation, so that the stamp does not hide it."""
    installed = []
    monkeypatch.setattr(bootstrap, "check_import", lambda python: [])
    monkeypatch.setattr(bootstrap, "run_pip", lambda *given: installed.extend(given[2]))
    monkeypatch.setattr(bootstrap, "running_python", lambda: "3.9")
    monkeypatch.delenv("TORCH", raising=False)
    venv = make_venv(tmp_path / "env", "3.9.18")
    bootstrap.install(venv)
    assert "torch==2.8.0" in installed
    monkeypatch.setenv("TORCH", "1.13.1")
    bootstrap.install(venv)
    assert "torch==1.13.1" in installed


def test_second_installation_calls_no_pip(tmp_path, pip_calls):
    venv = make_venv(tmp_path / "env", f"{HERE}.0")
    bootstrap.install(venv)
    assert len(pip_calls) == len(bootstrap.pip_steps(HERE)) > 0
    bootstrap.install(venv)
    assert len(pip_calls) == len(bootstrap.pip_steps(HERE))
    bootstrap.install(venv, force=True)
    assert len(pip_calls) == 2 * len(bootstrap.pip_steps(HERE))


def test_changed_requirements_are_installed(tmp_path, pip_calls, monkeypatch):
    venv = make_venv(tmp_path / "env", f"{HERE}.0")
    bootstrap.install(venv)
    pip_calls.clear()
    monkeypatch.setattr(bootstrap, "LIBRARIES", (*bootstrap.LIBRARIES, "something-new"))
    bootstrap.install(venv)
    assert len(pip_calls) == len(bootstrap.pip_steps(HERE))


@pytest.mark.parametrize("stamp", ["", "{", "[]", json.dumps({"installed": []})])
def test_broken_or_old_stamp_does_not_count(tmp_path, stamp):
    (tmp_path / bootstrap.STAMP).write_text(stamp)
    wanted = bootstrap.fingerprint(bootstrap.pip_steps("3.11"))
    assert not bootstrap.is_installed(tmp_path, wanted)


def test_failed_installation_leaves_no_stamp(tmp_path, pip_calls, monkeypatch):
    venv = make_venv(tmp_path / "env", f"{HERE}.0")
    bootstrap.install(venv)
    monkeypatch.setattr(bootstrap, "DEVELOPMENT", ())

    def fail(*_):
        raise bootstrap.BootstrapError("no network")

    monkeypatch.setattr(bootstrap, "run_pip", fail)
    with pytest.raises(bootstrap.BootstrapError):
        bootstrap.install(venv)
    assert not (venv / bootstrap.STAMP).exists()


def test_an_installation_that_cannot_be_imported_is_not_finished(tmp_path, pip_calls, monkeypatch):
    venv = make_venv(tmp_path / "env", f"{HERE}.0")

    def fail(python):
        raise bootstrap.BootstrapError("cannot be imported")

    monkeypatch.setattr(bootstrap, "check_import", fail)
    with pytest.raises(bootstrap.BootstrapError):
        bootstrap.install(venv)
    assert not (venv / bootstrap.STAMP).exists()


def test_set_up_says_what_torchvision_lacks(tmp_path, pip_calls, monkeypatch, capsys):
    venv = make_venv(tmp_path / "env", f"{HERE}.0")
    monkeypatch.setattr(bootstrap, "check_import", lambda python: ["nms is absent"])
    bootstrap.install(venv)
    assert capsys.readouterr().out.count("nms is absent") == 1
    bootstrap.install(venv)
    assert "nms is absent" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the broken interpreter is a shell script")
def test_the_import_is_checked_in_the_environment(tmp_path):
    from vireid_plugins import compat

    said = bootstrap.check_import(Path(sys.executable))
    assert said == compat.missing_operators().splitlines()
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho some trace >&2\necho 'ImportError: no torch' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(bootstrap.BootstrapError, match="cannot be imported: ImportError: no torch"):
        bootstrap.check_import(broken)


@pytest.mark.slow
def test_real_pip_failure_is_one_line_with_the_log(tmp_path):
    """pip without any index cannot find a package that does not exist; no network is touched."""
    log = tmp_path / "log"
    arguments = ["--no-index", "--find-links", str(tmp_path), "vireid-no-such-package"]
    with pytest.raises(bootstrap.BootstrapError) as caught:
        bootstrap.run_pip(Path(sys.executable), "a thing", arguments, log)
    message = str(caught.value)
    assert "\n" not in message
    assert "could not install a thing" in message
    assert "No matching distribution found for vireid-no-such-package" in message
    assert str(log) in message
    assert "vireid-no-such-package" in log.read_text()


def test_main_reports_an_error_in_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VENV", str(tmp_path))
    assert bootstrap.main(["test"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("[bootstrap] error: ")
    assert error.count("\n") == 1


# The commands


def demo_commands(arguments, root, config="a.yml"):
    return bootstrap.demo_commands(Path("py"), arguments, config, root=root)


def test_demo_renders_then_trains():
    render, train = demo_commands([], Path("nowhere"))
    assert (
        render
        == (
            "py tools/make_synthetic.py --layout sysu --preset small --out datasets/SynthVI "
            "--preview logs/demo/dataset.png"
        ).split()
    )
    assert train == "py tools/train_net.py --config-file a.yml OUTPUT_DIR logs/demo".split()


def test_demo_goes_on_from_a_checkpoint(tmp_path):
    assert "--resume" not in demo_commands([], tmp_path)[1]
    (tmp_path / "logs" / "demo").mkdir(parents=True)
    (tmp_path / "logs" / "demo" / "last_checkpoint").touch()
    assert "--resume" in demo_commands([], tmp_path)[1]


def test_demo_arguments_stand_where_argparse_reads_them(tmp_path):
    """Flags must come before the first KEY VALUE: everything after it is read as overrides."""
    arguments = ["--num-gpus", "2", "MODEL.DEVICE", "cpu"]
    train = demo_commands(arguments, tmp_path)[1]
    assert train[4:] == [*arguments, "OUTPUT_DIR", "logs/demo"]


def test_demo_output_folder_can_be_chosen(tmp_path):
    arguments = ["OUTPUT_DIR", "elsewhere"]
    render, train = demo_commands(arguments, tmp_path)
    assert render[-1] == "elsewhere/dataset.png"
    assert train[4:] == arguments


@pytest.fixture
def demo_calls(monkeypatch, tmp_path):
    """Record the demo's commands, none of which runs; statuses[verb] is what one returns."""
    calls, statuses = [], {}

    def call(command, **environment):
        calls.append((command, environment))
        return statuses.get(command[1], 0)

    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "call", call)
    return calls, statuses


def test_demo_stops_at_the_first_failure(demo_calls, tmp_path, capsys):
    calls, statuses = demo_calls
    statuses["tools/make_synthetic.py"] = 3
    assert bootstrap.demo(Path("py"), []) == 3
    assert [command[1] for command, _ in calls] == ["-m", "tools/make_synthetic.py"]
    assert calls[1][1] == {"FASTREID_DATASETS": str(tmp_path / "datasets" / "SynthVI")}
    printed = "".join(capsys.readouterr())
    assert "if datasets/SynthVI holds other images, move it away" in printed


def test_demo_ends_with_the_numbers_of_the_run(demo_calls, tmp_path, capsys):
    assert bootstrap.demo(Path("py"), []) == 0  # no command has run: there are none
    assert "rank-1" not in capsys.readouterr().out
    content = {"protocols": [{"key": "A/all"}], "metrics": {"A/all/Rank-1": 44.06, "A/all/mAP": 47}}
    (tmp_path / "logs/demo/results.json").write_text(json.dumps(content))
    assert bootstrap.demo(Path("py"), []) == 0
    printed = capsys.readouterr().out
    assert "[bootstrap] A/all: rank-1 44.1 %, mAP 47.0 %\n" in printed
    assert "py -m vireid report logs/demo" in printed


@pytest.mark.parametrize(
    ("status", "config", "said"),
    [
        (0, "configs/agw/synthetic_pretrained.yml", "starts from ImageNet weights"),
        (2, "configs/agw/synthetic.yml", "starts from RANDOM weights"),
    ],
)
def test_demo_starts_from_pretrained_weights_if_it_can(demo_calls, capsys, status, config, said):
    calls, statuses = demo_calls
    statuses["-m"] = status
    assert bootstrap.demo(Path("py"), []) == 0
    (fetch, _), _, (train, _) = calls
    assert fetch == "py -m vireid weights fetch mobilenetv2".split()
    assert train[:4] == ["py", "tools/train_net.py", "--config-file", config]
    assert said in capsys.readouterr().out
    assert (ROOT / config).is_file()


@pytest.mark.parametrize("words", [["--config-file", "mine.yml"], ["--config-file=mine.yml"]])
def test_demo_trains_the_config_that_the_user_names(demo_calls, words):
    calls, _ = demo_calls
    bootstrap.demo(Path("py"), words)
    assert calls[-1][0][2:] == [*words, "OUTPUT_DIR", "logs/demo"]
    assert len(calls) == 2  # nothing was fetched


@pytest.mark.parametrize(
    ("record", "config"),
    [
        ('{"sessions": [{"config_file": "a.yml"}, {"config_file": "b.yml"}]}', "a.yml"),
        ('{"sessions": []}', "configs/agw/synthetic.yml"),
        ("{", "configs/agw/synthetic.yml"),
        ("[]", "configs/agw/synthetic.yml"),
    ],
)
def test_demo_continues_a_run_with_its_own_config(demo_calls, tmp_path, record, config):
    """A run from random weights goes on as it was when weights can be fetched later."""
    calls, _ = demo_calls
    (tmp_path / "logs" / "demo").mkdir(parents=True)
    (tmp_path / "logs" / "demo" / "last_checkpoint").touch()
    (tmp_path / "logs" / "demo" / "run.json").write_text(record)
    bootstrap.demo(Path("py"), [])
    assert calls[-1][0][2:4] == ["--config-file", config]
    assert len(calls) == 2  # nothing was fetched


@pytest.mark.parametrize(
    ("statuses", "expected"), [((0, 0), 0), ((1, 0), 1), ((0, 2), 2), ((1, 2), 1)]
)
def test_linter_does_not_hide_the_tests(monkeypatch, capsys, statuses, expected):
    calls = []
    answers = iter(statuses)

    def answer(command, **_):
        calls.append(command[2])
        return next(answers)

    monkeypatch.setattr(bootstrap, "call", answer)
    assert bootstrap.test_fast(Path("py"), []) == expected
    assert calls == ["ruff", "pytest"]
    assert capsys.readouterr().out.count("failed with status") == sum(map(bool, statuses))


def test_failed_checks_are_named_after_the_tests(monkeypatch, capsys):
    monkeypatch.setattr(bootstrap, "checks_types", lambda: True)
    monkeypatch.setattr(bootstrap, "call", lambda command, **_: int("pytest" not in command))
    assert bootstrap.test(Path("py"), []) == 1
    named = [line for line in capsys.readouterr().out.splitlines() if "failed" in line]
    checks = ("ruff check", "ruff format", "mypy")
    assert named == [f"[bootstrap] {check} failed with status 1" for check in checks]


@pytest.mark.parametrize("fast", [False, True])
def test_test_arguments_reach_pytest(fast):
    lint, *_, pytest_command = bootstrap.test_commands(Path("py"), ["-k", "sampler"], fast)
    assert lint == ["py", "-m", "ruff", "check", "."]
    assert pytest_command[-2:] == ["-k", "sampler"]
    assert (pytest_command[-4:-2] == ["-m", "not slow"]) is fast


@pytest.mark.parametrize(
    ("version", "torch", "checked"),
    [("3.9", "", False), ("3.9", "1.13.1", False), ("3.10", "1.13.1", False), ("3.13", "", True)],
)
def test_types_are_checked_beside_the_newest_torch_only(monkeypatch, version, torch, checked):
    """mypy reads PyTorch's annotations, which differ between releases."""
    monkeypatch.setattr(bootstrap, "running_python", lambda: version)
    monkeypatch.setenv("TORCH", torch)
    commands = [command[2] for command in bootstrap.test_commands(Path("py"), [])]
    assert ("mypy" in commands) is checked


def test_setup_refuses_what_it_does_not_know(capsys):
    with pytest.raises(SystemExit):
        bootstrap.main(["setup", "--fast"])
    assert "--fast" in capsys.readouterr().err


# make and CI


def run_make(*arguments):
    """Run make as from a shell: a `make test` around this test hands its own flags on."""
    inherited = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "ARGS", "PYTHON")
    environment = {key: value for key, value in os.environ.items() if key not in inherited}
    return subprocess.run(
        ["make", *arguments],
        cwd=str(ROOT),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
@pytest.mark.parametrize("command", ["demo", "test", "test-fast", "setup"])
def test_make_calls_bootstrap(command):
    shown = run_make("-n", command, "PYTHON=python3.10", "ARGS=-k 'a or b'")
    assert shown == f"python3.10 tools/bootstrap.py {command} -k 'a or b'"


@needs_make
def test_make_alone_shows_help_and_runs_nothing():
    shown = run_make()
    assert "make demo" in shown and "make test" in shown and "bootstrap.py" not in shown


@pytest.mark.skipif(os.name == "nt", reason="CI's script is for a POSIX shell")
@pytest.mark.parametrize("with_make", [True, False])
def test_ci_runs_the_tests_from_any_folder(tmp_path, with_make):
    """`make` and Python are replaced by scripts that tell where and how they were called."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("make", "fakepython"):
        script = tools / name
        script.write_text(f'#!/bin/sh\necho "{name} $* in $PWD"\nexit 7\n')
        script.chmod(0o755)
    if not with_make:
        (tools / "make").unlink()
    for name in ("bash", "dirname", "env"):
        (tools / name).symlink_to(shutil.which(name))
    ran = subprocess.run(
        ["bash", str(ROOT / ".ci" / "run")],
        cwd=str(tmp_path),
        env={"PATH": str(tools), "PYTHON": "fakepython"},
        capture_output=True,
        text=True,
    )
    expected = "make test" if with_make else "fakepython tools/bootstrap.py test"
    assert ran.stdout.strip() == f"{expected} in {ROOT}"
    assert ran.returncode == 7
