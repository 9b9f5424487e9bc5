"""Masks of colours with ``labelmap.txt`` (atlantis, cvat-ai/cvat#2032), and masks as ``.jpg``, ``x_mask.png``, ``.tif``
(divamgupta/image-segmentation-keras#204).

Siblings: CamVid's and Kaggle's lists of colours, palettes, Pascal VOC's folders of CVAT, masks beside images, numbers
of 16 bits, ADE20K's and Cityscapes' numbers, CamVid's folders, splits without masks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import SIZE, halves, levels, names_of, opened, picture, told, write
from PIL import Image

from vitrail.data.inspection.check import check
from vitrail.data.storage.maps import standard_colours
from vitrail.errors import UserError

RED, BLACK = (128, 0, 0), (0, 0, 0)
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncell:128,0,0::\n"


def colours(root: Path, left: object = BLACK, right: object = RED) -> Path:
    picture(root / "images" / "a.jpg")
    levels(root / "masks" / "a.png", halves(left, right))
    return root


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("labelmap.txt", LABELMAP),
        ("label_colors.txt", "0 0 0\tbackground\n128 0 0\tcell\n"),
        ("class_dict.csv", "name,r,g,b\nbackground,0,0,0\ncell,128,0,0\n"),
    ],
)
def test_colours_are_classes(file: str, text: str, tmp_path: Path) -> None:
    write(colours(tmp_path) / file, text, "utf-8-sig")
    splits = opened(tmp_path)
    assert splits.classes == ("background", "cell")
    assert np.array_equal(splits.train.targets[0], halves(0, 1))


def test_a_colour_of_no_class_is_named(tmp_path: Path) -> None:
    write(colours(tmp_path, right=(1, 2, 3)) / "labelmap.txt", LABELMAP)
    assert "has the colour 1,2,3, which is of no class" in str(check(opened(tmp_path), workers=0).bad[0])


def test_colours_without_a_list_say_what_to_write(tmp_path: Path) -> None:
    report = check(opened(colours(tmp_path)), workers=0)
    assert "holds colours (mode RGB), such as 128,0,0" in str(report.bad[0])
    assert "labelmap.txt, with lines such as cell:255,0,0" in str(report.bad[0])


def test_a_palette_goes_by_its_colours_where_they_are_listed(tmp_path: Path) -> None:
    write(colours(tmp_path) / "labelmap.txt", "cell:128,0,0::\nbackground:0,0,0::\n")
    picture_ = Image.fromarray(halves(0, 1)).convert("P")
    picture_.putpalette([0, 0, 0, 128, 0, 0])
    picture_.save(tmp_path / "masks" / "a.png")
    assert np.array_equal(opened(tmp_path).train.targets[0], halves(1, 0))


def test_names_of_a_model_order_the_colours(tmp_path: Path) -> None:
    write(colours(tmp_path) / "labelmap.txt", LABELMAP)
    assert np.array_equal(opened(tmp_path, classes=("cell", "background")).train.targets[0], halves(1, 0))
    with pytest.raises(UserError, match="unknown class 'cell'"):
        opened(tmp_path, classes=("a", "background"))


def test_cvats_segmentation_masks(tmp_path: Path) -> None:
    for name in ("a", "sub/b"):
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
        levels(tmp_path / "SegmentationClass" / f"{name}.png", halves(BLACK, RED))
        levels(tmp_path / "SegmentationObject" / f"{name}.png", halves(BLACK, RED))
    write(tmp_path / "ImageSets" / "Segmentation" / "default.txt", "a\nsub/b\n")
    write(tmp_path / "labelmap.txt", LABELMAP)
    splits = opened(tmp_path)
    assert splits.classes == ("background", "cell")
    assert names_of(splits) == ["a.jpg", "b.jpg"]
    assert np.array_equal(splits.train.targets[1], halves(0, 1))
    assert standard_colours()[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]


@pytest.mark.parametrize("name", ["a.tif", "a_mask.png", "a_mask.tif", "a-mask.png", "a_seg.bmp", "A_Label.PNG"])
def test_other_names_and_formats(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    path = tmp_path / "masks" / name
    levels(path.with_suffix(path.suffix.lower()), halves(0, 1)).rename(path)
    splits = opened(tmp_path)
    assert np.array_equal(splits.train.targets[0], halves(0, 1))
    assert check(splits, workers=0).ok


@pytest.mark.parametrize(("values", "classes"), [((0, 255), 2), ((0, 1), 2), ((0, 128), 2)])
def test_jpeg_masks_with_a_warning(values: tuple[int, int], classes: int, tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    levels(tmp_path / "masks" / "a.jpg", halves(*values), quality=75)
    splits, said = told(tmp_path)
    assert "1 masks are JPEG, which changes the numbers of classes" in said
    assert len(splits.classes) == classes
    assert (splits.train.targets[0] == halves(0, 1)).mean() > 0.95


def test_jpeg_masks_of_colours(tmp_path: Path) -> None:
    write(colours(tmp_path) / "labelmap.txt", LABELMAP)
    (tmp_path / "masks" / "a.png").unlink()
    levels(tmp_path / "masks" / "a.jpg", halves(BLACK, RED))
    assert (opened(tmp_path).train.targets[0] == halves(0, 1)).mean() > 0.95


def test_a_format_without_loss_goes_first(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    for suffix in ("jpg", "png"):
        levels(tmp_path / "masks" / f"a.{suffix}", halves(0, 1))
    assert "JPEG" not in told(tmp_path)[1]


def test_16_bits_hold_numbers_too(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "masks").mkdir()
    for value, text in ((1, None), (300, "has the number 300, where classes go from 0 to 254")):
        Image.fromarray(halves(0, 1).astype(np.uint16) * value).save(tmp_path / "masks" / "a.png")
        bad = check(opened(tmp_path), workers=0).bad
        assert (not bad) if text is None else text in str(bad[0])


@pytest.mark.parametrize("split", ["", "train"])
def test_masks_beside_their_images(split: str, tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / split / f"{i}_sat.jpg")
        levels(tmp_path / split / f"{i}_mask.png", halves(0, 255))
    splits = opened(tmp_path)
    assert names_of(splits) == ["0_sat.jpg", "1_sat.jpg", "2_sat.jpg"]
    assert splits.classes == ("background", "foreground")


def test_camvids_folders(tmp_path: Path) -> None:
    for split in ("train", "val"):
        picture(tmp_path / split / "a.png")
        levels(tmp_path / f"{split}annot" / "a.png", halves(0, 1))
    assert [name for name, _ in opened(tmp_path).items()] == ["train", "val"]


@pytest.mark.parametrize("named", [True, False])
def test_ade20k_counts_from_one(named: bool, tmp_path: Path) -> None:
    for split, word in (("training", "train"), ("validation", "val")):
        picture(tmp_path / "images" / split / f"ADE_{word}_00000001.jpg")
        levels(tmp_path / "annotations" / split / f"ADE_{word}_00000001.png", halves(0, 150))
    rows = "".join(f"{i}\t0.1\t1\t1\tthing {i}, other\n" for i in range(1, 151))
    if named:
        write(tmp_path / "objectInfo150.txt", f"Idx\tRatio\tTrain\tVal\tName\n{rows}")
    splits = opened(tmp_path)
    assert [name for name, _ in splits.items()] == ["train", "val"]
    assert len(splits.classes) == 150
    assert splits.classes[0] == ("thing 1" if named else "1")
    assert np.array_equal(splits.val.targets[0], halves(255, 149))


@pytest.mark.parametrize("ids", ["labelIds", "labelTrainIds"])
def test_cityscapes(ids: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        start = f"{split}/aachen/aachen_000000_000019"
        picture(tmp_path / "leftImg8bit" / f"{start}_leftImg8bit.png")
        levels(tmp_path / "gtFine" / f"{start}_gtFine_{ids}.png", halves(0, 7) if ids == "labelIds" else halves(255, 0))
        levels(tmp_path / "gtFine" / f"{start}_gtFine_color.png", halves(BLACK, RED))
        levels(tmp_path / "gtFine" / f"{start}_gtFine_instanceIds.png", halves(0, 9))
    splits = opened(tmp_path)
    assert (len(splits.classes), splits.classes[0]) == (19, "road")
    assert np.array_equal(splits.val.targets[0], halves(255, 0))


def test_a_split_without_masks_is_left_out_and_said(tmp_path: Path) -> None:
    for split in ("train", "test"):
        picture(tmp_path / "images" / split / "a.jpg")
    levels(tmp_path / "masks" / "train" / "a.png", halves(0, 1))
    splits, said = told(tmp_path)
    assert [name for name, _ in splits.items()] == ["train"]
    assert f"{tmp_path / 'images' / 'test'} has no masks and is left out" in said
    (tmp_path / "masks" / "test").mkdir()
    assert "test is left out: none of its 1 images has a mask" in told(tmp_path)[1]


def test_one_image_without_a_mask_is_an_error(tmp_path: Path) -> None:
    picture(colours(tmp_path) / "images" / "b.jpg", size=SIZE)
    with pytest.raises(UserError, match=r"masks/b\.png is missing"):
        opened(tmp_path)
