"""A table of names opens weights in every verb, not in some: export, quantize and benchmark had no ``--names``.

Siblings looked at: push, average, merge-adapter and ``data check --model``, which open weights too; and from Python
``exporting.export`` and ``benchmarking.benchmark``.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from pathlib import Path

import pytest
import torch
import tutorial_vits as vits
from PIL import Image
from safetensors.torch import save_file
from small_vits import randomised

import vitrail
import vitrail.cli
from vitrail.cli import main


def verbs() -> list[str]:
    return [each.name for each in pkgutil.iter_modules(vitrail.cli.__path__)]


def test_what_allows_pickles_takes_a_table() -> None:
    without = []
    for name in verbs():
        module = importlib.import_module(f"vitrail.cli.{name}")
        functions = [
            each for _, each in inspect.getmembers(module, inspect.isfunction) if each.__module__ == module.__name__
        ]
        for function in functions:
            parameters = inspect.signature(function).parameters
            if "allow_pickle" in parameters and "names" not in parameters:
                without.append(f"{name}.{function.__name__}")
    assert without == []


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_file(randomised(vits.Plain()).state_dict(), "own.safetensors")
    Path("table.yaml").write_text(vitrail.draft_names("own.safetensors"))
    return Path("table.yaml")


@pytest.mark.parametrize("verb", ["export", "convert", "benchmark", "average"])
def test_a_verb_opens_weights_by_a_table(verb: str, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(randomised(vits.Plain()).state_dict(), "other.safetensors")
    command = {
        "export": ["export", "own.safetensors", "own.onnx", "--to", "onnx"],
        "convert": ["convert", "own.safetensors", "native.safetensors", "--to", "native"],
        "benchmark": [
            *("benchmark", "own.safetensors", "--engine", "eager", "--precision", "fp32", "--batch-size", "1"),
            *("--seconds", "0.05", "--json"),
        ],
        "average": [
            "average",
            "own.safetensors",
            "other.safetensors",
            "--method",
            "uniform",
            "--out",
            "soup.safetensors",
        ],
    }[verb]
    assert main(command) != 0
    assert "--draft-names" in capsys.readouterr().err
    assert main([*command, "--names", str(table)]) == 0
    if verb == "benchmark":
        assert json.loads(capsys.readouterr().out)["rows"]


def test_quantize_opens_weights_by_a_table(table: Path) -> None:
    Path("photos").mkdir()
    for number in range(6):
        Image.new("RGB", (32, 32), (40 * number, 10, 200)).save(f"photos/{number}.png")
    command = ["quantize", "own.safetensors", "own.onnx", "photos", "--calibration", "3"]
    assert main(command) != 0
    assert main([*command, "--names", str(table)]) == 0
    assert torch.isfinite(torch.from_numpy(vitrail.load("own.onnx").embed(["photos/1.png"]))).all()
