"""YOLO as programs export it: ``test:`` of an absent folder (roboflow/rf-detr#1343), byte-order marks of Notepad,
Darknet's files of CVAT (AlexeyAB/darknet#1073), Label Studio's folders without YAML, Roboflow's doubled paths.

Siblings: train and val that are absent, lists, absolute and Windows paths, names by number as texts, labels beside
images, key points, UTF-16, labels that are nowhere.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import boxes_of, names_of, opened, picture, told, write

from vitrail.errors import UserError

LINE = "1 0.5 0.5 0.2 0.4\n"
FOUND = [("dog", [12, 6, 18, 14])]


def folders(root: Path, *splits: str) -> Path:
    for split in splits:
        picture(root / split / "images" / "a.jpg")
        write(root / split / "labels" / "a.txt", LINE)
    return root


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_absent_folder_of_another_split_is_a_warning(split: str, tmp_path: Path) -> None:
    folders(tmp_path, "train")
    write(tmp_path / "data.yaml", f"train: train/images\n{split}: ../gone/images\nnames: [cat, dog]\n")
    splits, said = told(tmp_path)
    assert [name for name, _ in splits.items()] == ["train"]
    assert f"names '../gone/images', and there is no {tmp_path}/../gone/images: {split} is left out" in said


def test_an_absent_training_folder_is_an_error(tmp_path: Path) -> None:
    folders(tmp_path, "valid")
    write(tmp_path / "data.yaml", "train: gone/images\nval: valid/images\nnames: [cat, dog]\n")
    with pytest.raises(UserError, match="names 'gone/images', and there is no"):
        opened(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_before_labels_lists_and_settings(encoding: str, tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    write(tmp_path / "labels" / "a.txt", LINE, encoding)
    write(tmp_path / "list.txt", "./images/a.jpg\r\n", encoding)
    write(tmp_path / "data.yaml", "train: list.txt\nnames: [cat, dog]\n", encoding)
    assert boxes_of(opened(tmp_path)) == FOUND


@pytest.mark.parametrize(
    "written",
    [
        "../train/images", "ds/train/images", "/content/ds/train/images", "..\\train\\images",
        "C:\\Users\\me\\ds\\train\\images",
    ],
)  # fmt: skip
def test_paths_of_another_place(written: str, tmp_path: Path) -> None:
    folders(tmp_path / "ds", "train", "valid")
    own = written.replace("train", "valid")
    write(tmp_path / "ds" / "data.yaml", f"train: '{written}'\nval: '{own}'\nnames: {{'0': cat, '1': dog}}\n")
    splits = opened(tmp_path / "ds")
    assert boxes_of(splits) == boxes_of(splits, "val") == FOUND
    assert "/valid/" in splits.val.name(0)


def test_two_splits_never_become_one_folder(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    write(tmp_path / "labels" / "a.txt", LINE)
    write(tmp_path / "data.yaml", "train: images\nval: valid/images\nnames: [cat, dog]\n")
    splits, said = told(tmp_path)
    assert [name for name, _ in splits.items()] == ["train"]
    assert "val is left out" in said


@pytest.mark.parametrize("prefix", ["data/", "", "./data/", "C:\\x\\data\\"])
def test_cvats_yolo_1_1(prefix: str, tmp_path: Path) -> None:
    for name, folder in (("a", "obj_train_data"), ("b", "obj_train_data"), ("c", "obj_valid_data")):
        picture(tmp_path / folder / f"{name}.jpg")
        write(tmp_path / folder / f"{name}.txt", LINE)
    write(tmp_path / "obj.names", "cat\ndog\n")
    write(tmp_path / "train.txt", "".join(f"{prefix}obj_train_data/{name}.jpg\n" for name in "ab"))
    write(tmp_path / "valid.txt", f"{prefix}obj_valid_data/c.jpg\n")
    lists = f"train = {prefix}train.txt\nvalid = {prefix}valid.txt\n"
    write(tmp_path / "obj.data", f"classes = 2\n{lists}names = {prefix}obj.names\nbackup = backup/\n")
    for spec in (tmp_path, tmp_path / "obj.data"):
        splits = opened(spec)
        assert names_of(splits) == ["a.jpg", "b.jpg"]
        assert boxes_of(splits, "val") == FOUND


def test_label_studios_folders(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "0a1b2c3d-my%20photo.jpg")
    write(tmp_path / "labels" / "0a1b2c3d-my%20photo.txt", LINE)
    write(tmp_path / "classes.txt", "cat\ndog\n", "utf-8-sig")
    write(tmp_path / "notes.json", '{"categories": [{"id": 0, "name": "cat"}], "info": {}}')
    splits = opened(tmp_path)
    assert boxes_of(splits) == FOUND
    assert splits.classes == ("cat", "dog")


@pytest.mark.parametrize("layout", ["{kind}/{split}", "{split}/{kind}", "{split}"])
def test_classes_txt_with_folders_of_splits(layout: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        picture(tmp_path / layout.format(kind="images", split=split) / "a.jpg")
        write(tmp_path / layout.format(kind="labels", split=split) / "a.txt", LINE)
    write(tmp_path / "classes.txt", "cat\ndog\n")
    splits = opened(tmp_path)
    assert [name for name, _ in splits.items()] == ["train", "val"]
    assert boxes_of(splits) == boxes_of(splits, "val") == FOUND


def test_labels_beside_images_that_lie_in_a_folder_of_images(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    write(tmp_path / "images" / "a.txt", LINE)
    write(tmp_path / "data.yaml", "train: images\nnames: [cat, dog]\n")
    assert boxes_of(opened(tmp_path)) == FOUND


def test_key_points_are_refused(tmp_path: Path) -> None:
    folders(tmp_path, "train")
    write(tmp_path / "data.yaml", "train: train/images\nkpt_shape: [17, 3]\nnames: [person]\n")
    with pytest.raises(UserError, match=r"is of key points \(kpt_shape\), which no task reads"):
        opened(tmp_path)


def test_labels_without_names_are_refused_with_what_is_expected(tmp_path: Path) -> None:
    folders(tmp_path, "train")
    with pytest.raises(UserError, match=r"is laid out like YOLO and not quite so: expected are data\.yaml"):
        opened(tmp_path)


def test_labels_whose_suffix_is_in_capitals(tmp_path: Path) -> None:
    folders(tmp_path, "train")
    for file in sorted(tmp_path.rglob("*.txt")):
        file.rename(file.with_suffix(".TXT"))
    write(tmp_path / "coco8.yaml", "train: train/images\nnames: {0: cat, 1: dog}\n")
    assert len(boxes_of(opened(tmp_path))) == 1


def test_a_number_of_classes_that_contradicts_their_names_is_told(tmp_path: Path) -> None:
    folders(tmp_path, "train")
    write(tmp_path / "data.yaml", "train: train/images\nnc: 3\nnames: [cat, dog]\n")
    assert "says nc: 3 and names 2 classes" in told(tmp_path)[1]
