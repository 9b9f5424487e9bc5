"""Tables in other encodings than UTF-8 (tf-crnn#18: cp1252, read as ``caf\\udce9``).

Siblings looked at: byte-order marks, UTF-16 with and without one, latin-1, Shift-JIS, GBK, ``sep=;`` of Excel,
separators, the header, splits and groups, JSON of class names, labels in shards; file names may be any bytes.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from wild_files import opened, png

from vitrail.cli import main
from vitrail.errors import UserError


def written(folder: Path, data: bytes, **options: object):
    (folder / "t.csv").write_bytes(data)
    return opened(folder / "t.csv", **options)


@pytest.mark.parametrize(
    ("encoding", "label", "suggested"),
    [("cp1252", "café", "cp1252"), ("shift_jis", "日本語", "shift_jis"), ("gb18030", "金丝雀", "gb18030")],
)
def test_a_label_that_is_not_utf_8(tmp_path: Path, encoding: str, label: str, suggested: str) -> None:
    data = f"path,label\na.png,tea\nb.png,{label}\n".encode(encoding)
    with pytest.raises(UserError, match=rf"t\.csv: row 3: .* is not UTF-8; .* --encoding {suggested}"):
        written(tmp_path, data)
    assert written(tmp_path, data, encoding=encoding).classes == tuple(sorted(("tea", label)))
    with pytest.raises(UserError, match="row 3 is not in ascii"):
        written(tmp_path, data, encoding="ascii")
    with pytest.raises(UserError, match="no encoding is called 'cp12520'"):
        written(tmp_path, data, encoding="cp12520")


def test_in_the_header_and_in_other_columns(tmp_path: Path) -> None:
    for text in ("path,caf\xe9\na,x\nb,y\n", "path,label,split\na,x,tr\xe4in\nb,y,train\n"):
        with pytest.raises(UserError, match="is not UTF-8"):
            written(tmp_path, text.encode("latin-1"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    assert written(tmp_path, "path,label\na.png,café\nb.png,tea\n".encode(encoding)).classes == ("café", "tea")


def test_utf_16_without_a_mark(tmp_path: Path) -> None:
    data = "path,label\na.png,café\nb.png,tea\n".encode("utf-16-le")
    with pytest.raises(UserError, match=r"no text in UTF-8; .* --encoding utf-16-le"):
        written(tmp_path, data)
    assert written(tmp_path, data, encoding="utf-16-le").classes == ("café", "tea")


@pytest.mark.parametrize("text", ["sep=;\npath;label\na;x\nb;y\n", '"sep=|"\r\npath|label\r\na|x\r\nb|y\r\n',
                                  '"path";"label, in words"\na;x\nb;y\n', "path\tlabel\ra\tx\rb\ty\r"])  # fmt: skip
def test_separators(tmp_path: Path, text: str) -> None:
    assert written(tmp_path, text.encode()).classes == ("x", "y")


def test_rows_are_counted_behind_the_line_of_excel(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 4: 3 cells"):
        written(tmp_path, b"sep=;\npath;label\na;x\nb;y;z\n")


def test_class_names_beside_may_be_marked(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_bytes('["café", "tea"]'.encode("utf-8-sig"))
    assert written(tmp_path, b"path,label\na,0\nb,1\n").classes == ("café", "tea")


@pytest.mark.parametrize(("label", "known"), [("café".encode("utf-8-sig"), True), (b"caf\xe9", False)])
def test_labels_in_shards(tmp_path: Path, label: bytes, known: bool) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for number, text in enumerate((label, b"tea")):
            for suffix, data in (("png", png(number)), ("txt", text)):
                info = tarfile.TarInfo(f"{number}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    if known:
        assert opened(tmp_path / "s.tar").classes == ("café", "tea")
        return
    with pytest.raises(UserError, match="that is not UTF-8"):
        opened(tmp_path / "s.tar")


def test_the_option(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    (tmp_path / "b.png").write_bytes(png(1))
    (tmp_path / "t.csv").write_bytes("path,label\na.png,tea\nb.png,café\n".encode("cp1252"))
    assert main(["data", "check", str(tmp_path / "t.csv")]) == 2
    assert "--encoding cp1252" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path / "t.csv"), "--encoding", "cp1252"]) == 0
    assert main(["data", "stats", str(tmp_path / "t.csv"), "--encoding", "cp1252"]) == 0
    assert "café" in capsys.readouterr().out


def test_a_path_whose_file_has_its_name_in_utf_8(tmp_path: Path) -> None:
    (tmp_path / "café.png").write_bytes(png(0))
    data = "path,label\ncafé.png,x\nb.png,y\n".encode("cp1252")
    with pytest.raises(UserError, match=r"row 2: .* --encoding cp1252"):
        written(tmp_path, data)
    assert written(tmp_path, data, encoding="cp1252").split("train").read(0)[:4] == b"\x89PNG"
