"""Images with a class for each pixel: a folder of ``images/`` and ``masks/``, a PNG of the same name for each image.

Below both, or above them, there may be folders for the splits. A PNG holds the number of a class for each pixel, as
grey level or palette index, and 255 where there is no saying. Class names are in ``classes.json``, in order; without
one classes are the numbers up to the highest in the training masks.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vitrail import console
from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.indexing.index import Table, cached
from vitrail.data.indexing.listing import Listing, scan
from vitrail.data.indexing.names import classes_beside
from vitrail.data.media.decode import BadImage
from vitrail.data.source import Source, SourceConfig, split_called
from vitrail.data.storage.files import Files
from vitrail.data.storage.maps import MapFiles
from vitrail.data.targets import Labels
from vitrail.errors import UserError
from vitrail.ops.segmentation_losses import IGNORE

IMAGES, MASKS = "images", "masks"


def matches(spec: str) -> bool:
    return bool(_splits(Path(spec).expanduser()))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError where the folders are missing, and with all of them for images without a mask."""
    splits = _splits(config.path)
    if not splits:
        raise UserError(f"{config.path} holds no folders {IMAGES!r} and {MASKS!r}; check the path")
    sources: dict[str, Source] = {}
    maps: dict[str, MapFiles] = {}
    flaws: list[Flaw] = []
    for split, (images, masks) in splits.items():
        listing = scan(images, follow_symlinks=config.follow_symlinks)
        listing.note_skipped(str(images))
        names = [os.path.splitext(listing[i])[0] + b".png" for i in range(len(listing))]
        flaws += [
            Flaw(console.printable(os.fsdecode(os.path.join(os.fsencode(masks), name))), i, "is missing")
            for i, name in enumerate(names)
            if not os.path.lexists(os.path.join(os.fsencode(masks), name))
        ]
        sources[split], maps[split] = _files(listing, images), MapFiles.at(masks, names)
    if not config.labelled:
        return sources
    if flaws:
        raise BadAnnotations(flaws)
    classes = config.classes or classes_beside(config.path)
    classes = classes or _numbers(maps.get("train") or next(iter(maps.values())))
    return {split: source.labelled(Labels("semantic", classes, maps[split])) for split, source in sources.items()}


def _splits(path: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of images and of masks of each split."""
    images, masks = path / IMAGES, path / MASKS
    if images.is_dir() and masks.is_dir():
        pairs = {each: masks / each.name for each in images.iterdir() if each.is_dir() and (masks / each.name).is_dir()}
        named = {split: pair for pair in pairs.items() if (split := split_called(pair[0].name))}
        return named if named and len(named) == len(pairs) else {"train": (images, masks)}
    inner = {split: each for each in _folders(path) if (split := split_called(each.name))}
    pairs_of = {split: (each / IMAGES, each / MASKS) for split, each in inner.items()}
    return {split: pair for split, pair in pairs_of.items() if all(folder.is_dir() for folder in pair)}


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir()) if path.is_dir() else []


def _files(listing: Listing, images: Path) -> Source:
    none, root = np.empty(0, np.float32), os.path.realpath(os.fsencode(images))
    return Files(targets=none, kind="none", classes=(), root=root, paths=listing)


def _numbers(maps: MapFiles) -> tuple[str, ...]:
    """``("0", "1", …)`` up to the highest number in the masks; unreadable ones are left to loading and `data check`."""

    def build() -> tuple[Table, list[bytes]]:
        highest = 0
        for i in console.track(range(len(maps)), "looking for classes"):
            try:
                found = np.asarray(maps[i])
            except BadImage:
                continue
            highest = max(highest, int(found[found != IGNORE].max(initial=0)))
        return {"highest": np.array(highest)}, [os.path.join(maps.root, path) for path in maps.paths]

    highest = int(cached(f"classes of masks {maps.root!r} {maps.tobytes()!r}", build)["highest"])
    return tuple(map(str, range(highest + 1)))
