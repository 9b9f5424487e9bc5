"""COCO's instances: a ``.json``, or a folder that holds one for each split, as COCO, Roboflow, CVAT and Label Studio
lay theirs out.

In a folder they are in ``annotations/``, in the root, or each with its images (``train/_annotations.coco.json``).
A split is found by a word of its file's or folder's name; a single file that is named for none is of train. Images
are looked for next to the file, in ``images/``, in the folder of the split (``train/``, ``train2017/``), and below.
Category ids may be any numbers; classes are in their order. Segmentations are polygons, run lengths, or compressed
ones; ``iscrowd`` becomes ``Objects.crowd``, ``ignore``, which some converters write, ``Objects.difficult``, and
``area``, where all have one, ``annotated_areas``. Files are read entry by entry and may have any size.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitrail import console
from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.indexing.names import told_apart
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.coco_files import (
    Id,
    annotation_files,
    flag,
    locate_images,
    numbered,
    own_id,
    split_of,
    whole,
    written,
)
from vitrail.data.storage.json_entries import read_entries
from vitrail.data.storage.json_kinds import files_of, kind_of
from vitrail.data.storage.locating import path_fault
from vitrail.data.storage.objects import Columns, number_of, sources, unknown_class
from vitrail.data.storage.outlines import finite, packed, shape_fault, size_fault
from vitrail.errors import UserError

SECTIONS = {"images": "image", "annotations": "annotation", "categories": "category"}
ENTRIES = "COCO's instances"
PLACES = ("annotations/*.json", "*.json", "*/_annotations.coco.json")
OTHERS = ("captions", "person_keypoints", "stuff", "panoptic", "image_info")
"""Beginnings of the names of COCO's other files."""


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    if path.is_file():
        return path.suffix.lower() == ".json" and kind_of(path) in ("coco", "coco_results", "")
    return bool(_found(path))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for a file that is not COCO's, and with all flaws for entries that contradict each other."""
    contents: dict[str, _Content] = {}
    for split, file in _files(config).items():
        content = _Content(file, config.wants("masks"))
        try:
            content.read()
        except UserError as error:
            if split == "train" or content.has_annotations or not file.is_file():
                raise
            console.warn(f"{split} is left out: {error}")
            continue
        contents[split] = content
    flaws = [flaw for content in contents.values() for flaw in content.id_flaws]
    if flaws:
        raise BadAnnotations(flaws)
    categories: dict[Id, str] = {}
    for content in contents.values():
        for place, (number, name) in enumerate(content.categories):
            if categories.setdefault(number, name) != name:
                text = f"category {number} is both {categories[number]} and {name}"
                flaws.append(Flaw(str(content.file), place, text))
    keys = sorted(categories, key=lambda number: (isinstance(number, str), number))
    numbers = numbered(keys)
    names = told_apart([categories[key] for key in keys], keys)
    classes = config.classes or names
    own = dict(zip(names, numbers, strict=True))
    free = max(numbers, default=0) + 1
    ids = [own[name] if name in own else free + place for place, name in enumerate(classes)]
    known = number_of(classes)
    label_of: dict[Id, int | str] = {key: known.get(name, name) for key, name in zip(keys, names, strict=True)}
    for content in contents.values():
        flaws += content.resolve(label_of, classes)
    if flaws:
        raise BadAnnotations(flaws)
    roots, tables = {}, {}
    for split, content in contents.items():
        roots[split], paths = locate_images(content.file, split, content.names, config)
        tables[split] = content.columns(paths, label_of)
    return sources(tables, roots, ids, classes, config)


@dataclass(eq=False)
class _Content:
    """A file as it is read: annotations may come before their images and categories, which come last in COCO's own."""

    file: Path
    with_masks: bool
    categories: list[tuple[Id, str]] = field(default_factory=list)
    image_ids: list[Id] = field(default_factory=list)
    written_ids: list[object] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    row_of: dict[Id, int] = field(default_factory=dict)
    images_of: list[Id | None] = field(default_factory=list)
    categories_of: list[Id | None] = field(default_factory=list)
    boxes: array[float] = field(default_factory=lambda: array("d"))
    areas: array[float] = field(default_factory=lambda: array("d"))
    crowd: bytearray = field(default_factory=bytearray)
    ignore: bytearray = field(default_factory=bytearray)
    shapes: list[bytes] = field(default_factory=list)
    seen: set[object] = field(default_factory=set)
    faulty: set[Id] = field(default_factory=set)  # images
    faults: dict[int, str] = field(default_factory=dict)
    image_flaws: list[Flaw] = field(default_factory=list)
    id_flaws: list[Flaw] = field(default_factory=list)
    has_annotations: bool = False

    def read(self) -> None:
        """Raises UserError for a file that is not COCO's."""
        kind = kind_of(self.file)
        if kind == "coco_results":
            raise UserError(
                f"{self.file} holds detections, as a model's results for COCO's tools, and no images; give the "
                "annotations that they are measured against"
            )
        add = {"images": self._image, "annotations": self._annotation, "categories": self._category}
        for section, place, entry in read_entries(self.file, SECTIONS, ENTRIES):
            self.has_annotations |= section == "annotations"
            if self._has_ids(section, place, entry):
                add[section](place, entry)
        self.seen.clear()

    def _has_ids(self, section: str, place: int, entry: dict[str, Any]) -> bool:
        """Whether what should be numbers are no lists or mappings."""
        for key in ("id", "image_id", "category_id"):
            if isinstance(entry.get(key), list | dict):
                what = f"{SECTIONS[section]} {place} has the {key} {entry[key]!r}, which is no number"
                self.id_flaws.append(Flaw(str(self.file), place, what))
                return False
        return True

    def _category(self, place: int, entry: dict[str, Any]) -> None:
        number = own_id(entry.get("id"))
        if number is None:
            text = f"category {place} lacks an id" if entry.get("id") is None else f"category {place} has the id "
            text += "" if entry.get("id") is None else f"{entry['id']!r}, which is no number"
            self.image_flaws.append(Flaw(str(self.file), place, text))
        else:
            self.categories.append((number, str(entry.get("name"))))

    def _image(self, place: int, entry: dict[str, Any]) -> None:
        number, name = own_id(entry.get("id")), entry.get("file_name")
        size = whole(entry.get("height")), whole(entry.get("width"))
        fault = None
        if number is None or not isinstance(name, str) or not name or "\0" in name or None in size:
            fault = _image_fault(entry)
        elif number in self.row_of:
            fault = f"has the id {number}, which another one has"
        elif (wrong := path_fault(name)) is not None:
            fault = f"has a file_name {wrong}"
        else:
            fault = size_fault(*size, name)
        if fault is not None:
            self.image_flaws.append(Flaw(str(self.file), place, f"image {place} {fault}"))
            if number is not None:
                self.faulty.add(number)
            return
        assert number is not None
        assert isinstance(name, str)
        assert size[0] is not None
        assert size[1] is not None
        self.row_of[number] = len(self.names)
        self.image_ids.append(number)
        self.written_ids.append(entry["id"])
        self.names.append(name)
        self.sizes.append((size[0], size[1]))

    def _annotation(self, place: int, entry: dict[str, Any]) -> None:
        number = entry.get("id")
        if number is not None:
            if number in self.seen:
                self.faults[place] = f"has the id {number}, which another one has"
            self.seen.add(number)
        self.images_of.append(own_id(entry.get("image_id")))
        self.categories_of.append(own_id(entry.get("category_id")))
        box, area = entry.get("bbox"), entry.get("area")
        if not finite(box) or len(box) != 4:  # type: ignore[arg-type]
            self.faults.setdefault(place, f"has a bbox that is not x, y, width, height: {box!r}")
            box = [0, 0, 0, 0]
        if area is not None and not finite([area]):
            self.faults.setdefault(place, f"has an area that is no number: {area!r}")
            area = None
        shape = entry.get("segmentation") if self.with_masks else None
        if shape and (fault := shape_fault(shape)):
            self.faults.setdefault(place, f"has {fault}")
        self.boxes.extend(box)  # type: ignore[arg-type]
        self.areas.append(np.nan if area is None else area)
        self.crowd.append(flag(entry.get("iscrowd")))
        self.ignore.append(flag(entry.get("ignore")) and not self.crowd[-1])
        self.shapes.append(packed(shape))

    def resolve(self, label_of: dict[Id, int | str], classes: tuple[str, ...]) -> list[Flaw]:
        """What contradicts itself, in the order of the file."""
        found = []
        for place, (image, category) in enumerate(zip(self.images_of, self.categories_of, strict=True)):
            label = None if category is None else label_of.get(category)
            text = self.faults.get(place)
            if text is None or "which another one has" not in text:
                if image in self.faulty and image not in self.row_of:
                    text = None  # as is said of its image
                elif image is None or image not in self.row_of:
                    text = f"is of the image {image!r}, which is not in the file"
                elif label is None:
                    text = f"has the category {category!r}, which is not in the file"
                elif isinstance(label, str):
                    text = f"has an {unknown_class(label, classes)}"
            if text is not None:
                found.append(Flaw(str(self.file), place, f"annotation {place} {text}"))
        return [*self.image_flaws, *found]

    def columns(self, paths: list[bytes], label_of: dict[Id, int | str]) -> Columns:
        """The images at ``paths``, in the order of the file, each with its objects in that order, without flaws."""
        columns = Columns(written_ids=written(self.written_ids))
        rows = np.array([self.row_of[image] for image in self.images_of if image is not None], np.int64)
        order = np.argsort(rows, kind="stable")
        ends = np.searchsorted(rows[order], np.arange(len(self.names)), side="right").tolist()
        start = 0
        for path, size, number, end in zip(paths, self.sizes, numbered(self.image_ids), ends, strict=True):
            columns.image(path, size, number)
            for at in order[start:end].tolist():
                x, y, width, height = self.boxes[4 * at : 4 * at + 4]
                category = self.categories_of[at]
                assert category is not None
                label = label_of[category]
                assert isinstance(label, int)
                columns.add(
                    (x, y, x + width, y + height),
                    label,
                    crowd=bool(self.crowd[at]),
                    difficult=bool(self.ignore[at]),
                    area=self.areas[at],
                    shape=self.shapes[at],
                )
            start = end
        return columns


def _image_fault(entry: dict[str, Any]) -> str:
    """Why an image's entry cannot be read."""
    missing = [key for key in ("id", "file_name", "height", "width") if entry.get(key) in (None, "")]
    if missing:
        return f"lacks an id, a file_name, a height or a width: there is no {missing[0]}"
    for key, wanted in (("id", "number or text"), ("height", "number of pixels"), ("width", "number of pixels")):
        if (own_id if key == "id" else whole)(entry[key]) is None:
            return f"has the {key} {entry[key]!r}, which is no {wanted}"
    return f"has a file_name that names no file: {entry['file_name']!r}"


def _files(config: SourceConfig) -> dict[str, Path]:
    return annotation_files(config.path, _found, "instances_train.json")


def _found(path: Path) -> list[Path]:
    """The files in a folder that are named for a split, else those that hold COCO's entries; those of captions,
    keypoints and the like are others."""
    for pattern in PLACES:
        found = [file for file in sorted(path.glob(pattern)) if not file.stem.startswith(OTHERS) and split_of(file)]
        found = [file for file in found if kind_of(file) in ("coco", "coco_results", "") or pattern == PLACES[-1]]
        if found:
            return [file for file in found if file.stem.startswith("instances")] or found
    return [file for file in files_of("coco", path) if not file.stem.startswith(OTHERS)]
