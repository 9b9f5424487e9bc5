"""COCO's panoptic segmentation: a ``.json`` for each split beside a folder of PNG maps of the same name.

In a folder the files are ``annotations/panoptic_<split>.json`` or lie beside each other; the maps of
``panoptic_val2017.json`` are in ``panoptic_val2017/``. Images are looked for as those of the source ``coco``. The
colour of a map's pixel is the id of a segment, R + 256 G + 65536 B; 0 is of none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np

from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.indexing.index import Strings
from vitrail.data.indexing.names import told_apart
from vitrail.data.segments import SegmentColumn
from vitrail.data.source import Source, SourceConfig
from vitrail.data.sources import coco
from vitrail.data.storage.coco_files import Id, annotation_files, flag, locate_images, numbered, own_id, split_of
from vitrail.data.storage.files import Files
from vitrail.data.storage.json_entries import read_entries
from vitrail.data.storage.json_kinds import kind_of
from vitrail.data.storage.locating import path_fault
from vitrail.data.storage.objects import number_of, unknown_class
from vitrail.data.storage.segments import MOST, IdMaps
from vitrail.data.targets import Labels

SECTIONS = ("images", "annotations", "categories")
USED = ("id", "category_id", "iscrowd")
"""Of a segment."""
PATTERNS = ("annotations/panoptic*.json", "panoptic*.json")


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    if path.is_file():
        return path.suffix.lower() == ".json" and kind_of(path) == "coco_panoptic"
    return bool(_found(path)) and not coco.matches(spec)


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for a file of another format, and with all flaws for entries that contradict each other."""
    files = _files(config)
    contents = {split: _read(file) for split, file in files.items()}
    categories, flaws = _categories(files, contents)
    keys = sorted(categories, key=lambda number: (isinstance(number, str), number))
    names = told_apart([categories[key].name for key in keys], keys)
    numbers = numbered(keys)
    classes = config.classes or names
    own, thing = (dict(zip(names, each, strict=True)) for each in (numbers, [categories[key].thing for key in keys]))
    free = max(numbers, default=0) + 1
    ids = [own[name] if name in own else free + place for place, name in enumerate(classes)]
    things = np.array([thing.get(name, True) for name in classes], bool)
    known = number_of(classes)
    label_of: dict[Id, int | str] = {key: known.get(name, name) for key, name in zip(keys, names, strict=True)}
    tables = {}
    for split, content in contents.items():
        tables[split] = table = _Table(files[split], classes)
        table.fill(content, label_of)
        flaws += table.flaws
    if flaws:
        raise BadAnnotations(flaws)
    sources: dict[str, Source] = {}
    for split, table in tables.items():
        root, paths = locate_images(files[split], split, table.images, config)
        images = Files(
            targets=np.empty(0, np.float32),
            kind="none",
            classes=(),
            root=os.fsencode(root),
            paths=Strings.of(paths),
        )
        column = table.column(things, np.array(ids, np.int64))
        sources[split] = images.labelled(Labels("panoptic", classes, column))
    return sources


@dataclass(frozen=True)
class _Category:
    name: str
    thing: bool


@dataclass(eq=False)
class _Table:
    """The images and segments of a file as they are read; ``flaws`` collects what is wrong."""

    file: Path
    classes: tuple[str, ...]
    images: list[str] = field(default_factory=list)
    maps: list[bytes] = field(default_factory=list)
    image_ids: list[Id] = field(default_factory=list)
    offsets: list[int] = field(default_factory=lambda: [0])
    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    flaws: list[Flaw] = field(default_factory=list)

    def fill(self, content: dict[str, Any], label_of: dict[Id, int | str]) -> None:
        """The annotated images, in the order of the file."""
        names: dict[Id, str] = {}
        for place, image in enumerate(content["images"]):
            number, name = own_id(image.get("id")), image.get("file_name")
            if number is None or (fault := _path_fault(name)):
                self._flaw(place, "image", "lacks an id" if number is None else f"has a file_name {fault}")
            elif number in names:
                self._flaw(place, "image", f"has the id {number}, which another one has")
            else:
                names[number] = name
        seen: set[Id] = set()
        for place, entry in enumerate(content["annotations"]):
            number, name = own_id(entry.get("image_id")), entry.get("file_name")
            if number is None or number not in names:
                self._flaw(place, "annotation", f"is of the image {entry.get('image_id')!r}, which is not in the file")
            elif number in seen:
                self._flaw(place, "annotation", f"is the second one of the image {number}")
            elif fault := _path_fault(name):
                self._flaw(place, "annotation", f"has a file_name {fault}")
            elif not isinstance(entry.get("segments_info"), list):
                self._flaw(place, "annotation", "has no list segments_info")
            else:
                seen.add(number)
                self.image_ids.append(number)
                self._add(place, names[number], entry, label_of)

    def _add(self, place: int, name: str, entry: dict[str, Any], label_of: dict[Id, int | str]) -> None:
        own: set[int] = set()
        for segment in entry["segments_info"]:
            number = segment.get("id") if isinstance(segment, dict) else None
            if not _is_id(number) or not 0 < number < MOST:
                self._flaw(place, "annotation", f"has a segment with the id {number!r}; ids go from 1 to {MOST - 1}")
                continue
            category = own_id(segment.get("category_id"))
            label = None if category is None else label_of.get(category)
            if number in own:
                self._flaw(place, "annotation", f"has the segment {number} twice")
            elif label is None:
                self._flaw(
                    place, "annotation", f"has the category {segment.get('category_id')!r}, which is not in the file"
                )
            elif isinstance(label, str):
                self._flaw(place, "annotation", f"has an {unknown_class(label, self.classes)}")
            else:
                own.add(number)
                self.ids.append(number)
                self.labels.append(label)
                self.crowd.append(flag(segment.get("iscrowd")))
        self.images.append(name)
        self.maps.append(os.fsencode(entry["file_name"]))
        self.offsets.append(len(self.ids))

    def column(self, things: np.ndarray, category_ids: np.ndarray) -> SegmentColumn:
        """The segments; their maps are read when they are asked for."""
        ids = np.array(self.ids, np.int64)
        return SegmentColumn(
            labels=np.array(self.labels, np.int64),
            crowd=np.array(self.crowd, bool),
            offsets=np.array(self.offsets, np.int64),
            image_ids=np.array(numbered(self.image_ids), np.int64),
            things=things,
            category_ids=category_ids,
            maps=IdMaps(os.fsencode(self.file.with_suffix("")), Strings.of(self.maps), ids),
            rows=np.arange(len(self.images)),
        )

    def _flaw(self, place: int, what: str, text: str) -> None:
        self.flaws.append(Flaw(str(self.file), place, f"{what} {place} {text}"))


def _read(file: Path) -> dict[str, list[dict[str, Any]]]:
    """The sections of a file; of its segments what is used of them."""
    content: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS}
    for section, _, entry in read_entries(file, dict.fromkeys(SECTIONS), "COCO's panoptic files"):
        segments = entry.get("segments_info")
        if isinstance(segments, list):
            entry["segments_info"] = [
                {key: each.get(key) for key in USED} if isinstance(each, dict) else each for each in segments
            ]
        content[section].append(entry)
    return content


def _categories(
    files: dict[str, Path], contents: dict[str, dict[str, list[dict[str, Any]]]]
) -> tuple[dict[Id, _Category], list[Flaw]]:
    """Of all files together, by id."""
    found: dict[Id, _Category] = {}
    flaws: list[Flaw] = []
    for split, content in contents.items():
        for place, entry in enumerate(content["categories"]):
            number, name = own_id(entry.get("id")), entry.get("name")
            if number is None or not isinstance(name, str):
                flaws.append(Flaw(str(files[split]), place, f"category {place} lacks an id or a name"))
                continue
            own = _Category(name, flag(entry.get("isthing", 1)))
            if found.setdefault(number, own) != own:
                text = f"category {number} is both {found[number].name} and {name}, or both thing and stuff"
                flaws.append(Flaw(str(files[split]), place, text))
    return found, flaws


def _is_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _path_fault(name: object) -> str | None:
    """Why a name cannot be one of a file in the folder, if so."""
    if not isinstance(name, str) or path_fault(name):
        return path_fault(name)
    path = PurePosixPath(name)
    return f"that leads out of the folder: {name!r}" if path.is_absolute() or ".." in path.parts else None


def _files(config: SourceConfig) -> dict[str, Path]:
    return annotation_files(config.path, _found, "panoptic_train.json")


def _found(path: Path) -> list[Path]:
    """The files in a folder that are named for a split."""
    found = [[file for file in sorted(path.glob(pattern)) if split_of(file)] for pattern in PATTERNS]
    return next((each for each in found if each), [])
