"""A folder is a registry: every module of ``vitrail/<package>/`` is an entry, found by its file name.

A dotted name such as ``my_pkg.thing`` loads a module of another package instead. A user and a program may name any
module; a file may name one that is imported already, or that an installed package lists as an entry point::

    [project.entry-points."vitrail.plugins"]
    thing = "my_pkg.thing"
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import metadata
from types import ModuleType

from vitrail.errors import UserError, did_you_mean

PLUGINS = "vitrail.plugins"
"""The entry points of modules that files may name, since the user has installed the package that lists them."""


def names(package: str) -> list[str]:
    """The entries of ``vitrail.<package>``, e.g. ``names("tasks")``, sorted; only the package is imported."""
    return list(_listed(tuple(importlib.import_module(f"vitrail.{package}").__path__)))


def load(package: str, name: str, *needed: str) -> ModuleType:
    """The module of entry ``name`` in ``vitrail.<package>``, or the module of a dotted name.

    Args:
        needed: what a module of the package defines.

    Raises:
        UserError: no such entry, with the closest name; a module of another kind.
    """
    if "." in name:
        if not _is_module(name):
            raise UserError(f"no module named {name!r}; install the package that holds it")
        module = importlib.import_module(name)
        if missing := [each for each in needed if not hasattr(module, each)]:
            raise UserError(f"the module {name!r} is none for {package}: it defines no {missing[0]}; name another one")
        return module
    if name not in (known := names(package)):
        singular = package.rsplit(".", 1)[-1].removesuffix("s")
        raise UserError(f"unknown {singular} {name!r}; {did_you_mean(name, known)}")
    return importlib.import_module(f"vitrail.{package}.{name}")


def submodules(package: str) -> Callable[[str], ModuleType]:
    """The ``__getattr__`` of a package whose modules are imported on first use, as in ``vitrail.checkpoints.hub``."""

    def __getattr__(name: str) -> ModuleType:
        if not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}") is not None:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__


def load_from(packages: Sequence[str], name: str, *needed: str) -> ModuleType:
    """The entry of the first of several packages that has it. Raises as :func:`load`."""
    return load(next((package for package in packages if name in names(package)), packages[0]), name, *needed)


def refuse_foreign(names: Iterable[str], where: str) -> None:
    """Do not import modules because a file names them: only entries of Vitrail and :func:`permitted` modules pass.

    Raises:
        UserError: another module is named; ``where`` (the file) is repeated.
    """
    for name in names:
        if "." in name and not permitted(name):
            raise UserError(
                f"{where} names the module {name!r}, which no file may load; import it in Python first, or install a "
                f"package that lists it as an entry point of {PLUGINS}"
            )


def permitted(name: str) -> bool:
    """Whether a file may name this module: it is imported already, or an installed package lists it as a plugin."""
    return name in announced(PLUGINS, tuple(sys.path)) or (
        name in sys.modules and name.partition(".")[0] not in sys.stdlib_module_names
    )


@cache
def announced(group: str, _path: tuple[str, ...]) -> list[str]:
    """The modules that packages on this ``sys.path`` list as entry points of ``group``, sorted; none is imported."""
    return sorted(entry.value for entry in metadata.entry_points(group=group))


@cache  # finding the dialect of a checkpoint loads each of them
def _listed(folders: tuple[str, ...]) -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(folders) if not m.name.startswith("_"))


def _is_module(name: str) -> bool:
    try:
        return all(name.split(".")) and importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise  # the package is there and lacks something of its own
        return False
