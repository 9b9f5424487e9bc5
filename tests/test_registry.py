from __future__ import annotations

import sys

import pytest

from vitrail import registry
from vitrail.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An importable third-party package with one entry."""
    package = tmp_path / "third_party_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "depth.py").write_text("value = 7\n")
    (package / "broken").mkdir()
    (package / "broken" / "__init__.py").write_text("import a_library_nobody_has\n")
    (package / "broken" / "task.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "third_party_of_a_test"
    for name in [n for n in sys.modules if n.startswith("third_party_of_a_test")]:
        del sys.modules[name]


def test_a_module_of_the_folder_is_an_entry_and_a_private_one_is_not():
    names = registry.names("cli")
    assert "predict" in names
    assert names == sorted(names)
    assert not [n for n in names if n.startswith("_")]


def test_names_imports_no_entry():
    for name in [n for n in sys.modules if n.startswith("vitrail.explain.methods.")]:
        del sys.modules[name]
    assert "rollout" in registry.names("explain.methods")
    assert "vitrail.explain.methods.rollout" not in sys.modules


def test_load_by_name():
    assert registry.load("cli", "predict").__name__ == "vitrail.cli.predict"


def test_an_unknown_entry_names_the_closest():
    with pytest.raises(UserError, match=r"unknown method 'rolout'; did you mean 'rollout'\?"):
        registry.load("explain.methods", "rolout")


def test_a_dotted_name_is_a_third_partys_module(folder):
    assert registry.load("tasks", f"{folder}.depth").value == 7


def test_a_missing_third_party_is_the_users_mistake():
    with pytest.raises(UserError, match=r"no module named 'nobody_has_this.thing'"):
        registry.load("tasks", "nobody_has_this.thing")


def test_a_missing_module_of_an_installed_third_party_is_the_users_mistake(folder):
    with pytest.raises(UserError, match=f"no module named '{folder}.nothing'"):
        registry.load("tasks", f"{folder}.nothing")


@pytest.mark.parametrize("name", ["..errors", ".predict", "a..b"])
def test_odd_dots_are_the_users_mistake(name):
    with pytest.raises(UserError, match="no module named"):
        registry.load("tasks", name)


def test_what_a_third_party_lacks_itself_is_not_hidden(folder):
    with pytest.raises(ModuleNotFoundError, match="a_library_nobody_has"):
        registry.load("tasks", f"{folder}.broken.task")
