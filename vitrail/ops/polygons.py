"""Polygons and the pixels within. A ring is float (n, 2), x and y in pixels; pixel (0, 0) reaches from 0 to 1."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vitrail.ops import rle

Ring = NDArray[np.float64]
_AROUND = 10  # sides of the picture that a ring may go beyond it
_LONGEST = 4_000_000  # pixels of all rings of an object
_DRAWN = 100_000  # pixels that are drawn at a time
_FILLED = 10**9  # pixels of the columns that rings touch, ring by ring
_FINER = 5  # the COCO API draws outlines on a grid that is so many times finer, and so decides border pixels


def fill(rings: Sequence[Ring], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels inside any of the rings, bool (H, W): to the pixel those of the COCO API (maskApi.c, rleFrPoly).

    Within one ring, what it encloses twice is outside.

    Raises:
        ValueError: a ring goes far beyond the picture, or they are too long or too many to be drawn.
    """
    height, width = size
    _check(rings, size)
    filled = np.zeros(size, bool, order="F")
    cost = 0
    for ring in rings:
        crossings = np.sort(np.concatenate([_crossings(part, size) for part in _parts(ring)]))
        if not len(crossings):
            continue
        first, end = int(crossings[0]) // height, -(-int(crossings[-1]) // height)  # the columns that it touches
        cost += (end - first) * height
        if cost > _FILLED:
            raise ValueError(f"has {len(rings):,} rings, too many for an image of {width} × {height} pixels")
        runs = np.diff(crossings - first * height, prepend=0, append=(end - first) * height)
        filled[:, first:end] |= rle.decode(runs, (height, end - first))
    return filled


def _check(rings: Sequence[Ring], size: tuple[int, int]) -> None:
    far = _AROUND * max(size)
    length = 0.0
    for ring in rings:
        if not ((ring >= -far) & (ring <= far + max(size))).all():
            raise ValueError(f"goes more than {far:,} pixels beyond the image")
        length += float(np.abs(ring - np.roll(ring, -1, axis=0)).max(axis=1).sum())
    if length > _LONGEST:
        raise ValueError(f"is {length:,.0f} pixels long, more than {_LONGEST:,}")


def outline(mask: NDArray[np.bool_]) -> list[Ring]:
    """The rings along the pixels' sides around a mask bool (H, W), and around its holes.

    :func:`join` makes one ring of them, which :func:`fill` turns into the very mask again.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    around = np.stack([padded[:-1, :-1], padded[:-1, 1:], padded[1:, 1:], padded[1:, :-1]])
    total = around.sum(0)
    saddle = (total == 2) & (around[0] == around[2])  # two rings touch at this corner
    y, x = np.nonzero((total % 2 == 1) | saddle)
    again = saddle[y, x]
    x, y = (np.concatenate((each, each[again])) for each in (x, y))
    across, down = np.lexsort((x, y)), np.lexsort((y, x))  # sides join each first corner of a line with the second
    partner = np.empty((2, len(x)), np.int64)
    for row, order in enumerate((across, down)):
        partner[row, order[::2]], partner[row, order[1::2]] = order[1::2], order[::2]
    rings, seen = [], np.zeros(len(x), bool)
    for start in range(len(x)):
        corners: list[int] = []
        corner, way = start, 0
        while not seen[corner]:
            seen[corner] = True
            corners.append(corner)
            corner, way = int(partner[way, corner]), 1 - way
        if corners:
            rings.append(np.stack((x[corners], y[corners]), axis=1).astype(np.float64))
    return rings


def join(rings: Sequence[Ring]) -> Ring:
    """One ring of several, by bridges that are walked there and back and so enclose nothing."""
    first = rings[0][:1]
    parts = [rings[0]]
    for ring in rings[1:]:
        parts += [first, ring, ring[:1]]
    return np.concatenate(parts)


def _parts(ring: Ring) -> Iterator[Ring]:
    """A closed ring as lines that follow each other, none of which takes much memory to draw."""
    closed = np.concatenate((ring, ring[:1]))
    ends = np.cumsum(np.abs(np.diff(closed, axis=0)).max(axis=1)) // _DRAWN
    borders = np.flatnonzero(np.diff(ends, prepend=0)) + 1
    for start, end in itertools.pairwise([0, *borders.tolist(), len(closed) - 1]):
        if end > start:
            yield closed[start : end + 1]


def _crossings(line: Ring, size: tuple[int, int]) -> NDArray[np.int64]:
    """The places, x · H + y, from which on a column is inside if it was outside before, and the reverse."""
    height, width = size
    points = np.trunc(_FINER * np.asarray(line, np.float64) + 0.5).astype(np.int64)
    u, v = _drawn(points[:-1], points[1:])
    moved = u[1:] != u[:-1]
    x = (np.minimum(u[1:], u[:-1])[moved] + 0.5) / _FINER - 0.5
    y = (np.minimum(v[1:], v[:-1])[moved] + 0.5) / _FINER - 0.5
    on_centre = (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    return (x[on_centre] * height + np.ceil(np.clip(y[on_centre], 0, height))).astype(np.int64)


def _drawn(start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The grid points x, y of the lines from each start to its end, one for each step along the longer axis."""
    span = np.abs(end - start)
    flat = span[:, 0] >= span[:, 1]
    axis = np.where(flat, 0, 1)
    rows = np.arange(len(start))
    backwards = start[rows, axis] > end[rows, axis]  # a line is drawn from the same end in either direction
    low, high = np.where(backwards[:, None], end, start), np.where(backwards[:, None], start, end)
    steps = span[rows, axis]
    slope = (high - low)[rows, 1 - axis] / np.maximum(steps, 1)
    edge = np.repeat(rows, steps + 1)
    place = np.arange(len(edge)) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    place = np.where(backwards[edge], steps[edge] - place, place)
    along = place + low[edge, axis[edge]]
    beside = np.trunc(low[edge, 1 - axis[edge]] + slope[edge] * place + 0.5).astype(np.int64)
    return np.where(flat[edge], along, beside), np.where(flat[edge], beside, along)
