"""Modules that are imported at the first use of one of their names.

FastReID and torchvision import libraries that most processes never call, and every command would
wait for them. ``compat.py`` puts a stand-in in their place.
"""

import contextlib
import importlib
import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any, Iterator, Sequence


class LateModule(types.ModuleType):
    """A stand-in for a module, which imports that module when one of its names is read."""

    def __init__(self, name: str, hint: str = "", **known: Any) -> None:
        """Make the stand-in; nothing is imported yet.

        Args:
            name: full name of the module, such as ``sklearn.metrics``.
            hint: what the user can do where the module cannot be imported; it ends the error.
            known: names that must have a value before the module is imported.
        """
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)  # `find_spec` must find it, as it does the module
        self.__dict__.update(known, _hint=hint)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by Python's import and by inspect, not by a user
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        try:
            module = importlib.import_module(self.__name__)
        except ImportError as error:
            if not self._hint:
                raise
            raise ImportError(f"{self.__name__}.{name} is needed: {error}. {self._hint}") from error
        return getattr(module, name)


@contextlib.contextmanager
def stand_ins(modules: Sequence[types.ModuleType]) -> Iterator[None]:
    """Let the import statements inside the ``with`` block find these modules.

    A module that is already loaded is left as it is. Afterwards no stand-in is in ``sys.modules``:
    whoever imports the name from then on gets the real module.
    """
    placed = [module for module in modules if module.__name__ not in sys.modules]
    sys.modules.update({module.__name__: module for module in placed})
    try:
        yield
    finally:
        for module in placed:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]


def import_without(package: str, submodules: Sequence[str]) -> None:
    """Import a package, but some of its own submodules only at their first use.

    Afterwards ``package.submodule``, ``import package.submodule`` and ``from package import
    submodule`` give the real submodule. Does nothing where the package is already loaded.
    """
    if package in sys.modules:
        return
    late = {name: LateModule(f"{package}.{name}") for name in submodules}
    with stand_ins(list(late.values())):
        module = importlib.import_module(package)
    for name, stand_in in late.items():
        if module.__dict__.get(name) is stand_in:
            delattr(module, name)
    earlier = module.__dict__.get("__getattr__")

    def __getattr__(name: str) -> Any:
        if name in late:
            return importlib.import_module(f"{package}.{name}")
        if earlier is not None:
            return earlier(name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    module.__dict__["__getattr__"] = __getattr__
