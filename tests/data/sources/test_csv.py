from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vitrail.data.media.decode import decode
from vitrail.data.source import SourceConfig, Splits, open_source
from vitrail.errors import UserError


def opened(path: Path, text: str | bytes, **options: object) -> Splits:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_source(SourceConfig(spec=str(path), **({"val_fraction": 0} | options)))  # type: ignore[arg-type]


def test_paths_start_from_the_table_and_are_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(tmp_path / "in" / "x y.png")
    source = opened(tmp_path / "t.csv", 'path,label\n"in/x y.png",cat\ngone.png,dog\n').train
    assert decode(source.read(0)).getpixel((0, 0)) == (1, 2, 3)
    assert source.name(0) == str(tmp_path / "in" / "x y.png")
    with pytest.raises(UserError, match="no such file"):
        source.read(1)
    elsewhere = opened(tmp_path / "lists" / "t.csv", "path,label\nin/x y.png,a\ng,b\n", root=str(tmp_path)).train
    assert elsewhere.read(0) == source.read(0)


def test_one_label(tmp_path: Path) -> None:
    splits = opened(tmp_path / "t.tsv", "filename\tweight\tclass\na.png\t3\tdog\nb.png\t4\tcat\n")
    assert (splits.kind, splits.classes, splits.train.targets.tolist()) == ("class", ("cat", "dog"), [1, 0])


def test_several_labels_in_a_cell(tmp_path: Path) -> None:
    splits = opened(tmp_path / "t.csv", "path,labels\na.png,sun|sea\nb.png,sea\n")
    assert (splits.kind, splits.classes) == ("multilabel", ("sea", "sun"))
    assert splits.train.targets.tolist() == [[1, 1], [1, 0]]
    spaced = opened(tmp_path / "t.csv", "path,labels\na.png,sun sea\nb.png,sea\n", label_separator=" ")
    assert spaced.classes == ("sea", "sun")
    assert opened(tmp_path / "t.csv", "path,labels\na,x|y\nb,z\n", kind="class").classes == ("x|y", "z")


def test_label_columns_of_zeros_and_ones(tmp_path: Path) -> None:
    splits = opened(tmp_path / "t.csv", "path,sun,sea\na.png,1,0\nb.png,1,1\n")
    assert (splits.kind, splits.classes) == ("multilabel", ("sun", "sea"))
    assert splits.train.targets.tolist() == [[1, 0], [1, 1]]


def test_numbers(tmp_path: Path) -> None:
    splits = opened(tmp_path / "t.csv", "path,label\na.png,1.5\nb.png,2\n")
    assert (splits.kind, splits.classes, splits.train.targets.tolist()) == ("number", ("label",), [[1.5], [2.0]])
    splits = opened(
        tmp_path / "t.csv", "path,age,height\na.png,30,1.5\nb.png,41,1.75\n", label_columns=("age", "height")
    )
    assert (splits.kind, splits.classes) == ("number", ("age", "height"))
    assert splits.train.targets.tolist() == [[30, 1.5], [41, 1.75]]
    assert opened(tmp_path / "t.csv", "path,label\na.png,30\nb.png,41\n", kind="number").kind == "number"
    assert opened(tmp_path / "t.csv", "path,label\na.png,30\nb.png,41\n").kind == "class"


def test_splits_by_column_and_by_file(tmp_path: Path) -> None:
    splits = opened(tmp_path / "t.csv", "path,label,split\na,x,train\nb,y,Train\nc,x,valid\nd,y,test\n")
    assert [(name, len(source)) for name, source in splits.items()] == [("train", 2), ("val", 1), ("test", 1)]
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "train.csv").write_text("path,label\na,x\nb,y\n")
    (tmp_path / "f" / "val.csv").write_text("path,label\nc,y\n")
    splits = open_source(SourceConfig(spec=str(tmp_path / "f")))
    assert splits.val.targets.tolist() == [1]
    (tmp_path / "f" / "val.csv").write_text("path,label\nc,z\n")
    with pytest.raises(UserError, match=r"val\.csv: row 2: the class 'z' is not among"):
        open_source(SourceConfig(spec=str(tmp_path / "f")))


def test_a_byte_order_mark_semicolons_and_foreign_bytes(tmp_path: Path) -> None:
    splits = opened(tmp_path / "t.csv", b"\xef\xbb\xbfpath;label\ncaf\xe9.png;a\nb.png;c\n")
    assert splits.train.name(0).endswith("caf\\xe9.png")
    Image.new("L", (2, 2)).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(bytes(tmp_path).decode() + "/caf\udce9.png")
    assert splits.train.read(0)[:4] == b"\x89PNG"


def test_unlabelled_needs_paths_only(tmp_path: Path) -> None:
    splits = opened(tmp_path / "t.csv", "image\na.png\nb.png\n", labelled=False)
    assert (splits.kind, len(splits.train)) == ("none", 2)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a.png,cat\nb.png,dog\n", {}, r"no column of paths in its first line \(a\.png, cat\)"),
        ("path\na.png\n", {}, "no label column"),
        ("path,label\na,cat\nb,dog,\n", {}, "row 3: 3 cells under 2 columns"),
        ("path,label\na,cat\n\n,dog\n", {}, "row 4: the path is missing"),
        ("path,label\na,cat\nb,  \n", {}, "row 3: the label is missing"),
        ('path,label\n"a\nb",cat\n"a\nb",dog\n', {}, "row 5: .* is listed already in row 3"),
        ("path,label\na,cat\n", {"label_columns": ("lable",)}, "no column 'lable'; did you mean 'label'"),
        ("path,label\na,1\nb,x\n", {"kind": "number"}, "row 3: 'x' in column 'label' is not a number"),
        ("path,x,y\na,1,0\nb,1,2\n", {}, r"row 3: \[1, 2\] is out of range"),
        ("path,x,y\na,1,0\nb,1,z\n", {}, "row 3: 'z' in column 'y' is not a number"),
        ("path,label,split\na,x,trian\n", {}, "row 2: the split 'trian'"),
        ('path,label\n"a,cat\n', {}, "is no valid table"),
        ("path,label\na,cat\nb,cat\n", {}, "holds one class, 'cat'"),
        ("", {}, "no column of paths"),
        ("path,label\n", {}, "holds no images"),
    ],
)
def test_broken_tables(text: str, options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        opened(tmp_path / "t.csv", text, **options)


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: no such file"):
        open_source(SourceConfig(spec=str(tmp_path / "gone.csv")))
