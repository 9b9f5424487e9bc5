"""Trainings on nothing that end as "complete": every object a crowd (facebookresearch/detectron2#2415, from CVAT), no
label file found (ultralytics/yolov3#488), all pixels ignored, one class.

Siblings: COCO, Pascal VOC's difficult objects, YOLO, masks, COCO's panoptic files; classes of images, several labels;
`train`, `data check`, `data stats`, and `fit` of the library.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import coco, halves, levels, opened, picture, told, write, xml
from PIL import Image

from vitrail.cli import main
from vitrail.data.inspection.check import check
from vitrail.data.inspection.stats import lines, stats
from vitrail.data.storage.segments import to_colours

CROWDS = "all 4 objects are crowds or difficult, which nothing is learned from"


def crowds(root: Path) -> Path:
    def change(content: dict[str, Any]) -> None:
        for each in content["annotations"]:
            each["iscrowd"] = 1

    return coco(root, change=change)


def difficult(root: Path) -> Path:
    for name in "abcd":
        picture(root / "JPEGImages" / f"{name}.png")
        write(root / "Annotations" / f"{name}.xml", xml("cat").replace("<name>", "<difficult>1</difficult><name>"))
    return root


def without_labels(root: Path) -> Path:
    for name in "abcd":
        picture(root / "images" / f"{name}.png")
    write(root / "data.yaml", "train: images\nnames: [cat, dog]\n")
    return root


def ignored(root: Path) -> Path:
    for name in "abcd":
        picture(root / "images" / f"{name}.png")
        levels(root / "masks" / f"{name}.png", halves(255, 255))
    write(root / "classes.json", '["a", "b"]')
    return root


def segments(root: Path) -> Path:
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "sky", "isthing": 0}]}
    for i, name in enumerate("abcd"):
        picture(root / f"{name}.png")
        (root / "panoptic_train").mkdir(exist_ok=True)
        to_colours(np.full((20, 30), 5)).save(root / "panoptic_train" / f"{name}.png")
        content["images"].append({"id": i, "file_name": f"{name}.png"})
        part = {"id": 5, "category_id": 1, "iscrowd": 1}
        content["annotations"].append({"image_id": i, "file_name": f"{name}.png", "segments_info": [part]})
    return write(root / "panoptic_train.json", json.dumps(content))


def one_class(root: Path) -> Path:
    rows = [f"{picture(root / f'{i}.png').name},{'a'},{'train' if i < 6 else 'val'}" for i in range(6)]
    rows += [f"{picture(root / f'{i}.png').name},b,val" for i in range(6, 8)]
    write(root / "classes.json", '["a", "b"]')
    return write(root / "labels.csv", "path,label,split\n" + "\n".join(rows))


def no_label_at_all(root: Path) -> Path:
    return write(root / "t.csv", "path,a,b\n" + "\n".join(f"{picture(root / f'{i}.png').name},0,0" for i in range(8)))


CASES = {
    "crowds": (crowds, CROWDS),
    "difficult": (difficult, CROWDS),
    "no label files": (without_labels, "no object in 4 images"),
    "ignored": (ignored, "all pixels of 4 masks are 255, which is ignored"),
    "segments": (segments, "all 4 segments are crowds"),
    "one class": (one_class, "all 6 images are of one class, 'a'"),
    "several labels": (no_label_at_all, "none of 8 images has a label"),
}


@pytest.mark.parametrize("case", CASES)
def test_check_and_train_refuse_in_the_same_words(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build, text = CASES[case]
    spec = str(build(tmp_path / "data"))
    kind = ["--set", "kind=multilabel"] if case == "several labels" else []
    assert main(["data", "check", spec, "--set", "val_fraction=0", *kind]) == 2
    said = capsys.readouterr()
    assert f"cannot be learned from: {text}" in said.out
    assert f"cannot be learned from: {text}" in said.err
    kind = ["--set", "data.source.kind=multilabel"] if kind else []
    options = ["--epochs", "1", "--image-size", "16", "--model", "Ti/16", "--set", "data.source.val_fraction=0"]
    assert main(["train", spec, "--out", str(tmp_path / "run"), *options, *kind]) == 2
    said = capsys.readouterr()
    assert f"cannot be learned from: {text}" in said.err
    assert "Traceback" not in said.err


def test_crowds_and_difficult_objects_are_counted_apart(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"][1]["ignore"] = 1

    splits = opened(coco(tmp_path, change=change))
    report = check(splits, workers=0)
    assert report.ok
    assert "train: 2 objects to learn (cat 1, dog 1), 1 crowds, 1 difficult" in list(report.lines())
    found = stats(splits, workers=0)
    assert (found["train"].crowds, found["train"].difficult) == (1, 1)
    assert "of the objects 1 crowds and 1 difficult, which are not learned from" in lines(found)


def test_missing_label_files_are_told_with_the_place_that_was_looked_at(tmp_path: Path) -> None:
    _, said = told(without_labels(tmp_path))
    assert f"train: no label file of its 4 images is there, such as {tmp_path}/labels/a.txt" in said


def test_an_image_without_objects_among_others_is_background(tmp_path: Path) -> None:
    write(without_labels(tmp_path) / "labels" / "a.txt", "0 0.5 0.5 0.2 0.2\n")
    report = check(opened(tmp_path), workers=0)
    assert report.ok
    assert "train: 3 images without objects" in list(report.lines())


def test_a_mask_that_cannot_be_read_is_no_reason(tmp_path: Path) -> None:
    root = ignored(tmp_path)
    for name in "abcd":
        (root / "masks" / f"{name}.png").write_bytes(b"")
    report = check(opened(root), workers=0)
    assert report.refusal is None
    assert len(report.bad) == 4
    Image.fromarray(halves(0, 1)).save(root / "masks" / "a.png")
    assert check(opened(root), workers=0).refusal is None
