"""Pascal VOC as programs write it: images in subfolders, names with dots, ``a_jpg.rf.abcdef`` twins (cvat-ai/cvat#1381,
Roboflow), spaces in names (zylo117/efficientdet-pytorch#16), XML beside images and in ``annotations/`` (Kaggle).

Siblings: two suffixes of one stem, lists with flags and with suffixes, lists called default, a byte-order mark and
UTF-16, sizes that are decimals or 0, tests without annotations, folders of splits, class maps of such names.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import SIZE, boxes_of, halves, levels, names_of, opened, picture, told, write, xml

from vitrail.data.inspection.check import check
from vitrail.errors import UserError


def voc(root: Path, *names: str, suffix: str = ".jpg", listed: bool = True) -> Path:
    for i, name in enumerate(names):
        picture(root / "JPEGImages" / f"{name}{suffix}")
        write(root / "Annotations" / f"{name}.xml", xml("cat" if i % 2 else "dog"))
    if listed:
        write(root / "ImageSets" / "Main" / "train.txt", "".join(f"{name}\n" for name in names))
    return root


NAMES = ("sub/a", "sub/b.c", "my photo 1", "my photo", "x_jpg.rf.abcdef", "x_jpg.rf.fedcba", "日本 1")


@pytest.mark.parametrize("listed", [True, False])
def test_names_are_names(listed: bool, tmp_path: Path) -> None:
    splits = opened(voc(tmp_path, *NAMES, listed=listed))
    assert sorted(names_of(splits)) == sorted(Path(f"{name}.jpg").name for name in NAMES)
    assert check(splits, workers=0).ok


def test_flags_of_lists_are_no_part_of_names(tmp_path: Path) -> None:
    voc(tmp_path, "my photo 1", "my photo")
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "my photo 1  1\nmy photo -1\n")
    assert names_of(opened(tmp_path)) == ["my photo 1.jpg", "my photo.jpg"]


def test_lists_with_suffixes_folders_and_a_byte_order_mark(tmp_path: Path) -> None:
    voc(tmp_path, "a", "b.c")
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "JPEGImages\\a.jpg\r\nb.c.jpg\r\n", "utf-8-sig")
    assert names_of(opened(tmp_path)) == ["a.jpg", "b.c.jpg"]


def test_two_files_of_one_stem_are_told_apart_by_the_annotation(tmp_path: Path) -> None:
    voc(tmp_path, "a", "b")
    picture(tmp_path / "JPEGImages" / "a.png")
    write(tmp_path / "Annotations" / "a.xml", xml("cat", head="<filename>a.png</filename>"))
    assert names_of(opened(tmp_path)) == ["a.png", "b.jpg"]


def test_a_list_of_another_name_is_of_training(tmp_path: Path) -> None:
    voc(tmp_path, "a", "b", listed=False)
    write(tmp_path / "ImageSets" / "Main" / "default.txt", "a\nb\n")
    assert names_of(opened(tmp_path)) == ["a.jpg", "b.jpg"]


def test_a_test_list_without_annotations_is_left_out(tmp_path: Path) -> None:
    voc(tmp_path, "a", "b")
    write(tmp_path / "ImageSets" / "Main" / "test.txt", "c\nd\n")
    splits, said = told(tmp_path)
    assert [split for split, _ in splits.items()] == ["train"]
    assert "test is left out: none of its 2 images has an XML file" in said


def test_one_missing_annotation_is_an_error(tmp_path: Path) -> None:
    voc(tmp_path, "a", "b")
    (tmp_path / "Annotations" / "b.xml").unlink()
    with pytest.raises(UserError, match=r"b\.xml cannot be read"):
        opened(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_before_xml(encoding: str, tmp_path: Path) -> None:
    voc(tmp_path, "a", "b")
    write(tmp_path / "Annotations" / "a.xml", xml("cat"), encoding)
    assert boxes_of(opened(tmp_path)) == [("cat", [2, 3, 11, 11])]


def test_sizes_as_decimals_and_unknown_ones(tmp_path: Path) -> None:
    voc(tmp_path, "a", "b")
    write(tmp_path / "Annotations" / "a.xml", xml("cat", size="<size><width>30.0</width><height>20.0</height></size>"))
    write(tmp_path / "Annotations" / "b.xml", xml("cat", size="<size><width>0</width><height>0</height></size>"))
    assert opened(tmp_path).train.targets.sizes.tolist() == [[*SIZE]] * 2
    write(tmp_path / "Annotations" / "b.xml", xml("cat", size="<size><width>x</width><height>20</height></size>"))
    with pytest.raises(UserError, match="has the size 'x', which is no number of pixels"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("images", "annotations"), [("", ""), ("images", "annotations"), ("images", "images"), ("images", "labels")]
)
def test_other_folders(images: str, annotations: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / images / f"{name}.png")
        write(tmp_path / annotations / f"{name}.xml", xml("cat"))
    splits = opened(tmp_path)
    assert names_of(splits) == ["a.png", "b.png"]
    assert boxes_of(splits) == [("cat", [2, 3, 11, 11])]


def test_folders_of_splits_above(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        picture(tmp_path / split / "a.jpg")
        write(tmp_path / split / "a.xml", xml("cat"))
    splits = opened(tmp_path)
    assert [split for split, _ in splits.items()] == ["train", "val"]
    assert names_of(splits, "val") == ["a.jpg"]


def test_images_without_annotations_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.jpg")
    write(tmp_path / "a.xml", xml("cat"))
    splits, said = told(tmp_path)
    assert names_of(splits) == ["a.jpg"]
    assert "1 images have no XML file and are left out" in said


def test_class_maps_of_such_names(tmp_path: Path) -> None:
    voc(tmp_path, *NAMES)
    for name in NAMES:
        levels(tmp_path / "SegmentationClass" / f"{name}.png", halves(0, 1))
    splits = opened(tmp_path, kind="semantic")
    assert sorted(names_of(splits)) == sorted(Path(f"{name}.jpg").name for name in NAMES)
    assert check(splits, workers=0).ok


def test_suffixes_in_capitals(tmp_path: Path) -> None:
    for split in ("Train", "Val"):
        picture(tmp_path / split / "JPEGImages" / f"{split}.JPG")
        write(tmp_path / split / "Annotations" / f"{split}.XML", xml("cat"))
    splits = opened(tmp_path)
    assert [names_of(splits, split) for split in ("train", "val")] == [["Train.JPG"], ["Val.JPG"]]
    assert len(boxes_of(splits, "val")) == 1
