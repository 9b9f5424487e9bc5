"""Run folders written by version 0.1.0 at commit 724b9fd open, resume and report.

``fixtures/runs_724b9fd`` holds a finished classification with averaged weights, a detection that was interrupted in the
middle of its second epoch, and a finished MAE, each with its ``command.txt``; ``expected.json`` is what that commit
predicted, and the losses with which it went on.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

import vitrail
from vitrail.cli import main

FOLDER = Path(__file__).parent / "fixtures" / "runs_724b9fd"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())
IMAGES = {"classification": "digits", "detection": "digit_scenes", "mae": "digits"}
VERBS = {"classification": "train", "detection": "train", "mae": "pretrain"}
EPOCHS = {"classification": 3, "detection": 3, "mae": 3}


def images(name: str) -> list[str]:
    return sorted(map(str, FOLDER.glob(f"images/{IMAGES[name]}-*.png")))


def same(found: Any, expected: Any) -> bool:
    """The same structure, with numbers that agree to 1e-4."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-4)
    return bool(found == expected)


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", IMAGES)
def test_an_old_run_opens_and_computes_the_same(name: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER / name, tmp_path / name)
    model = vitrail.load(tmp_path / name, device="cpu")
    assert same(model.embed(images(name)).tolist(), EXPECTED[name]["embed"])
    if name != "mae":
        predictions = json.loads(json.dumps([each.to_dict() for each in model.predict(images(name))]))
        for found, expected in zip(predictions, EXPECTED[name]["predict"], strict=True):
            # a query named its best class alone; since, every class over the threshold is an object
            objects = found.pop("objects", []), expected.pop("objects", [])
            assert same(found, expected)
            assert all(any(same(one, other) for one in objects[0]) for other in objects[1])


@pytest.mark.parametrize("name", IMAGES)
def test_an_old_run_goes_on_and_reports(name: str, tmp_path: Path, own_cache: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(FOLDER / name, folder)
    epochs = ["--epochs", str(EPOCHS[name])]
    assert main([VERBS[name], "--resume", str(folder), *epochs, "--workers", "0", "--no-report"]) == 0
    assert json.loads((folder / "summary.json").read_text())["epochs"] == EPOCHS[name]
    found, expected = losses(folder), list(EXPECTED[name]["losses"])
    if name == "mae":  # it went on in a warmup of 40 epochs; since, a warmup takes half of the training at most
        assert found.pop() < expected.pop()
    assert found == pytest.approx(expected, rel=1e-3)
    assert main(["report", str(folder), "--device", "cpu"]) == 0
    assert (folder / "report.html").stat().st_size > 10_000
