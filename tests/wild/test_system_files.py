"""What systems leave among images is no data (photonix#214, manyfold#2545: Synology's ``@eaDir`` became a class).

Siblings looked at: macOS, Windows, QNAP, Jupyter and ``lost+found``, in folders, zips, shards, tables and prediction.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from wild_files import draw, opened, png, table

from vitrail.data.indexing.system_files import is_system

LEFT = (
    *("@eaDir/1.png", "ant/@eaDir/1.png@SYNOPHOTO_THUMB_XL.png", "#recycle/ant/1.png", "lost+found/1.png"),
    *("__MACOSX/ant/._1.png", "ant/._1.png", ".ipynb_checkpoints/1-checkpoint.png", "$RECYCLE.BIN/1.png"),
    *("ant/Thumbs.db", "ant/desktop.ini", "System Volume Information/1.png", "@Recycle/1.png", "ant/.DS_Store"),
)
GOOD = ("ant/1.png", "bee/2.png")
SAID = "system files and folders such as @eaDir, __MACOSX or Thumbs.db"


def test_in_a_folder(tmp_path: Path, capsys) -> None:
    folder = draw(tmp_path / "p", *GOOD, *LEFT)
    for _ in range(2):  # the second time from the index
        assert table(opened(folder)) == {"train": ["1.png ant", "2.png bee"]}
        assert f"skipped {SAID} (13)" in capsys.readouterr().err


def test_in_a_zip(tmp_path: Path, capsys) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for number, name in enumerate((*GOOD, *LEFT)):
            archive.writestr(f"wrap/{name}", png(number))
    assert table(opened(tmp_path / "p.zip")) == {"train": ["1.png ant", "2.png bee"]}
    assert f"skipped {SAID} (13)" in capsys.readouterr().err


def test_in_shards(tmp_path: Path, capsys) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for name in ("1.png", "2.png", "@eaDir/1.png", "._1.png"):
            for suffix, data in (("png", png()), ("txt", name[:1].encode())):
                info = tarfile.TarInfo(name.replace("png", suffix))
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    assert len(opened(tmp_path / "s.tar").split("train")) == 2
    assert "skipped 4 files" in capsys.readouterr().err


def test_beside_tables(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,label\na,x\nb,y\n")
    (tmp_path / "._train.csv").write_bytes(b"\0\5\x16\7")
    (tmp_path / "__MACOSX").mkdir()
    assert len(opened(tmp_path).split("train")) == 2


@pytest.mark.parametrize("name", ["eadir", "thumbs", "system", "recycle", "@home", "lost", "a._b"])
def test_ordinary_names_are_none(name: str) -> None:
    assert not is_system(name.encode())
