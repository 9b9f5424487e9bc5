"""Masks as COCO's ``segmentation`` holds them: polygons, and run lengths."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TypeAlias, TypedDict

import numpy as np

from vitrail.data.indexing.index import Strings
from vitrail.data.media import limits
from vitrail.data.media.decode import BadImage
from vitrail.data.media.formats import TIFF_SUFFIXES
from vitrail.ops import polygons, rle


class RunLengths(TypedDict):
    """A mask of ``size`` (height, width) as COCO's run lengths, in numbers or compressed to text."""

    size: list[int]
    counts: list[int] | str


_NUMBERS = {int, float}
_BY_TILES = 100_000_000_000  # pixels of a file that is read by tiles
_BEYOND = 2.0**62  # float32 and int64 hold what is less
Shape: TypeAlias = list[list[float]] | RunLengths
"""A mask as COCO's ``segmentation`` holds it: polygons of x, y, x, y, …, or run lengths."""


@dataclass(frozen=True, eq=False)
class Outlines:
    """Masks as the text that COCO's ``segmentation`` is: polygons, or run lengths in numbers or compressed."""

    texts: Strings
    boxes_xyxy: np.ndarray
    """Of the same objects; the mask of one without an outline is all of its box."""

    def read(self, image: int, objects: range, size: tuple[int, int]) -> np.ndarray:
        """As :class:`vitrail.data.annotations.Masks`."""
        check_masks(len(objects), size)
        found = np.zeros((len(objects), *size), bool)
        for place, row in enumerate(objects):
            found[place] = self._mask(row, size)
        return found

    def shape(self, row: int) -> Shape | None:
        """The ``segmentation`` as it was written; None where there is none."""
        text = self.texts[row]
        return json.loads(text) if text else None

    def _mask(self, row: int, size: tuple[int, int]) -> np.ndarray:
        shape = self.shape(row)
        return of_box(self.boxes_xyxy[row], size) if shape is None else to_mask(shape, size)


def packed(shape: Shape | None) -> bytes:
    """As a text, for the column."""
    return json.dumps(shape, separators=(",", ":")).encode() if shape else b""


def of_box(box_xyxy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels that a box touches, bool (H, W)."""
    left, top, right, bottom = np.nan_to_num(box_xyxy).tolist()
    mask = np.zeros(size, bool)
    mask[max(math.floor(top), 0) : max(math.ceil(bottom), 0), max(math.floor(left), 0) : max(math.ceil(right), 0)] = (
        True
    )
    return mask


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
    return isinstance(values, list) and {*map(type, values)} <= _NUMBERS and all(abs(v) < _BEYOND for v in values)


def size_fault(height: object, width: object, name: str) -> str | None:
    """Why these cannot be the sides in pixels of an image of this name, if so; a TIFF may have more pixels than are
    decoded at once, since it can be read by tiles."""
    if not all(type(side) is int and side > 0 for side in (height, width)):
        return f"lacks a height or a width: {height!r}, {width!r}"
    assert isinstance(height, int)
    assert isinstance(width, int)
    try:
        limits.check_pixels((width, height), _BY_TILES if name.lower().endswith(TIFF_SUFFIXES) else None)
    except limits.Broken as error:
        return str(error)
    return None
