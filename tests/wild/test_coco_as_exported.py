"""COCO files beside images that lie elsewhere (cvat-ai/cvat#875: ``images/default/``, and the first image missing),
ids that are texts and sizes such as 48.0 (cvat-ai/cvat#298, tensorpack/tensorpack#1041), exports of Label Studio.

Siblings: COCO's panoptic files, Windows paths, absolute paths, doubled folders, addresses, images of one name in two
splits, files named for no split, a split without annotations, a byte-order mark.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import boxes_of, coco, names_of, opened, picture, told, write

from vitrail.data.storage.segments import to_colours
from vitrail.errors import UserError


def moved(root: Path, folder: str, spec: str = "annotations/instances_default.json") -> Path:
    coco(root, file=spec, images=folder)
    return root


@pytest.mark.parametrize("folder", ["images/default", "images/default/images", "a/b/c/d", "images", "."])
def test_images_in_any_folder_below(folder: str, tmp_path: Path) -> None:
    splits = opened(moved(tmp_path, folder))
    assert names_of(splits) == ["a.png", "b.png", "c.png", "d.png"]


def test_the_first_image_may_be_missing(tmp_path: Path) -> None:
    (moved(tmp_path, "images/default") / "images" / "default" / "a.png").unlink()
    splits, said = told(tmp_path)
    assert f"1 of 4 images are not found in {tmp_path}, such as 'a.png'" in said
    assert all(isinstance(splits.train.read(i), bytes) for i in (1, 2, 3))


@pytest.mark.parametrize(
    "name",
    [
        "images\\{}", "C:\\data\\images\\{}", "/home/me/ds/images/{}", "ds/images/{}", "images/{}",
        "http://host/data/upload/1/{}", "/data/local-files/?d=images/{}",
    ],
)  # fmt: skip
def test_names_of_another_place(name: str, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["file_name"] = name.format(image["file_name"])

    coco(tmp_path, file="result.json", images="images", change=change)
    for spec in (tmp_path, tmp_path / "result.json"):
        assert names_of(opened(spec)) == ["a.png", "b.png", "c.png", "d.png"]


def test_two_images_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for split in ("train", "val"):
        coco(tmp_path, file=f"annotations/{split}.json", images=f"pictures/{split}", names="ab")
        picture(tmp_path / "pictures" / split / "a.png", seed=len(split))
    splits = opened(tmp_path)
    assert "/train/" in splits.train.name(0)
    assert "/val/" in splits.val.name(0)

    def change(content: dict[str, Any]) -> None:
        content["images"][0]["file_name"] = "y/a.png"

    coco(tmp_path / "other", file="instances_train.json", images="x", names="ab", change=change)
    picture(tmp_path / "other" / "deep" / "y" / "a.png")
    assert opened(tmp_path / "other").train.name(0).endswith("deep/y/a.png")


def test_ids_that_are_texts(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["id"] = f"image {image['id']}"
        for each in content["annotations"]:
            each.update(image_id=f"image {each['image_id']}", category_id=str(each["category_id"]))
        for category in content["categories"]:
            category["id"] = str(category["id"])

    splits = opened(coco(tmp_path, change=change))
    assert splits.classes == ("cat", "dog")
    assert splits.train.targets.category_ids.tolist() == [1, 3]
    assert [boxes_of(splits, index=i)[0][0] for i in range(4)] == ["cat", "dog", "cat", "dog"]
    assert [splits.train.targets.written_id(i) for i in range(2)] == ["image 0", "image 1"]
    assert len(set(splits.train.targets.image_ids.tolist())) == 4


def test_numbers_that_are_written_in_other_ways(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"][0].update(id=0.0, height=20.0, width="30")
        content["annotations"][1].update(image_id="1", category_id=3.0)

    splits = opened(coco(tmp_path, change=change))
    assert splits.train.targets.sizes[0].tolist() == [20, 30]
    assert len(splits.train.targets[1]) == 1


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"height": 20.5}, "image 1 has the height 20.5, which is no number of pixels"),
        ({"width": "wide"}, "image 1 has the width 'wide', which is no number of pixels"),
        ({"height": None}, "image 1 lacks an id, a file_name, a height or a width: there is no height"),
        ({"id": True}, "image 1 has the id True, which is no number or text"),
    ],
)
def test_the_cause_is_named(values: dict[str, Any], text: str, tmp_path: Path) -> None:
    spec = coco(tmp_path, change=lambda content: content["images"][1].update(values))
    with pytest.raises(UserError) as caught:
        opened(spec)
    assert text in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_before_the_text(encoding: str, tmp_path: Path) -> None:
    file = coco(tmp_path)
    write(file, file.read_text(), encoding)
    assert names_of(opened(tmp_path)) == ["a.png", "b.png", "c.png", "d.png"]


def test_a_test_split_without_annotations_is_left_out(tmp_path: Path) -> None:
    coco(tmp_path, file="annotations/instances_train.json")
    coco(tmp_path, file="annotations/instances_test.json", change=lambda content: content.pop("annotations"))
    splits, said = told(tmp_path)
    assert [name for name, _ in splits.items()] == ["train"]
    assert "test is left out" in said
    assert "has no list 'annotations'" in said


def test_detections_are_no_annotations(tmp_path: Path) -> None:
    write(tmp_path / "found.json", json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]))
    with pytest.raises(UserError, match="holds detections, as a model's results"):
        opened(tmp_path / "found.json")


def test_panoptic_ids_and_images_elsewhere(tmp_path: Path) -> None:
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": "7", "name": "sky", "isthing": 0}],
    }
    (tmp_path / "annotations" / "panoptic_train").mkdir(parents=True)
    for i, name in enumerate("ab"):
        picture(tmp_path / "images" / "default" / f"{name}.png")
        to_colours(np.full((20, 30), 5)).save(tmp_path / "annotations" / "panoptic_train" / f"{name}.png")
        content["images"].append({"id": f"x{i}", "file_name": f"images\\{name}.png"})
        part = {"id": 5, "category_id": 7, "iscrowd": 0}
        content["annotations"].append({"image_id": f"x{i}", "file_name": f"{name}.png", "segments_info": [part]})
    file = write(tmp_path / "annotations" / "panoptic_train.json", json.dumps(content))
    for spec in (tmp_path, file):
        splits = opened(spec)
        assert names_of(splits) == ["a.png", "b.png"]
        assert splits.train.targets[1].labels.tolist() == [0]
