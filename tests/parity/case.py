"""What a comparison is, and where all of them are found."""

import importlib
import pkgutil
from pathlib import Path

from . import cases
from .public import opened
from .side import in_float64, trace


class Case:
    """One method, or the losses of one, beside its public code.

    Attributes:
        name: one word, of files and of the command line.
        repository: owner/name on GitHub.
        commit: the commit that the constants were recorded from.
        script: the public training script, its path in the repository.
        variants: names of the comparisons, such as augmentation off and on.
        needs: libraries that both sides import, and that may be missing.
    """

    name = ""
    repository = ""
    commit = ""
    script = ""
    variants = ("off", "on")
    needs = ()

    def ours(self, variant):
        """Return this package's ``Side``; called in float64."""
        raise NotImplementedError

    def theirs(self, public, variant):
        """Return the public ``Side``; called in float64, inside ``opened``."""
        raise NotImplementedError

    def trace_ours(self, variant):
        """Return the ``Trace`` of this package."""
        with in_float64():
            return trace(self.ours(variant))

    def trace_theirs(self, checkout, variant):
        """Return the ``Trace`` of the public code.

        Args:
            checkout: folder of a clone of ``repository``.
            variant: one of ``variants``.
        """
        script = Path(checkout, self.script)
        with in_float64(), opened(script.parent) as public:
            return trace(self.theirs(public, variant))

    @property
    def folder(self):
        """The name of a clone's folder."""
        return self.repository.split("/")[1]


def all_cases():
    """Return the cases of all files in ``cases/``, by name."""
    found = {}
    for module in pkgutil.iter_modules(cases.__path__):
        loaded = importlib.import_module(f"{cases.__name__}.{module.name}")
        found.update({case.name: case for case in loaded.CASES})
    return found
