"""Where pictures and their masks lie: in two folders, with those of the splits above or below, or side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vitrail.data.indexing.splits import split_called, telling, words
from vitrail.data.media.formats import SUFFIXES
from vitrail.data.storage.mask_names import is_mask_beside, stems_of
from vitrail.data.storage.mask_names import pair as masks_of

IMAGES = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit")
MASKS = (
    "masks", "mask", "gtfine", "gtcoarse", "annotations", "annotation", "labels", "label", "segmentations",
    "segmentation", "gt", "groundtruth",
)  # fmt: skip
"""Names of the folders, in lower case, the plainest first."""
PLAIN_MASKS = MASKS[:4]
"""Names that are used for nothing else."""
_SAY_NOTHING = (*IMAGES, *MASKS, "ground", "truth")
BESIDE = "annot"
"""What CamVid adds to the name of a folder of images."""
_SUFFIXES = tuple(map(os.fsencode, SUFFIXES))
_LOOKED_AT = 500  # entries of a folder


@dataclass(frozen=True)
class MaskFolders:
    """A split: its folder of images, and of masks, which may be the same."""

    images: Path
    masks: Path

    @property
    def together(self) -> bool:
        """Images and masks lie side by side."""
        return self.images == self.masks


def mask_folders(path: Path) -> tuple[dict[str, MaskFolders], list[Path]]:
    """The folders of each split, and folders of images that are named for a split and have no masks.

    Nothing where no folder has masks.
    """
    if not path.is_dir():
        return {}, []
    if (own := pair_of(path)) is not None:
        inner = {each: own.masks / each.name for each in _folders(own.images)}
        pairs = {each: MaskFolders(each, masks) for each, masks in inner.items() if masks.is_dir()}
        bare = [each for each in inner if each not in pairs and split_called(each.name)]
        named = {split: pair for each, pair in pairs.items() if (split := split_called(each.name))}
        return (named, bare) if named and len(named) == len(pairs) else ({"train": own}, [])
    if found := _named_alike(path):
        used = {each for own in found.values() for each in (own.images, own.masks)}
        rest = [each for each in _folders(path) if each not in used and split_called(each.name)]
        return found, [each for each in rest if holds_images(each)]
    bare = []
    for folder in _folders(path):
        if split := split_called(folder.name):
            pair = pair_of(folder) or _camvid(folder) or _together(folder)
            if pair is not None:
                found[split] = pair
            elif holds_images(folder):
                bare.append(folder)
    if found:
        return found, bare
    alone = [pair for folder in _folders(path) if (pair := _camvid(folder)) is not None]
    only = alone[0] if len(alone) == 1 else _together(path)
    return ({} if only is None else {"train": only}), []


def holds_images(folder: Path, depth: int = 2) -> bool:
    """Whether a picture lies in the folder, or so many folders below it, as far as a first look tells."""
    inner = []
    for entry in _entries(folder):
        if entry.name.lower().endswith(SUFFIXES):
            return True
        if depth and entry.is_dir():
            inner.append(Path(entry.path))
    return any(holds_images(each, depth - 1) for each in sorted(inner)[:5])


def pair_of(path: Path) -> MaskFolders | None:
    """The folders of images and of masks in a folder, by their names."""
    by_name = {folder.name.lower(): folder for folder in _folders(path)}
    images = next((by_name[name] for name in IMAGES if name in by_name), None)
    masks = next((by_name[name] for name in MASKS if name in by_name), None)
    if images is None or masks is None:
        return None
    plain = masks.name.lower() in PLAIN_MASKS  # the names of the others are used for texts too
    texts = any(entry.name.lower().endswith((".json", ".xml", ".txt")) for entry in _entries(masks))
    return MaskFolders(images, masks) if plain or (holds_images(masks) and not texts) else None


def _named_alike(path: Path) -> dict[str, MaskFolders]:
    """Folders whose names differ by a word for masks, as ``train`` and ``train_masks``, or ``val_images`` and
    ``val_labels``, by split; where a mask's name is that of an image."""
    kinds: dict[tuple[str, ...], dict[bool, Path]] = {}
    for folder in _folders(path):
        said = {*words(folder.name), *words(folder.name.lower())}
        if split_called(folder.name) or not said.isdisjoint(IMAGES + MASKS):
            rest = tuple(sorted(word for word in telling(folder.name) if word not in _SAY_NOTHING))
            kinds.setdefault(rest, {}).setdefault(not said.isdisjoint(MASKS), folder)
    pairs = [MaskFolders(each[False], each[True]) for each in kinds.values() if len(each) == 2]
    found: dict[str, MaskFolders] = {}
    for own in pairs:
        names = [list(map(os.fsencode, os.listdir(folder))) for folder in (own.images, own.masks)]
        images, masks = ([name for name in each if name.lower().endswith(_SUFFIXES)] for each in names)
        if any(masks_of(images, masks)):
            found.setdefault(split_called(own.images.name) or "train", own)
    return found


def _camvid(folder: Path) -> MaskFolders | None:
    masks = folder.with_name(folder.name + BESIDE)
    return MaskFolders(folder, masks) if masks.is_dir() and holds_images(masks) else None


def _together(folder: Path) -> MaskFolders | None:
    names = [os.fsencode(entry.name) for entry in _entries(folder) if entry.name.lower().endswith(SUFFIXES)]
    stems = stems_of(names)
    masks = sum(is_mask_beside(name, stems) for name in names)
    return MaskFolders(folder, folder) if masks and 3 * masks >= len(names) else None


def _folders(path: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in _entries(path) if entry.is_dir() and not entry.name.startswith("."))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count >= _LOOKED_AT:
                    return
                yield entry
    except OSError:
        return
