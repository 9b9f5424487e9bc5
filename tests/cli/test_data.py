from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.cli import main


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache" / "vitrail"))
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(draw.integers(0, 256, (6, 6, 3), np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def test_check_of_healthy_data(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(photos)]) == 0
    assert capsys.readouterr().out == "18 train, 2 val: 0 bad, 0 with warnings, 0 duplicates\n"


def test_check_of_bad_data(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "cat" / "é\n.jpg").write_bytes(b"")
    (photos / "dog" / "page.jpg").write_bytes(b"<html>")
    assert main(["data", "check", str(photos), "--json", "--set", "val_fraction=0"]) == 2
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert [finding["text"].split(",")[0] for finding in report["bad"]] == ["is empty (0 bytes)", "is an HTML page"]
    assert "cat/é\\n.jpg is empty (0 bytes) (and 1 more); repair" in shown.err.splitlines()[-1]


def test_an_empty_class_and_the_flag_for_it(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "bird").mkdir()
    assert main(["data", "check", str(photos)]) == 2
    assert "--allow-empty-class" in capsys.readouterr().err
    assert main(["data", "check", str(photos), "--allow-empty-class"]) == 0


def test_stats(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", str(photos)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cat", "9", "1"] in rows
    assert ["dog", "9", "1"] in rows
    assert main(["data", "stats", str(photos), "--unlabelled", "--limit", "5", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)["train"]
    assert (numbers["num_images"], numbers["num_inspected"], numbers["class_counts"]) == (20, 5, {})
    assert len(numbers["mean"]) == 3


def test_a_wrong_setting_is_one_line(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(photos), "--set", "val_fractoin=0"]) == 2
    assert "did you mean 'val_fraction'?" in capsys.readouterr().err


def test_inspect_draws_what_stands_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "maps"
    for name, pixels in (("images", np.zeros((20, 30, 3), np.uint8)), ("masks", np.eye(20, 30, dtype=np.uint8))):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    options = ["--limit", "2", "--out", str(tmp_path / "drawn"), "--set", "val_fraction=0"]
    assert main(["data", "inspect", str(folder), *options]) == 0
    assert capsys.readouterr().out == f"drew 2 of 4 train images into {tmp_path / 'drawn'}\n"
    drawn = np.asarray(Image.open(tmp_path / "drawn" / "0.png"))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 2
    assert main(["data", "export", str(folder), "--out", str(tmp_path / "files")]) == 2
    assert "write it with `vitrail data convert`" in capsys.readouterr().err
