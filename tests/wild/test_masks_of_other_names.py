"""Masks in folders called like those of their images (Carvana's ``train`` and ``train_masks``; ISIC's, ``imgs_val`` …).

They were two classes, and masks were learned from as images. Siblings looked at: folders of several splits, folders of
classes that hold the same words, zips, masks within folders of classes (BUSI), levels that another split or another
data set lacks, numbers of a class that is none.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from builders import halves, levels, opened, picture, told, write
from wild_files import TINY_RUN, draw, png

from vitrail.cli import main
from vitrail.errors import UserError


@pytest.mark.parametrize(
    ("images", "masks", "end"),
    [
        ("train", "train_masks", "_mask"),
        ("train_images", "train_labels", ""),
        ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth", "_segmentation"),
        ("cell images", "cell masks", ""),
    ],
)
def test_folders_of_like_names(images: str, masks: str, end: str, tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / images / f"{name}.jpg")
        levels(tmp_path / masks / f"{name}{end}.png", halves(0, 1))
    picture(tmp_path / "test" / "c.jpg")
    splits, said = told(tmp_path)
    assert splits.kind == "semantic"
    assert [name for name, _ in splits.items()] == ["train"]
    assert "test has no masks and is left out" in said


def test_folders_of_classes_with_such_words(tmp_path: Path) -> None:
    for pair in (("with_mask", "without_mask"), ("face", "mask"), ("train_label", "bus")):
        names = [f"{each}/{each}{i}.png" for each in pair for i in range(2)]
        assert set(opened(draw(tmp_path / pair[0], *names)).classes) == set(pair)


def test_a_zip_of_images_and_masks_is_to_be_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name in ("images/a.png", "masks/a.png"):
            archive.writestr(f"train/{name}", png())
    with pytest.raises(UserError, match=r"holds annotations, such as train/masks/a\.png.*unpack it"):
        opened(tmp_path / "d.zip")


def test_masks_among_classes_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{each}/{each} (1){end}.png" for each in ("benign", "malignant") for end in ("", "_mask")]
    assert opened(draw(tmp_path, *names)).classes == ("benign", "malignant")
    assert "2 images seem to be masks of others, such as benign/benign (1)_mask.png" in capsys.readouterr().err


def test_levels_are_read_by_the_names_of_a_models_classes(tmp_path: Path) -> None:
    for name, right in {"a": 128, "b": 128}.items():
        picture(tmp_path / "images" / f"{name}.jpg")
        levels(tmp_path / "masks" / f"{name}.png", halves(0, right))
    assert np.array_equal(opened(tmp_path, classes=("0", "128", "255")).train.targets[0], halves(0, 1))
    assert np.array_equal(opened(tmp_path, classes=("0", "128")).train.targets[0], halves(0, 1))


def test_a_number_of_no_class_is_an_error_wherever_it_is_read(tmp_path: Path, capsys) -> None:
    for split, right in {"train": 1, "val": 2}.items():
        for number in range(2):
            picture(tmp_path / split / "images" / f"{split}{number}.jpg")
            levels(tmp_path / split / "masks" / f"{split}{number}.png", halves(0, right))
    assert main(["train", str(tmp_path), *TINY_RUN, "--out", str(tmp_path / "run")]) == 2
    assert "val0.jpg has a mask with the unknown class 2 of 2" in capsys.readouterr().err
    write(tmp_path / "classes.json", '["a"]')
    assert main(["train", str(tmp_path), *TINY_RUN, "--out", str(tmp_path / "other")]) == 2
