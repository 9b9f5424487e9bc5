"""The package ``depthkit`` as if it were installed, with example data and one trained run."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitrail.cli import main

PACKAGE = Path(__file__).parent / "package"


def install(place: Path) -> Path:
    """Write what an installer writes for the package into a folder of ``sys.path``."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = place / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head)
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {module}" for name, module in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return place


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with ``scenes/``, and ``runs/depth`` of one command; depthkit is importable meanwhile."""
    folder = tmp_path_factory.mktemp("house")
    site = install(folder / "site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(PACKAGE))
        patch.syspath_prepend(str(site))
        paths = [str(site), str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        from depthkit.example import write

        write(Path("scenes"))
        arguments = ["--epochs", "6", "--log", "depthkit.diary", "--no-report"]
        assert main(["train", "--recipe", "depthkit.recipe", "--name", "depth", *arguments]) == 0
        yield folder
    for name in [each for each in sys.modules if each.partition(".")[0] == "depthkit"]:
        del sys.modules[name]
