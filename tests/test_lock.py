"""The lock of what make installs, and that nothing is imported from the folder that a command is started in."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "publishing/lock.txt").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENTRY = re.compile(
    r"^(?P<name>[a-z0-9.-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+))? \\\n(?P<hashes>(?: +--hash=.*\n?)+)", re.M
)


def locked() -> dict[str, list[str]]:
    """The versions of each package; several where Pythons or systems differ."""
    found: dict[str, list[str]] = {}
    for entry in ENTRY.finditer(LOCK):
        found.setdefault(canonicalize_name(entry["name"]), []).append(entry["version"])
    return found


def wanted() -> dict[str, SpecifierSet]:
    """The direct requirements of what make installs, and the constraints."""
    constraints = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    extras = PROJECT["optional-dependencies"]
    pending, texts = ["dev"], [*PROJECT["dependencies"]]
    while pending:
        for text in extras[pending.pop()]:
            requirement = Requirement(text)
            if requirement.name == "vitrail":
                pending += requirement.extras
            else:
                texts.append(text)
    found: dict[str, SpecifierSet] = {}
    for requirement in map(Requirement, texts):
        name = canonicalize_name(requirement.name)
        found[name] = found.get(name, SpecifierSet()) & requirement.specifier
    for requirement in map(Requirement, constraints):
        name = canonicalize_name(requirement.name)
        found[name] = found[name] & requirement.specifier
    return found


def test_the_lock_holds_what_make_installs() -> None:
    versions = locked()
    for name, specifier in wanted().items():
        assert name in versions, f"{name}: run make lock"
        assert all(version in specifier for version in versions[name]), f"{name}: run make lock"


def test_every_entry_has_hashes_and_the_lock_names_no_index() -> None:
    entries = list(ENTRY.finditer(LOCK))
    assert len(entries) > 100
    rest = ENTRY.sub("", LOCK)
    assert all(line.startswith("#") for line in rest.splitlines() if line), rest[:500]
    for entry in entries:
        hashes = entry["hashes"].replace("\\", "").split()
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), entry["name"]
        if entry["marker"]:
            Marker(entry["marker"].strip())
    assert not re.search(r"https?:|--(extra-)?index|--find-links|@ ", LOCK)


MODULES = [  # that libraries look for and may not find, and some of Python's and of ours
    "sitecustomize", "usercustomize", "readline", "mkl", "numba", "cupy", "tensorflow", "torchvision", "PIL", "numpy",
    "torch", "yaml", "pydantic", "json", "random", "vitrail", "config", "utils", "triton", "ipywidgets", "accimage",
    "multiprocessing", "signal", "socket", "selectors", "struct", "pickle", "threading", "subprocess", "tempfile",
]  # fmt: skip
COMMANDS = {
    "version": ["--version"],
    "data check": ["data", "check", "digits"],
    "serve": ["serve", "weights.safetensors", "--port", "0", "--device", "cpu"],
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_imported_from_the_working_directory(name: str, tmp_path: Path, tiny_predictor: Any) -> None:
    """Files there that are called like modules are not run, also not by processes that a command starts."""
    canary = tmp_path / "canary"
    for module in MODULES:
        line = f"open({str(canary)!r}, 'a').write({module!r} + ' ')\n"
        (tmp_path / f"{module}.py").write_text(line)
        (tmp_path / f"_{module}").mkdir()
        (tmp_path / f"_{module}" / "__init__.py").write_text(line)
    tiny_predictor().save(tmp_path / "weights.safetensors")
    program = tmp_path / "bin" / "vitrail"
    program.parent.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"VITRAIL_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    program.write_text("import sys\nfrom vitrail.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n")
    command = [sys.executable, program, *COMMANDS[name]]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        while process.poll() is None and "serving at" not in (tmp_path / "log").read_text():
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    assert not canary.exists(), canary.read_text()
