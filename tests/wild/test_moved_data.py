"""Data that was moved, and ``--resume`` (yolov5#3349, ultralytics#17904: refused).

Siblings looked at: a folder, a table with its images and arrays; other data under the same name; the folder of a run
stays as it is where the data is refused; resuming in place.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from wild_files import TINY_RUN, draw

from vitrail.cli import main


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Path]:
    """(the data, where it is no more; the run)."""
    folder = draw(tmp_path / "old", *(f"{label}/{i}.png" for label in ("ant", "bee") for i in range(3)))
    assert main(["train", str(folder), *TINY_RUN, "--out", str(tmp_path / "run")]) == 0
    os.rename(folder, tmp_path / "new")
    return folder, tmp_path / "run"


def test_it_continues_where_the_data_lies_now(trained: tuple[Path, Path], capsys) -> None:
    old, run = trained
    new = old.with_name("new")
    assert main(["train", "--resume", str(run), "--epochs", "2", "--no-report"]) == 2
    assert main(["train", str(new), "--resume", str(run), "--epochs", "2", "--no-report"]) == 2
    assert "say with --data where it lies now" in capsys.readouterr().err
    assert main(["train", "--data", str(new), "--resume", str(run), "--epochs", "2", "--no-report"]) == 0
    assert str(new) in (run / "config.yaml").read_text()
    assert main(["train", "--resume", str(run), "--epochs", "3", "--no-report"]) == 0
    assert "epoch 3/3" in capsys.readouterr().err


def test_other_data_is_refused_and_changes_nothing(trained: tuple[Path, Path], capsys) -> None:
    old, run = trained
    new = old.with_name("new")
    before = {file.name: file.read_bytes() for file in run.glob("*.*") if file.is_file()}
    os.rename(new / "bee" / "2.png", new / "bee" / "7.png")
    assert main(["train", "--data", str(new), "--resume", str(run), "--epochs", "2", "--no-report"]) == 2
    assert "the data is not what" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in run.glob("*.*") if file.is_file()} == before


def test_the_hash_of_moved_data(tmp_path: Path) -> None:
    from vitrail.data.source import SourceConfig, open_source
    from vitrail.train.data_record import content_hash

    draw(tmp_path / "a", "in/0.png", "in/1.png")
    (tmp_path / "a" / "t.csv").write_text("path,label\nin/0.png,x\nin/1.png,y\n")
    hashes = []
    for name in ("a", "b"):
        if name == "b":
            shutil.copytree(tmp_path / "a", tmp_path / "b")
        for spec in (tmp_path / name / "t.csv", os.path.relpath(tmp_path / name / "t.csv")):
            config = SourceConfig(spec=str(spec))
            hashes.append(content_hash(open_source(config).split("train"), config))
    assert len(set(hashes)) == 1
