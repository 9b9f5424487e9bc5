"""Layouts of programs that gave errors about class folders, or were read as classes (AlexeyAB/darknet#1073, exports):
labelme, VIA, Datumaro, Label Studio, CVAT's own XML, tables of boxes; and what is nearly one of those that are read.

Siblings: folders of splits, names on Windows, groups of parts, shapes that are no objects, zip files, folders of
classes that are called as a layout's folders are.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import OUTLINE, boxes_of, names_of, opened, picture, told, write, xml
from PIL import Image

from vitrail.cli import main
from vitrail.data.inspection.check import check
from vitrail.errors import UserError

POINTS = [[2, 3], [11, 3], [11, 11], [2, 11]]


def labelme(root: Path, *, folder: str = "", split: str = "", name: str = "a") -> Path:
    buffer = io.BytesIO()
    Image.fromarray(np.ones((4, 5), np.uint8)).save(buffer, "PNG")
    text = base64.b64encode(buffer.getvalue()).decode()
    shapes: list[dict[str, Any]] = [
        {"label": "cat", "points": POINTS, "shape_type": "polygon", "group_id": None},
        {"label": "dog", "points": [[11, 11], [2, 3]], "shape_type": "rectangle"},
        {"label": "cat", "points": [[20, 10], [20, 13]], "shape_type": "circle"},
        {"label": "dog", "points": POINTS[:3], "shape_type": "polygon", "group_id": 4},
        {"label": "dog", "points": [[20, 1], [25, 1], [25, 5]], "shape_type": "polygon", "group_id": 4},
        {"label": "cat", "points": [[3, 4], [8, 8]], "shape_type": "mask", "mask": text},
        {"label": "cat", "points": [[3, 4]], "shape_type": "point"},
    ]  # fmt: skip
    picture(root / split / "images" / f"{name}.jpg")
    path = f"..\\images\\{name}.jpg" if folder else f"images\\{name}.jpg"
    content = {"version": "5", "shapes": shapes, "imagePath": path, "imageHeight": 20, "imageWidth": 30.0}
    write(root / split / folder / f"{name}.json", json.dumps(content))
    return root


CAT, DOG = ("cat", [2, 3, 11, 11]), ("dog", [2, 3, 11, 11])


@pytest.mark.parametrize("folder", ["", "labels"])
def test_labelme(folder: str, tmp_path: Path) -> None:
    splits, said = told(labelme(tmp_path, folder=folder))
    assert sorted(boxes_of(splits)) == sorted(
        [CAT, DOG, ("cat", [17, 7, 23, 13]), ("dog", [2, 1, 25, 11]), ("cat", [3, 4, 8, 8])]
    )
    assert splits.kind == "masks"
    assert "marks of labelme that are no objects are left out: point (1)" in said
    assert "1 of 5 objects have a box and no outline" in said
    assert check(splits, workers=0).ok


def test_labelme_in_folders_of_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        labelme(tmp_path, split=split)
    splits = opened(tmp_path)
    assert [name for name, _ in splits.items()] == ["train", "val"]
    assert names_of(splits, "val") == ["a.jpg"]


def via_regions(**attributes: str) -> list[dict[str, Any]]:
    x, y = ([point[axis] for point in POINTS] for axis in (0, 1))
    shapes: list[dict[str, Any]] = [
        {"name": "polygon", "all_points_x": x, "all_points_y": y},
        {"name": "rect", "x": 2, "y": 3, "width": 9, "height": 8},
    ]
    return [{"shape_attributes": shape, "region_attributes": attributes} for shape in shapes]


@pytest.mark.parametrize("project", [True, False])
def test_via(project: bool, tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    regions = via_regions(**{"class": "cat", "colour": "red"})
    entries = {
        "a.jpg123": {"filename": "a.jpg", "size": 123, "regions": regions},
        "b.jpg5": {"filename": "b.jpg", "size": 5, "regions": {"0": regions[1]}},
    }
    content = {"_via_settings": {}, "_via_img_metadata": entries, "_via_attributes": {}} if project else entries
    write(tmp_path / "via.json", json.dumps(content))
    for spec in (tmp_path, tmp_path / "via.json"):
        splits = opened(spec)
        assert boxes_of(splits) == [CAT, CAT]
        assert boxes_of(splits, index=1) == [CAT]


def test_via_without_attributes_has_one_class(tmp_path: Path) -> None:
    for split in ("train", "val"):
        picture(tmp_path / split / "a.jpg")
        entries = {"a": {"filename": "a.jpg", "size": 1, "regions": via_regions()[:1]}}
        write(tmp_path / split / "via_region_data.json", json.dumps(entries))
    splits = opened(tmp_path)
    assert splits.classes == ("object",)
    assert [name for name, _ in splits.items()] == ["train", "val"]


def test_via_with_attributes_of_any_name_asks_for_one(tmp_path: Path) -> None:
    entries = {"a": {"filename": "a.jpg", "size": 1, "regions": via_regions(colour="red", age="old")}}
    write(tmp_path / "via.json", json.dumps(entries))
    with pytest.raises(UserError, match="has the attributes age, colour, of which none is called class"):
        opened(tmp_path)


def test_datumaro(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "default" / "sub" / "a.jpg")
    annotations: list[dict[str, Any]] = [
        {"type": "bbox", "bbox": [2, 3, 9, 8], "label_id": 0, "group": 0},
        {"type": "polygon", "points": [*map(float, OUTLINE)], "label_id": 1, "group": 0},
        {"type": "mask", "rle": {"size": [20, 30], "counts": [40, 5, 555]}, "label_id": 1, "group": 0},
        {"type": "label", "label_id": 1},
    ]
    item = {"id": "sub/a", "annotations": annotations, "image": {"path": "sub/a.jpg", "size": [20, 30]}}
    labels = [{"name": "dog", "parent": ""}, {"name": "cat", "parent": ""}]
    content = {"info": {}, "categories": {"label": {"labels": labels}}, "items": [item]}
    write(tmp_path / "annotations" / "default.json", json.dumps(content))
    splits, said = told(tmp_path)
    assert splits.classes == ("dog", "cat")
    assert boxes_of(splits) == [DOG, ("cat", [2, 0, 3, 5]), CAT]
    assert "left out: label (1)" in said


def label_studio(*regions: dict[str, Any], minimal: bool = False) -> str:
    size = {"original_width": 30, "original_height": 20, "image_rotation": 0}
    if minimal:
        return json.dumps([{"image": "/data/upload/1/a.jpg", "id": 1, "label": [{**r, **size} for r in regions]}])
    result = [
        {"type": next(k for k in r if k.endswith("labels")), "from_name": "l", "value": r, **size} for r in regions
    ]
    task = {
        "id": 1,
        "data": {"image": "/data/upload/1/a.jpg"},
        "annotations": [{"result": result, "was_cancelled": False}],
    }
    return json.dumps([task, {"id": 2, "data": {"image": "b.jpg"}, "annotations": []}])


@pytest.mark.parametrize("minimal", [True, False])
def test_label_studios_json(minimal: bool, tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    box = {"x": 10, "y": 10, "width": 20, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]}
    ring = {"points": [[10, 10], [30, 10], [30, 60]], "polygonlabels": ["dog"]}
    text = label_studio(
        box, ring, {"x": 50, "y": 50, "radiusX": 10, "radiusY": 10, "ellipselabels": ["dog"]}, minimal=minimal
    )
    write(tmp_path / "project-1.json", text)
    for spec in (tmp_path, tmp_path / "project-1.json"):
        splits = opened(spec)
        assert boxes_of(splits) == [("cat", [3, 2, 9, 12]), ("dog", [3, 2, 9, 12]), ("dog", [12, 8, 18, 12])]


def packed(mask: np.ndarray, *, word: int = 8) -> list[int]:
    """The bytes that Label Studio stores for a brush: RGBA, some runs repeated and some written out."""
    values = np.repeat(np.where(mask, 255 >> (8 - word), 0)[..., None], 4, axis=2).ravel().tolist()
    bits = f"{len(values):032b}{word - 1:05b}" + "".join(f"{length - 1:04b}" for length in (3, 4, 8, 16))
    at = 0
    while at < len(values):
        run = next((i for i, value in enumerate(values[at:]) if value != values[at]), len(values) - at)
        if run > 5:
            which, length = (3, 16) if run > 256 else (2, 8)
            run = min(run, 1 << length)
            bits += f"1{which:02b}{run - 1:0{length}b}{values[at]:0{word}b}"
        else:
            run = min(5, len(values) - at)
            bits += f"000{run - 1:03b}" + "".join(f"{value:0{word}b}" for value in values[at : at + run])
        at += run
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


@pytest.mark.parametrize("minimal", [False, True])
def test_brush_strokes_are_masks(minimal: bool, tmp_path: Path) -> None:
    picture(tmp_path / "images/a.jpg")
    mask = np.zeros((20, 30), bool)
    mask[3:9, 4:11] = mask[12:14, 20:29] = mask[16, 29] = True
    region = {"format": "rle", "rle": packed(mask), "brushlabels": ["cat"]}
    write(tmp_path / "p.json", label_studio(region, minimal=minimal))
    splits = opened(tmp_path)
    assert boxes_of(splits) == [("cat", [4, 3, 30, 17])]
    assert splits.kind == "masks"
    train = splits.split("train")
    np.testing.assert_array_equal(train.target_kind.read(train.targets, 0).masks[0].numpy(), mask)
    assert check(splits, workers=0).ok


@pytest.mark.parametrize(
    "rle", [[0, 1], packed(np.ones((20, 29), bool)), packed(np.ones((20, 30), bool))[:-1], "AAA", [1.5], [300], None]
)
def test_broken_brush_strokes_are_named(rle: Any, tmp_path: Path) -> None:
    picture(tmp_path / "images/a.jpg")
    write(tmp_path / "p.json", label_studio({"format": "rle", "rle": rle, "brushlabels": ["cat"]}))
    with pytest.raises(UserError, match=r"task 0 has brush strokes of 'cat' that cannot be read: .*"):
        opened(tmp_path)


@pytest.mark.parametrize("place", ["via.csv", "train/via_region_data.csv"])
@pytest.mark.parametrize("mark", ["", "#"])
def test_vias_table(mark: str, place: str, tmp_path: Path) -> None:
    folder = (tmp_path / place).parent
    picture(folder / "a.jpg")
    picture(folder / "b.jpg")
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    rows = [[mark + header.split(",")[0], *header.split(",")[1:]]]
    for number, region in enumerate(via_regions(kind="cat")):
        shape, attributes = (json.dumps(region[key]) for key in ("shape_attributes", "region_attributes"))
        rows.append(["a.jpg", "10", "{}", "2", str(number), shape, attributes])
    rows.append(["b.jpg", "10", "{}", "0", "0", "{}", "{}"])
    with (tmp_path / place).open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    for spec in (tmp_path, tmp_path / place):
        splits = opened(spec)
        assert boxes_of(splits) == [CAT, CAT]
        assert names_of(splits) == ["a.jpg", "b.jpg"]
    (tmp_path / place).write_text((tmp_path / place).read_text().replace('""kind""', '"kind"', 1).replace("{", "[", 1))
    with pytest.raises(UserError, match=r"export it again|no valid table"):
        opened(tmp_path / place)


def test_cvats_own_xml(tmp_path: Path) -> None:
    shapes = """<box label="dog" xtl="2" ytl="3" xbr="11" ybr="11" occluded="0"/>
      <polygon label="cat" points="2,3;11,3;11,11;2,11"/>
      <mask label="cat" rle="2, 3, 1" left="4" top="5" width="3" height="2"/>
      <points label="cat" points="1,1"/>"""
    images = "".join(
        f'<image id="{i}" name="{name}" subset="{subset}" width="30" height="20">{shapes}</image>'
        for i, (name, subset) in enumerate([("a.jpg", "Train"), ("b.jpg", "Validation")])
    )
    labels = "<label><name>dog</name></label><label><name>cat</name></label>"
    text = f"<annotations><meta><project><labels>{labels}</labels></project></meta>{images}</annotations>"
    write(tmp_path / "annotations.xml", text)
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.jpg")
    splits, said = told(tmp_path)
    assert splits.classes == ("dog", "cat")
    assert boxes_of(splits, "val") == [DOG, CAT, ("cat", [4, 5, 7, 7])]
    assert "left out: points (1)" in said
    assert int(splits.train.targets[0].masks[2].sum()) == 3


TABLES = {
    "tensorflow": "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    "a.jpg,30,20,cat,2,3,11,11\nb.jpg,30,20,dog,2,3,11,11\n",
    "kaggle": "image_id,label,x_min,y_min,x_max,y_max\na.jpg,cat,2,3,11,11\nb.jpg,dog,2,3,11,11\n",
    "sizes": "path,label,bbox_x,bbox_y,bbox_width,bbox_height\nimages\\a.jpg,cat,2,3,9,8\nb.jpg,dog,2,3,9,8\n",
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_of_boxes(case: str, tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.jpg")
    empty = "c.jpg" + "," * TABLES[case].partition("\n")[0].count(",") + "\n"
    write(tmp_path / "t.csv", TABLES[case] + empty, "utf-8-sig")
    splits = opened(tmp_path / "t.csv")
    assert splits.kind == "boxes"
    assert [boxes_of(splits, index=i) for i in range(3)] == [[CAT], [DOG], []]


def test_a_table_for_each_split(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        for name in "ab":
            picture(tmp_path / split / f"{name}.jpg")
        write(tmp_path / split / "_annotations.csv", TABLES["tensorflow"])
    splits = opened(tmp_path)
    assert [name for name, _ in splits.items()] == ["train", "val"]
    assert "/valid/" in splits.val.name(0)
    write(tmp_path / "train" / "_annotations.csv", TABLES["tensorflow"].replace("2,3", "2,x"))
    with pytest.raises(UserError, match="row 2 has a box that is no four numbers: 2, x, 11, 11"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("files", "nearest"),
    [
        (("images/a.jpg", "labels/a.txt"), "YOLO"),
        (("train/images/a.jpg", "train/labels/a.txt"), "YOLO"),
        (("images/a.jpg", "annotations/odd.json"), "COCO"),
        (("JPEGImages/a.jpg", "ImageSets/Main/train.txt"), "Pascal VOC"),
        (("images/a.jpg", "groundtruth/readme"), "folders of masks"),
    ],
)
def test_what_is_nearly_a_layout_says_what_it_lacks(files: tuple[str, ...], nearest: str, tmp_path: Path) -> None:
    for name in files:
        if name.endswith(".jpg"):
            picture(tmp_path / name)
        else:
            write(tmp_path / name, "{}" if name.endswith(".json") else "0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(UserError, match=f"is laid out like {nearest} and not quite so: expected are"):
        opened(tmp_path)
    assert len(opened(tmp_path, labelled=False).train) == 1
    assert main(["data", "check", str(tmp_path)]) == 2


def test_a_packed_layout_is_to_be_unpacked(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.jpg")
    for name, text in (("a.xml", xml("cat")), ("labels/a.txt", "0 1 1 1 1"), ("annotations/instances.json", "{}")):
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            archive.write(image, "images/a.jpg")
            archive.writestr(name, text)
        with pytest.raises(UserError, match=f"holds annotations, such as {name}.*unpack it and give the folder"):
            opened(tmp_path / "data.zip")


def test_folders_of_classes_stay_folders_of_classes(tmp_path: Path) -> None:
    for name in ("labels", "cats", "dogs"):
        for i in range(3):
            picture(tmp_path / name / f"{name}{i}.jpg")
            write(tmp_path / name / f"{name}{i}.jpg.json", '{"title": "of a telephone"}')
            write(tmp_path / name / f"{name}{i}.txt", "a caption")
    assert opened(tmp_path).classes == ("cats", "dogs", "labels")
