"""Several masks an image, a file for each object or class (Data Science Bowl 2018, crack and lesion sets).

Siblings looked at: names by number, by ``_mask_`` and number, by class, by class and number; a folder for each image's
masks; a folder for each image; masks beside images; splits above and below; JPEG masks; images without masks; one mask
an image, and photos whose names only begin alike, which stay what they were.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import SIZE, boxes_of, levels, opened, picture, told

from vitrail.data.inspection.check import check
from vitrail.data.sources import several_masks
from vitrail.errors import UserError

LEFT, RIGHT = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
LEFT[2:9, 1:7], RIGHT[10:15, 20:28] = 255, 255
BOXES = [[1, 2, 7, 9], [20, 10, 28, 15]]


@pytest.mark.parametrize(
    ("image", "first", "second"),
    [
        ("images/{0}.jpg", "masks/{0}_0.png", "masks/{0}_1.png"),
        ("images/{0}.jpg", "masks/{0}_mask_0.png", "masks/{0}_mask_1.png"),
        ("images/{0}.jpg", "masks/{0}/0.png", "masks/{0}/1.png"),
        ("images/{0}.jpg", "masks/{0}/7f3a99.png", "masks/{0}/0ce1d2.png"),
        ("{0}/images/{0}.png", "{0}/masks/ab12.png", "{0}/masks/cd34.png"),
        ("stage1_train/{0}/images/{0}.png", "stage1_train/{0}/masks/ab12.png", "stage1_train/{0}/masks/cd34.png"),
        ("images/train/{0}.jpg", "masks/train/{0}_0.png", "masks/train/{0}_1.png"),
        ("train/images/{0}.jpg", "train/masks/{0}.0.png", "train/masks/{0}.1.png"),
        ("{0}.jpg", "{0}_mask_0.png", "{0}_mask_1.png"),
        ("wrapped/images/{0}.jpg", "wrapped/masks/{0}_0.png", "wrapped/masks/{0}_1.png"),
    ],
)
def test_a_mask_for_each_object(image: str, first: str, second: str, tmp_path: Path) -> None:
    for name in ("a_1", "b_2"):
        picture(tmp_path / image.format(name))
        levels(tmp_path / first.format(name), LEFT)
        levels(tmp_path / second.format(name), RIGHT)
    splits = opened(tmp_path)
    assert splits.kind == "masks"
    assert splits.classes == ("object",)
    assert sorted(box for _, box in boxes_of(splits)) == sorted(BOXES)
    train = splits.split("train")
    masks = train.target_kind.read(train.targets, 0).masks.numpy()
    assert sorted(masks.sum(axis=(1, 2)).tolist()) == [40, 42]
    assert check(splits, workers=0).ok


def test_classes_and_numbers(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.jpg")
    picture(tmp_path / "images/bare.jpg")
    levels(tmp_path / "masks/a_cat_1.png", LEFT)
    levels(tmp_path / "masks/a_cat_2.jpg", RIGHT, quality=60)
    levels(tmp_path / "masks/a_guide dog_1.png", RIGHT)
    assert sorted(boxes_of(opened(tmp_path))) == sorted([("cat", BOXES[0]), ("cat", BOXES[1]), ("guide dog", BOXES[1])])


@pytest.mark.parametrize("mask", ["masks/{0}_{1}.png", "masks/{0}/{1}.png"])
def test_a_mask_for_each_class(mask: str, tmp_path: Path) -> None:
    for name in ("x", "y"):
        picture(tmp_path / f"images/{name}.jpg")
        levels(tmp_path / mask.format(name, "crack"), LEFT)
        levels(tmp_path / mask.format(name, "stain"), RIGHT if name == "x" else LEFT)
    picture(tmp_path / "images/bare.jpg")
    splits, said = told(tmp_path)
    assert splits.kind == "semantic"
    assert splits.classes == ("background", "crack", "stain")
    assert "a mask for each class" in said
    train = splits.split("train")
    maps = {Path(train.name(i)).stem: np.asarray(train.targets[i]) for i in range(len(train))}  # type: ignore[call-overload]
    np.testing.assert_array_equal(maps["x"], (LEFT > 0) + 2 * (RIGHT > 0))
    np.testing.assert_array_equal(maps["y"], 2 * (LEFT > 0))
    assert not maps["bare"].any()
    assert check(splits, workers=0).ok
    assert opened(tmp_path, kind="masks").classes == ("crack", "stain")
    again = opened(tmp_path, classes=("background", "stain", "crack")).split("train")
    np.testing.assert_array_equal(np.asarray(again.targets[2]), 2 * (LEFT > 0))  # type: ignore[call-overload]
    with pytest.raises(UserError, match="unknown class 'stain'"):
        opened(tmp_path, classes=("background", "crack"))


def test_other_files_stay_what_they_were(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"one/images/{name}.jpg")
        levels(tmp_path / f"one/masks/{name}.png", LEFT // 255)
        for photo in ("", "_1", "_2"):
            picture(tmp_path / f"photos/{name}{photo}.jpg")
            picture(tmp_path / f"classes/{name}/{name}{photo}.jpg")
    assert not any(several_masks.matches(str(tmp_path / folder)) for folder in ("one", "photos", "classes"))
    assert opened(tmp_path / "one").kind == "semantic"
    assert opened(tmp_path / "classes").kind == "class"


def test_damaged_masks_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.jpg")
    levels(tmp_path / "masks/a_0.png", LEFT)
    (tmp_path / "masks/a_1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a_1\.png, that is no image"):
        opened(tmp_path)
