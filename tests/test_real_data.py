"""Real photographs from check to explanation, through the command line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.cli import main

pytestmark = pytest.mark.real_data

MODEL = [f"--set=model.{part}" for part in ("patch_size=8", "dim=32", "depth=2", "heads=2", "mlp_dim=64")]
OPTIONS = ["--image-size", "32", "--batch-size", "8", "--workers", "0", "--device", "cpu", "--precision", "fp32"]
NUM_PHOTOS = 40


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache" / "vitrail"))


@pytest.fixture
def photos(real_data: Path) -> list[Path]:
    """Evenly spaced over the thousand ImageNet classes, so that animals and things come in equal parts."""
    files = sorted((real_data / "imagenet_samples").glob("*.JPEG"))
    return [files[i] for i in np.linspace(0, len(files) - 1, NUM_PHOTOS).astype(int)]


@pytest.fixture
def folder(photos: list[Path], tmp_path: Path) -> Path:
    """The first half of the photos (mostly animals) copied, the second linked from a folder beside."""
    for i, photo in enumerate(photos):
        place = tmp_path / "photos" / ("animal" if i < NUM_PHOTOS // 2 else "thing")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, place / photo.name) if i % 2 else os.symlink(photo, place / photo.name)
    return tmp_path / "photos"


def test_flat_photos_are_checked(photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for photo in photos:
        shutil.copy(photo, flat)
    assert main(["data", "check", "flat", "--unlabelled", "--workers", "0", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_images"] == {"train": NUM_PHOTOS}
    assert report["bad"] == report["warned"] == []
    assert main(["data", "check", "flat"]) == 2
    assert "outside any class folder" in capsys.readouterr().err


def test_from_photos_to_an_explanation(folder: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "photos", "--name", "x", "--epochs", "1", "--no-report", *OPTIONS, *MODEL]
    assert main(train) == 2
    assert "is a link out of" in capsys.readouterr().err
    assert main([*train, "--set", "data.source.follow_symlinks=true"]) == 0
    summary = json.loads(Path("runs/x/summary.json").read_text())
    assert summary["steps"] == NUM_PHOTOS * 9 // 10 // 8
    assert 0 < summary["metrics"]["loss"] < 10

    capsys.readouterr()
    assert main(["predict", "runs/x", str(photos[0]), "--annotate", "drawn", "--device", "cpu", "--json"]) == 0
    (item,) = json.loads(capsys.readouterr().out)
    assert item["label"] in ("animal", "thing")
    assert sum(each["score"] for each in item["top"]) == pytest.approx(1, abs=1e-5)
    with Image.open(photos[0]) as photo, Image.open(Path("drawn") / f"{photos[0].stem}.jpg") as drawn:
        assert drawn.width >= photo.width

    assert main(["explain", "runs/x", str(photos[0]), "--each", "--out", "seen", "--device", "cpu"]) == 0
    pictures = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert len(pictures) >= 4
    for picture in pictures:
        with Image.open(picture) as image:
            assert np.asarray(image.convert("L")).std() > 5, f"{picture} is blank"
