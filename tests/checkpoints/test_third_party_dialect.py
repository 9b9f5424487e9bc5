"""A dialect in a package of its own: announced as an entry point it is read, and its module is written to by name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import vitrail
from vitrail import registry
from vitrail.build import open_checkpoint
from vitrail.cli import main

DIALECT = """
from vitrail.checkpoints import pooled
from vitrail.checkpoints.rules import same
from vitrail.checkpoints.shapes import vit_config

LIBRARY = "birdlib"
TASKS = ("classification",)
FILE = "model.safetensors"
IGNORED = ()


def canonical(name):
    return name


def matches(names, beside):
    return beside.config.get("library") == "birdlib"


def describe(shapes, beside):
    vit = vit_config(beside.config["vit"])
    return pooled.describe(vit, pool="cls", outputs=len(beside.config["birds"]), classes=tuple(beside.config["birds"]))


def rules(description):
    from vitrail.tasks.classification import Task

    import torch

    with torch.device("meta"):
        names = Task(description.config).state_dict()
    return [same(name, "bird/" + name) for name in names]


def lacks(description):
    return "wings" if description.config.model.registers else None


def sidecars(description):
    from vitrail.config import to_dict

    config = description.config
    return {"config.json": {"library": "birdlib", "vit": to_dict(config.model), "birds": list(config.classes)}}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that holds the package ``birdlib`` and what an installer writes next to it."""
    site = tmp_path / "site"
    (site / "birdlib").mkdir(parents=True)
    (site / "birdlib" / "__init__.py").touch()
    (site / "birdlib" / "files.py").write_text(DIALECT)
    info = site / "birdlib-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: birdlib\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vitrail.dialects]\nbirdlib = birdlib.files\n")
    monkeypatch.syspath_prepend(site)
    yield site
    for name in ("birdlib", "birdlib.files"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("forked_python")
def test_a_dialect_of_another_package_is_written_and_read(tiny_predictor, package: Path, tmp_path: Path) -> None:
    tiny_predictor().save(tmp_path / "own.safetensors")
    assert main(["convert", str(tmp_path / "own.safetensors"), str(tmp_path / "out"), "--to", "birdlib.files"]) == 0
    found = open_checkpoint(tmp_path / "out")
    assert found.dialect == "birdlib.files"
    own, again = open_checkpoint(tmp_path / "own.safetensors").load().state_dict(), found.load().state_dict()
    assert own.keys() == again.keys()
    assert all(torch.equal(own[name], again[name]) for name in own)
    assert vitrail.inspect(tmp_path / "own.safetensors")["writes_as"]["birdlib"] == "birdlib.files"
    command = [sys.executable, "-m", "vitrail", "inspect", str(tmp_path / "out")]
    path = os.pathsep.join((str(package), *filter(None, [os.environ.get("PYTHONPATH")])))
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert "birdlib.files" in done.stdout, done.stderr


def test_a_dialect_that_is_not_announced_is_only_written(tiny_predictor, package: Path, tmp_path: Path) -> None:
    (package / "birdlib-1.0.dist-info" / "entry_points.txt").write_text("")
    registry.announced.cache_clear()
    vitrail.convert(save(tiny_predictor(), tmp_path), tmp_path / "out", to="birdlib.files")
    with pytest.raises(vitrail.UserError, match="no dialect that Vitrail supports"):
        open_checkpoint(tmp_path / "out")


def test_what_is_no_dialect_is_refused(tiny_predictor, package: Path, tmp_path: Path) -> None:
    file = save(tiny_predictor(registers=1), tmp_path)
    for target, words in (
        ("birdlib.files", "files has no wings"),
        ("birdlib", "unknown library|cannot hold"),
        ("birdlib.nothing", "no module named"),
        ("json.decoder", "is no dialect"),
    ):
        with pytest.raises(vitrail.UserError, match=words):
            vitrail.convert(file, tmp_path / "out", to=target)
    assert not (tmp_path / "out").exists()


def save(predictor: vitrail.Predictor, folder: Path) -> Path:
    predictor.save(folder / "own.safetensors")
    return folder / "own.safetensors"
