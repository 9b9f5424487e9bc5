"""The public names: one table, and the same names for type checkers."""

from __future__ import annotations

import ast
import importlib
import tomllib
from pathlib import Path

import vitrail
from vitrail.version import __version__


def test_type_checkers_see_the_table():
    """The imports under ``TYPE_CHECKING`` are those of the table."""
    tree = ast.parse(Path(vitrail.__file__).read_text(encoding="utf-8"))
    (guarded,) = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    imported = {}
    for statement in guarded.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname == alias.name, "so that type checkers take it as public"
            imported[alias.name] = statement.module
    assert imported == vitrail._PUBLIC


def test_no_public_name_is_that_of_a_module():
    """Importing a module sets an attribute of its package, which would hide the name."""
    assert not vitrail._PUBLIC.keys() & {path.stem for path in Path(vitrail.__file__).parent.iterdir()}


def test_names_are_what_their_modules_define():
    for name, module in vitrail._PUBLIC.items():
        assert getattr(vitrail, name) is getattr(importlib.import_module(module), name)
    assert set(vitrail.__all__) == set(dir(vitrail)) - {"__version__"}
    assert not hasattr(vitrail, "lode")


def test_the_version_is_written_in_two_places_alike():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["version"] == vitrail.__version__ == __version__
