"""What a training would silently do, told by `vitrail data check`: files that are not 8-bit RGB, pictures that look the
same in two splits, classes of very different counts; and what a model notices (`--model`), as tables that `--exclude`
takes back.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from builders import opened, picture, write
from PIL import Image

from vitrail.cli import main
from vitrail.data import SourceConfig
from vitrail.data.inspection.check import check
from vitrail.data.source import open_source
from vitrail.errors import UserError


def photos(root: Path, count: int = 4, splits: tuple[str, ...] = ("train", "val")) -> Path:
    draw = np.random.default_rng(0)
    for split in splits:
        for name in ("ant", "bee"):
            for i in range(count):
                (root / split / name).mkdir(parents=True, exist_ok=True)
                coarse = Image.fromarray(draw.integers(0, 255, (6, 8, 3), np.uint8))
                coarse.resize((80, 60), Image.Resampling.BICUBIC).save(root / split / name / f"{i}.png")
    return root


def test_files_that_are_not_8_bit_rgb(tmp_path: Path) -> None:
    root = photos(tmp_path)
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(root / "train" / "ant" / "deep.png")
    Image.new("RGBA", (8, 8)).save(root / "train" / "ant" / "clear.png")
    Image.new("P", (8, 8)).save(root / "train" / "bee" / "palette.png")
    report = check(opened(root), workers=0)
    assert report.stored["train"]["16 bits, values to 4095"] == 1
    line = next(line for line in report.lines() if line.startswith("train: images hold"))
    assert "RGB and transparency (1)" in line
    assert "a palette (1)" in line
    assert "val" not in report.stored


@pytest.mark.parametrize("change", ["quality", "size", "mirror", "grey"])
def test_pictures_that_look_the_same_in_two_splits(change: str, tmp_path: Path) -> None:
    root = photos(tmp_path)
    with Image.open(root / "train" / "ant" / "1.png") as opened_image:
        image = opened_image.convert("RGB")
    image = {
        "quality": image,
        "size": image.resize((50, 38)),
        "mirror": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "grey": image.convert("L"),
    }[change]
    image.save(root / "val" / "bee" / "copy.jpg", quality=80)
    report = check(opened(root), workers=0)
    assert [[Path(each.name).name for each in pair] for pair in report.near] == [["1.png", "copy.jpg"]]
    assert sum(line.startswith("look the same in training and elsewhere") for line in report.lines()) == 1


def test_other_pictures_do_not_look_the_same(tmp_path: Path) -> None:
    assert check(opened(photos(tmp_path, 10)), workers=0).near == []


def test_uneven_classes(tmp_path: Path) -> None:
    rows = [f"{picture(tmp_path / f'{i}.png').name},{'rare' if i < 2 else 'often'},train" for i in range(44)]
    text = "path,label,split\n" + "\n".join(rows)
    lines = list(check(opened(write(tmp_path / "t.csv", text)), workers=0).lines())
    assert "train: uneven classes: 42 images of often and 2 of rare, 21 to 1; see --balance" in lines
    few = "path,label,split\n" + "\n".join(rows[:42])
    assert not any("uneven" in line for line in check(opened(write(tmp_path / "t.csv", few)), workers=0).lines())


@pytest.mark.parametrize("name", ["t.csv", "t.txt"])
def test_what_is_named_is_left_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    names = [str(root / "train" / "ant" / "1.png"), "photos/val/bee/2.png"]
    head = "split,name\n" if name == "t.csv" else ""
    write(tmp_path / name, head + "".join(f"{'x,' if head else ''}{each}\n" for each in names))
    splits = open_source(SourceConfig(spec=str(root), exclude=name))
    assert {split: len(source) for split, source in splits.items()} == {"train": 7, "val": 7}
    assert main(["data", "check", "photos", "--exclude", name]) == 0
    write(tmp_path / "other.csv", "name\nnowhere.png\n")
    with pytest.raises(UserError, match=r"other\.csv names 1 images, such as 'nowhere\.png', and none is of this data"):
        open_source(SourceConfig(spec=str(root), exclude="other.csv"))


def test_a_model_notices_twins_contradictions_and_outliers(tmp_path: Path, tiny_predictor) -> None:
    draw = np.random.default_rng(1)
    root = tmp_path / "photos"
    for split, count in (("train", 14), ("val", 4)):
        for name, level in (("ant", 40), ("bee", 200)):
            for i in range(count):
                (root / split / name).mkdir(parents=True, exist_ok=True)
                pixels = np.clip(level + draw.normal(0, 12, (16, 24, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    with Image.open(root / "train" / "bee" / "3.png") as image:
        image.save(root / "val" / "bee" / "twin.bmp")
        image.save(root / "train" / "ant" / "wrong.bmp")
    tiny_predictor().save(tmp_path / "model.safetensors")
    out = tmp_path / "out"
    assert main(["data", "check", str(root), "--model", str(tmp_path / "model.safetensors"), "--out", str(out)]) == 0
    with (out / "contradicted_labels.csv").open() as file:
        assert "wrong.bmp" in [Path(row["name"]).name for row in csv.DictReader(file)]
    with (out / "near_twins.csv").open() as file:
        assert "twin.bmp" in [Path(row["name"]).name for row in csv.DictReader(file)]
    assert (out / "outliers.csv").is_file()
    assert (out / "near_twins.png").stat().st_size > 1000
    before = open_source(SourceConfig(spec=str(root)))
    after = open_source(SourceConfig(spec=str(root), exclude=str(out / "contradicted_labels.csv")))
    assert len(after.train) < len(before.train)
    assert main(["data", "check", str(root), "--model", str(tmp_path / "model.safetensors")]) == 2
