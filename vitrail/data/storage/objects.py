"""From annotations as files hold them, entry by entry, to columns."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from vitrail import console
from vitrail.data.annotations import Annotations, BadAnnotations, Flaw
from vitrail.data.indexing.index import Strings
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.files import Files
from vitrail.data.storage.outlines import Outlines, Shape, packed
from vitrail.data.targets import Labels
from vitrail.errors import did_you_mean


@dataclass(eq=False)
class Columns:
    """Images in their order, and the objects of the last of them, as they are read.

    ``flaws`` collects what is wrong, so that all of it is reported together; :meth:`close` raises it.
    """

    paths: list[bytes] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    image_ids: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    boxes: array[float] = field(default_factory=lambda: array("d"))
    labels: array[int] = field(default_factory=lambda: array("q"))
    crowd: bytearray = field(default_factory=bytearray)
    difficult: bytearray = field(default_factory=bytearray)
    areas: array[float] = field(default_factory=lambda: array("d"))
    shapes: list[bytes] = field(default_factory=list)
    flaws: list[Flaw] = field(default_factory=list)
    written_ids: list[bytes] | None = None

    def image(self, path: bytes, size: tuple[int, int], image_id: int | None = None) -> None:
        """Begin an image, (height, width)."""
        self.paths.append(path)
        self.sizes.append(size)
        self.image_ids.append(len(self.image_ids) if image_id is None else image_id)
        self.ends.append(len(self.labels))

    def add(
        self,
        box_xyxy: Sequence[float],
        label: int,
        *,
        crowd: bool = False,
        difficult: bool = False,
        area: float | None = None,
        shape: Shape | bytes | None = None,
    ) -> None:
        """An object of the image; ``shape`` is its mask, as :class:`Outlines` reads it."""
        self.boxes.extend(box_xyxy)
        self.labels.append(label)
        self.crowd.append(crowd)
        self.difficult.append(difficult)
        self.areas.append(math.nan if area is None else area)
        self.shapes.append(shape if isinstance(shape, bytes) else packed(shape))
        self.ends[-1] = len(self.labels)

    def close(self, category_ids: Sequence[int]) -> Annotations:
        """The columns; with masks where objects have outlines, and with areas where every object has one.

        Raises:
            BadAnnotations: flaws were found.
        """
        if self.flaws:
            raise BadAnnotations(self.flaws)
        boxes = np.array(self.boxes, np.float64).reshape(-1, 4).astype(np.float32)
        outlined = np.array([bool(shape) for shape in self.shapes], bool)
        areas = np.array(self.areas, np.float64)
        return Annotations(
            boxes_xyxy=boxes,
            labels=np.array(self.labels, np.int64),
            crowd=np.array(self.crowd, bool),
            offsets=np.array([0, *self.ends], np.int64),
            sizes=np.array(self.sizes, np.int32).reshape(-1, 2),
            image_ids=np.array(self.image_ids, np.int64),
            category_ids=np.array(category_ids, np.int64),
            rows=np.arange(len(self.paths)),
            masks=Outlines(Strings.of(self.shapes), boxes) if outlined.any() or not len(boxes) else None,
            difficult=np.array(self.difficult, bool) if any(self.difficult) else None,
            areas=areas.astype(np.float32) if len(areas) and not np.isnan(areas).any() else None,
            outlined=None if outlined.all() or not outlined.any() else outlined,
            written_ids=None if self.written_ids is None else Strings.of(self.written_ids),
        )

    def files(self, root: Path) -> Files:
        """The images, without labels yet."""
        none = np.empty(0, np.float32)
        return Files(targets=none, kind="none", classes=(), root=os.fsencode(root), paths=Strings.of(self.paths))


def annotations_of(source: Source) -> Annotations:
    """The objects of a source whose kind is boxes or masks."""
    return cast("Annotations", source.targets)


def number_of(classes: Sequence[str]) -> dict[str, int]:
    """Class name → label."""
    return {name: label for label, name in enumerate(classes)}


def unknown_class(name: str, classes: Iterable[str]) -> str:
    """The text about a class that is not in the list."""
    return f"unknown class {name!r} ({did_you_mean(name, classes)})"


def offers(found: Annotations, classes: tuple[str, ...]) -> dict[str, Labels]:
    """What objects can be read as, by kind, the fullest first: masks where objects have some, and boxes."""
    boxes = Labels("boxes", classes, found.without_masks())
    return {"boxes": boxes} if found.masks is None else {"masks": Labels("masks", classes, found), "boxes": boxes}


def sources(
    tables: Mapping[str, Columns],
    roots: Mapping[str, Path],
    category_ids: Sequence[int],
    classes: tuple[str, ...],
    config: SourceConfig,
) -> dict[str, Source]:
    """A source for each split, of the requested kind; with ``auto`` the fullest that all splits can be read as.

    Objects without an outline among others with one are named.

    Args:
        roots: the folder that each split's paths begin at.

    Raises:
        UserError: masks are wanted of objects without.
    """
    found = {split: columns.close(category_ids) for split, columns in tables.items()}
    offered = {split: offers(each, classes) for split, each in found.items()}
    common = [kind for kind in ("masks", "boxes") if all(kind in of_split for of_split in offered.values())]
    outlined = [split for split, each in found.items() if each.masks is not None and len(each.labels)]
    if not outlined:
        common.sort()  # boxes, where no split has an object with an outline
    kind = config.choose(common)
    if kind == "boxes" and config.kind == "auto" and outlined:
        bare = next(split for split in found if "masks" not in offered[split])
        console.warn(
            f"{config.spec!r} is read as boxes: no object of {bare} has an outline, and those of {outlined[0]} have"
        )
    for split in tables if kind == "masks" else ():
        _name_bare(split, tables[split], found[split], classes)
    return {split: tables[split].files(roots[split]).labelled(of_split[kind]) for split, of_split in offered.items()}


def _name_bare(split: str, columns: Columns, found: Annotations, classes: tuple[str, ...]) -> None:
    """Warn of objects without an outline."""
    if found.outlined is None:
        return
    row = int(np.argmin(found.outlined))
    image = int(np.searchsorted(found.offsets, row, side="right")) - 1
    what = f"object {row - int(found.offsets[image])} ({classes[found.labels[row]]})"
    console.warn(
        f"{split}: {int((~found.outlined).sum()):,} of {len(found.outlined):,} objects have a box and no outline, such "
        f"as {what} of {os.fsdecode(columns.paths[image])}: boxes are learned of all, masks of the "
        "others; kind=boxes reads the boxes alone"
    )
