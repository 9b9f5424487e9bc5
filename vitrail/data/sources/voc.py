"""Pascal VOC: a folder with ``Annotations/*.xml``, ``JPEGImages/``, and lists of the splits in ``ImageSets/``; or XML
files beside their images, in ``annotations/`` and ``images/``, or with folders of the splits above.

Objects are in the XML files; ``kind=masks`` takes their masks from ``SegmentationObject/``, and ``kind=semantic`` reads
``SegmentationClass/``, where 0 is the background, then come the classes in their order, and 255 is unknown; or the
colours that ``labelmap.txt`` names. ``difficult`` objects are neither learned from nor counted, as in VOC's own
measure: they are ``Objects.difficult``. Corners are taken as they are written, but the challenge's own files count
pixels from 1. Class names are those of the training split, sorted (which is the challenge's order), or of
``classes.json``.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from vitrail import console
from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.indexing.label_colours import colours_beside
from vitrail.data.indexing.names import classes_beside
from vitrail.data.indexing.splits import SPLIT_NAMES
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.class_maps import class_maps
from vitrail.data.storage.maps import AS_IT_IS, MapFiles, NumberedMasks, Reading, standard_colours
from vitrail.data.storage.objects import Columns, number_of, offers, unknown_class
from vitrail.data.storage.voc_files import (
    LISTS,
    Entry,
    Pictures,
    VocFolders,
    listed,
    read_entry,
    stems,
    voc_folders,
    xml_of,
)
from vitrail.data.targets import Labels
from vitrail.errors import UserError

CLASS_MAPS, OBJECT_MAPS = "SegmentationClass", "SegmentationObject"
LISTS_OF = {"boxes": "Main", "masks": "Segmentation", "semantic": "Segmentation"}
"""The folder of the lists of its splits."""
BACKGROUND = "background"


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return (path / CLASS_MAPS).is_dir() or bool(voc_folders(path))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for a folder of another layout, and with all flaws for annotations that cannot be read."""
    root = config.path
    folders = voc_folders(root)
    offered = (["boxes", "masks"] if folders else []) + (["semantic"] if (root / CLASS_MAPS).is_dir() else [])
    if not offered:
        raise UserError(
            f"{root} holds no Annotations and JPEGImages, as Pascal VOC has, nor XML files beside images; check the "
            "path"
        )
    kind = config.choose(offered)
    if kind == "semantic":
        return _semantic(root, folders.get(""), config)
    splits = _splits(root, folders, LISTS_OF[kind])
    entries = _entries(splits)
    first = entries.get("train") or next(iter(entries.values()), [])
    seen = tuple(sorted({name for entry in first for name, _, _ in entry.objects}))
    classes = config.classes or tuple(c for c in classes_beside(root) if c != BACKGROUND) or seen
    pictures = {each.images: Pictures(each.images) for each, _ in splits.values()}
    tables = {
        split: _columns(entries[split], pictures[splits[split][0].images], splits[split][0], classes)
        for split in entries
    }
    if flaws := [flaw for columns in tables.values() for flaw in columns.flaws]:
        raise BadAnnotations(flaws)
    for folder, each in pictures.items():
        if each.num_unused and not (root / LISTS).is_dir():
            console.note(f"{folder}: {each.num_unused:,} images have no XML file and are left out")
    sources: dict[str, Source] = {}
    for split, columns in tables.items():
        masks = NumberedMasks(_maps(root, OBJECT_MAPS, [entry.name for entry in entries[split]], OBJECTS))
        found = dataclasses.replace(columns.close(range(1, len(classes) + 1)), masks=masks)
        sources[split] = columns.files(splits[split][0].images).labelled(offers(found, classes)[kind])
    return sources


OBJECTS = Reading(AS_IT_IS.values, standard_colours(), indexed=True)
"""Some programs write the colours that stand for numbers."""


def _splits(root: Path, folders: dict[str, VocFolders], name: str) -> dict[str, tuple[VocFolders, list[str]]]:
    """The folders and the names of the XML files of each split; all are training where nothing divides them."""
    if (own := folders.get("")) is None:
        return {split: (each, stems(each.xml, ".xml")) for split, each in folders.items()}
    lists = _lists(root, name)
    if not lists:
        return {"train": (own, stems(own.xml, ".xml"))}
    return {split: (own, listed(file, own.xml, ".xml")) for split, file in lists.items()}


def _lists(root: Path, name: str) -> dict[str, Path]:
    """The list of each split; one list that is named for none is of train."""
    for folder in dict.fromkeys((root / LISTS / name, root / LISTS / "Main", root / LISTS / "Segmentation")):
        files = {file.stem.lower(): file for file in sorted(folder.glob("*.txt"))}
        found = {split: next((files[n] for n in names if n in files), None) for split, names in SPLIT_NAMES.items()}
        lists = {split: file for split, file in found.items() if file is not None}
        if not lists and (only := files.get("trainval") or (len(files) == 1 and next(iter(files.values())))):
            lists = {"train": only}
        if lists:
            return lists
    return {}


def _entries(splits: dict[str, tuple[VocFolders, list[str]]]) -> dict[str, list[Entry]]:
    """What the XML files say of each split's images; a test split without any, as the challenge's, is left out."""
    entries: dict[str, list[Entry]] = {}
    flaws: list[Flaw] = []
    for split, (folders, names) in splits.items():
        missing = [name for name in names if not os.path.lexists(xml_of(folders.xml, name))]
        if split != "train" and names and len(missing) == len(names):
            console.warn(f"{split} is left out: none of its {len(names):,} images has an XML file in {folders.xml}")
            continue
        entries[split] = []
        for name in names:
            try:
                entries[split].append(read_entry(xml_of(folders.xml, name), name))
            except BadAnnotations as error:
                flaws += error.flaws
    if flaws:
        raise BadAnnotations(flaws)
    return entries


def _columns(entries: list[Entry], pictures: Pictures, folders: VocFolders, classes: tuple[str, ...]) -> Columns:
    columns = Columns()
    number = number_of(classes)
    for entry in entries:
        path = pictures.find(entry.name, entry.picture)
        file = str(xml_of(folders.xml, entry.name))
        size = entry.size or pictures.size(path)
        if entry.size is None and size == (1, 1):
            columns.flaws.append(Flaw(file, 0, "lacks the image's size, and the image cannot be read"))
        columns.image(os.fsencode(path), size)
        for place, (name, box, difficult) in enumerate(entry.objects):
            if name not in number:
                columns.flaws.append(Flaw(file, place, f"object {place} has the {unknown_class(name, classes)}"))
                continue
            columns.add(box, number[name], difficult=difficult)
    return columns


def _semantic(root: Path, folders: VocFolders | None, config: SourceConfig) -> dict[str, Source]:
    lists = _lists(root, LISTS_OF["semantic"])
    names = {split: listed(file, root / CLASS_MAPS, ".png") for split, file in lists.items()}
    names = names or {"train": stems(root / CLASS_MAPS, ".png")}
    for split in [each for each in names if each != "train"]:
        if names[split] and not any((root / CLASS_MAPS / f"{name}.png").is_file() for name in names[split]):
            console.warn(f"{split} is left out: none of its {len(names.pop(split)):,} images has a map in {CLASS_MAPS}")
    images = _images(root) if folders is None else folders.images
    pictures = Pictures(images)
    colours = colours_beside(root)
    classes = config.classes or classes_beside(root) or (colours.names if colours else ())
    if not classes and folders is not None:
        entries = _entries({split: (folders, own) for split, own in names.items()})
        first = entries.get("train") or next(iter(entries.values()), [])
        seen = sorted({name for entry in first for name, _, _ in entry.objects})
        classes = (BACKGROUND, *seen) if seen else ()
    if not classes:
        raise UserError(f'{root} names no classes; list them in {root / "classes.json"}, as ["{BACKGROUND}", "cat"]')
    decided = class_maps(
        {split: _maps(root, CLASS_MAPS, own, OBJECTS) for split, own in names.items()}, classes, colours
    )
    sources: dict[str, Source] = {}
    for split, maps in decided.maps.items():
        columns = Columns()
        for name in names[split]:
            columns.image(os.fsencode(pictures.find(name)), (1, 1))
        if colours is None and maps.reading is AS_IT_IS:
            maps = dataclasses.replace(maps, reading=OBJECTS)
        sources[split] = columns.files(images).labelled(Labels("semantic", decided.classes, maps))
    return sources


def _images(root: Path) -> Path:
    return next((root / name for name in ("JPEGImages", "images", "Images") if (root / name).is_dir()), root)


def _maps(root: Path, folder: str, names: list[str], reading: Reading) -> MapFiles:
    return MapFiles.at(root / folder, [os.fsencode(f"{name}.png") for name in names], reading)
