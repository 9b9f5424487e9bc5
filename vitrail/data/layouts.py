"""Data sets that programs export, and what a folder lacks to be one of them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vitrail.data.media.formats import SUFFIXES
from vitrail.data.storage.mask_folders import IMAGES, PLAIN_MASKS
from vitrail.errors import UserError

_LOOKED_AT = 2000  # entries
_ANNOTATIONS = (".xml", ".json", ".txt", ".yaml", ".yml", ".csv", ".data")


@dataclass(frozen=True)
class Layout:
    """A layout that is read.

    Attributes:
        name: of the format.
        expected: what belongs to it.
        folders: words for its folders, in lower case.
        suffixes: of its files of annotations.
    """

    name: str
    expected: str
    folders: frozenset[str]
    suffixes: frozenset[str]


LAYOUTS = (
    Layout(
        "Pascal VOC",
        "Annotations/*.xml and JPEGImages/, or annotations/*.xml and images/, or XML files beside their images",
        frozenset({"jpegimages", "imagesets", "xmls", "xml"}),
        frozenset({".xml"}),
    ),
    Layout(
        "YOLO",
        "data.yaml with names: and train:, or obj.data, or images/, labels/*.txt and classes.txt",
        frozenset({"labels", "obj_train_data"}),
        frozenset({".txt", ".yaml", ".yml", ".data"}),
    ),
    Layout(
        "COCO",
        "annotations/instances_train.json, or a .json with images, annotations and categories beside the images",
        frozenset({"annotations", "train2017", "val2017"}),
        frozenset({".json"}),
    ),
    Layout(
        "folders of masks",
        "images/ and masks/ with a mask of the same name for each image, or x_mask.png beside x.jpg",
        frozenset({"masks", "mask", "segmentationclass", "gtfine", "leftimg8bit", "annotations", "groundtruth"}),
        frozenset({".png", ".tif"}),
    ),
)
_WORDS = frozenset({"images", "image", "img", "imgs"}).union(*(layout.folders for layout in LAYOUTS))


def refuse_incomplete(spec: str, path: Path) -> None:
    """Refuse a folder or ``.zip`` of annotations that would be taken for one of class folders.

    Raises:
        UserError: with the nearest layout, and what belongs to it.
    """
    if path.is_file():
        if path.suffix.lower() == ".zip" and (found := _packed_annotations(path)):
            raise UserError(
                f"{spec!r} holds annotations, such as {found}, which are read from folders: "
                "unpack it and give the folder"
            )
        return
    folders, counts = _look(path)
    words = _WORDS.intersection(folders)
    marks = {suffix: counts[suffix] for suffix in _ANNOTATIONS if counts.get(suffix)}
    top = {entry.name.lower() for _, entry in _entries(path, 0) if entry.is_dir()}
    if len(words) < 2 and not (top and top <= words and marks) and not _beside_images(path):
        return
    layout = max(LAYOUTS, key=lambda each: _score(each, folders, counts))
    if not _score(layout, folders, counts):
        return
    raise UserError(
        f"{spec!r} is laid out like {layout.name} and not quite so: expected are {layout.expected}; complete it, or "
        "read its images with labelled=false"
    )


def _score(layout: Layout, folders: frozenset[str], counts: dict[str, int]) -> int:
    files = sum(counts.get(suffix, 0) for suffix in layout.suffixes if suffix in _ANNOTATIONS)
    return 3 * len(layout.folders & folders) + 2 * min(files, 2)


def _beside_images(path: Path) -> bool:
    """Whether images lie in the folder itself, where no class is, among about as many files of annotations."""
    suffixes = [os.path.splitext(entry.name)[1].lower() for _, entry in _entries(path, 0)]
    images = sum(suffix in SUFFIXES for suffix in suffixes)
    return images > 0 and any(2 * suffixes.count(suffix) >= images for suffix in (".xml", ".json", ".txt"))


def _look(path: Path) -> tuple[frozenset[str], dict[str, int]]:
    """(names of folders down to two levels, in lower case; files of each suffix there)."""
    folders, counts = set[str](), dict[str, int]()
    for count, (depth, entry) in enumerate(_entries(path, 2)):
        if count > _LOOKED_AT:
            break
        if entry.is_dir():
            folders.add(entry.name.lower())
        elif depth <= 2:
            suffix = os.path.splitext(entry.name)[1].lower()
            counts[suffix] = counts.get(suffix, 0) + 1
    return frozenset(folders), counts


def _entries(path: Path, depth: int, level: int = 0) -> Iterator[tuple[int, os.DirEntry[str]]]:
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)[:_LOOKED_AT]
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        yield level, entry
        if depth > level and entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path), depth, level + 1)


def _packed_annotations(path: Path) -> str | None:
    """The first member of a ``.zip`` that is a file of annotations, if images are there too."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile):  # which reading it tells
        return None
    if not any(name.lower().endswith(SUFFIXES) for name in names):
        return None
    plain = [name for name in names if not name.startswith("__MACOSX")]
    folders = {part.lower() for name in plain for part in name.split("/")[:-1]}
    if not folders.isdisjoint(IMAGES) and (masks := folders.intersection(PLAIN_MASKS)):
        return next(name for name in plain if masks.intersection(name.lower().split("/")[:-1]))
    return next((name for name in plain if _is_annotation(name)), None)


def _is_annotation(name: str) -> bool:
    lower = name.lower()
    folder = os.path.basename(os.path.dirname(lower))
    if lower.endswith(".txt"):
        return folder in ("labels", "obj_train_data") or "/labels/" in lower
    return lower.endswith((".xml", ".yaml", ".yml")) or (lower.endswith(".json") and not lower.endswith("classes.json"))
