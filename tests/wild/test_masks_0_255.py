"""Masks of 0 and 255, where 255 usually means "unknown": a loss of 0 and a mIoU of 1 (open-mmlab/mmsegmentation#2592).

Siblings: with and without class names; 1-bit PNG; levels such as 0, 128, 255; numbers beside 255, which stay as they
are; masks of one value; the maps of Pascal VOC; three equal colours; masks of a later split.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import halves, levels, opened, picture, told, write
from PIL import Image

from vitrail.data.inspection.check import check
from vitrail.data.inspection.stats import lines, stats


def masks(root: Path, *values: np.ndarray, split: str = "") -> Path:
    for i, each in enumerate(values):
        picture(root / "images" / split / f"{i}.jpg")
        levels(root / "masks" / split / f"{i}.png", each)
    return root


def test_two_classes_and_it_is_said(tmp_path: Path) -> None:
    splits, said = told(masks(tmp_path, halves(0, 255), halves(0, 0)))
    assert splits.classes == ("background", "foreground")
    assert np.array_equal(splits.train.targets[0], halves(0, 1))
    assert "masks hold 0 and 255 alone: two classes" in said


def test_stats_and_check_count_pixels_of_each_class(tmp_path: Path) -> None:
    splits = opened(masks(tmp_path, halves(0, 255), halves(0, 0)))
    assert stats(splits, workers=0)["train"].pixels == {"background": 900, "foreground": 300}
    assert "pixels of" in lines(stats(splits, workers=0))
    report = check(splits, workers=0)
    assert report.counts["train"].pixels == {"background": 900, "foreground": 300}
    assert "train: 1,200 pixels (background 900, foreground 300)" in list(report.lines())


def test_names_of_two_classes_are_taken(tmp_path: Path) -> None:
    write(tmp_path / "classes.json", '["skin", "lesion"]')
    splits = opened(masks(tmp_path, *[halves(0, 255)] * 3))
    assert splits.classes == ("skin", "lesion")
    assert np.array_equal(splits.train.targets[2], halves(0, 1))


def test_the_rule_of_training_holds_for_all_splits(tmp_path: Path) -> None:
    masks(tmp_path, halves(0, 255), split="train")
    splits = opened(masks(tmp_path, halves(0, 0), halves(255, 255), split="val"))
    assert [int(splits.val.targets[i].max()) for i in range(2)] == [0, 1]


def test_numbers_beside_255_stay_numbers(tmp_path: Path) -> None:
    splits, said = told(masks(tmp_path, halves(0, 255), halves(1, 0)))
    assert splits.classes == ("0", "1")
    assert splits.train.targets[0].max() == 255
    assert "two classes" not in said


def test_one_bit_is_two_classes_without_a_word(tmp_path: Path) -> None:
    masks(tmp_path, halves(0, 1))
    Image.fromarray(halves(0, 1).astype(bool)).save(tmp_path / "masks" / "0.png")
    assert opened(tmp_path).classes == ("0", "1")


def test_levels_of_grey_are_classes_and_named_by_them(tmp_path: Path) -> None:
    splits, said = told(masks(tmp_path, halves(0, 128), halves(128, 255)))
    assert splits.classes == ("0", "128", "255")
    assert np.array_equal(splits.train.targets[1], halves(1, 2))
    assert "the levels 0, 128, 255" in said


def test_levels_with_as_many_names(tmp_path: Path) -> None:
    write(tmp_path / "classes.json", '["sky", "sea", "land"]')
    splits, said = told(masks(tmp_path, halves(0, 128), halves(128, 255)))
    assert np.array_equal(splits.train.targets[1], halves(1, 2))
    assert "taken for sky, sea, land in this order" in said


def test_greys_that_are_written_as_colours(tmp_path: Path) -> None:
    splits = opened(masks(tmp_path, np.repeat(halves(0, 255)[..., None], 3, axis=2)))
    assert np.array_equal(splits.train.targets[0], halves(0, 1))


@pytest.mark.parametrize(("value", "text"), [(255, "all pixels of 2 masks are 255"), (0, "are of one class, '0'")])
def test_masks_of_one_value_teach_nothing(value: int, text: str, tmp_path: Path) -> None:
    report = check(opened(masks(tmp_path, *[halves(value, value)] * 2)), workers=0)
    assert not report.ok
    assert text in str(report.refusal)


def test_class_maps_of_pascal_voc(tmp_path: Path) -> None:
    for i in range(2):
        picture(tmp_path / "JPEGImages" / f"{i}.jpg")
        levels(tmp_path / "SegmentationClass" / f"{i}.png", halves(0, 255))
    write(tmp_path / "classes.json", '["background", "road"]')
    assert np.array_equal(opened(tmp_path).train.targets[0], halves(0, 1))
