"""Names whose accents are encoded otherwise than those of the files (zips and folders of macOS: NFD, elsewhere NFC).

Siblings looked at: class folders of splits, tables, COCO, Pascal VOC, YOLO, masks; both directions.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import SIZE, halves, levels, opened, picture, write, xml

from vitrail.data.inspection.check import check

Spell = Callable[[str], str]


def nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def nfd(name: str) -> str:
    return unicodedata.normalize("NFD", name)


@pytest.mark.parametrize(("files", "written"), [(nfc, nfd), (nfd, nfc)])
@pytest.mark.parametrize("layout", ["table", "coco", "voc", "yolo", "masks"])
def test_files_are_found(layout: str, files: Spell, written: Spell, tmp_path: Path) -> None:
    names = ["é", "b"]
    for name in names:
        picture(tmp_path / "images" / f"{files(name)}.jpg")
    if layout == "table":
        rows = "".join(f"images/{written(name)}.jpg,{label}\n" for name, label in zip(names, "xy", strict=True))
        write(tmp_path / "labels.csv", f"path,label\n{rows}")
    elif layout == "coco":
        images = [
            {"id": i, "file_name": f"{written(name)}.jpg", "height": SIZE[0], "width": SIZE[1]}
            for i, name in enumerate(names)
        ]
        objects = [{"id": i, "image_id": i, "category_id": 1, "bbox": [2, 3, 9, 8], "iscrowd": 0} for i in range(2)]
        content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
        write(tmp_path / "a.json", json.dumps(content))
    for name in names:
        if layout == "voc":
            write(tmp_path / "annotations" / f"{written(name)}.xml", xml("cat"))
        elif layout == "yolo":
            write(tmp_path / "labels" / f"{written(name)}.txt", "0 0.5 0.5 0.2 0.3\n")
            write(tmp_path / "classes.txt", "cat\n")
        elif layout == "masks":
            levels(tmp_path / "masks" / f"{written(name)}.png", halves(0, 1))
    splits = opened(tmp_path)
    assert len(splits.split("train")) == 2
    report = check(splits, workers=0)
    assert not report.bad
    assert not any("without" in remark for remark in report.remarks)


def test_classes_of_splits_are_the_same(tmp_path: Path) -> None:
    for name in ("café", "thé"):
        picture(tmp_path / "train" / nfc(name) / "1.png")
        picture(tmp_path / "test" / nfd(name) / "2.png")
    splits = opened(tmp_path)
    assert splits.classes == (nfc("café"), nfc("thé"))
    assert sorted(np.asarray(splits.split("test").targets).tolist()) == [0, 1]
