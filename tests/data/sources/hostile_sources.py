"""Data that was made to hang, to fill the memory or to end in a traceback: builders by name, in an empty folder."""

from __future__ import annotations

import io
import itertools
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Build = Callable[[Path], Path]
IMAGE = {"id": 1, "file_name": "a.png", "height": 32, "width": 32}
OBJECT = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
LARGE = 2**70


def picture(path: Path, size: tuple[int, int] = (32, 32)) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (9, 9, 9)).save(path)
    return path.read_bytes()


def coco(
    annotation: dict[str, Any] | None = None,
    image: dict[str, Any] | None = None,
    categories: list[Any] | None = None,
    text: Callable[[], str] | None = None,
) -> Build:
    def build(folder: Path) -> Path:
        picture(folder / "a.png")
        content = {
            "images": [IMAGE | (image or {})],
            "annotations": [OBJECT | (annotation or {})],
            "categories": categories or [{"id": 1, "name": "x"}],
        }
        (folder / "train.json").write_text(text() if text else json.dumps(content))
        return folder / "train.json"

    return build


def outline(far: float) -> Build:
    return coco({"segmentation": [[-far, -far, far, -far, far, far, -far, 0.9 * far]]})


def zigzag() -> Build:
    return coco({"segmentation": [[side for place in range(50_000) for side in (place % 2 * 300 - 20, place % 7)]]})


def yolo(settings: str | bytes = "names: [x]\ntrain: images\n", labels: str = "0 .5 .5 .2 .2\n") -> Build:
    def build(folder: Path) -> Path:
        picture(folder / "images" / "a.png")
        (folder / "labels").mkdir()
        (folder / "labels" / "a.txt").write_text(labels)
        data = settings if isinstance(settings, bytes) else settings.encode("utf-8", "surrogatepass")
        (folder / "data.yaml").write_bytes(data)
        return folder

    return build


def bomb(use: str) -> Build:
    letters = "abcdefghi"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for before, letter in itertools.pairwise(letters):
        lines.append(f"{letter}: &{letter} [{', '.join([f'*{before}'] * 10)}]")
    return yolo("\n".join([*lines, use]) + "\n")


def table(text: str | bytes, **_: Any) -> Build:
    def build(folder: Path) -> Path:
        for name in ("a.png", "b.png"):
            picture(folder / name)
        (folder / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder / "t.csv"

    return build


def classes(text: str) -> Build:
    def build(folder: Path) -> Path:
        (folder / "classes.json").write_text(text)
        return table("path,label\na.png,x\nb.png,y\n")(folder)

    return build


def fifo(name: str, spec: str = "", **others: str) -> Build:
    def build(folder: Path) -> Path:
        picture(folder / "images" / "a.png")
        for other, text in others.items():
            (folder / other.replace("_", ".")).write_text(text)
        (folder / name).parent.mkdir(exist_ok=True)
        os.mkfifo(folder / name)
        return folder / spec if spec else folder

    return build


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


PIXELS, LABELS = np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 0, 1])


def arrays(**changes: Any) -> Build:
    def build(folder: Path) -> Path:
        np.savez(folder / "d.npz", **{"images": PIXELS, "labels": LABELS} | changes)
        return folder / "d.npz"

    return build


def members(*content: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, spoil: Any = None) -> Build:
    def build(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "d.npz", "w", method) as archive:
            for name, data in content:
                archive.writestr(name, data)
        if spoil is not None:
            data = bytearray((folder / "d.npz").read_bytes())
            spoil(data)
            (folder / "d.npz").write_bytes(data)
        return folder / "d.npz"

    return build


def header(text: str) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


def encrypt(data: bytearray) -> None:
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = data.find(magic)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(magic, place + 4)


def flip(data: bytearray) -> None:
    for place in range(60, 90):
        data[place] ^= 0xFF


def shard(labels: list[str], after: bytes = b"") -> Build:
    def build(folder: Path) -> Path:
        image = picture(folder / "a.png")
        path = folder / "s.tar"
        with tarfile.open(path, "w") as archive:
            for place, label in enumerate(labels):
                for name, data in ((f"{place}.png", image), (f"{place}.json", label.encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
            end = archive.offset
        path.write_bytes(path.read_bytes()[:end] + after + bytes(1024))
        return path

    return build


def tar_header(name: str, kind: bytes, size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf()


VOC = (
    "<annotation><size><width>32</width><height>{height}</height></size><object><name>{name}</name><bndbox>"
    "<xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>"
)


def voc(before: str, *, name: str = "x", height: str = "32", encoding: str = "utf-8", names: bytes = b"a\n") -> Build:
    def build(folder: Path) -> Path:
        for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (folder / part).mkdir(parents=True)
        picture(folder / "JPEGImages" / "a.png")
        text = before + VOC.format(name=name, height=height)
        (folder / "Annotations" / "a.xml").write_bytes(text.encode(encoding))
        (folder / "ImageSets" / "Main" / "train.txt").write_bytes(names)
        return folder

    return build


def voc_among(classes: list[str]) -> Build:
    def build(folder: Path) -> Path:
        (voc("")(folder) / "classes.json").write_text(json.dumps(classes))
        return folder

    return build


def declared(encoding: str) -> str:
    return f'<?xml version="1.0" encoding="{encoding}"?>'


ENTITY = '<!DOCTYPE a [<!ENTITY e "x">]>'
TRUE, DEEP = [{"id": 1, "name": "x"}], "[" * 100_000

REFUSED: dict[str, tuple[Build, str]] = {
    "an outline in pixels": (yolo(labels="0 -1e6 -1e6 1e6 0 1e6 1e6\n"), "shares of width and height, up to 1"),
    # COCO
    "an image's id beyond int64": (coco({"image_id": LARGE}, {"id": LARGE}), "which is no number or text"),
    "a category's id beyond int64": (
        coco({"category_id": LARGE}, None, [{"id": LARGE, "name": "x"}]),
        "which is no number",
    ),
    "categories of mixed ids": (coco(categories=[*TRUE, {"id": "a", "name": "y"}, {"name": "z"}]), "lacks an id"),
    "a category called by a list": (coco({"category_id": ["a"]}, None, [{"id": ["a"], "name": "x"}]), "no number"),
    "an image of 2⁴⁰ pixels a side": (coco(None, {"height": 2**40, "width": 2**40}), "PIXELS"),
    "an image of 10⁵ pixels a side": (coco(None, {"height": 10**5, "width": 10**5}), "PIXELS"),
    "a box beyond every float": (coco({"bbox": [0, 0, 10**400, 5]}), "bbox"),
    "a box beyond float32": (coco({"bbox": [0, 0, 1e300, 5]}), "bbox"),
    "an area beyond every float": (coco({"area": 10**400}), "area"),
    "an outline beyond every float": (coco({"segmentation": [[0, 0, 10**400, 1, 5, 5]]}), "polygon"),
    "a name that is half a character": (coco(None, {"file_name": "\ud800.png"}), "no file can have"),
    "a class that is half a character": (coco(categories=[{"id": 1, "name": "\ud800"}]), "no text"),
    "lists in lists": (coco(text=lambda: '{"images":' + DEEP), "JSON"),
    "a number of 5,000 digits": (coco(text=lambda: '{"images":[{"id":' + "1" * 5000 + "}]}"), "JSON"),
    "an annotation FIFO": (fifo("train.json", "train.json"), "no data"),
    # YOLO
    "a bomb for names": (bomb("names: *i\ntrain: images"), "VITRAIL_MAX_YAML_NODES"),
    "a bomb for a name": (bomb("names: [*i]\ntrain: images"), "VITRAIL_MAX_YAML_NODES"),
    "a bomb for a place": (bomb("names: [x]\ntrain: *i"), "VITRAIL_MAX_YAML_NODES"),
    "a bomb aside": (bomb("names: [x]\ntrain: images"), "VITRAIL_MAX_YAML_NODES"),
    "a list of itself": (yolo("names: &a [*a]\ntrain: images\n"), "itself"),
    "YAML in depth": (yolo("names: " + "[" * 500 + "]" * 500 + "\n"), "deep|nest"),
    "blocks in depth": (yolo("".join(" " * place + "a:\n" for place in range(300))), "deep"),
    "a month 13": (yolo("names: [x]\ntrain: images\nx: 2020-13-45\n"), "YAML"),
    "an integer of 5,000 digits": (yolo("names: [x]\ntrain: images\nx: " + "1" * 5000 + "\n"), "YAML"),
    "a name of 5,000 digits": (yolo("names: [x, 0x" + "1" * 5000 + "]\ntrain: images\n"), "bits"),
    "a word that is said to be a number": (yolo("names: [x]\ntrain: !!int x\n"), "YAML"),
    "names by mixed keys": (yolo("names: {0: a, x: b}\ntrain: images\n"), "no list of distinct"),
    "names that are lists": (yolo("names: [[a], [b]]\ntrain: images\n"), "no list of distinct"),
    "a path without end": (yolo('names: [x]\ntrain: "' + "a" * 300 + '"\n'), "there is no"),
    "a FIFO for a list": (fifo("list.txt", data_yaml="names: [x]\ntrain: list.txt\n"), "list.txt is not a regular"),
    # tables and names
    "a NUL in a path": (table("path,label\na\0.png,x\nb.png,y\n"), "no text in UTF-8"),
    "a FIFO for a table": (fifo("t.csv", "t.csv"), "not a regular file"),
    "half a character among the classes": (classes('["x", "y", "\\ud800"]'), "no text"),
    "classes in depth": (classes(DEEP), "classes.json"),
    # arrays
    "an archive FIFO": (fifo("d.npz", "d.npz"), "not a regular file"),
    "one number for labels": (arrays(labels=np.int64(3)), "labels are int64 of shape"),
    "one name for classes": (arrays(classes=np.array("a")), "classes are"),
    "complex labels": (arrays(labels=np.array([1j, 0, 0, 1])), "labels are complex"),
    "dates for labels": (arrays(labels=np.array([1, 0, 0, 1], "M8[s]")), "labels are datetime"),
    "records for labels": (arrays(labels=np.zeros(4, [("x", "f4")])), "labels are"),
    "bytes that are no names": (arrays(labels=np.array([b"a", b"\xff", b"a", b"b"])), "no text"),
    "a text in the archive": (members(("images.npy", b"hello")), "cannot be read"),
    "an archive of packed nothing": (members(("images.npy", npy(PIXELS) + bytes(150_000_000))), "unpack"),
    "a header in depth": (members(("images.npy", header("(" * 5000))), "cannot be read"),
    "a header of a shape below zero": (
        members(("images.npy", header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -4, 3)}") + bytes(12))),
        "impossible",
    ),
    "an array cut short": (members(("images.npy", npy(PIXELS)[:-5])), "does not fit"),
    "an array twice packed": (members(("images.npy", npy(PIXELS)), method=zipfile.ZIP_BZIP2), "no plain array"),
    "broken packing": (members(("images.npy", npy(PIXELS)), ("labels.npy", npy(LABELS)), spoil=flip), ""),
    "an encrypted archive": (members(("images.npy", npy(PIXELS)), spoil=encrypt), "no plain array"),
    "names that are no characters": (
        members(
            ("images.npy", npy(PIXELS)),
            ("labels.npy", npy(np.array(["a"] * 4)).replace(b"a\0\0\0", b"\xff\xff\xff\xff")),
        ),
        "no text",
    ),
    # shards
    "headers before headers": (shard(["0", "1"], tar_header("x", b"x") * 3000), "without end"),
    "long names before long names": (
        shard(["0", "1"], (tar_header("x", b"L", 10) + b"name".ljust(512, b"\0")) * 3000),
        "without end",
    ),
    "a label in depth": (shard(["[" * 60_000, "1"]), "damaged label"),
    "shards without end": (lambda folder: folder / "x-{0..99999999999}.tar", "braces"),
    # VOC
    "an encoding that does not exist": (voc(declared("nope")), "encoding"),
    "an encoding of bytes": (voc(declared("base64")), "encoding"),
    "an encoding of escapes": (voc(declared("unicode_escape")), "encoding"),
    "an entity in UTF-16": (voc(declared("utf-16") + ENTITY, name="&e;", encoding="utf-16"), "entities"),
    "an entity in EBCDIC": (voc(declared("cp037"), name="x"), "encoding"),
    "a height of 30 digits": (voc("", height="9" * 30), "no number of pixels"),
    "a class whose name has two lines": (voc_among(["a\nb", "c"]), "unknown class"),
    "a height below zero": (voc("", height="-3"), "no number of pixels"),
    "a NUL in a list": (voc("", names=b"a\0b\n"), "NUL"),
}
BAD: dict[str, tuple[Build, str]] = {
    # what is found when an image's turn comes
    **{f"an outline of ±1e{power}": (outline(10.0**power), "beyond the image") for power in (4, 6, 9, 17)},
    "an outline without end": (zigzag(), "pixels long"),
    "runs that overflow": (coco({"segmentation": {"size": [32, 32], "counts": [2**62] * 4 + [1024]}}), "broken mask"),
    "a run beyond int64": (coco({"segmentation": {"size": [32, 32], "counts": [LARGE]}}), "broken mask"),
    "runs of words": (coco({"segmentation": {"size": [32, 32], "counts": ["a", {}]}}), "broken mask"),
    "a run below zero": (coco({"segmentation": {"size": [32, 32], "counts": [-1, 1025]}}), "broken mask"),
}
TAKEN: dict[str, Build] = {
    "labels of several lengths": shard(["[1, 2]", "[1]"]),
    "no labels beside some": shard(["[]", "[1]"]),
    "UTF-16 without entities": voc(declared("utf-16"), encoding="utf-16"),
    "anchors that are used": yolo("a: &a [x, y]\nnames: *a\ntrain: images\n"),
}
