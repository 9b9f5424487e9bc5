"""Pascal VOC's XML files, one an image, and the layouts that they are found in."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.indexing.spelling import composed
from vitrail.data.media.decode import BadImage
from vitrail.data.media.formats import SUFFIXES
from vitrail.data.media.read import read_regular, read_size
from vitrail.data.media.text import read_text
from vitrail.data.media.xml_text import read_xml
from vitrail.data.source import split_called
from vitrail.data.storage.coco_files import whole
from vitrail.data.storage.files import cased
from vitrail.data.storage.outlines import finite, size_fault
from vitrail.errors import UserError

LISTS = "ImageSets"
XML_FOLDERS = ("annotations", "annotation", "annots", "xmls", "xml", "labels", "label")
IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img")
"""In lower case, the usual ones first."""
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_FLAG = re.compile(r"(?<!\s)\s+(-1|0|1)$")
_HEAD = 2000


@dataclass(frozen=True)
class VocFolders:
    """Where the XML files and the images of a split, or of all, lie."""

    xml: Path
    images: Path


@dataclass(frozen=True)
class Entry:
    """What an XML file says.

    Attributes:
        name: of the XML file in its folder, without suffix.
        picture: what it calls its image.
        size: (height, width); None where it does not say.
        objects: class, box_xyxy and whether it is difficult.
    """

    name: str
    picture: str
    size: tuple[int, int] | None
    objects: list[tuple[str, tuple[float, ...], bool]]


def voc_folders(path: Path) -> dict[str, VocFolders]:
    """The folders by split; by "" those of all images, which lists may divide."""
    if not path.is_dir():
        return {}
    if (own := _folders_in(path)) is not None:
        return {"": own}
    found: dict[str, VocFolders] = {}
    for folder in sorted(each for each in path.iterdir() if each.is_dir()):
        if (split := split_called(folder.name)) and (inner := _folders_in(folder)) is not None:
            found.setdefault(split, inner)
    return found


def _folders_in(path: Path) -> VocFolders | None:
    inner = {each.name.lower(): each for each in sorted(path.iterdir()) if each.is_dir()}
    images = next((inner[name] for name in IMAGE_FOLDERS if name in inner), path)
    for xml in (*(inner[name] for name in XML_FOLDERS if name in inner), path):
        if _holds_xml(xml, depth=0 if xml == path else 2):
            return VocFolders(xml, images)
    if "jpegimages" in inner and "annotations" in inner:  # empty, or of files that are no such XML
        return VocFolders(inner["annotations"], images)
    if images != path and _holds_xml(images, depth=0):
        return VocFolders(images, images)
    return None


def _holds_xml(folder: Path, depth: int) -> bool:
    for level in range(depth + 1):
        first = next(folder.glob("/".join(["*"] * level + ["*.[xX][mM][lL]"])), None)
        if first is not None:
            return is_voc(first)
    return False


def is_voc(file: Path) -> bool:
    """Whether an XML file is of one image, as Pascal VOC's are."""
    try:
        head = read_regular(file, 0)[:_HEAD]
    except BadImage:
        return False
    return b"<annotation>" in head.replace(b"\0", b"") or b"<annotation " in head


def stems(folder: Path, suffix: str) -> list[str]:
    """The names of such files in a folder and below it, relative and without suffix, sorted."""
    found = (Path(root, name) for root, _, names in os.walk(folder) for name in names if name.lower().endswith(suffix))
    return sorted(os.path.splitext(file.relative_to(folder).as_posix())[0] for file in found)


def xml_of(folder: Path, name: str) -> Path:
    """The XML file of a name, whose suffix may be in capitals."""
    return cased(folder / f"{name}.xml")


def listed(file: Path, folder: Path, suffix: str) -> list[str]:
    """The names that a list of a split has, as files of ``folder`` are called: a number behind a name is none of it,
    unless a file is called so, nor is the suffix of an image.

    Raises:
        UserError: it cannot be read.
    """
    try:
        lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    except BadImage as error:
        raise UserError(f"{file} {error}; repair it") from None
    found = []
    for line in lines:
        whole_line = line.replace("\\", "/")
        bare = _FLAG.sub("", whole_line)
        spelled = [name for each in (whole_line, bare) for name in (each, *_shortened(each))]
        known = (name for name in spelled if os.path.lexists(cased(folder / (name + suffix))))
        found.append(next(known, bare))
    return found


def _shortened(name: str) -> Iterator[str]:
    """A listed name without the suffix of an image, and without the folders before it."""
    stem, suffix = os.path.splitext(name)
    parts = (stem if suffix.lower() in SUFFIXES else name).split("/")
    yield from ("/".join(parts[start:]) for start in range(len(parts)))


def read_entry(file: Path, name: str) -> Entry:
    """Raises BadAnnotations where the file is missing, is no XML, or an object lacks its class or its corners."""
    shown = str(file)
    try:
        tree = read_xml(file)
    except BadImage as error:
        raise BadAnnotations([Flaw(shown, 0, str(error))]) from None
    sides = [(tree.findtext(f"size/{side}") or "").strip() for side in ("height", "width")]
    size = [_pixels(side) for side in sides]
    if None in size and sides != ["0", "0"]:  # as some programs write that do not know it
        wrong = next(side for side, number in zip(sides, size, strict=True) if number is None)
        cause = f"has the size {wrong!r}, which is no number of pixels" if wrong else "lacks the image's size"
        raise BadAnnotations([Flaw(shown, 0, cause)])
    from_one = "PASCAL VOC" in tree.findtext("source/annotation", "").upper()
    objects, flaws = [], []
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
        objects.append((label, box, (each.findtext("difficult") or "0").strip().lower() in ("1", "true")))
    if flaws:
        raise BadAnnotations(flaws)
    known = (size[0], size[1]) if size[0] is not None and size[1] is not None else None
    picture = (tree.findtext("filename") or "").strip()
    if known is not None and (fault := size_fault(*known, picture)):
        raise BadAnnotations([Flaw(shown, 0, fault)])
    return Entry(name, picture, known, objects)


def _pixels(text: str) -> int | None:
    try:
        return whole(float(text))
    except ValueError:
        return None


class Pictures:
    """The images below a folder, by the XML files that are of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_stem: dict[str, list[str]] = {}
        self._by_end: dict[str, list[str]] = {}
        for root, inner, names in os.walk(folder):
            inner[:] = sorted(each for each in inner if not each.startswith("."))
            for name in sorted(names):
                if name.lower().endswith(SUFFIXES):
                    path = Path(root, name).relative_to(folder).as_posix()
                    self._by_stem.setdefault(composed(os.path.splitext(path)[0]), []).append(path)
                    self._by_end.setdefault(composed(os.path.splitext(name)[0]), []).append(path)
        self.used: set[str] = set()

    def find(self, name: str, called: str = "") -> str:
        """The image of the XML file ``name``: of the same path, and of several of those the one that the file is
        ``called``; else by what it is called, or by the name alone where one image has it. ``name.jpg`` where there is
        none."""
        name, end = composed(name), composed(os.path.basename(called.replace("\\", "/")))
        same = self._by_stem.get(name, [])
        lonely = self._by_end.get(os.path.splitext(end)[0], []) if end else []
        alone = self._by_end.get(name.rpartition("/")[2], [])
        groups = [same, [path for path in lonely if composed(os.path.basename(path)) == end], alone]
        for group in groups:
            exact = [path for path in group if composed(os.path.basename(path)) == end]
            if exact or (group is same and group):
                return self._use((exact or group)[0])
            if len(group) == 1:
                return self._use(group[0])
        return f"{name}.jpg"

    @property
    def num_unused(self) -> int:
        """Images that no XML file is of."""
        return len({path for paths in self._by_stem.values() for path in paths} - self.used)

    def size(self, path: str) -> tuple[int, int]:
        """(height, width) of an image, from its header; (1, 1) where it cannot be read."""
        try:
            return read_size(os.fsencode(self._folder / path))
        except BadImage:
            return (1, 1)

    def _use(self, path: str) -> str:
        self.used.add(path)
        return path
