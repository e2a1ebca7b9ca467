"""``vireid``: its verbs, its help without PyTorch, its exit statuses and its messages."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from vireid import cli
from vireid.verb import VERBS, Verb, register
from vireid_plugins.errors import UserError
from vireid_plugins.version import __version__

from tests.engine.small import ROOT

NAMES = list(cli.load_verbs())
PROBE = """
import json, sys
from vireid.cli import main
try:
    status = main(json.loads(sys.argv[1]))
except SystemExit as end:
    status = end.code
heavy = {"torch", "numpy", "fastreid", "vireid_plugins", "matplotlib"} & set(sys.modules)
print("\\n" + json.dumps([status, sorted(heavy)]))
"""


def in_a_fresh_process(*words):
    """Return the exit status, the heavy packages that were loaded, and all that was written."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(words)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    status, heavy = json.loads(done.stdout.splitlines()[-1])
    return status, heavy, done.stdout + done.stderr


def test_sigterm_stops_a_verb_that_asks_for_it_as_ctrl_c_does(failing, monkeypatch, capsys):
    verb = VERBS["failing"]
    monkeypatch.setattr(type(verb), "stops_at_sigterm", True)
    monkeypatch.setattr(type(verb), "run", lambda *_: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["failing"]) == 130
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("words", [["--help"], [], ["--version"], ["trian"]])
def test_the_command_itself_loads_nothing_heavy(words):
    status, heavy, _ = in_a_fresh_process(*words)
    assert (status, heavy) == (2 if words == ["trian"] else 0, [])


def test_help_of_every_verb_loads_nothing_heavy():
    """One process for all: what any of them loads stays loaded."""
    code = "import sys; from vireid.cli import load_verbs\n"
    code += "for name, verb in load_verbs().items(): verb.make_parser(name).format_help()\n"
    code += "sys.exit(str({'torch', 'numpy', 'vireid_plugins'} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip() == ""


def test_help_lists_every_verb_on_one_screen(capsys):
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100
    for name in NAMES:
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.endswith(VERBS[name].help)


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_explains_itself_by_the_name_the_user_typed(name, capsys):
    for call, typed in (
        (lambda: cli.main([name, "--help"]), f"vireid {name}"),
        (lambda: cli.run_verb(name, ["--help"], "tools/some.py"), "tools/some.py"),
    ):
        with pytest.raises(SystemExit) as end:
            call()
        assert end.value.code == 0
        assert f"usage: {typed} " in " ".join(capsys.readouterr().out.split())


def test_a_wrong_word_names_the_nearest_verb(capsys):
    assert cli.main(["trian"], prog="python -m vireid") == 2
    assert capsys.readouterr().err == (
        "error: python -m vireid has no verb 'trian'. Did you mean 'train'?\n"
    )
    assert cli.main(["xyz"]) == 2
    assert "train" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vireid_plugins {__version__}\n"


@pytest.fixture
def failing(monkeypatch):
    """A verb that raises what the test puts into the returned list."""
    errors = []
    monkeypatch.delenv("VIREID_TRACEBACK", raising=False)

    @register
    class Failing(Verb):
        name = "failing"
        help = "fail"

        def add_arguments(self, parser):
            pass

        def run(self, args):
            raise errors[0]

    yield errors
    del VERBS["failing"]


def test_a_users_mistake_is_one_line_and_a_status(failing, capsys):
    failing.append(UserError("--ids is 3;\nexpected an even number."))
    assert cli.main(["failing"]) == 2
    assert capsys.readouterr().err == "error: --ids is 3; expected an even number.\n"


def test_a_users_mistake_keeps_its_traceback_on_demand(failing, monkeypatch):
    failing.append(UserError("--ids"))
    monkeypatch.setenv("VIREID_TRACEBACK", "1")
    with pytest.raises(UserError):
        cli.main(["failing"])


def test_a_fault_of_the_program_keeps_its_traceback(failing):
    failing.append(ZeroDivisionError("of the program"))
    with pytest.raises(ZeroDivisionError):
        cli.main(["failing"])


@pytest.mark.parametrize("shown", [False, True])
def test_a_missing_fastreid_is_one_line_that_says_what_to_install(shown):
    code = "import sys; sys.modules['fastreid'] = None; from vireid.cli import main\n"
    code += "sys.exit(main(['train']))"
    environment = {**os.environ, "VIREID_TRACEBACK": "1" if shown else ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1 and ("Traceback" in done.stderr) == shown
    (line,) = [one for one in done.stderr.splitlines() if "pip install" in one][:1]
    assert shown or line.startswith("error: ")


def test_ctrl_c_ends_with_status_130(failing, capsys):
    failing.append(KeyboardInterrupt())
    assert cli.main(["failing"]) == 130
    assert capsys.readouterr().err == "Stopped.\n"


def test_both_packages_run_as_modules():
    """``python -m vireid_plugins`` loads PyTorch before it can read a word; the answer is alike."""
    for module in ("vireid", "vireid_plugins"):
        done = subprocess.run(
            [sys.executable, "-m", module, "trian"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stderr.endswith(
            f"error: python -m {module} has no verb 'trian'. Did you mean 'train'?\n"
        )


@pytest.mark.parametrize(
    "command", [["tools/train_net.py"], ["-m", "vireid_plugins.train"]], ids=" ".join
)
def test_train_keeps_its_older_names(command):
    """FastReID's words, and a message that names the command as it was typed."""
    done = subprocess.run(
        [sys.executable, *command, "--num-gpus", "many"], cwd=ROOT, capture_output=True, text=True
    )
    typed = command[0] if len(command) == 1 else "python -m vireid_plugins.train"
    assert done.returncode == 2
    assert done.stderr.startswith(f"{typed}: error: argument --num-gpus")
    assert done.stderr.endswith(f". See: {typed} --help\n") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.stem)
def test_scripts_are_stubs_of_one_pattern(path):
    """Of tools/, only the script that makes an environment does anything itself."""
    if path.stem == "bootstrap":
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    topic = r'(?:\["(\w+)", \*sys\.argv\[1:\]\], )?'  # which the older scripts named themselves
    pattern = rf'    sys.exit\(run_verb\("([\w-]+)", {topic}prog="tools/(\w+).py"\)\)'
    call = re.fullmatch(pattern, lines[-1])
    assert call and call.group(1) in NAMES
    verb, topic, script = call.groups()
    assert path.stem == (f"{script}_{topic}" if topic else script)
    assert len(lines) == 12 and f"``vireid {verb}{f' {topic}' if topic else ''}``" in lines[1]
