"""Folders, archives and tables of the corpus."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus_case import Case, Expect, good_folder, photo, png

DATA: list[Case] = []

# 35-46: folders and archives -------------------------------------------------------------------------------------


def _folder(
    number: int,
    name: str,
    change: Callable[[Path], None],
    expect: Expect = "reject",
    *,
    splits: tuple[str, ...] = (),
    cause: str = "",
    after_open: Callable[[Path], None] | None = None,
) -> None:
    def build(root: Path) -> Path:
        folder = good_folder(root / "photos", splits=splits)
        change(folder)
        return folder

    DATA.append(Case(number, name, "folder", expect, build, cause=cause, after_open=after_open))


def _outside(folder: Path, *, directory: bool) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret.png").write_bytes(png(photo(9)))
    link = folder / "cat" / ("more" if directory else "secret.png")
    link.symlink_to(elsewhere if directory else elsewhere / "secret.png")


def _drop(folder: Path, name: str) -> None:
    for file in (folder / name).iterdir():
        file.unlink()
    (folder / name).rmdir()


def _add(folder: Path, name: str, seed: int = 1) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(png(photo(seed)))


def _nest(folder: Path) -> None:
    for name in ("cat", "dog"):
        _drop(folder, name)
        for leaf in ("small", "large"):
            for i in range(3):
                _add(folder, f"{name}/{leaf}/{i}.png", hash((name == "cat", leaf == "small", i)) % 1000)


def _same_bytes(folder: Path) -> None:
    (folder / "dog" / "copy.png").write_bytes((folder / "cat" / "0.png").read_bytes())


_folder(35, "symlink-loop", lambda f: (f / "cat" / "again").symlink_to(f), "accept")
_folder(36, "symlink-to-a-file-outside", lambda f: _outside(f, directory=False), cause="link out of")
_folder(36, "symlink-to-a-folder-outside", lambda f: _outside(f, directory=True), cause="link out of")
_folder(39, "empty-class", lambda f: (f / "bird").mkdir(), cause="allow-empty-class")
_folder(40, "one-class", lambda f: _drop(f, "dog"), cause="one class")
_folder(40, "images-in-the-root", lambda f: _add(f, "stray.png"), cause="outside any class folder")
_folder(
    41, "class-absent-from-training", lambda f: _add(f, "val/zebra/0.png"), splits=("train", "val"), cause="'zebra'"
)
_folder(42, "same-leaf-under-two-parents", _nest, cause="two levels of folders")
_folder(42, "images-beside-nested-folders", lambda f: _add(f, "cat/more/9.png"), cause="class_level")
_folder(43, "same-bytes-under-two-labels", _same_bytes, "report", cause="different labels")
_folder(44, "classes-that-differ-by-case", lambda f: _add(f, "Cat/0.png"), "warn", cause="case")
_folder(
    45,
    "file-deleted",
    lambda f: None,
    cause="no such file",
    after_open=lambda f: (f / "cat" / "0.png").unlink(),
)
_folder(46, "fifo", lambda f: os.mkfifo(f / "cat" / "pipe.png"), "accept")
_folder(46, "link-to-a-device", lambda f: (f / "cat" / "zero.png").symlink_to("/dev/zero"), cause="link out of")


def _tar(entries: Callable[[tarfile.TarFile], None]) -> Callable[[Path], Path]:
    def build(root: Path) -> Path:
        with tarfile.open(root / "shard.tar", "w") as archive:
            for i in range(4):
                add_to_tar(archive, f"{i}.png", png(photo(i)))
                add_to_tar(archive, f"{i}.cls", str(i % 2).encode())
            entries(archive)
        return root / "shard.tar"

    return build


def _zip(entries: Callable[[zipfile.ZipFile], None]) -> Callable[[Path], Path]:
    def build(root: Path) -> Path:
        with zipfile.ZipFile(root / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for i in range(4):
                archive.writestr(f"{'cat' if i % 2 else 'dog'}/{i}.png", png(photo(i)))
            entries(archive)
        return root / "photos.zip"

    return build


def add_to_tar(archive: tarfile.TarFile, name: str, content: bytes = b"", **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(content))


def _zip_link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("cat/link.png")
    info.external_attr = 0o120777 << 16
    archive.writestr(info, "/etc/passwd")


def _zip_twice(archive: zipfile.ZipFile) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns about exactly this
        archive.writestr("cat/1.png", png(photo(77)))


def _archive(number: int, name: str, build: Callable[[Path], Path], cause: str) -> None:
    DATA.append(Case(number, name, "archive", "reject", build, cause=cause))


for _kind, _member in {"dot-dot": "../evil.png", "absolute": "/tmp/evil.png"}.items():
    _archive(37, f"tar-{_kind}", _tar(lambda a, n=_member: add_to_tar(a, n, png(photo(8)))), "leads out")
    _archive(37, f"zip-{_kind}", _zip(lambda a, n=_member: a.writestr(n, png(photo(8)))), "leads out")
_archive(
    37, "tar-symlink", _tar(lambda a: add_to_tar(a, "9.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")), "link"
)
_archive(37, "tar-hard-link", _tar(lambda a: add_to_tar(a, "9.png", type=tarfile.LNKTYPE, linkname="0.png")), "link")
_archive(37, "tar-device", _tar(lambda a: add_to_tar(a, "9.png", type=tarfile.CHRTYPE)), "device")
_archive(37, "zip-symlink", _zip(_zip_link), "link")
_archive(38, "zip-bomb", _zip(lambda a: a.writestr("cat/bomb.png", bytes(150_000_000))), "limit")
_archive(
    38,
    "zip-of-many-bombs",
    _zip(lambda a: [a.writestr(f"cat/{i}.bmp", bytes(60_000_000)) for i in (90, 91, 92)]),
    "expand",
)
_archive(38, "zip-duplicate-member", _zip(_zip_twice), "twice")
_archive(38, "tar-duplicate-member", _tar(lambda a: add_to_tar(a, "0.png", png(photo(77)))), "twice")
_archive(38, "tar-pickle", _tar(lambda a: add_to_tar(a, "0.pkl", b"\x80\x04N.")), "pickle")

# 48: tables ------------------------------------------------------------------------------------------------------


_NAMES, _INDICES, _NUMBERS = ["cat", "cat", "dog", "dog"], ["0", "0", "1", "1"], ["1.5", "2.5", "0.25", "4.0"]


def _table(name: str, row: str, labels: list[str], *, classes: bool = False) -> None:
    def build(root: Path) -> Path:
        good_folder(root, splits=())
        paths = ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]
        rows = [f"{path},{label}" for path, label in zip(paths, labels, strict=True)]
        (root / "labels.csv").write_text("\n".join(["path,label", *rows, row]) + "\n")
        if classes:
            (root / "classes.json").write_text('["cat", "dog"]')
        return root / "labels.csv"

    DATA.append(Case(48, f"csv-{name}", "table", "reject", build, cause="row 6"))


_table("label-missing", "dog/2.png,", _NAMES)
_table("label-nan", "dog/2.png,nan", _NAMES)
_table("label-out-of-range", "dog/2.png,7", _INDICES, classes=True)
_table("label-negative", "dog/2.png,-1", _INDICES)
_table("label-unknown", "dog/2.png,cow", _NAMES, classes=True)
_table("number-nan", "dog/2.png,nan", _NUMBERS)
_table("number-infinite", "dog/2.png,inf", _NUMBERS)
_table("duplicated", "cat/0.png,cat", _NAMES)
