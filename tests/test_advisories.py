"""No floor, and no installed version, with a known hole."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ADVISORIES: list[dict[str, str]] = tomllib.loads((ROOT / "publishing/advisories.toml").read_text())["advisory"]
IDS = [f"{each['package']}-{each['id']}" for each in ADVISORIES]


def floors() -> dict[str, Version]:
    """The lowest version of each direct dependency that some extra allows."""
    written = [
        *PROJECT["dependencies"],
        *(each for extra in PROJECT["optional-dependencies"].values() for each in extra),
    ]
    found: dict[str, Version] = {}
    for requirement in map(Requirement, written):
        for specifier in requirement.specifier:
            if specifier.operator == ">=":
                name = canonicalize_name(requirement.name)
                found[name] = min(found.get(name, Version(specifier.version)), Version(specifier.version))
    return found


@pytest.mark.parametrize("advisory", ADVISORIES, ids=IDS)
def test_what_is_installed_has_no_known_hole(advisory: dict[str, str]) -> None:
    try:
        installed = Version(version(advisory["package"]))
    except PackageNotFoundError:
        return
    assert installed >= Version(advisory["fixed"]), f"{advisory['id']}: install {advisory['package']} again"


@pytest.mark.parametrize("advisory", ADVISORIES, ids=IDS)
def test_no_floor_allows_a_known_hole(advisory: dict[str, str]) -> None:
    floor = floors().get(canonicalize_name(advisory["package"]))
    if floor is not None and "unreached" not in advisory:
        assert floor >= Version(advisory["fixed"]), f"{advisory['id']}: raise the floor of {advisory['package']}"


@pytest.mark.parametrize("advisory", ADVISORIES, ids=IDS)
def test_the_lock_holds_no_known_hole(advisory: dict[str, str]) -> None:
    name = re.escape(canonicalize_name(advisory["package"]))
    lock = (ROOT / "publishing/lock.txt").read_text(encoding="utf-8")
    for locked in re.findall(rf"^{name}==([^ ;\\]+)", lock, re.MULTILINE):
        assert Version(locked) >= Version(advisory["fixed"]), f"{advisory['id']}: run make lock"


def test_entries_are_complete_and_what_is_said_not_to_be_reached_is_not_called() -> None:
    for advisory in ADVISORIES:
        assert advisory.keys() - {"unreached"} == {"package", "id", "fixed"}
        assert re.fullmatch(r"CVE-\d{4}-\d+|GHSA(-\w{4}){3}|PYSEC-\d{4}-\d+", advisory["id"])
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "vitrail").rglob("*.py")]
    assert not any("jit.script(" in source for source in sources)


def test_every_direct_dependency_has_a_floor() -> None:
    named = {canonicalize_name(Requirement(each).name) for each in PROJECT["dependencies"]}
    assert named <= floors().keys()
