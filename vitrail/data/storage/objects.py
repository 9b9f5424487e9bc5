"""From annotations as files hold them, entry by entry, to columns."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypedDict, cast

import numpy as np

from vitrail.data.annotations import Annotations, BadAnnotations, Flaw
from vitrail.data.indexing.index import Strings
from vitrail.data.media import limits
from vitrail.data.media.decode import BadImage
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.files import Files
from vitrail.data.targets import Labels
from vitrail.errors import did_you_mean
from vitrail.ops import polygons, rle

_BEYOND = 2.0**62  # float32 and int64 hold what is less


class RunLengths(TypedDict):
    """A mask of ``size`` (height, width) as COCO's run lengths, in numbers or compressed to text."""

    size: list[int]
    counts: list[int] | str


Shape: TypeAlias = list[list[float]] | RunLengths
"""A mask as COCO's ``segmentation`` holds it: polygons of x, y, x, y, …, or run lengths."""


@dataclass(eq=False)
class Columns:
    """Images in their order, and the objects of the last of them, as they are read.

    ``flaws`` collects what is wrong, so that all of it is reported together; :meth:`close` raises it.
    """

    paths: list[bytes] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    image_ids: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    boxes: list[Sequence[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    areas: list[float | None] = field(default_factory=list)
    shapes: list[bytes] = field(default_factory=list)
    flaws: list[Flaw] = field(default_factory=list)

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
        shape: Shape | None = None,
    ) -> None:
        """An object of the image; ``shape`` is its mask, as :class:`Outlines` reads it."""
        self.boxes.append(box_xyxy)
        self.labels.append(label)
        self.crowd.append(crowd)
        self.difficult.append(difficult)
        self.areas.append(area)
        self.shapes.append(json.dumps(shape, separators=(",", ":")).encode() if shape else b"")
        self.ends[-1] = len(self.labels)

    def close(self, category_ids: Sequence[int]) -> Annotations:
        """The columns; with masks and areas where every object has one.

        Raises:
            BadAnnotations: flaws were found.
        """
        if self.flaws:
            raise BadAnnotations(self.flaws)
        return Annotations(
            boxes_xyxy=np.array(self.boxes, np.float64).reshape(-1, 4).astype(np.float32),
            labels=np.array(self.labels, np.int64),
            crowd=np.array(self.crowd, bool),
            offsets=np.array([0, *self.ends], np.int64),
            sizes=np.array(self.sizes, np.int32).reshape(-1, 2),
            image_ids=np.array(self.image_ids, np.int64),
            category_ids=np.array(category_ids, np.int64),
            rows=np.arange(len(self.paths)),
            masks=Outlines(Strings.of(self.shapes)) if self.shapes and all(self.shapes) else None,
            difficult=np.array(self.difficult, bool) if any(self.difficult) else None,
            areas=np.array(self.areas, np.float32) if self.areas and None not in self.areas else None,
        )

    def files(self, root: Path) -> Files:
        """The images, without labels yet."""
        none = np.empty(0, np.float32)
        return Files(targets=none, kind="none", classes=(), root=os.fsencode(root), paths=Strings.of(self.paths))


@dataclass(frozen=True, eq=False)
class Outlines:
    """Masks as the text that COCO's ``segmentation`` is: polygons, or run lengths in numbers or compressed."""

    texts: Strings

    def read(self, image: int, objects: range, size: tuple[int, int]) -> np.ndarray:
        """As :class:`vitrail.data.annotations.Masks`."""
        check_masks(len(objects), size)
        found = np.zeros((len(objects), *size), bool)
        for place, row in enumerate(objects):
            found[place] = to_mask(self.shape(row), size)
        return found

    def shape(self, row: int) -> Shape:
        """The ``segmentation`` as it was written."""
        shape: Shape = json.loads(self.texts[row])
        return shape


def annotations_of(source: Source) -> Annotations:
    """The objects of a source whose kind is boxes or masks."""
    return cast("Annotations", source.targets)


def check_masks(number: int, size: tuple[int, int]) -> None:
    """Do so many masks (H, W) fit into memory?

    Raises:
        BadImage: they are more than the limit.
    """
    if number * size[0] * size[1] > limits.MASK_BYTES.value:
        raise BadImage(
            f"has {number:,} masks of {size[1]} × {size[0]} pixels, more bytes than {limits.MASK_BYTES}; shrink it"
        )


def to_mask(shape: Shape, size: tuple[int, int]) -> np.ndarray:
    """A COCO ``segmentation`` → bool (H, W).

    Raises:
        BadImage: run lengths of another size, or broken ones; an outline far beyond the image, or an endless one.
    """
    if isinstance(shape, list):
        try:
            return polygons.fill([np.asarray(ring, np.float64).reshape(-1, 2) for ring in shape], size)
        except ValueError as error:
            raise BadImage(f"has an outline that {error}") from None
    if tuple(shape["size"]) != size:
        own, image = (f"{s[1]} × {s[0]}" for s in (shape["size"], size))
        raise BadImage(f"has a mask of {own} pixels and is {image}")
    counts = shape["counts"]
    try:
        return rle.decode(rle.from_text(counts) if isinstance(counts, str) else counts, size)
    except ValueError as error:
        raise BadImage(f"has a broken mask: {error}") from None


def shape_fault(shape: object) -> str | None:
    """Why a COCO ``segmentation`` cannot be read, if so."""
    if isinstance(shape, list):
        rings = all(isinstance(ring, list) and len(ring) >= 6 and len(ring) % 2 == 0 for ring in shape)
        return None if rings and all(map(finite, shape)) else "a polygon that is no list of three or more x, y"
    if isinstance(shape, dict) and isinstance(shape.get("counts"), list | str):
        size = shape.get("size")
        if isinstance(size, list) and len(size) == 2:
            return None
    return "a segmentation that is neither polygons nor run lengths"


def finite(values: object) -> bool:
    """Are these numbers, none of them NaN or beyond every picture?"""
    return isinstance(values, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < _BEYOND for v in values
    )


def size_fault(height: object, width: object) -> str | None:
    """Why these cannot be the sides of an image in pixels, if so."""
    if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in (height, width)):
        return f"lacks a height or a width: {height!r}, {width!r}"
    assert isinstance(height, int)
    assert isinstance(width, int)
    try:
        limits.check_pixels((width, height))
    except limits.Broken as error:
        return str(error)
    return None


def number_of(classes: Sequence[str]) -> dict[str, int]:
    """Class name → label."""
    return {name: label for label, name in enumerate(classes)}


def unknown_class(name: str, classes: Iterable[str]) -> str:
    """The text about a class that is not in the list."""
    return f"unknown class {name!r} ({did_you_mean(name, classes)})"


def offers(found: Annotations, classes: tuple[str, ...]) -> dict[str, Labels]:
    """What objects can be read as, by kind, the fullest first: masks where each object has one, and boxes."""
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

    Args:
        roots: the folder that each split's paths begin at.

    Raises:
        UserError: masks are wanted of objects without.
    """
    offered = {split: offers(columns.close(category_ids), classes) for split, columns in tables.items()}
    first = next(iter(offered.values()), {})
    kind = config.choose(each for each in first if all(each in of_split for of_split in offered.values()))
    return {split: tables[split].files(roots[split]).labelled(of_split[kind]) for split, of_split in offered.items()}
