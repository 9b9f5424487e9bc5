"""Broken annotations: each is named with its file and place, by opening or by `vitrail data check`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitrail.cli import main
from vitrail.data import LoaderConfig, Preprocess, PreprocessConfig, SourceConfig, open_source
from vitrail.data.inspection.check import check
from vitrail.data.loading.loader import Loader
from vitrail.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache" / "vitrail"))
    return tmp_path / "cache"


def png(path: Path, height: int = 20, width: int = 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def coco(root: Path, change: Callable[[dict[str, Any]], object] = lambda content: None) -> str:
    content: dict[str, Any] = {
        "images": [{"id": i, "file_name": f"{name}.png", "height": 20, "width": 30} for i, name in enumerate("abcd")],
        "categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}],
        "annotations": [
            {
                "id": i, "image_id": i, "category_id": 1 + 2 * (i % 2), "bbox": [2, 3, 9, 8], "iscrowd": 0,
                "segmentation": [[2, 3, 11, 3, 11, 11, 2, 11]],
            }
            for i in range(4)
        ],
    }  # fmt: skip
    for image in content["images"]:
        png(root / "images" / image["file_name"])
    change(content)
    (root / "instances_train.json").write_text(json.dumps(content))
    return str(root / "instances_train.json")


def entry(content: dict[str, Any], **values: Any) -> None:
    content["annotations"][2].update(values)


REFUSED = {
    "unknown category": (
        lambda c: entry(c, category_id=9),
        "annotation 2 has the category 9, which is not in the file",
    ),
    "unknown image": (lambda c: entry(c, image_id=77), "annotation 2 is of the image 77, which is not in the file"),
    "annotation id twice": (lambda c: entry(c, id=1), "annotation 2 has the id 1, which another one has"),
    "image id twice": (lambda c: c["images"][3].update(id=0), "image 3 has the id 0, which another one has"),
    "no size": (lambda c: c["images"][1].pop("height"), "image 1 lacks an id, a file_name, a height or a width"),
    "three numbers": (lambda c: entry(c, bbox=[1, 2, 3]), "annotation 2 has a bbox that is not x, y, width, height"),
    "NaN": (lambda c: entry(c, bbox=[1, 2, float("nan"), 4]), "annotation 2 has a bbox that is not"),
    "text": (lambda c: entry(c, bbox="1 2 3 4"), "annotation 2 has a bbox that is not"),
    "half a point": (lambda c: entry(c, segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "annotation 2 has a polygon that is no"),
    "odd segmentation": (lambda c: entry(c, segmentation="x"), "annotation 2 has a segmentation that is neither"),
    "category twice": (lambda c: c["categories"].append({"id": 3, "name": "cow"}), "category 3 is both cat and cow"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_contradictions_are_refused_and_listed(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, text = REFUSED[case]
    spec = coco(tmp_path / "data", change)
    with pytest.raises(UserError) as caught:
        open_source(SourceConfig(spec=spec))
    assert str(caught.value).startswith(f"{spec} {text}")
    assert "\n" not in str(caught.value)
    report = check(spec)
    assert report.bad[0].text.startswith(text)
    assert main(["data", "check", spec]) == 2
    shown = capsys.readouterr()
    assert f"bad: {spec} {text}" in shown.out
    assert "Traceback" not in shown.err


def test_all_contradictions_are_listed_at_once(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for i in (0, 1, 3):
            content["annotations"][i]["category_id"] = 50 + i

    spec = coco(tmp_path / "data", change)
    assert [finding.index for finding in check(spec).bad] == [0, 1, 3]
    with pytest.raises(UserError, match=r"category 50.*\(and 2 more, which `vitrail data check` lists\)"):
        open_source(SourceConfig(spec=spec))


LISTED = {
    "outside": (lambda c: entry(c, bbox=[25, 3, 9, 8]), "object 0 (dog) a box that leaves the 30 × 20 pixels of the"),
    "before the image": (lambda c: entry(c, bbox=[-5, 3, 9, 8]), "object 0 (dog) a box that leaves"),
    "no area": (lambda c: entry(c, bbox=[5, 3, 0, 8]), "object 0 (dog) a box without area: 5, 3, 5, 11"),
    "negative": (lambda c: entry(c, bbox=[5, 3, -2, 8]), "object 0 (dog) a box without area"),
    "no pixel": (lambda c: entry(c, segmentation=[[1, 1, 1.1, 1, 1, 1.1]]), "object 0 (dog) a mask without a pixel"),
    "other size": (lambda c: c["images"][2].update(width=31), "has 30 × 20 pixels, and its annotations are of 31 × 20"),
    "mask of other size": (
        lambda c: entry(c, segmentation={"size": [9, 9], "counts": [81]}), "has a mask of 9 × 9 pixels and is 30 × 20"
    ),
    "broken runs": (
        lambda c: entry(c, segmentation={"size": [20, 30], "counts": [5, 6]}), "has a broken mask: runs of 11 pixels"
    ),
    "broken text": (
        lambda c: entry(c, segmentation={"size": [20, 30], "counts": "é"}), "has a broken mask: 'é' is no run-length"
    ),
    "missing file": (lambda c: c["images"][2].update(file_name="gone.png"), "cannot be read: no such file"),
}  # fmt: skip


@pytest.mark.parametrize("case", LISTED)
def test_faults_are_listed_with_file_and_object(case: str, tmp_path: Path) -> None:
    change, text = LISTED[case]
    report = check(open_source(SourceConfig(spec=coco(tmp_path / "data", change), val_fraction=0)))
    assert [text in str(finding) for finding in report.bad] == [True]
    assert (report.bad[0].split, report.bad[0].index) == ("train", 2)
    assert ("gone.png" if case == "missing file" else "c.png") in report.bad[0].name


def test_healthy_annotations_and_rounding_are_accepted(tmp_path: Path) -> None:
    spec = coco(tmp_path / "data", lambda content: entry(content, bbox=[21, 12, 9.6, 8.4]))
    assert check(spec).ok


def test_what_cannot_be_loaded_is_left_out_or_named(tmp_path: Path) -> None:
    broken = {"size": [9, 9], "counts": [81]}
    spec = coco(tmp_path / "data", lambda content: entry(content, segmentation=broken))
    source = open_source(SourceConfig(spec=spec, val_fraction=0)).train
    loader = Loader(source, Preprocess(PreprocessConfig(size=16)), LoaderConfig(batch_size=4, workers=0), train=False)
    with pytest.raises(UserError, match=r"c\.png has a mask of 9 × 9 pixels and is 30 × 20; repair or remove it"):
        next(loader.batches())
    skipping = LoaderConfig(batch_size=4, workers=0, on_bad="skip")
    batch = next(Loader(source, Preprocess(PreprocessConfig(size=16)), skipping, train=True).batches())
    assert sorted(batch["index"].tolist()) == [0, 1, 3]
    assert len(batch["targets"]) == 3


def test_files_that_are_no_coco(tmp_path: Path) -> None:
    for text, cause in (
        ("{", "is no JSON"),
        ("[]", "has no list 'images'"),
        ('{"images": [3]}', "has no list 'images'"),
    ):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UserError, match=cause):
            open_source(SourceConfig(spec=str(tmp_path / "x.json")))


def voc(root: Path, text: str) -> str:
    png(root / "JPEGImages" / "a.png")
    (root / "Annotations").mkdir()
    (root / "Annotations" / "a.xml").write_text(text)
    return str(root)


BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>8</xmax><ymax>9</ymax></bndbox>"
SIZE = "<size><width>30</width><height>20</height></size>"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("<annotation>", "is no XML"),
        ("<annotation><object/></annotation>", "lacks the image's size"),
        (f"<annotation>{SIZE}<object><name>cat</name></object></annotation>", "object 0 lacks a name or the corners"),
        (f"<annotation>{SIZE}<object>{BOX}</object></annotation>", "object 0 lacks a name or the corners"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "defines entities or the like"),
    ],
)
def test_broken_voc_files(text: str, cause: str, tmp_path: Path) -> None:
    spec = voc(tmp_path / "voc", text)
    with pytest.raises(UserError, match=rf"a\.xml {cause}"):
        open_source(SourceConfig(spec=spec))
    assert cause in check(spec).bad[0].text


def test_voc_names_what_is_missing(tmp_path: Path) -> None:
    spec = voc(tmp_path / "voc", f"<annotation>{SIZE}<object><name>cat</name>{BOX}</object></annotation>")
    lists = tmp_path / "voc" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"b\.xml cannot be read: no such file"):
        open_source(SourceConfig(spec=spec))
    (lists / "train.txt").write_text("a\n")
    with pytest.raises(UserError, match=r"a\.xml object 0 has the unknown class 'cat' \(did you mean 'cats'\?\)"):
        open_source(SourceConfig(spec=spec, classes=("cats", "dog")))
    with pytest.raises(UserError, match="has no semantic but boxes and masks labels"):
        open_source(SourceConfig(spec=spec, kind="semantic"))


def yolo(root: Path, line: str, settings: str = "train: images/train\nnames: [cat, dog]\n") -> str:
    png(root / "images/train/a.png")
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text(f"1 0.5 0.5 0.2 0.2\n\n{line}\n")
    (root / "data.yaml").write_text(settings)
    return str(root)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("2 0.5 0.5 0.2 0.2", "has the unknown class 2 of 2"),
        ("-1 0.5 0.5 0.2 0.2", "has the unknown class -1 of 2"),
        ("0.5 0.5 0.5 0.2 0.2", "holds what is no number"),
        ("0 0.5 0.5 nan 0.2", "holds what is no number"),
        ("0 0.5 0.5 0.2", "has 4 numbers; a class and 4 for a box, or 6 and more"),
        ("0 0.5 0.5 0.2 0.1 0.2 0.1 0.4", "has 8 numbers"),
        ("cat 0.5 0.5 0.2 0.2", "is not all numbers"),
    ],
)
def test_broken_yolo_lines(line: str, cause: str, tmp_path: Path) -> None:
    spec = yolo(tmp_path / "yolo", line)
    with pytest.raises(UserError, match=rf"a\.txt line 3 {cause}"):
        open_source(SourceConfig(spec=spec))
    assert check(spec).bad[0].index == 2


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ("names: [cat, dog]\n", "names no images; write train: images/train"),
        ("train: images/train\n", "has no list of distinct class names"),
        ("train: images/train\nnames: [cat, cat]\n", "has no list of distinct class names"),
        ("train: pictures\nnames: [cat, dog]\n", "names 'pictures', and there is no"),
        ("[1", "is no YAML"),
        ("3", "holds no settings"),
    ],
)
def test_broken_yolo_settings(settings: str, cause: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=cause):
        open_source(SourceConfig(spec=yolo(tmp_path / "yolo", "0 0.5 0.5 0.2 0.2", settings)))


def semantic(root: Path, pixels: np.ndarray) -> str:
    png(root / "images/a.png")
    (root / "masks").mkdir()
    Image.fromarray(pixels).save(root / "masks/a.png")
    (root / "classes.json").write_text('["ground", "tree"]')
    return str(root)


@pytest.mark.parametrize(
    ("shape", "value", "cause"),
    [
        ((20, 30), 2, r"a\.png has a mask with the unknown class 2 of 2"),
        ((21, 30), 1, r"a\.png has 30 × 20 pixels, and its mask has 30 × 21"),
        ((20, 30, 3), 1, r"a\.png has a map, .*masks/a\.png, that holds colours \(mode RGB\)"),
    ],
)
def test_broken_class_maps(shape: tuple[int, ...], value: int, cause: str, tmp_path: Path) -> None:
    report = check(semantic(tmp_path / "maps", np.full(shape, value, np.uint8)))
    assert len(report.bad) == 1
    assert "\n" not in str(report.bad[0])
    assert re.search(cause, str(report.bad[0]))


def test_masks_that_are_missing_or_damaged(tmp_path: Path) -> None:
    spec = semantic(tmp_path / "maps", np.ones((20, 30), np.uint8))
    whole = (tmp_path / "maps/masks/a.png").read_bytes()
    (tmp_path / "maps/masks/a.png").write_bytes(whole[:-20])
    assert re.search(r"a\.png has a map, .*masks/a\.png, that is cut short", str(check(spec).bad[0]))
    (tmp_path / "maps/masks/a.png").unlink()
    with pytest.raises(UserError, match=r"masks/a\.png is missing"):
        open_source(SourceConfig(spec=spec))
    assert open_source(SourceConfig(spec=spec, labelled=False)).kind == "none"


FIELDS = [("images", "id"), ("images", "file_name"), ("images", "height"), ("categories", "id"), ("annotations", "id"),
          ("annotations", "image_id"), ("annotations", "category_id"), ("annotations", "bbox"),
          ("annotations", "segmentation")]  # fmt: skip


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_values_of_any_kind_are_read_or_refused_in_one_line(section: str, name: str, tmp_path: Path) -> None:
    lengths = [{"size": size, "counts": counts} for size in (5, [20], [20, "x"]) for counts in ([0, 600], "x", None)]
    refusals = []
    for value in ([], [1], {}, {"a": 1}, None, "x", "a\0.png", -1, 1.5, float("inf"), *lengths):
        spec = coco(tmp_path, lambda content, value=value: content[section][0].update({name: value}))
        try:
            split = open_source(SourceConfig(spec=spec, val_fraction=0)).split("train")
            for index in range(len(split)):
                split.read(index)
                split.targets[index]
        except UserError as error:
            refusals.append(str(error))
    assert refusals
    assert all(len(refusal.splitlines()) == 1 for refusal in refusals)
