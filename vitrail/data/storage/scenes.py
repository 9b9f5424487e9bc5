"""Annotated images of programs that draw objects, with names of classes in place of numbers, as sources."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitrail import console
from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.indexing.names import classes_beside
from vitrail.data.media.decode import BadImage
from vitrail.data.media.read import read_size
from vitrail.data.source import Source, SourceConfig, split_called
from vitrail.data.storage.locating import locate, path_fault
from vitrail.data.storage.objects import Columns, number_of, sources, unknown_class
from vitrail.data.storage.outlines import RunLengths, Shape, finite, size_fault
from vitrail.errors import UserError
from vitrail.ops import rle

_CORNERS = 64  # of a circle's outline


@dataclass(frozen=True)
class SceneObject:
    """An object by the name of its class; ``shape`` is its mask, as COCO writes it."""

    name: str
    box_xyxy: tuple[float, ...]
    shape: Shape | None = None
    crowd: bool = False


@dataclass
class SceneImage:
    """An image, and where it is described.

    Attributes:
        file, place: where, for an error.
        picture: its name, relative to a folder of :func:`scene_sources`.
        size: (height, width); None: as its file has it.
        left_out: kinds of marks that are no objects, such as points.
    """

    file: Path
    place: int
    picture: str
    size: tuple[int, int] | None
    objects: list[SceneObject] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def outline(self, name: str, rings: Sequence[Sequence[float]]) -> None:
        """Add an object of one or several rings x, y, x, y, …"""
        if not rings or not all(finite([*ring]) and len(ring) >= 6 and len(ring) % 2 == 0 for ring in rings):
            self.faults.append(f"has a polygon of {name!r} that is no list of three or more x, y")
            return
        x, y = ([v for ring in rings for v in ring[start::2]] for start in (0, 1))
        self.objects.append(SceneObject(name, (min(x), min(y), max(x), max(y)), [[*ring] for ring in rings]))

    def box(self, name: str, x: Any, y: Any, width: Any, height: Any, *, turned: float = 0.0) -> None:
        """Add an object by the corner and size of its box, which may be turned by degrees around that corner."""
        if not finite([x, y, width, height]):
            self.faults.append(f"has a box of {name!r} that is no x, y, width, height: {[x, y, width, height]!r}")
        elif turned:
            cos, sin = math.cos(math.radians(turned)), math.sin(math.radians(turned))
            corners = [(0, 0), (width, 0), (width, height), (0, height)]
            ring = [v for dx, dy in corners for v in (x + dx * cos - dy * sin, y + dx * sin + dy * cos)]
            self.outline(name, [ring])
        else:
            left, right, top, bottom = *sorted((x, x + width)), *sorted((y, y + height))
            self.objects.append(SceneObject(name, (left, top, right, bottom)))

    def mask(self, name: str, mask: np.ndarray) -> None:
        """Add an object by its pixels, bool (H, W)."""
        (top, bottom), (left, right) = (_extent(np.asarray(mask.any(axis=axis))) for axis in (1, 0))
        shape = RunLengths(size=[*mask.shape], counts=rle.to_text(rle.encode(mask)))
        self.objects.append(SceneObject(name, (left, top, right, bottom), shape))

    def placed_mask(self, name: str, mask: np.ndarray, left: int, top: int) -> None:
        """Add an object by the pixels of a part of the image, bool (h, w); those beyond the image are left out.

        Raises:
            ValueError: the image has no size that is known and allowed.
        """
        height, width = self.known_size()
        mask = mask[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
        top, left = max(top, 0), max(left, 0)
        (first, last), (begin, end) = (_extent(np.asarray(mask.any(axis=axis))) for axis in (1, 0))
        shape = RunLengths(
            size=[height, width], counts=rle.to_text(rle.encode_placed(mask, (top, left), (height, width)))
        )
        self.objects.append(SceneObject(name, (left + begin, top + first, left + end, top + last), shape))

    def known_size(self) -> tuple[int, int]:
        """(height, width). Raises ValueError: not said, or more pixels than allowed."""
        if self.size is None or (fault := size_fault(*self.size, self.picture)):
            raise ValueError("an image without size" if self.size is None else fault)
        return self.size

    def ellipse(self, name: str, x: Any, y: Any, radius_x: Any, radius_y: Any) -> None:
        """Add an object by its centre and radii."""
        if not finite([x, y, radius_x, radius_y]):
            self.faults.append(f"has a circle of {name!r} that is no centre and radius")
            return
        angles = [2 * math.pi * corner / _CORNERS for corner in range(_CORNERS)]
        self.outline(name, [[v for a in angles for v in (x + radius_x * math.cos(a), y + radius_y * math.sin(a))]])


def _extent(met: np.ndarray) -> tuple[int, int]:
    places = np.flatnonzero(met)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)


def folders_of_splits(path: Path) -> dict[str, Path]:
    """The folders that are named for a split; the folder itself as train where none is."""
    inner = sorted(each for each in path.iterdir() if each.is_dir()) if path.is_dir() else []
    found = {split: each for each in reversed(inner) if (split := split_called(each.name))}
    return found or {"train": path}


def scene_sources(
    scenes: Mapping[str, Sequence[SceneImage]],
    folders: Mapping[str, Sequence[Path]],
    config: SourceConfig,
    *,
    classes: tuple[str, ...] = (),
    what: str,
    shares: bool = False,
) -> dict[str, Source]:
    """A source for each split.

    Args:
        folders: where images lie, the likely ones first and the one to search last, for each split.
        classes: in order, where the files say so; else those of ``classes.json``, or of the training split, sorted.
        what: the program, for notes.
        shares: boxes are shares of the width and height of their image.

    Raises:
        UserError: with all flaws; no image is described.
    """
    first = scenes.get("train") or next(iter(scenes.values()), [])
    seen = sorted({each.name for image in first for each in image.objects})
    beside = config.path if config.path.is_dir() else config.path.parent
    classes = config.classes or classes_beside(beside) or classes or tuple(seen)
    tables, roots, flaws = {}, {}, list[Flaw]()
    number = number_of(classes)
    for split, images in scenes.items():
        unnamed = [(image, fault) for image in images if (fault := path_fault(image.picture))]
        if unnamed:
            flaws += [Flaw(str(each.file), each.place, f"has a name {why}") for each, why in unnamed]
            continue
        near = [Path(config.root).expanduser()] if config.root else list(folders[split])
        roots[split], paths = locate([image.picture for image in images], near, near[-1], split)
        tables[split] = columns = Columns()
        for image, path in zip(images, paths, strict=True):
            height, width = image.size or _size(roots[split], path)
            columns.image(path, (height, width))
            scale = (width, height, width, height) if shares else (1, 1, 1, 1)
            shown = str(image.file)
            flaws += [Flaw(shown, image.place, fault) for fault in image.faults]
            if image.size is not None and (fault := size_fault(*image.size, image.picture)):
                flaws.append(Flaw(shown, image.place, fault))
            for each in image.objects:
                if each.name not in number:
                    flaws.append(Flaw(shown, image.place, f"has the {unknown_class(each.name, classes)}"))
                    continue
                box = tuple(side * factor for side, factor in zip(each.box_xyxy, scale, strict=True))
                columns.add(box, number[each.name], crowd=each.crowd, shape=each.shape)
        _note_left_out(split, images, what)
    if flaws:
        raise BadAnnotations(flaws)
    if not any(scenes.values()):
        raise UserError(f"{config.path} describes no images, as {what} does; check the path")
    return sources(tables, roots, range(1, len(classes) + 1), classes, config)


def _size(root: Path, path: bytes) -> tuple[int, int]:
    """As its header says; (1, 1) where it cannot be read, which loading or `data check` names."""
    try:
        return read_size(os.path.join(os.fsencode(root), path))
    except BadImage:
        return (1, 1)


def _note_left_out(split: str, images: Iterable[SceneImage], what: str) -> None:
    counts: dict[str, int] = {}
    for kind in (kind for image in images for kind in image.left_out):
        counts[kind] = counts.get(kind, 0) + 1
    if counts:
        listed = ", ".join(f"{kind} ({count:,})" for kind, count in sorted(counts.items()))
        console.warn(f"{split}: marks of {what} that are no objects are left out: {listed}")
