"""Masks of objects in large pictures, of which only the part around each object is kept.

Shapes: (h, w) a part, (H, W) the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.ops import rle
from vitrail.ops.grid import Pair
from vitrail.ops.tiles import Tile


@dataclass(frozen=True)
class PlacedMask:
    """The pixels of an object.

    Attributes:
        tile: what was looked at; nothing is known beyond.
        place: the part of the picture that holds the object.
        bits: of that part, packed row after row.
    """

    tile: Tile
    place: Tile
    bits: NDArray[np.uint8]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], tile: Tile) -> PlacedMask:
        """That of a mask (h, w) of the tile."""
        (top, bottom), (left, right) = (_extent(np.asarray(mask.any(axis=axis))) for axis in (1, 0))
        y, x = tile.rows[0], tile.columns[0]
        place = Tile((y + top, y + bottom), (x + left, x + right))
        return cls(tile, place, np.packbits(mask[top:bottom, left:right]))

    @property
    def pixels(self) -> NDArray[np.bool_]:
        """bool, of the size of ``place``."""
        height, width = self.place.size
        return np.unpackbits(self.bits, count=height * width).reshape(height, width).astype(bool)

    def paint(self, picture: NDArray[np.bool_]) -> None:
        """Set the object's pixels in a mask of the picture, (H, W)."""
        picture[slice(*self.place.rows), slice(*self.place.columns)] |= self.pixels

    def compressed(self, size: Pair) -> dict[str, Any]:
        """COCO's ``segmentation`` in a picture of (height, width)."""
        corner = self.place.rows[0], self.place.columns[0]
        return {"size": list(size), "counts": rle.to_text(rle.encode_placed(self.pixels, corner, size))}


def composed(parts: Sequence[PlacedMask]) -> PlacedMask:
    """One object's masks in several tiles as one: each pixel is of the first part whose tile shows it."""
    if len(parts) == 1:
        return parts[0]
    whole = _around([part.place for part in parts])
    canvas, decided = np.zeros(whole.size, bool), np.zeros(whole.size, bool)
    for part in parts:
        own = np.zeros(whole.size, bool)
        own[_within(part.place, whole)] = part.pixels
        seen = np.zeros(whole.size, bool)
        seen[_within(part.tile, whole)] = True
        canvas |= own & ~decided
        decided |= seen
    return PlacedMask(_around([part.tile for part in parts]), whole, np.packbits(canvas))


def _around(tiles: Sequence[Tile]) -> Tile:
    """The smallest part of the picture that holds all."""
    rows, columns = (list(zip(*spans, strict=True)) for spans in zip(*tiles, strict=True))
    return Tile((min(rows[0]), max(rows[1])), (min(columns[0]), max(columns[1])))


def _within(tile: Tile, whole: Tile) -> tuple[slice, slice]:
    """Where a part lies in another one that is a part of the picture, too."""
    rows, columns = (
        slice(max(first - start, 0), max(last - start, 0))
        for (first, last), (start, _) in zip(tile, whole, strict=True)
    )
    return rows, columns


def _extent(met: NDArray[np.bool_]) -> tuple[int, int]:
    places = np.flatnonzero(met)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
