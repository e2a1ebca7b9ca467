"""``vireid VERB``: find the verb, run it, and report what goes wrong.

Exit statuses: 0: done; 1: done in part, as the verb's help says, or a failed ``train``; 2: a wrong
option, or not done because of a mistake that the message names; 130: stopped by Ctrl-C (``train``
also has 129 for SIGHUP and 143 for SIGTERM); 141: the program that reads the output has ended.
"""

import contextlib
import difflib
import importlib
import importlib.util
import os
import pkgutil
import runpy
import sys
from pathlib import Path
from typing import Dict, Optional, Sequence

from . import verbs
from .output import checks_output
from .stopping import signals_as_ctrl_c
from .verb import VERBS, Verb

WRONG_WORD = 2


def load_verbs() -> Dict[str, Verb]:
    """Import every file of ``vireid/verbs``; return all verbs by name, sorted."""
    for module in pkgutil.iter_modules(verbs.__path__):
        importlib.import_module(f"{verbs.__name__}.{module.name}")
    return dict(sorted(VERBS.items()))


@checks_output
def main(words: Optional[Sequence[str]] = None, prog: str = "vireid") -> int:
    """Run ``vireid VERB ...``; return the exit status.

    Args:
        words: what follows the command's name; None: those of the process.
        prog: the command's name as the user typed it.
    """
    words = list(sys.argv[1:] if words is None else words)
    first = words[0] if words else "--help"
    if first in ("-h", "--help"):
        sys.stdout.write(overview(prog))
        return 0
    if first == "--version":
        sys.stdout.write(f"vireid_plugins {version()}\n")
        return 0
    known = load_verbs()
    if first not in known:
        sys.stderr.write(unknown_verb(first, known, prog))
        return WRONG_WORD
    return _run(known[first], words[1:], f"{prog} {first}")


@checks_output
def run_verb(name: str, words: Optional[Sequence[str]] = None, prog: str = "") -> int:
    """Run one verb; return the exit status.

    Args:
        name: name of the verb.
        words: what follows the verb; None: the words of the process.
        prog: the command as the user typed it; default: ``vireid NAME``.
    """
    given = list(sys.argv[1:] if words is None else words)
    return _run(load_verbs()[name], given, prog or f"vireid {name}")


def _run(verb: Verb, words: Sequence[str], prog: str) -> int:
    args = verb.parse(words, prog)
    # Threads that wait must sleep: spinning on a core that others use too makes a step five times
    # slower on two cores. PyTorch reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with signals_as_ctrl_c() if verb.stops_at_sigterm else contextlib.nullcontext():
            return verb.run(args)
    except KeyboardInterrupt as stop:
        return verb.report_stop(args, stop)
    except Exception as error:
        if not report_mistake(error):
            raise
        return verb.mistake_status


def report_mistake(error: Exception) -> bool:
    """Write a mistake of the user as one line; return False for any other exception.

    A library that is missing, so that vireid_plugins cannot be imported, is such a mistake: the
    message says what to install.
    """
    if isinstance(error, ImportError) and "vireid_plugins" not in sys.modules:
        if os.environ.get("VIREID_TRACEBACK"):
            return False
        sys.stderr.write(f"error: {error}\n")
        return True
    errors = sys.modules.get("vireid_plugins.errors")
    if errors is None or not errors.is_foreseen(error):
        return False
    errors.report(error)
    return True


def overview(prog: str) -> str:
    """Return the text of ``vireid --help``: every verb with its line."""
    known = load_verbs()
    width = max(map(len, known)) + 2
    lines = "\n".join(f"  {name:{width}}{verb.help}" for name, verb in known.items())
    return f"""usage: {prog} VERB ...

Visible-infrared person re-identification on FastReID.

verbs:
{lines}

{prog} VERB --help explains one verb; {prog} --version names the version.
A mistake is reported in one line; with VIREID_TRACEBACK=1, its traceback is shown.
"""


def unknown_verb(word: str, known: Dict[str, Verb], prog: str) -> str:
    """Return the message for a word that is not a verb."""
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"The verbs are: {', '.join(known)}."
    return f"error: {prog} has no verb {word!r}. {hint}\n"


def version() -> str:
    """Return the version of vireid_plugins without importing it."""
    package = importlib.util.find_spec("vireid_plugins")
    if package is None or package.origin is None:
        return "is not installed"
    return runpy.run_path(str(Path(package.origin).with_name("version.py")))["__version__"]
