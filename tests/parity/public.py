"""Run parts of a public training script as they are, in float64 and on the CPU.

A script is a program that reads its data set when it is imported, so only those of its statements
are executed that make what is named: its arguments, its losses, its optimizer, its ``train``.
"""

import ast
import contextlib
import importlib
import io
import random
import subprocess
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np
import torch


class PublicCode:
    """A folder of public code whose modules and scripts can be used inside ``opened``."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def module(self, name):
        return importlib.import_module(name)

    def run(self, script, names, words=(), **given):
        """Execute the imports of a script and the statements that make ``names``, in its order.

        Args:
            script: file name in the folder.
            names: functions and variables of the script; a statement is executed if it defines or
                assigns one of them, or calls a method of one.
            words: the command line.
            given: variables that the script has got by statements that are left out.

        Returns:
            The variables, by name.
        """
        path = self.folder / script
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        tree.body = [node for node in tree.body if _makes(node, set(names))]
        variables = {"__name__": "public", **given}
        with mock.patch.object(sys, "argv", [script, *words]):
            exec(compile(tree, str(path), "exec"), variables)
        return variables


def _makes(node, names):
    """Return whether a statement is an import, or makes or uses one of the names."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return True
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return node.name in names
    assigned = [part for part in ast.walk(node) if isinstance(part, ast.Assign)]
    targets = [target for part in assigned for target in part.targets]
    targets += [part for target in targets if isinstance(target, ast.Tuple) for part in target.elts]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        root = node.value.func
        while isinstance(root, ast.Attribute):
            root = root.value
        targets.append(root)
    return any(isinstance(target, ast.Name) and target.id in names for target in targets)


@contextlib.contextmanager
def opened(folder):
    """Let the modules of ``folder`` be imported, and PyTorch be as that code expects it.

    ``cuda()`` returns the same tensor or module, ``addmm_`` takes
    the arguments that PyTorch once took, TensorBoard is a stand-in, and what is printed is dropped.
    """
    tensorboard = types.ModuleType("tensorboardX")
    tensorboard.SummaryWriter = mock.MagicMock()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_own_modules(folder, {"tensorboardX": tensorboard}))
        for kind in (torch.Tensor, torch.nn.Module):
            stack.enter_context(mock.patch.object(kind, "cuda", lambda self, *_, **__: self))
        stack.enter_context(mock.patch.object(torch.Tensor, "addmm_", _old_addmm))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        yield PublicCode(folder)


@contextlib.contextmanager
def _own_modules(folder, stand_ins):
    """Let imports find the folder first; forget its modules, whose names are common, at the end."""
    own = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    own |= set(stand_ins)

    def taken():
        return [name for name in sys.modules if name.split(".")[0] in own]

    before = {name: sys.modules.pop(name) for name in taken()}
    sys.modules.update(stand_ins)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in taken():
            del sys.modules[name]
        sys.modules.update(before)


_ADDMM = torch.Tensor.addmm_


def _old_addmm(self, *values, **keys):
    if len(values) == 4:
        beta, alpha, *matrices = values
        return _ADDMM(self, *matrices, beta=beta, alpha=alpha)
    return _ADDMM(self, *values, **keys)


def without_weights(build):
    """Return a function that builds a network of random weights, whatever is asked for."""
    return lambda pretrained=False, **keys: build(pretrained=False, **keys)


def seed_all(number):
    """Seed the three generators from which transforms draw."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


class Stepper:
    """One call of a script's ``train(epoch)`` for each step, on one batch.

    Args:
        values: the script's variables; ``train`` is among them.
        batch: returns the batch of a step.
        terms: for each loss term of this package, the variable of the module that computes it, and
            its weight.
        epoch: returns the epoch, which decides the rates, of a step.
    """

    def __init__(self, values, batch, terms, epoch):
        self.values, self.batch, self.epoch, self.seen = values, batch, epoch, {}
        for name, (module, weight) in terms.items():
            values[module].register_forward_hook(self.reader(name, weight))
        values["writer"] = self  # of TensorBoard

    def reader(self, name, weight):
        def read(module, inputs, output):
            value = output[0] if isinstance(output, tuple) else output
            self.seen[name] = self.seen.get(name, 0.0) + weight * value.item()

        return read

    def add_scalar(self, name, value, epoch):
        if name == "total_loss":
            self.seen["total"] = float(value)

    def __call__(self, number):
        self.seen = {}
        self.values["trainloader"] = [self.batch(number)]
        self.values["train"](self.epoch(number))
        return self.seen


def commit_of(folder):
    """Return the commit of a clone, with ``+`` behind it if files were changed.

    "unknown" for a folder that is no clone, such as an unpacked archive, also inside a clone of
    something else.
    """
    if not (folder / ".git").exists():
        return "unknown"

    def git(*words):
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD") + ("+" if changed else "")
