"""Images with a class for each pixel: a folder of ``images/`` and ``masks/``, with a mask of the same name for each.

Below both, or above them, there may be folders for the splits; masks may also lie beside their images, as
``x_mask.png``, and be in the layouts of ADE20K, Cityscapes and CamVid. A mask holds the number of a class for each
pixel, as grey level or palette index, and 255 where there is no saying; or 0 and 255 alone, which are two classes; or
the colours that ``labelmap.txt`` names. PNG and TIFF are read as they are, JPEG with a warning. Class names are in
``classes.json``, in order; without one classes are the numbers up to the highest in the training masks.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from vitrail import console
from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.indexing import scene_classes
from vitrail.data.indexing.index import Strings
from vitrail.data.indexing.label_colours import LabelColours, colours_beside
from vitrail.data.indexing.listing import Listing, scan
from vitrail.data.indexing.names import classes_beside
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.class_maps import ClassMaps, class_maps
from vitrail.data.storage.files import Files
from vitrail.data.storage.maps import AS_IT_IS, MapFiles, Reading
from vitrail.data.storage.mask_folders import MaskFolders, mask_folders
from vitrail.data.storage.mask_names import NO_CLASSES, is_mask_beside, pair, stems_of
from vitrail.data.storage.several_masks import several_masks
from vitrail.data.targets import Labels
from vitrail.errors import UserError


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return not (path / "SegmentationClass").is_dir() and bool(mask_folders(path)[0]) and not several_masks(path)


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError where the folders are missing, and with all of them for images without a mask."""
    splits, bare = mask_folders(config.path)
    if not splits:
        raise UserError(f"{config.path} holds no folders 'images' and 'masks'; check the path")
    for folder in bare:
        console.warn(f"{folder} has no masks and is left out")
    sources: dict[str, Source] = {}
    maps: dict[str, MapFiles] = {}
    flaws: dict[str, list[Flaw]] = {}
    remarks: dict[str, tuple[str, ...]] = {}
    for split, folders in splits.items():
        names, masks = _listed(folders, config)
        found = pair(names, masks)
        if lonely := sorted(set(masks).difference(mask for mask in found if mask) if not folders.together else ()):
            plain = [mask for mask in lonely if not NO_CLASSES.search(os.fsdecode(os.path.splitext(mask)[0]).lower())]
            if plain:
                shown = os.fsdecode(plain[0])
                remarks[split] = (f"{split}: {len(plain):,} masks are of no image, such as {shown}",)
        expected = [os.path.splitext(name)[0] + b".png" for name in names]
        root = os.fsencode(folders.masks)
        flaws[split] = [
            Flaw(os.fsdecode(os.path.join(root, expected[i])), i, "is missing")
            for i, mask in enumerate(found)
            if mask is None
        ]
        paths = [mask or name for mask, name in zip(found, expected, strict=True)]
        files = dataclasses.replace(_files(folders.images, names), remarks=remarks.get(split, ()))
        sources[split], maps[split] = files, MapFiles.at(folders.masks, paths)
    if not config.labelled:
        return sources
    for split in [split for split in maps if split != "train" and len(flaws[split]) == len(maps[split]) > 0]:
        console.warn(f"{split} is left out: none of its {len(maps.pop(split)):,} images has a mask")
    if missing := [flaw for split in maps for flaw in flaws[split]]:
        raise BadAnnotations(missing)
    decided = _classes(config, splits, maps)
    return {
        split: sources[split].labelled(Labels("semantic", decided.classes, each))
        for split, each in decided.maps.items()
    }


def _listed(folders: MaskFolders, config: SourceConfig) -> tuple[list[bytes], list[bytes]]:
    """(images, masks), relative to their folders."""
    listing = scan(folders.images, follow_symlinks=config.follow_symlinks)
    listing.note_skipped(str(folders.images))
    names = _names(listing)
    if not folders.together:
        return names, _names(scan(folders.masks, follow_symlinks=config.follow_symlinks))
    stems = stems_of(names)
    masks = [name for name in names if is_mask_beside(name, stems)]
    return sorted(set(names).difference(masks)), masks


def _names(listing: Listing) -> list[bytes]:
    return [listing[i] for i in range(len(listing))]


def _files(images: Path, names: list[bytes]) -> Source:
    none, root = np.empty(0, np.float32), os.path.realpath(os.fsencode(images))
    return Files(targets=none, kind="none", classes=(), root=root, paths=Strings.of(names))


def _classes(config: SourceConfig, splits: dict[str, MaskFolders], maps: dict[str, MapFiles]) -> ClassMaps:
    """How the masks are read: by the rules of the data set that they are of, else by what they hold."""
    first = maps.get("train") or next(iter(maps.values()))
    name = os.fsdecode(first.paths[0]).lower() if len(first) else ""
    known = config.classes or classes_beside(config.path)
    reading: Reading | None = None
    names: tuple[str, ...] = ()
    if name.endswith("_labeltrainids.png"):
        reading, names = AS_IT_IS, scene_classes.CITYSCAPES
    elif name.endswith("_labelids.png"):
        reading, names = Reading(scene_classes.cityscapes_values()), scene_classes.CITYSCAPES
    elif (config.path / scene_classes.ADE20K_NAMES).is_file() or os.path.basename(name).startswith("ade_"):
        reading, names = Reading(scene_classes.ade20k_values()), scene_classes.ade20k_classes(config.path)
    if reading is None:
        return class_maps(maps, known, _colours(config.path, splits))
    console.note(
        f"masks: {len(names)} classes, whose numbers are read as {'Cityscapes' if 'ids' in name else 'ADE20K'} has them"
    )
    read = {split: MapFiles(each.root, each.paths, each.rows, reading) for split, each in maps.items()}
    return ClassMaps(read, known or names)


def _colours(path: Path, splits: dict[str, MaskFolders]) -> LabelColours | None:
    folders = [path, *(each for pair in splits.values() for each in (pair.masks, pair.masks.parent))]
    return next((found for folder in folders if (found := colours_beside(folder)) is not None), None)
