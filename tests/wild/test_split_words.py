"""Splits that are called otherwise, or lie deeper (fastai#1552, fastai#2336).

``seg_train`` beside ``seg_test``, ``training_set``, ``train`` beside ``dev``, and any of them inside wrapping folders
became classes, so that test images were trained on. Siblings looked at: folder, zip, tables (the names of files, the
column of splits and its name), arrays, tar shards, Hugging Face, COCO's names of files; splits below the classes; two
folders for a split; names of classes that hold such a word; Chinese names; images and folders beside the splits.
"""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from wild_files import draw, opened, picture, png, table

from vitrail.data.indexing.splits import split_called
from vitrail.data.storage.coco_files import split_of
from vitrail.errors import UserError

NAMES = {
    "train": "train Training TRAIN seg_train training_set TrainSet train2017 x_train 训练集 trainval train_val",
    "val": "val valid Validation dev dev_set seg-val val2017 eval xVal 验证",
    "test": "test Testing seg_test test_set TestImages PrivateTest test-dev holdout 测试集",
}


@pytest.mark.parametrize("split", NAMES)
def test_a_word_of_the_name_says_which_split(split: str) -> None:
    assert {name: split_called(name) for name in NAMES[split].split()} == dict.fromkeys(NAMES[split].split(), split)


def test_other_words_say_none() -> None:
    assert [split_called(n) for n in ("contest", "terrain", "devil", "validated", "latest", "train_test")] == [None] * 6


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("seg_train", "seg_test", "test"),
        ("training_set", "test_set", "test"),
        ("train", "dev", "val"),
        ("Training", "Testing", "test"),
        ("train_images", "valid_images", "val"),
        ("seg_train/seg_train", "seg_test/seg_test", "test"),
        ("pets/train", "pets/val", "val"),
        ("download/pets/images/train", "download/pets/images/test", "test"),
        ("训练集", "测试集", "test"),
    ],
)
def test_in_a_folder_and_in_a_zip(tmp_path: Path, train: str, other: str, split: str) -> None:
    names = [f"{train}/ant/1.png", f"{train}/bee/2.png", f"{other}/ant/3.png", f"{other}/bee/4.png"]
    folder = draw(tmp_path / "p", *names)
    wanted = {"train": ["1.png ant", "2.png bee"], split: ["3.png ant", "4.png bee"]}
    assert table(opened(folder)) == wanted
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, png(number))
    assert table(opened(tmp_path / "p.zip")) == wanted


def test_below_the_classes(tmp_path: Path) -> None:
    folder = draw(tmp_path / "p", "ant/train/1.png", "bee/train/2.png", "ant/test/3.png", "bee/test/4.png")
    assert table(opened(folder)) == {"train": ["1.png ant", "2.png bee"], "test": ["3.png ant", "4.png bee"]}
    draw(folder, "cat/5.png")
    with pytest.raises(UserError, match="'ant/test' is the test split of a class, and 'cat' has none"):
        opened(folder)


def test_a_wrapping_folder_is_no_class(tmp_path: Path) -> None:
    assert opened(draw(tmp_path / "a", "photos/ant/1.png", "photos/bee/2.png")).classes == ("ant", "bee")
    assert opened(draw(tmp_path / "b", "ant/images/1.png", "bee/images/2.png")).classes == ("ant", "bee")


def test_classes_that_hold_the_word_of_a_split(tmp_path: Path) -> None:
    assert opened(draw(tmp_path / "a", "bullet_train/1.png", "test_tube/2.png")).classes == (
        "bullet_train",
        "test_tube",
    )
    vehicles = draw(tmp_path / "b", "bus/1.png", "car/2.png", "train/3.png", "validator/4.png")
    assert opened(vehicles).classes == ("bus", "car", "train", "validator")


def test_two_levels_that_may_be_classes_are_an_error(tmp_path: Path) -> None:
    folder = draw(tmp_path / "p", "site1/ant/1.png", "site1/bee/2.png", "site2/ant/3.png")
    with pytest.raises(UserError, match=r"two levels of folders that may be classes, as in 'site1/ant'.*class_level="):
        opened(folder)
    assert opened(folder, class_level="top").classes == ("site1", "site2")
    assert opened(folder, class_level="leaf").classes == ("site1/ant", "site1/bee", "site2/ant")


def test_two_folders_for_a_split_are_an_error_and_what_is_beside_is_said(tmp_path: Path, capsys) -> None:
    with pytest.raises(UserError, match="holds dev and val; keep one of them as the val split"):
        opened(draw(tmp_path / "a", "train/ant/1.png", "dev/ant/2.png", "val/ant/3.png"))
    folder = draw(
        tmp_path / "b", "stray.png", "seg_train/a/1.png", "seg_train/b/2.png", "seg_test/a/3.png", "pred/4.png"
    )
    assert len(opened(folder).split("train")) == 2
    assert "skipped images in the folder itself, pred beside the folders of the splits" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["split", "Split", "subset", "Usage", "partition"])
def test_in_a_column(tmp_path: Path, column: str) -> None:
    rows = "a,x,Training\nb,y,training\nc,x,PublicTest\nd,y,dev\n"
    (tmp_path / "t.csv").write_text(f"path,label,{column}\n{rows}")
    assert {split: len(source) for split, source in opened(tmp_path / "t.csv").items()} == {
        "train": 2,
        "val": 1,
        "test": 1,
    }


def test_a_column_of_other_things_is_none(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label,set\na,x,4\nb,y,7\n")
    assert len(opened(tmp_path / "t.csv").split("train")) == 2


def test_in_the_names_of_tables_arrays_and_shards(tmp_path: Path) -> None:
    for name in ("tables", "arrays", "shards/tars"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tables" / "Training_set.csv").write_text("path,label\na,x\nb,y\n")
    (tmp_path / "tables" / "dev.csv").write_text("path,label\nc,y\n")
    (tmp_path / "tables" / "sample_submission.csv").write_text("path,label\nc,y\n")
    for split, name in {"train": "training", "val": "dev_set"}.items():
        labels = np.array(["x", "y"])
        np.savez(tmp_path / "arrays" / f"{name}.npz", images=np.stack([picture(0), picture(1)]), labels=labels)
        with tarfile.open(tmp_path / "shards" / "tars" / f"{name}-000.tar", "w") as archive:
            for number, label in enumerate(labels):
                for suffix, data in (("png", png(number)), ("txt", str(label).encode())):
                    file = tmp_path / f"{split}{number}.{suffix}"
                    file.write_bytes(data)
                    archive.add(file, file.name)
    for name, sizes in {"tables": (2, 1), "arrays": (2, 2), "shards": (2, 2)}.items():
        splits = opened(tmp_path / name)
        assert (len(splits.split("train")), len(splits.split("val"))) == sizes, name


def test_a_folder_around_the_data_may_have_any_name(tmp_path: Path) -> None:
    assert split_of(tmp_path / "my test data" / "instances.json") is None
    assert split_of(tmp_path / "test" / "annotations.json") == "test"
    assert split_of(tmp_path / "image_info_test-dev2017.json") == "test"


def test_a_wrapping_folder_around_other_sources(tmp_path: Path, capsys) -> None:
    for name in ("tables", "arrays"):
        (tmp_path / name / "v1" / "data").mkdir(parents=True)
        (tmp_path / name / "v1" / "LICENSE").write_text("x")
        (tmp_path / name / "__MACOSX").mkdir()
    draw(tmp_path / "tables" / "v1" / "data", "in/a.png", "in/b.png")
    (tmp_path / "tables" / "v1" / "data" / "train.csv").write_text("path,label\nin/a.png,x\nin/b.png,y\n")
    arrays = {"images": np.stack([picture(0), picture(1)]), "labels": np.arange(2)}
    np.savez(tmp_path / "arrays" / "v1" / "data" / "train.npz", **arrays)
    for name in ("tables", "arrays"):
        assert len(opened(tmp_path / name).split("train")) == 2
        assert f"the data lies in {tmp_path / name / 'v1' / 'data'}" in capsys.readouterr().err


def test_splits_of_the_hub(tmp_path: Path, capsys) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": png(i), "path": None} for i in range(2)], "label": ["x", "y"]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")}),
    )
    for name, parts in {"good": ("train", "dev", "extra"), "bad": ("train_clean", "train_other")}.items():
        datasets.DatasetDict(dict.fromkeys(parts, rows)).save_to_disk(tmp_path / name)
    assert [split for split, _ in opened(tmp_path / "good").items()] == ["train", "val"]
    assert "skipped extra beside the splits" in capsys.readouterr().err
    with pytest.raises(UserError, match="the splits train_clean and train_other, both for train"):
        opened(tmp_path / "bad")


def test_a_split_without_labels_or_images_is_left_out(tmp_path: Path, capsys) -> None:
    folder = draw(tmp_path, "train/ant/1.png", "train/bee/2.png", "test/3.png", "val/ant/", "val/bee/")
    assert table(opened(folder)) == {"train": ["1.png ant", "2.png bee"]}
    said = capsys.readouterr().err
    assert "the test split is left out, since its images lie in no folder of a class" in said
    assert "the val split is left out, since it holds no images" in said


def test_such_a_split_within_a_wrapping_folder(tmp_path: Path) -> None:
    folder = draw(tmp_path, "pets/train/ant/1.png", "pets/train/bee/2.png", "pets/test/3.png")
    assert table(opened(folder)) == {"train": ["1.png ant", "2.png bee"]}


def test_each_class_may_call_its_splits_otherwise(tmp_path: Path) -> None:
    folder = draw(tmp_path, "ant/Train/1.png", "ant/Test/2.png", "bee/TRAINING/3.png", "bee/test/4.png")
    assert table(opened(folder)) == {"train": ["1.png ant", "3.png bee"], "test": ["2.png ant", "4.png bee"]}


@pytest.mark.parametrize(
    ("column", "cells", "other"),
    [("is_valid", ("False", "True"), "val"), ("is_test", ("0", "1"), "test"), ("is_train", ("1", "0"), "test")],
)
def test_a_column_that_says_yes_or_no(tmp_path: Path, column: str, cells: tuple[str, str], other: str) -> None:
    rows = "".join(f"{name},{label},{cells[name == 'c']}\n" for name, label in (("a", "x"), ("b", "y"), ("c", "x")))
    (tmp_path / "t.csv").write_text(f"path,label,{column}\n{rows}")
    assert {split: len(source) for split, source in opened(tmp_path / "t.csv").items()} == {"train": 2, other: 1}
