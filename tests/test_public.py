"""The public names: one table, and the same names for type checkers."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import vitrail
from vitrail.version import __version__


def test_type_checkers_see_the_table():
    """The imports under ``TYPE_CHECKING`` are those of the table."""
    tree = ast.parse(Path(vitrail.__file__).read_text(encoding="utf-8"))
    (guarded,) = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    imported, packages = {}, []
    for statement in guarded.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname == alias.name, "so that type checkers take it as public"
            if statement.module == "vitrail":
                packages.append(alias.name)
            else:
                imported[alias.name] = statement.module
    assert imported == vitrail._PUBLIC
    assert tuple(packages) == vitrail._PACKAGES


def test_no_public_name_is_that_of_a_module():
    """Importing a module sets an attribute of its package, which would hide the name."""
    assert not vitrail._PUBLIC.keys() & {path.stem for path in Path(vitrail.__file__).parent.iterdir()}


def test_names_are_what_their_modules_define():
    for name, module in vitrail._PUBLIC.items():
        assert getattr(vitrail, name) is getattr(importlib.import_module(module), name)
    assert {*vitrail._PUBLIC, *vitrail._PACKAGES} == set(dir(vitrail))
    assert set(vitrail.__all__) == set(dir(vitrail)) - {"__version__"}
    assert not hasattr(vitrail, "lode")


def test_every_folder_of_code_is_reached_by_its_name():
    """All but those that only the command line and the tests use."""
    folders = {path.name for path in Path(vitrail.__file__).parent.iterdir() if (path / "__init__.py").is_file()}
    internal = {"benchmarking", "cli", "exporting", "generate", "int8", "self_supervision", "terminal"}
    assert folders - internal <= set(vitrail._PACKAGES)


def _paths_in_readme() -> list[str]:
    """``vitrail.a.b`` of every call in the column "in Python" of the README's table of commands."""
    table = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").partition("## Commands")[2]
    rows = [
        line.rsplit("|", 2)[1] for line in table.partition("\n## ")[0].splitlines() if line.startswith("| `vitrail")
    ]
    return sorted({path for row in rows for path in re.findall(r"`(vitrail(?:\.\w+)+)\(", row)})


def test_the_names_in_the_readme_work_after_import_vitrail_alone():
    paths = _paths_in_readme()
    assert {"vitrail.explain.explain", "vitrail.checkpoints.hub.push", "vitrail.serve.serve"} <= set(paths)
    more = ["vitrail.recipes.digits.run", "vitrail.train.run.Run", "vitrail.config.override", "vitrail.nn.block.Block"]
    program = f"import vitrail\nfor path in {paths + more!r}: assert callable(eval(path)), path"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_an_unknown_module_of_a_package_is_an_attribute_error():
    assert not hasattr(vitrail.checkpoints, "hubb")
    assert not hasattr(vitrail.explain, "_overlay")


def test_the_version_is_written_in_two_places_alike():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["version"] == vitrail.__version__ == __version__
