"""Pascal VOC: a folder with ``Annotations/*.xml``, ``JPEGImages/``, and lists of the splits in ``ImageSets/``.

Objects are in the XML files; ``kind=masks`` takes their masks from ``SegmentationObject/``, and ``kind=semantic`` reads
``SegmentationClass/``, where 0 is the background, then come the classes in their order, and 255 is unknown.
``difficult`` objects are neither learned from nor counted, as in VOC's own measure: they are ``Objects.difficult``.
Corners are taken as they are written, but the challenge's own files count pixels from 1. Class names are those of the
training split, sorted (which is the challenge's order), or of ``classes.json``.
"""

from __future__ import annotations

import codecs
import dataclasses
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrail import console
from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.indexing.names import classes_beside
from vitrail.data.media.decode import BadImage
from vitrail.data.media.formats import SUFFIXES
from vitrail.data.media.read import read_regular
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.maps import MapFiles, NumberedMasks
from vitrail.data.storage.objects import Columns, finite, number_of, offers, size_fault, unknown_class
from vitrail.data.targets import Labels
from vitrail.errors import UserError

XML, IMAGES, LISTS = "Annotations", "JPEGImages", "ImageSets"
CLASS_MAPS, OBJECT_MAPS = "SegmentationClass", "SegmentationObject"
NEEDED = {"boxes": XML, "masks": XML, "semantic": CLASS_MAPS}
"""The folder that each kind is read from."""
LISTS_OF = {"boxes": "Main", "masks": "Segmentation", "semantic": "Segmentation"}
"""The folder of the lists of its splits."""
BACKGROUND = "background"
_ENCODING = re.compile(rb"""^<\?xml[^>]*\bencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_READ = re.compile(r"(utf-(8|16)|ascii|iso8859-|cp125|koi8|gb|big5|shift_jis|euc_)")
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return (path / IMAGES).is_dir() and any((path / each).is_dir() for each in (XML, CLASS_MAPS))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for a folder of another layout, and with all flaws for annotations that cannot be read."""
    root = config.path
    if not (root / IMAGES).is_dir():
        raise UserError(f"{root} holds no folder {IMAGES!r}, as Pascal VOC has; check the path")
    offered = [kind for kind, needed in NEEDED.items() if (root / needed).is_dir()]
    if not offered:
        raise UserError(f"{root} holds neither {XML!r} nor {CLASS_MAPS!r}; read its images with labelled=false")
    kind = config.choose(offered)
    splits = _lists(root, LISTS_OF[kind])
    pictures = {Path(name).stem: name for name in sorted(os.listdir(root / IMAGES)) if name.lower().endswith(SUFFIXES)}
    entries = _entries(root, splits)
    first = entries.get("train") or next(iter(entries.values()), [])
    seen = tuple(sorted({name for entry in first for name, _, _ in entry.objects}))
    if NEEDED[kind] == CLASS_MAPS:
        return _semantic(splits, pictures, seen, config)
    classes = config.classes or tuple(c for c in classes_beside(root) if c != BACKGROUND) or seen
    sources: dict[str, Source] = {}
    for split, names in splits.items():
        columns = _columns(entries[split], pictures, root, classes)
        masks = NumberedMasks(MapFiles.at(root / OBJECT_MAPS, list(_pngs(names))))
        found = dataclasses.replace(columns.close(range(1, len(classes) + 1)), masks=masks)
        sources[split] = columns.files(root / IMAGES).labelled(offers(found, classes)[kind])
    return sources


@dataclass(frozen=True)
class _Entry:
    name: str
    size: tuple[int, int]
    objects: list[tuple[str, tuple[float, ...], bool]]  # class, xyxy, difficult


def _entries(root: Path, splits: dict[str, list[str]]) -> dict[str, list[_Entry]]:
    """What the XML files say of each split's images; nothing where there are none."""
    entries: dict[str, list[_Entry]] = {split: [] for split in splits}
    flaws: list[Flaw] = []
    for split, names in splits.items() if (root / XML).is_dir() else ():
        for name in names:
            try:
                entries[split].append(_read(root / XML / f"{name}.xml", name))
            except BadAnnotations as error:
                flaws += error.flaws
    if flaws:
        raise BadAnnotations(flaws)
    return entries


def _lists(root: Path, name: str) -> dict[str, list[str]]:
    """The names of each split's images; all are training where there are no lists."""
    folder = root / LISTS / name
    if not folder.is_dir():
        folder = root / LISTS / "Main"
    lists = {
        split: folder / f"{split}.txt" for split in ("train", "val", "test") if (folder / f"{split}.txt").is_file()
    }
    if not lists and (folder / "trainval.txt").is_file():
        lists = {"train": folder / "trainval.txt"}
    if not lists:
        place, suffix = (XML, ".xml") if (root / XML).is_dir() else (CLASS_MAPS, ".png")
        return {"train": sorted(file.stem for file in (root / place).glob(f"*{suffix}"))}
    return {
        split: [line.split()[0] for line in _text(file).splitlines() if line.strip()] for split, file in lists.items()
    }


def _text(file: Path) -> str:
    try:
        return read_regular(file).decode("utf-8")
    except (BadImage, UnicodeDecodeError) as error:
        raise UserError(f"{file} {error}; repair it") from None


def _read(file: Path, name: str) -> _Entry:
    """Raises BadAnnotations where the file is missing, is no XML, or an object lacks its class or its corners."""
    shown = console.printable(str(file))
    try:
        text = _decoded(read_regular(file))
        if "<!" in text.replace("<!--", ""):
            raise BadImage("defines entities or the like, which no annotation needs")
        tree = ElementTree.fromstring(text)
        size = int(tree.findtext("size/height", "")), int(tree.findtext("size/width", ""))
        if fault := size_fault(*size):
            raise BadImage(fault)
    except BadImage as error:
        raise BadAnnotations([Flaw(shown, 0, str(error))]) from None
    except (ElementTree.ParseError, ValueError) as error:
        what = f"is no XML: {error}" if isinstance(error, ElementTree.ParseError) else "lacks the image's size"
        raise BadAnnotations([Flaw(shown, 0, what)]) from None
    from_one = "PASCAL VOC" in tree.findtext("source/annotation", "").upper()
    objects = []
    flaws = []
    for place, each in enumerate(tree.iter("object")):
        label = (each.findtext("name") or "").strip()
        try:
            corners = [float(each.findtext(f"bndbox/{side}", "")) for side in _SIDES]
        except ValueError:
            corners = [np.nan]
        if not label or not finite(corners):
            flaws.append(Flaw(shown, place, f"object {place} lacks a name or the corners of its bndbox"))
            continue
        shift = (1, 1, 0, 0) if from_one else (0, 0, 0, 0)
        box = tuple(corner - by for corner, by in zip(corners, shift, strict=True))
        objects.append((label, box, each.findtext("difficult", "0").strip() == "1"))
    if flaws:
        raise BadAnnotations(flaws)
    return _Entry(name, size, objects)


def _decoded(data: bytes) -> str:
    """The text of an XML file in the encoding that it declares, so that what is looked for in it is what is parsed.

    Raises:
        BadImage: it is no text in that encoding, or in one that is not read.
    """
    declared = _ENCODING.search(data[:200])
    encoding = declared[1].decode("ascii").lower() if declared else "utf-8-sig"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif encoding in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    try:
        if not _READ.match(codecs.lookup(encoding).name):
            raise LookupError
        return data.decode(encoding)
    except (LookupError, ValueError):
        raise BadImage(f"is no text of the encoding {encoding!r}; save it as UTF-8") from None


def _columns(entries: list[_Entry], pictures: dict[str, str], root: Path, classes: tuple[str, ...]) -> Columns:
    columns = Columns()
    number = number_of(classes)
    for entry in entries:
        columns.image(os.fsencode(pictures.get(entry.name, f"{entry.name}.jpg")), entry.size)
        for place, (name, box, difficult) in enumerate(entry.objects):
            if name not in number:
                file = console.printable(str(root / XML / f"{entry.name}.xml"))
                columns.flaws.append(Flaw(file, place, f"object {place} has the {unknown_class(name, classes)}"))
                continue
            columns.add(box, number[name], difficult=difficult)
    return columns


def _semantic(
    splits: dict[str, list[str]], pictures: dict[str, str], seen: tuple[str, ...], config: SourceConfig
) -> dict[str, Source]:
    root = config.path
    classes = config.classes or classes_beside(root) or ((BACKGROUND, *seen) if seen else ())
    if not classes:
        raise UserError(f'{root} names no classes; list them in {root / "classes.json"}, as ["{BACKGROUND}", "cat"]')
    sources: dict[str, Source] = {}
    for split, names in splits.items():
        columns = Columns()
        for name in names:
            columns.image(os.fsencode(pictures.get(name, f"{name}.jpg")), (1, 1))
        maps = MapFiles.at(root / CLASS_MAPS, list(_pngs(names)))
        sources[split] = columns.files(root / IMAGES).labelled(Labels("semantic", classes, maps))
    return sources


def _pngs(names: list[str]) -> Iterator[bytes]:
    return (os.fsencode(re.sub(r"\.[a-z]+$", "", name) + ".png") for name in names)
