"""Label files and masks whose image is not there, of which nothing was said.

Siblings: YOLO's texts, masks; Pascal VOC's and COCO's files name an image that is missing as a bad one.
"""

from __future__ import annotations

from pathlib import Path

from builders import coco, halves, levels, opened, picture, write
from test_voc_layouts import voc

from vitrail.data.inspection.check import check


def test_of_yolo(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    for name in "abc":
        write(tmp_path / "labels" / f"{name}.txt", "0 0.5 0.5 0.2 0.2\n")
    write(tmp_path / "data.yaml", "train: images\nnames: [cat]\n")
    lines = list(check(opened(tmp_path), workers=0).lines())
    assert f"2 label files are of no image, such as {tmp_path}/labels/b.txt" in lines


def test_of_masks(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    for name in "ab":
        levels(tmp_path / "masks" / f"{name}.png", halves(0, 1))
    assert "train: 1 masks are of no image, such as b.png" in list(check(opened(tmp_path), workers=0).lines())


def test_an_image_that_is_named_and_missing_is_bad(tmp_path: Path) -> None:
    (voc(tmp_path / "voc", "a", "b") / "JPEGImages" / "b.jpg").unlink()
    coco(tmp_path / "coco")
    (tmp_path / "coco" / "images" / "c.png").unlink()
    for folder, name in (("voc", "b.jpg"), ("coco", "c.png")):
        (bad,) = check(opened(tmp_path / folder), workers=0).bad
        assert bad.name.endswith(name)
