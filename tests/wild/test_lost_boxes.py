"""Boxes that are not where their image is: pixels as YOLO's shares, shares as COCO's pixels, corners as sizes.

`data check` named each, and a training learned from nothing. Siblings looked at: objects that the border cuts, flags
that are texts (``"iscrowd": "0"``), images of COCO whose own flaw was told again for each of their objects.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import coco, opened, picture, write

from vitrail.data.annotations import BadAnnotations
from vitrail.data.inspection.teaching import cannot_teach
from vitrail.errors import UserError


def yolo(root: Path, line: str) -> Path:
    picture(root / "images" / "a.jpg")
    write(root / "labels" / "a.txt", line)
    write(root / "data.yaml", "train: images\nnames: [a, b]\n")
    return root


def test_pixels_in_yolo_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1 has 12, where shares of width and height, up to 1, are wanted"):
        opened(yolo(tmp_path / "a", "0 12 10 8 5\n"))
    assert len(opened(yolo(tmp_path / "b", "0 0.98 0.5 0.2 1.1\n")).train.targets[0]) == 1


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([0.1, 0.2, 0.4, 0.5], "all 4 boxes lie in the first pixel"),
        ([20, 12, 29, 19], "4 of 4 boxes have no area or their centre outside the image"),
        ([5, 5, 0, 4], "4 of 4 boxes have no area"),
        ([20, 12, 11, 9], None),
    ],
)
def test_boxes_elsewhere_teach_nothing(box: list[float], said: str | None, tmp_path: Path) -> None:
    found = cannot_teach(opened(coco(tmp_path, change=lambda c: [a.update(bbox=box) for a in c["annotations"]])).train)
    assert found is None if said is None else said in str(found)


def test_flags_may_be_texts(tmp_path: Path) -> None:
    def change(content: dict) -> None:
        for each, written in zip(content["annotations"], ("0", "1", "false", True), strict=True):
            each["iscrowd"] = written

    splits = opened(coco(tmp_path, change=change))
    assert [bool(splits.train.targets[i].crowd[0]) for i in range(4)] == [False, True, False, True]


def test_a_flaw_of_an_image_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(BadAnnotations) as caught:
        opened(coco(tmp_path, change=lambda content: content["images"][0].pop("height")))
    assert [flaw.text for flaw in caught.value.flaws] == [
        "image 0 lacks an id, a file_name, a height or a width: there is no height"
    ]
