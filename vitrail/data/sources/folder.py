"""A folder of images: one folder a class, with or without train, val and test folders above.

Unlabelled, the images may lie anywhere below.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vitrail import console
from vitrail.data.indexing.classes import choose_level, class_list, name_classes
from vitrail.data.indexing.listing import Listing, scan
from vitrail.data.indexing.names import ClassFinder
from vitrail.data.source import SPLITS, Source, SourceConfig, split_called
from vitrail.data.storage.files import Files
from vitrail.data.targets import Labels
from vitrail.errors import UserError


def matches(spec: str) -> bool:
    return Path(spec).expanduser().is_dir()


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for a missing folder and for every broken rule of ``vitrail.data.indexing.classes``."""
    if not config.path.is_dir():
        raise UserError(f"there is no folder {str(config.path)!r}; check the path")
    listing = scan(config.path, follow_symlinks=config.follow_symlinks)
    listing.note_skipped(str(config.path))
    root = os.path.realpath(os.fsencode(config.path))
    files = Files(targets=np.empty(0, np.float32), kind="none", classes=(), root=root, paths=listing)
    return split_by_folder(files, listing, config)


def split_by_folder(files: Source, listing: Listing, config: SourceConfig) -> dict[str, Source]:
    """The splits of unlabelled ``files``, whose places are in ``listing``; labelled by their folders if wanted."""
    folders = [os.fsdecode(folder) for folder in listing.folders]
    prefixes = _split_folders(folders, config)
    if config.labelled:
        files = _labelled(files, listing, folders, prefixes, config)
    inside = {split: np.array([_below(folder, prefix) for folder in folders]) for split, prefix in prefixes.items()}
    return {split: files.subset(np.flatnonzero(mask[listing.folder_of])) for split, mask in inside.items()}


def _split_folders(folders: list[str], config: SourceConfig) -> dict[str, str]:
    """The folder of each split; ``{"train": ""}`` where the folder is not laid out in splits."""
    top = [folder for folder in folders if folder and "/" not in folder]
    found = {split: [folder for folder in top if split_called(folder) == split] for split in SPLITS}
    found = {split: names for split, names in found.items() if names}
    others = set(top).difference(*found.values())
    if not found or (others and not ("train" in found and len(found) > 1)):
        return {"train": ""}
    for split, names in found.items():
        if len(names) > 1:
            raise UserError(f"{config.spec!r} holds {' and '.join(names)}; keep one of them as the {split} split")
    if others:
        console.note(f"{config.path}: skipped {', '.join(sorted(others))} beside the folders of the splits")
    return {split: names[0] for split, names in found.items()}


def _below(folder: str, prefix: str) -> bool:
    return not prefix or folder == prefix or folder.startswith(prefix + "/")


def _labelled(
    files: Source, listing: Listing, folders: list[str], prefixes: dict[str, str], config: SourceConfig
) -> Source:
    counts = np.bincount(listing.folder_of, minlength=len(folders))
    first = "train" if "train" in prefixes else next(iter(prefixes))
    class_of: dict[int, str] = {}  # folder number → class name
    seen: dict[str, set[str]] = {}
    empty: list[str] = []
    level = None
    for split in sorted(prefixes, key=lambda split: split != first):
        members = [i for i, folder in enumerate(folders) if _below(folder, prefixes[split])]
        relative = [folders[i][len(prefixes[split]) :].lstrip("/") for i in members]
        own_level = choose_level(relative, counts[members], config)
        level = level or own_level  # the first split, normally train, decides for all
        names, without_images = name_classes(relative, counts[members], level)
        if config.classes:
            finder = ClassFinder(config.known_classes)
            names, without_images = ([finder.find(name) for name in each] for each in (names, without_images))
        class_of.update(zip(members, names, strict=True))
        seen[split] = {name for name in names if name}
        empty += without_images if split == first else []
    classes = class_list(seen.pop(first), seen, empty, config)
    number = {name: i for i, name in enumerate(classes)}
    label_of_folder = np.array([number.get(class_of.get(i, ""), -1) for i in range(len(folders))], np.int64)
    return files.labelled(Labels("class", classes, label_of_folder[listing.folder_of]))
