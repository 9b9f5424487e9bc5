"""Masks as COCO's ``segmentation`` holds them: polygons, and run lengths."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TypeAlias, TypedDict

import numpy as np

from vitrail.data.indexing.index import Strings
from vitrail.data.media.decode import BadImage
from vitrail.ops import polygons, rle


class RunLengths(TypedDict):
    """A mask of ``size`` (height, width) as COCO's run lengths, in numbers or compressed to text."""

    size: list[int]
    counts: list[int] | str


_NUMBERS = {int, float}
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
        found = [self._mask(row, size) for row in objects]
        return np.stack(found) if found else np.zeros((0, *size), bool)

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


def to_mask(shape: Shape, size: tuple[int, int]) -> np.ndarray:
    """A COCO ``segmentation`` → bool (H, W).

    Raises:
        BadImage: run lengths of another size, or broken ones.
    """
    if isinstance(shape, list):
        return polygons.fill([np.asarray(ring, np.float64).reshape(-1, 2) for ring in shape], size)
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
    """Are these numbers, none of them infinite or NaN?"""
    return isinstance(values, list) and {*map(type, values)} <= _NUMBERS and all(map(math.isfinite, values))
