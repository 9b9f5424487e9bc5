"""One image a class, or two images in all (FEDOT#1307).

An empty validation split was made, so that training ended with "nothing to evaluate", without weights, and ``data
check`` crashed. Siblings looked at: folder, table and arrays, a class of one beside larger ones, shares of the training
split, a measurement that fails for another reason, check, stats, training, evaluation and prediction.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from wild_files import TINY_RUN, draw, opened, picture

from vitrail.cli import main


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return draw(tmp_path / "p", "ant/1.png", "bee/2.png")


def test_no_split_is_empty(two: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "t.csv").write_text("path,label\np/ant/1.png,x\np/bee/2.png,y\n")
    np.savez(tmp_path / "d.npz", images=np.stack([picture(0), picture(1)]), labels=np.arange(2))
    for spec in (two, tmp_path / "t.csv", tmp_path / "d.npz"):
        splits = opened(spec, val_fraction=0.1)
        assert {name: len(source) for name, source in splits.items()} == {"train": 2}
        assert "no val, since no class has two images" in capsys.readouterr().err
    assert len(opened(two, train_fraction=0.1).split("train")) == 2


def test_a_class_of_one_beside_others_stays_in_training(two: Path) -> None:
    draw(two, *(f"bee/{i}.png" for i in range(3, 9)))
    splits = opened(two, val_fraction=0.1)
    assert splits.split("train").counts().tolist() == [1, 6]
    assert splits.split("val").counts().tolist() == [0, 1]


def test_through_all_verbs(two: Path, tmp_path: Path) -> None:
    assert main(["data", "check", str(two)]) == 0
    assert main(["data", "stats", str(two)]) == 0
    run = tmp_path / "run"
    assert main(["train", str(two), *TINY_RUN, "--out", str(run)]) == 0
    assert (run / "weights" / "last.safetensors").exists()
    assert main(["evaluate", str(run)]) == 0
    assert main(["predict", str(run), str(two)]) == 0


def test_weights_are_written_before_they_are_measured(two: Path, tmp_path: Path, capsys) -> None:
    folder = draw(tmp_path / "q", "train/ant/1.png", "train/bee/2.png", "val/ant/3.png", "val/bee/4.png")
    broken = folder / "val" / "ant" / "3.png"
    broken.write_bytes(broken.read_bytes()[:50])
    run = tmp_path / "run"
    assert main(["train", str(folder), *TINY_RUN, "--out", str(run)]) == 2
    assert (run / "weights" / "last.safetensors").exists()
    said = capsys.readouterr().err
    assert "the weights are in" in said
    assert "is cut short" in said
