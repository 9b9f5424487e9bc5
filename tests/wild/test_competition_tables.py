"""Tables of competitions: ``train.csv`` of ids beside ``train_images/``, ``test.csv`` without labels (Kaggle).

Siblings looked at: ids with and without suffix, ``train/``, ``images/`` and the table's folder, names in two folders,
metadata with other columns, a table alone beside images, HAM10000's folders, an index column of pandas, a table in the
folder of each split, what is not found, and names that say which split.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from wild_files import draw, opened, table

from vitrail.errors import UserError


def competition(folder: Path, images: str = "{split}_images/{name}.png", written: str = "{name}") -> Path:
    names = {"train": ["0a", "1b", "2c"], "test": ["0a", "9z"]}
    draw(folder, *(images.format(split=split, name=name) for split, own in names.items() for name in own))
    rows = "".join(f"{written.format(name=name)},{i % 2}\n" for i, name in enumerate(names["train"]))
    (folder / "train.csv").write_text(f"id_code,diagnosis\n{rows}")
    (folder / "test.csv").write_text("id_code\n" + "".join(f"{written.format(name=name)}\n" for name in names["test"]))
    (folder / "sample_submission.csv").write_text("id_code,diagnosis\n0a,0\n9z,0\n")
    return folder


@pytest.mark.parametrize("images", ["{split}_images/{name}.png", "{split}/{name}.png", "images/{split}/{name}.png"])
@pytest.mark.parametrize("written", ["{name}", "{name}.png"])
def test_ids_find_their_files(tmp_path: Path, capsys, images: str, written: str) -> None:
    if images.startswith("images/"):
        images = "{split}ing/images/{name}.png"
    folder = competition(tmp_path / "aptos", images, written)
    splits = opened(folder)
    assert table(splits) == {"train": ["0a.png 0", "1b.png 1", "2c.png 0"]}
    assert splits.split("train").read(0)[:4] == b"\x89PNG"
    said = capsys.readouterr().err
    assert "test.csv: left out, since it has no column 'diagnosis'" in said
    assert "3 of 3 train images found by name" in said
    unlabelled = opened(folder, labelled=False)
    assert splits.split("train").read(0) != unlabelled.split("test").read(0)  # 0a of train_images and of test_images


def test_a_table_alone(tmp_path: Path) -> None:
    folder = draw(tmp_path / "dogs", "train/0a.jpg", "train/1b.jpg", "test/9z.jpg")
    (folder / "labels.csv").write_text("id,breed\n0a,collie\n1b,pug\n")
    assert table(opened(folder)) == {"train": ["0a.jpg collie", "1b.jpg pug"]}
    parts = draw(tmp_path / "skin", "HAM10000_images_part_1/a.jpg", "HAM10000_images_part_2/b.jpg")
    (parts / "HAM10000_metadata.csv").write_text("lesion_id,image_id,dx,age\nx,a,nv,30\ny,b,mel,40\n")
    with pytest.raises(UserError, match=r"column 'lesion_id' is not a number; .* label_columns="):
        opened(parts)
    assert table(opened(parts, label_columns=("dx",))) == {"train": ["a.jpg nv", "b.jpg mel"]}


def test_an_index_column_is_no_label(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    (tmp_path / "t.csv").write_text(",image,breed\n0,a.png,pug\n1,b.png,collie\n")
    assert opened(tmp_path / "t.csv").classes == ("collie", "pug")


def test_a_name_in_two_folders_is_an_error(tmp_path: Path) -> None:
    folder = draw(tmp_path, "images/a/1.png", "images/b/1.png")
    (folder / "t.csv").write_text("id,label\n1,x\n")
    with pytest.raises(UserError, match=r"'1' of the table may be 'images/a/1\.png' or 'images/b/1\.png'"):
        opened(folder / "t.csv")


def test_labels_withheld(tmp_path: Path, capsys) -> None:
    draw(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "t.csv").write_text("path,label,split\na.png,x,train\nb.png,y,train\nc.png,,test\n")
    assert [split for split, _ in opened(tmp_path / "t.csv").items()] == ["train"]
    assert "the test split is left out, since it has no labels" in capsys.readouterr().err


def test_what_is_not_found_is_named(tmp_path: Path) -> None:
    folder = competition(tmp_path / "p")
    (folder / "train_images" / "1b.png").unlink()
    with pytest.raises(UserError, match="no such file"):
        opened(folder).split("train").read(1)


def test_a_table_in_the_folder_of_each_split(tmp_path: Path) -> None:
    folder = draw(tmp_path / "p", "train/1.png", "train/2.png", "test/3.png")
    (folder / "train" / "metadata.csv").write_text("file_name,label\n1.png,ant\n2.png,bee\n")
    (folder / "test" / "metadata.csv").write_text("file_name,label\n3.png,bee\n")
    splits = opened(folder)
    assert table(splits) == {"train": ["1.png ant", "2.png bee"], "test": ["3.png bee"]}
    assert splits.split("test").read(0)[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("notes.csv", "who,what\nme,x\n", r"notes\.csv lies there with the columns who, what: .* label_columns="),
        ("labels.xlsx", "PK", r"if labels\.xlsx holds the labels, save them as labels\.csv"),
        (
            "annotations.json",
            "{",
            r"laid out like COCO and not quite so: expected are|if annotations\.json holds the labels",
        ),
    ],
)
def test_what_is_refused_names_the_nearest_layout(tmp_path: Path, file: str, text: str, said: str) -> None:
    for number, images in enumerate(("images/1.png", "1.png")):
        folder = draw(tmp_path / str(number), images)
        (folder / file).write_text(text)
        with pytest.raises(UserError, match=said):
            opened(folder)


def test_ids_of_files_in_a_folder_of_any_name(tmp_path: Path, capsys) -> None:
    folder = draw(tmp_path, "scans/0a.png", "scans/1b.png", "test/9z.png", "0a.txt.png")
    (folder / "t.csv").write_text("image,breed\n0a,collie\nC:\\data\\1b.png,pug\n")
    assert table(opened(folder / "t.csv")) == {"train": ["0a.png collie", "1b.png pug"]}
    assert "2 of 2 train images found by name, in scans" in capsys.readouterr().err


def test_roboflows_classes_in_the_folder_of_each_split(tmp_path: Path) -> None:
    draw(tmp_path, "train/a.jpg", "train/b.jpg", "valid/c.jpg")
    (tmp_path / "train" / "_classes.csv").write_text("filename, sun, sea\na.jpg, 1, 0\nb.jpg, 1, 1\n")
    (tmp_path / "valid" / "_classes.csv").write_text("filename, sun, sea\nc.jpg, 0, 1\n")
    splits = opened(tmp_path)
    assert splits.kind == "multilabel"
    assert splits.split("val").targets.tolist() == [[0, 1]]
