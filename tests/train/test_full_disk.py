"""A disk that is full at any moment: one line, nothing half written, and a training goes on when there is room."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_disks
from PIL import Image
from small_disks import contents, fill
from tiny import tiny_run

from vitrail import files
from vitrail.cli import main
from vitrail.data.indexing.index import cached
from vitrail.errors import UserError
from vitrail.train.folder import RunFolder
from vitrail.train.loop import fit

ROOM = (8, 12, 40, 90, 100, 170, 180, 205, 226, 240)  # kB: each ends in another file


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    with small_disks.small_disk(tmp_path / "disk", 2) as place:
        yield place


@pytest.mark.fuzz
@pytest.mark.parametrize("room", ROOM)
def test_a_full_disk_ends_a_training_in_one_line_and_it_goes_on(room: int, small_disk: Path, bands: Path) -> None:
    run = tiny_run(bands, epochs=2, save_steps=3)
    fill(small_disk, leave=room)
    with pytest.raises(UserError, match=r"No space left on device.*; free some space") as caught:
        fit(run, small_disk / "run")
    assert "\n" not in str(caught.value)
    assert not list(small_disk.rglob("*.tmp"))
    (small_disk / "filler").unlink()
    assert fit(run, small_disk / "run").exit_code == 0


def test_a_full_disk_leaves_what_was_there(small_disk: Path) -> None:
    files.write_json(small_disk / "a.json", {"a": 1})
    fill(small_disk, leave=8)
    before = contents(small_disk)
    for write in (
        lambda: files.write_text(small_disk / "a.json", "x" * 100_000),
        lambda: files.append(small_disk / "new.txt", "x" * 100_000),
    ):
        with pytest.raises(UserError, match="free some space"):
            write()
    assert contents(small_disk) == before


def test_a_full_cache_costs_time_alone(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(small_disk / "cache"))
    fill(small_disk, leave=8)
    watched = small_disk / "filler"
    os.utime(watched, (1, 1))
    table = cached("full", lambda: ({"a": np.zeros(100_000)}, [os.fsencode(watched)]))
    assert len(table["a"]) == 100_000
    assert not [each for each in (small_disk / "cache").rglob("*") if each.is_file()]


@pytest.mark.parametrize("verb", ["data export", "evaluate"])
def test_a_full_disk_is_one_line_in_other_verbs(
    verb: str, small_disk: Path, bands: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["data", "export", "digits", "--split", "test", "--limit", "40", "--out", str(small_disk / "samples")]
    if verb == "evaluate":
        fit(tiny_run(bands, epochs=1), small_disk / "run")
        arguments = ["evaluate", str(small_disk / "run"), "--device", "cpu"]
    fill(small_disk, leave=16)
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "error" in each]
    assert "No space left on device" in line
    for picture in small_disk.rglob("*.png"):  # none is half
        Image.open(picture).load()
    assert not list(small_disk.rglob("*.tmp"))


@pytest.mark.parametrize("jump", [-(10**6), 10**6])
def test_a_clock_that_jumps_changes_nothing_of_a_training(
    jump: int, tmp_path: Path, bands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Any = time.time
    calls = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() + (jump if next(calls) > 3 else 0))
    result = fit(tiny_run(bands, epochs=2), tmp_path / "run")
    assert result.exit_code == 0
    summary = RunFolder(tmp_path / "run").read_summary()
    assert summary is not None
    assert 0 <= summary["command_seconds"] < 1000
