"""A folder of images: one folder a class, with or without train, val and test folders above or below.

Unlabelled, the images may lie anywhere below.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vitrail import console
from vitrail.data.indexing.classes import choose_level, class_list, name_classes
from vitrail.data.indexing.layout import find_layout
from vitrail.data.indexing.listing import Listing, scan
from vitrail.data.indexing.names import ClassFinder
from vitrail.data.indexing.spelling import composed
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.files import Files
from vitrail.data.storage.mask_names import is_mask_beside, stems_of
from vitrail.data.targets import Labels
from vitrail.errors import UserError

_LOOKED_AT = 5000  # names


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
    counts = np.bincount(listing.folder_of, minlength=len(folders))
    layout = find_layout(folders, counts, config.spec, labelled=bool(config.labelled), level=config.class_level)
    if layout.others:
        shown = [folder or "images in the folder itself" for folder in layout.others]
        more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
        console.note(f"{config.path}: skipped {', '.join(shown[:5])}{more} beside the folders of the splits")
    splits = dict(layout.relative)
    if config.labelled:
        _warn_of_masks(listing, str(config.path))
        for split in [split for split in splits if split != "train" and "train" in splits]:
            holding = [path for i, path in splits[split].items() if counts[i]]
            if not holding or holding == [""]:
                del splits[split]
                why = "its images lie in no folder of a class" if holding else "it holds no images"
                console.warn(f"{config.path}: the {split} split is left out, since {why}")
        files = _labelled(files, listing, counts, splits, config)
    found = {}
    for split, members in splits.items():
        inside = np.zeros(len(folders), bool)
        inside[list(members)] = True
        found[split] = files.subset(np.flatnonzero(inside[listing.folder_of]))
    return found


def _warn_of_masks(listing: Listing, place: str) -> None:
    """Say which images are called as masks of others are, as far as a first look tells."""
    names = [listing[i] for i in range(min(len(listing), _LOOKED_AT))]
    stems = stems_of(names)
    if masks := [os.fsdecode(name) for name in names if is_mask_beside(name, stems)]:
        shown = masks[0]
        console.warn(
            f"{place}: {len(masks):,} images seem to be masks of others, such as {shown}, and are "
            "read as images of their class; leave them out with --exclude, or move them"
        )


def _labelled(
    files: Source,
    listing: Listing,
    counts: np.ndarray,
    splits: Mapping[str, Mapping[int, str]],
    config: SourceConfig,
) -> Source:
    """Labels by folders, whose paths below their splits ``splits`` holds by number."""
    first = "train" if "train" in splits else next(iter(splits))
    class_of: dict[int, str] = {}  # folder number → class name
    seen: dict[str, set[str]] = {}
    empty: list[str] = []
    level = None
    for split in sorted(splits, key=lambda split: split != first):
        members, relative = list(splits[split]), list(splits[split].values())
        own_level = choose_level(relative, counts[members], config)
        level = level or own_level  # the first split, normally train, decides for all
        names, without_images = name_classes(relative, counts[members], level)
        if config.classes:
            finder = ClassFinder(config.known_classes)
            names, without_images = ([finder.find(name) for name in each] for each in (names, without_images))
        elif split != first:  # the same class, whose accents are encoded otherwise
            same = {composed(name): name for name in seen[first]}
            names = [name if name in seen[first] else same.get(composed(name), name) for name in names]
        class_of.update(zip(members, names, strict=True))
        seen[split] = {name for name in names if name}
        empty += without_images if split == first else []
    classes = class_list(seen.pop(first), seen, empty, config)
    number = {name: i for i, name in enumerate(classes)}
    label_of_folder = np.array([number.get(class_of.get(i, ""), -1) for i in range(len(counts))], np.int64)
    return files.labelled(Labels("class", classes, label_of_folder[listing.folder_of]))
